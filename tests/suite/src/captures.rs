//! The recorded exchanges with OneGate in `tests/cases/onegate`, for the tests that are held to them.
#![expect(clippy::disallowed_methods, reason = "the cases are files")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// One exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct Capture {
    /// What was asked.
    pub request: Request,
    /// What came.
    pub response: Response,
    /// What `/vm` showed after a PUT.
    #[serde(rename = "user_template_after_via_onegate")]
    pub stored: Option<BTreeMap<String, Value>>,
}

/// What was asked.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// With the query.
    pub path: String,
    /// In order, as sent; the token is replaced by `<token>`.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Option<String>,
}

/// What came.
#[derive(Clone, Debug, Deserialize)]
pub struct Response {
    /// 200, ...
    pub status: u16,
    /// `OK`, ...
    pub reason: String,
    /// In order, as sent.
    pub headers: Vec<(String, String)>,
    /// Byte for byte.
    pub body: String,
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/onegate"))
}

/// A file's text.
///
/// # Panics
/// If it is not there, as all functions here.
pub fn text(name: &str) -> String {
    let path = directory().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}

/// The exchange by name.
pub fn load(name: &str) -> Capture {
    serde_json::from_str(&text(&format!("{name}.json"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The two files that hold results of many exchanges in a form of their own.
const SUMMARIES: [&str; 2] = ["ready-matching", "roundtrip-raw-text"];

/// Every exchange whose name begins so; never none.
pub fn all(prefix: &str) -> BTreeMap<String, Capture> {
    let names = fs::read_dir(directory())
        .expect("the cases are there")
        .map(|entry| entry.expect("a readable directory").file_name());
    let captures: BTreeMap<_, _> = names
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()))
        .filter(|name| name.starts_with(prefix) && !SUMMARIES.contains(&name.as_str()))
        .map(|name| (name.clone(), load(&name)))
        .collect();
    assert!(!captures.is_empty(), "no capture begins with {prefix}");
    captures
}
