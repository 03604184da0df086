//! The recorded exchanges with OneGate in `tests/cases/onegate`, for the tests that are held to them.
#![expect(
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub,
    reason = "the cases are files; no test reads every part"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// One exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct Capture {
    pub request: Request,
    pub response: Response,
    /// What `/vm` showed after a PUT.
    #[serde(rename = "user_template_after_via_onegate")]
    pub stored: Option<BTreeMap<String, Value>>,
}

/// What was asked.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// What came.
#[derive(Clone, Debug, Deserialize)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/onegate"))
}

/// A file's text.
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
