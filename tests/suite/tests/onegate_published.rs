//! Our rules for what may be published, held to what a real OneGate stored of it.

use std::collections::BTreeMap;

use oneke_agent::service::{AttributeName, AttributeValue, render};
use oneke_suite::captures;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Trip {
    value: String,
    #[serde(default)]
    exact: bool,
}

#[test]
fn what_we_accept_comes_back_exactly() {
    let trips: BTreeMap<String, Trip> =
        serde_json::from_str(&captures::text("roundtrip-raw-text.json")).unwrap();
    assert_eq!(trips.len(), 85);
    let mut stricter = Vec::new();
    for (name, trip) in &trips {
        let accepted = AttributeValue::new(&*trip.value).is_ok();
        assert!(trip.exact || !accepted, "{name}: we accept {:?}, OneGate damages it", trip.value);
        if trip.exact && !accepted {
            stricter.push(name.as_str());
        }
    }
    // Survives, but no other control character does.
    assert_eq!(stricter, ["tab"]);
}

/// The lines of a body as attributes, if all of them may be published.
fn attributes(body: &str) -> Option<BTreeMap<AttributeName, AttributeValue>> {
    let line = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((AttributeName::new(name).ok()?, AttributeValue::new(value).ok()?))
    };
    body.lines().map(line).collect()
}

#[test]
fn every_body_that_we_could_have_sent_was_stored_as_sent() {
    let mut stored = Vec::new();
    for (name, capture) in captures::all("put-vm-") {
        let body = capture.request.body.unwrap_or_default();
        let Some(attributes) = attributes(&body) else { continue };
        if capture.request.path != "/vm" || render(&attributes).ok().as_ref() != Some(&body) {
            continue;
        }
        let form = capture
            .request
            .headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("content-type") && value != "text/plain");
        if form || body.is_empty() {
            continue;
        }
        // Refused by oned's own configuration, whatever the value: no attribute of ours.
        if name == "put-vm-oned-restricted-attr" {
            continue;
        }
        assert_eq!(capture.response.status, 200, "{name}");
        for (attribute, value) in &attributes {
            let after = capture.stored.as_ref().map(|stored| &stored[attribute.as_str()]);
            assert!(after.is_none_or(|after| after == &Value::from(value.as_str())), "{name}: {after:?}");
        }
        stored.push(name);
    }
    for name in ["put-vm-several-lines", "put-vm-unquoted-eqeq-mid", "put-vm-ready-yes-raw"] {
        assert!(stored.iter().any(|stored| stored == name), "{name} is ours, and was not checked");
    }
}

#[test]
fn every_body_that_opened_the_gate_is_refused_but_readiness_itself() {
    let seen: Value = serde_json::from_str(&captures::text("ready-matching.json")).unwrap();
    let bodies = seen["bodies_and_seconds_until_service_running"].as_object().unwrap();
    assert_eq!(bodies.len(), 5);
    for body in bodies.keys() {
        let ours = attributes(body).and_then(|attributes| render(&attributes).ok());
        let ready = body.lines().any(|line| line == "READY=YES");
        assert_eq!(ours.is_some(), ready, "{body:?}");
    }
}
