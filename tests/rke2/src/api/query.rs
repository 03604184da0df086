//! A request's query, and its label and field selectors.

use std::collections::BTreeMap;

use serde_json::Value;

use super::status::Refusal;

/// The parameters after the question mark.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads `a=b&c=d` with percent escapes.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// One parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is true.
    pub fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// What an object must match to be in a list.
    pub fn selector(&self) -> Result<Selector, Refusal> {
        let labels = self.get("labelSelector").map(requirements).transpose()?.unwrap_or_default();
        let fields = self.get("fieldSelector").map(requirements).transpose()?.unwrap_or_default();
        Ok(Selector { labels, fields })
    }
}

/// Label and field requirements, all of which must hold.
#[derive(Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Whether the object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str().map(str::to_owned);
        let field = |path: &str| {
            let value = path.split('.').fold(object, |value, part| &value[part]);
            Some(
                value.as_str().map_or_else(|| value.as_bool().map(|b| b.to_string()), |s| Some(s.to_owned())),
            )
            .flatten()
            .or_else(|| Some(String::new()))
        };
        self.labels.iter().all(|requirement| requirement.holds(label(&requirement.key)))
            && self.fields.iter().all(|requirement| requirement.holds(field(&requirement.key)))
    }

    /// The value that a field is required to have.
    pub fn field(&self, key: &str) -> Option<&str> {
        let requirement = self.fields.iter().find(|requirement| requirement.key == key)?;
        match &requirement.test {
            Test::In(values) => values.first().map(String::as_str),
            _ => None,
        }
    }
}

impl Requirement {
    fn holds(&self, value: Option<String>) -> bool {
        match (&self.test, value) {
            (Test::In(values), value) => value.is_some_and(|value| values.contains(&value)),
            (Test::NotIn(values), value) => value.is_none_or(|value| !values.contains(&value)),
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
        }
    }
}

/// Whether labels match a selector as it stands in objects: `matchLabels` and `matchExpressions`.
pub fn label_selector_matches(selector: &Value, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(k, v)| labels[k] == *v);
    let expressions = selector["matchExpressions"].as_array();
    equal
        && expressions.into_iter().flatten().all(|expression| {
            let strings = |value: &Value| value.as_str().map(str::to_owned);
            let values = expression["values"].as_array().into_iter().flatten().filter_map(strings).collect();
            let test = match expression["operator"].as_str() {
                Some("In") => Test::In(values),
                Some("NotIn") => Test::NotIn(values),
                Some("DoesNotExist") => Test::Absent,
                _ => Test::Exists,
            };
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let value = strings(&labels[&key]);
            Requirement { key, test }.holds(value)
        })
}

/// `a=b,c!=d,e,!f,g in (h,i)`.
fn requirements(text: &str) -> Result<Vec<Requirement>, Refusal> {
    top_level_parts(text).into_iter().map(|part| requirement(part.trim())).collect()
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let new = |key: &str, test| Requirement { key: key.trim().to_owned(), test };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(new(key, Test::NotIn(one(value))));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(new(key, Test::In(one(value))));
    }
    let set = |rest: &str| {
        let inner = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        inner.map(|inner| inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let unparsable = || Refusal::bad(format!("unable to parse requirement: {text:?}"));
    if let Some((key, rest)) = text.split_once(" notin ") {
        return Ok(new(key, Test::NotIn(set(rest).ok_or_else(unparsable)?)));
    }
    if let Some((key, rest)) = text.split_once(" in ") {
        return Ok(new(key, Test::In(set(rest).ok_or_else(unparsable)?)));
    }
    match text.strip_prefix('!') {
        _ if text.is_empty() || text.contains(' ') => Err(unparsable()),
        Some(key) => Ok(new(key, Test::Absent)),
        None => Ok(new(text, Test::Exists)),
    }
}

/// Splits at the commas that are not in parentheses.
fn top_level_parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Percent escapes and `+` undone.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = escaped.and_then(|pair| u8::from_str_radix(pair, 16).ok()); // Not an escape: as it stands.
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(query: &str, object: &Value) -> bool {
        Query::parse(query).selector().unwrap().matches(object)
    }

    #[test]
    fn selectors_select() {
        let pod = json!({"metadata": {"name": "p", "labels": {"app": "x", "tier": "a"}}, "spec": {"nodeName": "n1"}});
        assert!(matches("fieldSelector=spec.nodeName%3Dn1", &pod));
        assert!(!matches("fieldSelector=spec.nodeName%3Dn2", &pod));
        assert!(matches("fieldSelector=spec.nodeName!%3D", &pod));
        assert!(matches("labelSelector=app%3Dx,tier+in+(a,b),!gone,tier", &pod));
        assert!(!matches("labelSelector=app!%3Dx", &pod));
        assert!(Query::parse("labelSelector=a+b").selector().is_err());
    }

    #[test]
    fn selectors_in_objects_select() {
        let pod = json!({"metadata": {"labels": {"app": "x"}}});
        assert!(label_selector_matches(&json!({"matchLabels": {"app": "x"}}), &pod));
        assert!(!label_selector_matches(&json!({"matchLabels": {"app": "y"}}), &pod));
        let expression = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]});
        assert!(!label_selector_matches(&expression, &pod));
    }
}
