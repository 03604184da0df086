//! Names and values that OneGate stores exactly as they were sent.
//!
//! The server's escaping damages commas, brackets, quotes, backslashes, line breaks, blanks at either end and an
//! empty last value, and opens OneFlow's READY gate on any text that holds `READY=YES` (onegate.md, "Publishing").
//! What does not survive is refused here, where it is built.

use std::fmt;

/// An attribute's name: upper-case letters, digits and `_`, not starting with a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeName(String);

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
        if value.trim() != value {
            return Err(fault("blanks at its ends are stripped"));
        }
        if value.chars().any(|c| matches!(c, ',' | '[' | ']' | '"' | '\\') || c.is_control()) {
            return Err(fault("it holds one of , [ ] \" \\ or a control character"));
        }
        let bare: String = value.chars().filter(|c| !matches!(c, ' ' | '\'')).collect();
        if bare.contains("READY=YES") {
            return Err(fault("it would open OneFlow's READY gate"));
        }
        Ok(Self(value))
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
