//! What `PUT /vm` stores, refuses and sets off.

use std::time::Duration;

use oneke_cloud::{Cloud, Faults, FlowState, ServiceId, VmId, VmTemplate};
use serde_json::Value;

use crate::recorded::{RecordedRequest, World, context, instantiate, options, recording, text};

/// Each recorded PUT, and what the VM had besides `X=1`.
const PUTS: [(&str, &str); 59] = [
    ("put-vm-blank-lines", ""),
    ("put-vm-comment-line", ""),
    ("put-vm-duplicate-key-same-body", ""),
    ("put-vm-empty-body", ""),
    ("put-vm-empty-quoted-mid", ""),
    ("put-vm-empty-value-mid", ""),
    ("put-vm-empty-value-quoted", ""),
    ("put-vm-empty-value", ""),
    ("put-vm-form-ct-key-data", ""),
    ("put-vm-form-ct-key-type", ""),
    ("put-vm-form-data-unencoded", ""),
    ("put-vm-form-data", ""),
    ("put-vm-json-body", ""),
    ("put-vm-key-colon", ""),
    ("put-vm-key-dash", ""),
    ("put-vm-key-digit", ""),
    ("put-vm-key-dot", ""),
    ("put-vm-key-underscore", ""),
    ("put-vm-leading-space-key", ""),
    ("put-vm-lowercase-key", ""),
    ("put-vm-multipart", ""),
    ("put-vm-no-equals", ""),
    ("put-vm-noct-key-type", ""),
    ("put-vm-oned-restricted-attr", ""),
    ("put-vm-overwrite", "A=1\nB=keep"),
    ("put-vm-quoted-eq-end", ""),
    ("put-vm-quoted-eqeq-end", ""),
    ("put-vm-restricted-leading-space", ""),
    ("put-vm-restricted-lowercase", ""),
    ("put-vm-restricted-role", ""),
    ("put-vm-restricted-sched", ""),
    ("put-vm-restricted-second-line", ""),
    ("put-vm-restricted-service_id", ""),
    ("put-vm-restricted-space-before-eq", ""),
    ("put-vm-restricted-tab", ""),
    ("put-vm-several-lines-crlf", ""),
    ("put-vm-several-lines-mixed-quoting", ""),
    ("put-vm-several-lines-quoted", ""),
    ("put-vm-several-lines-trailing-newline", ""),
    ("put-vm-several-lines", ""),
    ("put-vm-spaces-around-eq", ""),
    ("put-vm-type0", "A=9"),
    ("put-vm-type2-erase-form", "A=1\nB=keep"),
    ("put-vm-type2-erase-lowercase", "A=1"),
    ("put-vm-type2-erase-missing", "A=1"),
    ("put-vm-type2-erase-query-data", "A=1\nB=keep"),
    ("put-vm-type2-erase-query", "A=1\nB=keep"),
    ("put-vm-type2-erase-restricted", ""),
    ("put-vm-type2-erase-rewrites-odd-values", "A=1\nD=$x\nE=x==\nS=two words\nU=č<>&"),
    ("put-vm-type2-erase-two", "A=1\nB=2"),
    ("put-vm-type2-erase-with-vector-present", "A=1\nN=a=b\nVEC=[P=\"1\",Q=\"2\"]"),
    ("put-vm-type3", "A=9"),
    ("put-vm-unquoted-eqeq-mid", ""),
    ("put-vm-vector-one", ""),
    ("put-vm-vector-quoted-spaces", ""),
    ("put-vm-vector-quoted", ""),
    ("put-vm-vector-then-line", ""),
    ("put-vm-vector", ""),
    ("put-vm-elasticity-att-90", ""),
];

/// The nine encodings, in the order in which they were tried.
const VARIANTS: [&str; 9] = [
    "raw-noct",
    "raw-text",
    "raw-form-ct",
    "rawq-noct",
    "rawq-esc-noct",
    "rawq-form-ct",
    "data-form",
    "dataq-form",
    "dataq-esc-form",
];

/// A world with VM 4 in it, which has a token and no service.
fn with_solo(before: &str) -> World {
    let mut world = World { cloud: Cloud::new(options()), now: Duration::ZERO };
    world.use_up_numbers(4);
    let template = VmTemplate { context: context(&[("TOKEN", "YES")]), ..VmTemplate::default() };
    world.cloud.create_vm(world.now, "solo", &template, Vec::new()).expect("it needs no address");
    assert_eq!(world.send(4, "PUT", "/vm", &format!("X=1\n{before}")).status, 200, "{before}");
    world
}

fn stored(world: &mut World) -> Value {
    let body: Value = serde_json::from_slice(&world.send(4, "GET", "/vm", "").body).expect("it is JSON");
    body["VM"]["USER_TEMPLATE"].clone()
}

