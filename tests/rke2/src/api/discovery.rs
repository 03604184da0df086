//! What the API says about itself: its version, its groups, their resources.

use serde_json::{Value, json};

use super::resources::RESOURCES;
use crate::version;

/// The answer to a discovery path, if it is one.
pub fn find(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(version()),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => Some(groups()),
        ["api", version] => resources("", version),
        ["apis", group, version] => resources(group, version),
        _ => None,
    }
}

fn version() -> Value {
    let minor = version::KUBERNETES.split('.').nth(1).unwrap_or_default();
    json!({
        "major": "1", "minor": minor, "gitVersion": version::RKE2, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
    })
}

fn groups() -> Value {
    let mut names: Vec<(&str, &str)> =
        RESOURCES.iter().map(|resource| (resource.group, resource.version)).collect();
    names.retain(|(group, _)| !group.is_empty());
    names.dedup();
    let group = |(name, version): &(&str, &str)| {
        let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    let groups: Vec<Value> = names.iter().map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(group: &str, version: &str) -> Option<Value> {
    const VERBS: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let those = RESOURCES.iter().filter(|resource| resource.group == group && resource.version == version);
    let described = those.map(|resource| {
        json!({
            "name": resource.plural, "singularName": resource.kind.to_lowercase(), "kind": resource.kind,
            "namespaced": resource.namespaced, "verbs": VERBS,
        })
    });
    let described: Vec<Value> = described.collect();
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": described,
    });
    (!described.is_empty()).then_some(list)
}
