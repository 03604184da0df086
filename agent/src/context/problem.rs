//! What is wrong with a context, in the operator's words: variable, value, what was expected.

use std::fmt;

/// A value that cannot be used. The agent changes nothing until the context changes (invariant 13).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// The variable's name.
    pub variable: String,
    /// Its value, or a mask if it is secret.
    pub value: String,
    /// What was expected; lower case, no final dot.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}: {}", self.variable, self.expected),
            value => write!(f, "{}={value:?}: {}", self.variable, self.expected),
        }
    }
}

/// Something that is probably not meant, but that can be lived with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Warning {
    /// The variable's name.
    pub variable: String,
    /// What is odd and what is done about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}