#[test]
fn every_recorded_put_leaves_what_it_left() {
    // The last one was sent by another VM, in the story.
    for (name, before) in &PUTS[..PUTS.len() - 1] {
        let mut world = with_solo(before);
        world.replay(&[name]);
        assert_eq!(stored(&mut world), recording(name).user_template_after_via_onegate, "{name}");
    }
}

#[test]
fn every_value_comes_back_as_it_did_in_every_encoding() {
    let cases: Value = serde_json::from_str(&text("roundtrip-puma.json")).expect("it is JSON");
    let mut world = with_solo("");
    let (mut compared, mut before) = (0, stored(&mut world));
    for (name, case) in cases.as_object().expect("cases by name") {
        let value = expanded(case["value"].as_str().expect("a text"));
        for variant in VARIANTS {
            let expected = &case["variants"][variant];
            let response = world.answer(&encoded(variant, &value));
            assert_eq!(
                u64::from(response.status),
                expected["status"],
                "{name} {variant}: {}",
                response.text()
            );
            compared += 1;
            if let Some(error) = expected["error_body"].as_str() {
                // Each attempt had a name of its own.
                assert_eq!(response.text().replace("RT=", "RT15_333="), error, "{name} {variant}");
                continue;
            }
            let after = stored(&mut world);
            let kept =
                if expected["exact"] == true { &Value::String(value.clone()) } else { &expected["got"] };
            assert_eq!(&after["RT"], kept, "{name} {variant}");
            let is_new = |key: &&String| *key != "RT" && before.get(key).is_none();
            let extra: serde_json::Map<_, _> = (after.as_object().expect("attributes by name").iter())
                .filter(|(key, _)| is_new(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let recorded = expected.get("extra_keys").and_then(Value::as_object).cloned().unwrap_or_default();
            assert_eq!(extra, recorded, "{name} {variant}");
            before = after;
        }
    }
    assert_eq!(compared, 9 * cases.as_object().map_or(0, serde_json::Map::len));
}

/// Long values are recorded by their beginning and length.
fn expanded(value: &str) -> String {
    match value.split_once("... (").and_then(|(start, rest)| Some((start, rest.strip_suffix(" chars)")?))) {
        Some((start, length)) => start[..1].repeat(length.parse().expect("a length")),
        None => value.to_owned(),
    }
}

fn encoded(variant: &str, value: &str) -> RecordedRequest {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    let pair = match variant {
        "raw-noct" | "raw-text" | "raw-form-ct" | "data-form" => format!("RT={value}"),
        "rawq-esc-noct" | "dataq-esc-form" => format!("RT=\"{escaped}\""),
        _ => format!("RT=\"{value}\""),
    };
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let body = if variant.starts_with("data") { format!("data={}", percent(&pair)) } else { pair };
    let content_type = match variant {
        "raw-text" => Some("text/plain"),
        _ if variant.contains("form") => Some("application/x-www-form-urlencoded"),
        _ => None,
    };
    let mut headers = vec![
        ("X-ONEGATE-VMID".to_owned(), "4".to_owned()),
        ("X-ONEGATE-TOKEN".to_owned(), "<token>".to_owned()),
    ];
    headers.extend(content_type.map(|kind| ("Content-Type".to_owned(), kind.to_owned())));
    RecordedRequest { method: "PUT".to_owned(), path: "/vm".to_owned(), headers, body: Some(body) }
}

#[test]
fn the_gate_opens_as_soon_or_as_late_as_it_did() {
    let recorded: Value = serde_json::from_str(&text("ready-matching.json")).expect("it is JSON");
    let bodies = recorded["bodies_and_seconds_until_service_running"].as_object().expect("seconds by body");
    for (body, seconds) in bodies {
        let mut world = World::new();
        instantiate(&mut world);
        world.pass(20.0);
        assert_eq!(world.send(0, "PUT", "/vm", body).status, 200, "{body}");
        let sent = world.now;
        world.until("the gate opens", |cloud| {
            let service = cloud.service(ServiceId(1)).expect("it was made above");
            service.role("vnf").expect("it has one").state == FlowState::Running
        });
        let waited = (world.now - sent).as_secs_f64();
        let seconds = seconds.as_f64().expect("a number");
        // At once is on the event, else it is found by the look every 30 s.
        assert_eq!(
            waited < 5.0,
            seconds < 5.0,
            "{body:?} took {waited} s, and {seconds} s when it was recorded"
        );
    }
}

#[test]
fn an_erase_loses_what_others_write_meanwhile() {
    let mut world = with_solo("A=1");
    world.cloud.set_faults(world.now, Faults { erase_window: 0.05, ..Faults::default() });
    assert_eq!(world.send(4, "PUT", "/vm?type=2", "A").status, 200);
    assert_eq!(world.send(4, "PUT", "/vm", "B=lost").status, 200);
    assert_eq!(stored(&mut world), serde_json::json!({"A": "1", "B": "lost", "X": "1"}));
    world.pass(0.1);
    assert_eq!(stored(&mut world), serde_json::json!({"X": "1"}));
    assert!(world.cloud.vm(VmId(4)).is_some());
}
