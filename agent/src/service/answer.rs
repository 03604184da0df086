//! OneGate's JSON, pruned while it is read, and a finger that walks it and can say where it stands.
//!
//! Pruning is for memory and for secrecy: `/service?extended` shows every VM whole, at 3 kB and more each, with the
//! passwords in its CONTEXT (onegate.md, "Shapes"). What nobody here reads is never kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why an answer is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It ends too early, or never was JSON.
    #[error("the answer is not whole JSON: {0}")]
    NotJson(String),
    /// It is JSON of another shape.
    #[error("{at}: expected {expected}, found {found}")]
    Shape {
        /// Path of the fault, like `SERVICE.roles[0].nodes`.
        at: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Reads a whole answer; only the keys that this program knows are kept, and everything under `USER_TEMPLATE`.
pub(super) fn read(text: &str) -> Result<Value, AnswerError> {
    let fault = |error: serde_json::Error| AnswerError::NotJson(error.to_string());
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Keep::Known.deserialize(&mut json).map_err(fault)?;
    json.end().map_err(fault)?;
    Ok(value)
}

/// The keys of all answers that somebody here reads.
const KNOWN: &[&str] = &[
    // Of a VM.
    "VM",
    "ID",
    "NAME",
    "STATE",
    "LCM_STATE",
    "USER_TEMPLATE",
    "TEMPLATE",
    // Of a NIC.
    "NIC",
    "NIC_ALIAS",
    "IP",
    "IP6",
    "IP6_GLOBAL",
    "IP6_ULA",
    "MAC",
    "NETWORK",
    "NETWORK_ID",
    "EXTERNAL",
    // Of a service.
    "SERVICE",
    "id",
    "state",
    "roles",
    "name",
    "cardinality",
    "nodes",
    "deploy_id",
    "vm_info",
    // Of a virtual router.
    "VROUTER",
    "VMS",
    "NIC_ID",
    "VROUTER_IP",
    "FLOATING_IP",
    // Of a virtual network.
    "VNET",
    "AR_POOL",
    "AR",
    "LEASES",
    "LEASE",
    "NIC_NAME",
    "BACKEND",
];

/// How the attributes begin that a lease of a virtual network carries of its VM.
pub(super) const PUBLISHED: &str = "ONEGATE_";

#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Known,
    All,
}

impl Keep {
    fn below(self, key: &str) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Known if key == "USER_TEMPLATE" => Some(Self::All),
            Self::Known if KNOWN.contains(&key) || key.starts_with(PUBLISHED) => Some(Self::Known),
            Self::Known => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            match self.below(&key) {
                Some(keep) => {
                    map.insert(key, entries.next_value_seed(keep)?);
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// A place in an answer, which may be empty: a key that is missing and one that is `null` are the same.
pub(super) struct At<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> At<'a> {
    /// The answer under its one outer key, which must be there: `{"VM": {..}}`.
    pub fn root(answer: &'a Value, key: &str) -> Result<Self, AnswerError> {
        let outer = Self { value: Some(answer), path: "the answer".into() };
        let inner = Self { path: key.to_owned(), ..outer.key(key)? };
        if inner.is_missing() { Err(inner.fault("an object")) } else { Ok(inner) }
    }

    /// The value under a key of an object; missing under what is missing.
    pub fn key(&self, name: &str) -> Result<Self, AnswerError> {
        let value = match self.value {
            None => None,
            Some(Value::Object(map)) => map.get(name).filter(|value| !value.is_null()),
            Some(_) => return Err(self.fault("an object")),
        };
        Ok(Self { value, path: format!("{}.{name}", self.path) })
    }

    /// Neither there nor worth reading: missing, `null`, or `{}`, which is how extended answers write "empty".
    pub fn is_missing(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        }
    }

    /// The entries of an object; `None` if it is missing (an empty object is there).
    pub fn entries(&self) -> Result<Option<&'a Map<String, Value>>, AnswerError> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.fault("an object")),
        }
    }

    /// The items of a list that must be there.
    pub fn list(&self) -> Result<Vec<Self>, AnswerError> {
        match self.value {
            Some(Value::Array(items)) => Ok(self.each(items)),
            _ => Err(self.fault("a list")),
        }
    }

    /// One or more: a list, a single element without its list, or nothing at all.
    pub fn several(&self) -> Result<Vec<Self>, AnswerError> {
        match self.value {
            _ if self.is_missing() => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(self.each(items)),
            _ => Ok(vec![Self { value: self.value, path: self.path.clone() }]),
        }
    }

    fn each(&self, items: &'a [Value]) -> Vec<Self> {
        let at = |(index, value)| Self { value: Some(value), path: format!("{}[{index}]", self.path) };
        items.iter().enumerate().map(at).collect()
    }

    /// A whole number, as number or as text.
    pub fn integer<T: TryFrom<i64>>(&self, expected: &str) -> Result<T, AnswerError> {
        let number = match self.value {
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(), // Anything else is the same fault, told below.
            _ => None,
        };
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| self.fault(expected))
    }

    /// A text; empty if it is missing.
    pub fn text(&self) -> Result<String, AnswerError> {
        if self.is_missing() {
            return Ok(String::new());
        }
        self.value.and_then(scalar).ok_or_else(|| self.fault("text"))
    }

    /// What the text parses to; `None` if it is missing or empty.
    pub fn parsed<T: std::str::FromStr>(&self, expected: &str) -> Result<Option<T>, AnswerError> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        text.trim().parse().map(Some).map_err(|_| self.fault(expected))
    }

    /// The fault that something else belongs here.
    pub fn fault(&self, expected: &str) -> AnswerError {
        let found = match self.value {
            None | Some(Value::Null) => "nothing".into(),
            Some(Value::Array(_)) => "a list".into(),
            Some(Value::Object(_)) => "an object".into(),
            Some(Value::String(text)) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Some(other) => other.to_string(),
        };
        AnswerError::Shape { at: self.path.clone(), expected: expected.into(), found }
    }
}

/// A scalar as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
