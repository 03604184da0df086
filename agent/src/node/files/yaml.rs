//! Writes YAML that every parser reads back as the same values: texts are always quoted, so that no `yes`, `1:30`,
//! date or version number turns into something else.

use std::fmt::Write;

/// A YAML value. Maps keep their order, so that a file reads as it was thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yaml {
    /// A text; quoted, or a literal block if it has several lines.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
    /// Nothing.
    Null,
    /// A sequence.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Map),
}

/// Key and value pairs in order.
pub type Map = Vec<(String, Yaml)>;

impl From<&str> for Yaml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Yaml {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u32> for Yaml {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl<T: Into<Yaml>> From<Vec<T>> for Yaml {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<const N: usize> From<[(&str, Yaml); N]> for Yaml {
    fn from(pairs: [(&str, Yaml); N]) -> Self {
        Self::Map(map(pairs))
    }
}

/// A mapping from pairs.
pub fn map<const N: usize>(pairs: [(&str, Yaml); N]) -> Map {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A mapping as a whole document.
pub fn document(map: &Map) -> String {
    let mut out = String::new();
    if map.is_empty() {
        out.push_str("{}\n");
    }
    pairs(&mut out, map, 0);
    out
}

/// Several documents in one file.
pub fn stream(documents: &[Map]) -> String {
    documents.iter().map(document).collect::<Vec<_>>().join("---\n")
}

/// A text in double quotes with YAML's escapes; JSON readers take it too, unless it has unprintable characters.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_plain(c) => out.push(c),
            c => write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes everything"),
        }
    }
    out.push('"');
    out
}

/// Characters that may stand in a YAML file as they are (YAML 1.2, c-printable), without those that break lines.
fn is_plain(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn pairs(out: &mut String, map: &Map, indent: usize) {
    for (index, (key, value)) in map.iter().enumerate() {
        // The first pair of a mapping inside a list stands behind its dash.
        if index > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&key_text(key));
        out.push(':');
        entry(out, value, indent);
    }
}

fn entry(out: &mut String, value: &Yaml, indent: usize) {
    match value {
        Yaml::List(items) if !items.is_empty() => {
            out.push('\n');
            list(out, items, indent + 2);
        }
        Yaml::Map(map) if !map.is_empty() => {
            out.push('\n');
            pairs(out, map, indent + 2);
        }
        Yaml::Text(text) if is_block(text) => {
            out.push_str(" |\n");
            for line in text.lines() {
                if !line.is_empty() {
                    out.push_str(&" ".repeat(indent + 2));
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        _ => {
            out.push(' ');
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

fn list(out: &mut String, items: &[Yaml], indent: usize) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        match item {
            Yaml::Map(map) if !map.is_empty() => {
                out.push_str("- ");
                pairs(out, map, indent + 2);
            }
            Yaml::List(inner) if !inner.is_empty() => {
                out.push_str("-\n");
                list(out, inner, indent + 2);
            }
            _ => {
                out.push_str("- ");
                out.push_str(&scalar(item));
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Yaml) -> String {
    match value {
        Yaml::Text(text) => quoted(text),
        Yaml::Number(number) => number.to_string(),
        Yaml::Flag(flag) => flag.to_string(),
        Yaml::Null => "null".into(),
        Yaml::List(_) => "[]".into(),
        Yaml::Map(_) => "{}".into(),
    }
}

/// Keys that start with a letter and are no word of YAML's stand bare.
fn key_text(key: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let bare = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
        && !WORDS.iter().any(|word| key.eq_ignore_ascii_case(word));
    if bare { key.to_owned() } else { quoted(key) }
}

/// True for a text that a literal block (`|`) gives back to the letter.
fn is_block(text: &str) -> bool {
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\n'])
        && text.chars().all(|c| c == '\n' || is_plain(c))
        && text.lines().all(|line| line.is_empty() || !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(value: &Yaml) -> serde_json::Value {
        match value {
            Yaml::Text(text) => text.as_str().into(),
            Yaml::Number(number) => (*number).into(),
            Yaml::Flag(flag) => (*flag).into(),
            Yaml::Null => serde_json::Value::Null,
            Yaml::List(items) => items.iter().map(json).collect(),
            Yaml::Map(map) => map.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
        }
    }

    #[track_caller]
    fn check(value: Yaml) {
        let text = document(&map([("key", value.clone())]));
        let back: serde_json::Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(back["key"], json(&value), "{text}");
    }

    #[test]
    fn tricky_texts_stay_texts() {
        let tricky = [
            "",
            " ",
            "yes",
            "no",
            "on",
            "off",
            "null",
            "~",
            "true",
            "1",
            "1.33",
            "0x1f",
            "0o17",
            "1:30",
            "1e3",
            ".inf",
            "2001-01-01",
            "- a",
            "a: b",
            "# no comment",
            "a #b",
            "'",
            "\"",
            "\\",
            "a\\nb",
            "{a}",
            "[a]",
            "&a",
            "*a",
            "!tag",
            "|",
            ">",
            "%a",
            "@a",
            "`a`",
            "<<",
            "a\nb",
            "a\nb\n",
            "\na\n",
            " a\nb\n",
            "a\n\n",
            "a\n \nb\n",
            "a\tb",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{feff}a",
            "é😀",
            "K10abc::server:p#a:ss",
            "a\r\nb\r\n",
        ];
        for text in tricky {
            check(text.into());
            check(vec![text].into());
            let text_map = document(&vec![(text.to_owned(), true.into())]);
            let back: serde_json::Value = serde_saphyr::from_str(&text_map).unwrap();
            assert_eq!(back[text], true, "{text_map}");
        }
    }

    #[test]
    fn reads_as_a_person_would_write_it() {
        let values = map([("replicas", 2.into()), ("kind", "Deployment".into())]);
        let chart = map([
            ("spec", [("valuesContent", document(&values).into()), ("set", Yaml::Map(vec![]))].into()),
            ("list", Yaml::List(vec![[("a", 1.into()), ("b", vec!["c"].into())].into(), "d".into()])),
        ]);
        let expected = "spec:\n  valuesContent: |\n    replicas: 2\n    kind: \"Deployment\"\n  set: {}\n\
                        list:\n  - a: 1\n    b:\n      - \"c\"\n  - \"d\"\n";
        assert_eq!(document(&chart), expected);
    }

    fn any_yaml() -> impl Strategy<Value = Yaml> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Yaml::Text),
            "[ a\n:#-]{0,12}".prop_map(Yaml::Text),
            any::<i64>().prop_map(Yaml::Number),
            any::<bool>().prop_map(Yaml::Flag),
            Just(Yaml::Null),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Yaml::List),
                proptest::collection::btree_map("[a-z: #\"-]{1,6}", inner, 0..4)
                    .prop_map(|map| Yaml::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_survives(value in any_yaml()) {
            check(value);
        }
    }
}
