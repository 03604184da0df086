//! Objects: their metadata, their name in the datastore, their times.

use serde_json::{Value, json};

use super::resources::Resource;
use crate::pki;
use crate::store::state::Record;

/// The object as a caller gets it: with the revision of its last change.
pub fn shown(record: &Record) -> Value {
    let mut object = record.value.clone();
    object["metadata"]["resourceVersion"] = json!(record.modified.to_string());
    object
}

/// The object as it is stored: a new one with its identity.
pub fn completed(mut object: Value, resource: &Resource, namespace: Option<&str>, name: &str) -> Value {
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(name);
    if resource.namespaced {
        metadata["namespace"] = json!(namespace.unwrap_or("default"));
    }
    metadata["uid"] = json!(uid());
    metadata["creationTimestamp"] = json!(now());
    metadata["generation"] = json!(1);
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// Whether the object waits for its finalizers.
pub fn is_leaving(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether anyone must do something before the object may go.
pub fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// One of the object's conditions.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether the object's condition `Ready` is true.
pub fn is_ready(object: &Value) -> bool {
    condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// The time as Kubernetes writes it, in whole seconds.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time as leases have it, in microseconds.
pub fn now_micro() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A random identifier (RFC 9562, version 4).
pub fn uid() -> String {
    let mut bytes = pki::random(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
