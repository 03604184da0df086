//! Names and values that OneGate stores exactly as they were sent, and the body that carries them.
//!
//! The server's escaping damages commas, brackets, quotes, backslashes, line breaks, blanks at either end and an
//! empty last value, and OneFlow opens its READY gate on any update that holds `READY=YES` (onegate.md, "Publishing").
//! What does not survive is refused here, where it is built; nothing is ever quoted or erased.

use std::collections::BTreeMap;
use std::fmt;

/// An attribute's name: upper-case letters, digits and `_`, not starting with a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeName(String);

/// What OneGate refuses to change (403), whoever asks.
const RESTRICTED: [&str; 3] = ["ROLE_NAME", "SCHED_REQUIREMENTS", "SERVICE_ID"];

/// The longest value that was seen to come back whole.
const LONGEST_BYTES: usize = 1024 * 1024;

/// The name by which OneFlow learns that a VM is ready, and the value that says so.
const READY: (&str, &str) = ("READY", "YES");

/// What opens OneFlow's gate, wherever in an update it stands.
const GATE: &str = "READY=YES";

/// A value that survives the server: no comma, bracket, double quote, backslash, control character, outer blank;
/// not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeValue(String);

/// Why a name or value cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} would not survive OneGate: {why}")]
pub struct Unpublishable {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl AttributeName {
    /// Checks a name.
    ///
    /// # Errors
    /// If the server would change or refuse it.
    pub fn new(name: impl Into<String>) -> Result<Self, Unpublishable> {
        let name = name.into();
        let fault = |why| Unpublishable { what: "the name", text: name.clone(), why };
        let mut bytes = name.bytes();
        match bytes.next() {
            None => return Err(fault("it is empty")),
            Some(b'A'..=b'Z') => {}
            Some(_) => return Err(fault("it must start with an upper-case letter")),
        }
        if !bytes.all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_')) {
            return Err(fault("it may hold upper-case letters, digits and _ only"));
        }
        if RESTRICTED.contains(&name.as_str()) {
            return Err(fault("OneFlow keeps it for itself"));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AttributeValue {
    /// Checks a value.
    ///
    /// # Errors
    /// If the server would change or refuse it, or if OneFlow could take it for a sign of readiness.
    pub fn new(value: impl Into<String>) -> Result<Self, Unpublishable> {
        let value = value.into();
        let fault = |why| Unpublishable { what: "the value", text: value.clone(), why };
        if value.is_empty() {
            return Err(fault("it is empty"));
        }
        if value.len() > LONGEST_BYTES {
            return Err(Unpublishable { text: "..".into(), ..fault("it is longer than 1 MiB") });
        }
        if value.trim() != value {
            return Err(fault("blanks at its ends are stripped"));
        }
        if value.chars().any(|c| matches!(c, ',' | '[' | ']' | '"' | '\\') || c.is_control()) {
            return Err(fault("it holds one of , [ ] \" \\ or a control character"));
        }
        if bare(&value).contains(GATE) {
            return Err(fault("it would open OneFlow's READY gate"));
        }
        Ok(Self(value))
    }

    /// Any bytes, in base64.
    ///
    /// # Errors
    /// If there are none, or more than 768 KiB.
    pub fn base64(bytes: &[u8]) -> Result<Self, Unpublishable> {
        use base64::Engine;
        Self::new(base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    /// A whole number. OneFlow counts text as 0 (onegate.md, "Elasticity"): what it averages must come from here.
    pub fn number(number: i64) -> Self {
        Self(number.to_string())
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The body of a `PUT /vm`: `KEY=value` lines by name, READY last, no trailing line break; empty for no attributes.
///
/// # Errors
/// If OneFlow would take the whole for a sign of readiness although READY itself is not YES: a name that ends in READY
/// with a value that begins with YES, or a text that reads so across two lines.
pub fn render(attributes: &BTreeMap<AttributeName, AttributeValue>) -> Result<String, Unpublishable> {
    let (ready, others): (Vec<_>, Vec<_>) = attributes.iter().partition(|(name, _)| name.0 == READY.0);
    let lines: Vec<_> =
        others.into_iter().chain(ready).map(|(name, value)| format!("{name}={value}")).collect();
    let body = lines.join("\n");
    let meant = attributes.iter().any(|(name, value)| (name.0.as_str(), value.0.as_str()) == READY);
    if bare(&body).matches(GATE).count() > usize::from(meant) {
        let why = "it would open OneFlow's READY gate";
        return Err(Unpublishable { what: "the update", text: body, why });
    }
    Ok(body)
}

/// OneFlow removes quotes and blanks before it looks for its sign; line breaks go too here, to be on the safe side.
fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect()
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<AttributeName, AttributeValue> {
        let pair = |(name, value): &(&str, &str)| {
            (AttributeName::new(*name).unwrap(), AttributeValue::new(*value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[track_caller]
    fn check_body(pairs: &[(&str, &str)], expected: &str) {
        assert_eq!(render(&attributes(pairs)).unwrap(), expected);
    }

    #[track_caller]
    fn check_refused(pairs: &[(&str, &str)]) {
        let body = render(&attributes(pairs));
        assert!(body.is_err(), "{body:?}");
    }

    #[test]
    fn lines_stand_by_name_and_readiness_last() {
        check_body(&[], "");
        check_body(&[("READY", "YES")], "READY=YES");
        check_body(&[("ZONE", "z"), ("READY", "YES"), ("A", "x=y")], "A=x=y\nZONE=z\nREADY=YES");
        check_body(&[("READY", "NO"), ("X", "1")], "X=1\nREADY=NO");
    }

    #[test]
    fn only_ready_itself_opens_the_gate() {
        check_refused(&[("NOT_READY", "YES")]);
        check_refused(&[("K8S_READY", "YESTERDAY")]);
        check_refused(&[("READY", "YES it is")]);
        check_refused(&[("READY", "Y'E'S")]);
        check_refused(&[("A", "REA"), ("DY", "YES")]);
        check_refused(&[("NODE_READY", "Y ES"), ("READY", "YES")]);
        check_body(&[("NODE_READY", "NO"), ("READY", "YES")], "NODE_READY=NO\nREADY=YES");
        assert!(AttributeValue::new("waits for READY = YES").is_err());
        assert!(AttributeValue::new("READ'Y=YE'S").is_err());
    }

    #[test]
    fn what_the_server_would_change_is_refused() {
        for name in ["", "a", "A-B", "A.B", "A:B", "1A", "A B", "A\n", "Ž", "SERVICE_ID", "ROLE_NAME"] {
            assert!(AttributeName::new(name).is_err(), "{name:?}");
        }
        for value in
            ["", " a", "a\u{a0}", "a,b", "[", "]", "\"", "\\n", "a\nb", "a\rb", "a\tb", "a\0b", "{\"a\":1}"]
        {
            assert!(AttributeValue::new(value).is_err(), "{value:?}");
        }
        assert!(AttributeValue::new("x".repeat(LONGEST_BYTES + 1)).is_err());
    }

    #[test]
    fn bytes_and_numbers_survive() {
        assert_eq!(AttributeValue::base64(b"\0,[\"\n").unwrap().as_str(), "ACxbIgo=");
        assert!(AttributeValue::base64(b"").is_err());
        assert_eq!(AttributeValue::number(-3).as_str(), "-3");
    }
}
