//! Attributes as oned keeps them: names in upper case, sorted, each with one value or several.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// One value: a text, or a vector such as `NIC = [ IP = "10.0.0.1" ]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Trimmed text.
    Text(String),
    /// Names and texts, sorted by name.
    Vector(BTreeMap<String, String>),
}

/// Attributes by name. One name may hold several values, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, Vec<Value>>);

impl Attributes {
    /// Adds a value, next to those that are there; the name goes to upper case.
    pub fn add(&mut self, name: &str, value: Value) {
        self.0.entry(name.to_uppercase()).or_default().push(value);
    }

    /// Sets one text in place of whatever was there.
    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.0.insert(name.to_uppercase(), vec![Value::Text(text.into())]);
    }

    /// The first text under this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.iter().find_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            Value::Vector(_) => None,
        })
    }

    /// The vectors under this name, in order.
    pub fn vectors<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
        self.0.get(name).into_iter().flatten().filter_map(|value| match value {
            Value::Vector(vector) => Some(vector),
            Value::Text(_) => None,
        })
    }

    /// Takes a name and all its values away; says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// oned's append: each name of `newer` takes the place of all the values it had.
    pub fn append(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    /// Every name with its values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Vec<Value>)> {
        self.0.iter()
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, values) in &self.0 {
            match values.as_slice() {
                [one] => map.serialize_entry(name, one)?,
                several => map.serialize_entry(name, several)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_given_twice_is_an_array_and_an_append_replaces_it() {
        let mut attributes = Attributes::default();
        attributes.add("a", Value::Text("1".into()));
        attributes.add("A", Value::Text("2".into()));
        assert_eq!(serde_json::to_string(&attributes).unwrap(), r#"{"A":["1","2"]}"#);
        let mut newer = Attributes::default();
        newer.set("A", "3");
        attributes.append(newer);
        assert_eq!(serde_json::to_string(&attributes).unwrap(), r#"{"A":"3"}"#);
    }
}
