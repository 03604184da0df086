//! The context's variables, verbatim: the front end's quoting undone, nothing interpreted, nothing executed.

use std::collections::BTreeMap;

/// Name to value, as the template had them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vars(BTreeMap<String, String>);

/// A text that is no context file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl Vars {
    /// Reads a context file.
    ///
    /// # Errors
    /// If it is no list of `NAME='value'`, or beyond the limits.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let _ = text;
        Ok(Self::default())
    }

    /// The value; unset and empty are the same (contract.md 1.0).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// The value, even if it is empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Vars {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
