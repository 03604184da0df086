//! Fills the catalogue's tables with values.
//!
//! Values are filled in as values, never as text: nothing that a context holds can change a manifest's structure.

use std::collections::BTreeMap;

use super::yaml::{Map, Yaml, document};

/// What `${NAME}` stands for: variables of the context that have a value, and computed values in lower case.
pub(super) type Values = BTreeMap<String, Yaml>;

/// A table with its placeholders filled in. A text that is one placeholder takes the value's own kind; what has a
/// placeholder without a value is left out.
pub(super) fn filled(table: &toml::Table, values: &Values) -> Map {
    table.iter().filter_map(|(key, value)| Some((key.clone(), fill(value, values)?))).collect()
}

/// A table with this one key stands for the text of the document below it: a configuration file inside an object.
const TEXT_OF: &str = "$yaml";

/// The same for any value; `None` leaves it out.
fn fill(template: &toml::Value, values: &Values) -> Option<Yaml> {
    Some(match template {
        toml::Value::Table(table) if table.contains_key(TEXT_OF) => {
            let below = table.get(TEXT_OF).and_then(toml::Value::as_table)?;
            document(&filled(below, values)).into()
        }
        toml::Value::Table(table) => Yaml::Map(filled(table, values)),
        toml::Value::Array(items) => Yaml::List(items.iter().filter_map(|item| fill(item, values)).collect()),
        toml::Value::String(text) => return fill_text(text, values),
        toml::Value::Integer(number) => Yaml::Number(*number),
        toml::Value::Boolean(flag) => Yaml::Flag(*flag),
        other => Yaml::Text(other.to_string()),
    })
}

fn fill_text(text: &str, values: &Values) -> Option<Yaml> {
    let whole = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    if let Some(name) = whole.filter(|name| !name.contains('}')) {
        return values.get(name).cloned();
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        out.push_str(before);
        match values.get(name)? {
            Yaml::Text(text) => out.push_str(text),
            Yaml::Number(number) => out.push_str(&number.to_string()),
            Yaml::Flag(flag) => out.push_str(&flag.to_string()),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => return None,
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_take_kinds_and_leave_out_what_has_no_value() {
        let table: toml::Table = toml::from_str(
            "a = \"${n}\"\nb = \"${none}\"\nc = \"x-${n}-${t}\"\nd = [\"${none}\", \"${l}\"]\ne = \"x${none}\"\nf = \"${null}\"\ng = \"$x {y}\"",
        )
        .unwrap();
        let values = Values::from([
            ("n".into(), 7.into()),
            ("t".into(), "\"}\n${n}".into()),
            ("l".into(), vec!["p"].into()),
            ("null".into(), Yaml::Null),
        ]);
        let expected = "a: 7\nc: \"x-7-\\\"}\\n${n}\"\nd:\n  -\n    - \"p\"\nf: null\ng: \"$x {y}\"\n";
        assert_eq!(document(&filled(&table, &values)), expected);
    }
}
