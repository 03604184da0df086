//! The user's own RKE2 settings (`ONEAPP_RKE2_EXTRA_CONFIG`) and registries (`ONEAPP_K8S_REGISTRIES`): what they add is
//! taken, what contradicts the agent is refused by name.

use serde_json::Value;

use super::flags::{self, Kind};
use super::yaml::{Map, Yaml};
use super::{Entry, Pinned, Shape};
use crate::context::Config;
use crate::plan::Secret;
use crate::service::Role;

/// The variable of the settings.
pub const EXTRA_CONFIG: &str = "ONEAPP_RKE2_EXTRA_CONFIG";
/// Where containerd's mirrors, credentials and authorities stand.
pub const REGISTRIES: &str = "/etc/rancher/rke2/registries.yaml";

/// Settings by which the agent keeps a node's identity, its place in the cluster and its data.
const OWNED: [&str; 14] = [
    "agent-token",
    "agent-token-file",
    "cluster-reset",
    "cluster-reset-restore-path",
    "config",
    "data-dir",
    "node-external-ip",
    "node-ip",
    "node-name",
    "server",
    "token",
    "token-file",
    "with-node-id",
    "write-kubeconfig",
];

/// The variable that says what a setting says.
const VARIABLES: [(&str, &str); 6] = [
    ("cluster-cidr", "ONEAPP_K8S_CLUSTER_CIDR"),
    ("cni", "ONEAPP_K8S_CNI_PLUGIN"),
    ("disable-cloud-controller", "ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED"),
    ("disable-kube-proxy", "ONEAPP_K8S_CNI_PLUGIN"),
    ("ingress-controller", "ONEAPP_K8S_TRAEFIK_ENABLED"),
    ("service-cidr", "ONEAPP_K8S_SERVICE_CIDR"),
];

/// Every setting of `ONEAPP_RKE2_EXTRA_CONFIG` that cannot be taken on a node of this role, and why.
pub fn refused(config: &Config, role: &Role) -> Vec<String> {
    let Some(extra) = &config.node.extra_config else { return Vec::new() };
    let entry = Entry::Found { agent_token: None };
    // What the agent says itself depends on the service a little: a single node has other labels and taints.
    let single = Shape { masters: 1, ..Shape::default() };
    let mut refused: Vec<String> = [Shape::default(), single]
        .iter()
        .flat_map(|shape| {
            let own = super::config::own(config, role, &Pinned::nobody(), &entry, shape);
            merge_extra(own, extra.expose(), *role == Role::Master).err().unwrap_or_default()
        })
        .collect();
    refused.sort();
    refused.dedup();
    refused
}

/// The settings of `base` with those of `extra`, a YAML mapping. Lists grow; what a server alone knows is left out on an
/// agent, since all roles share the variable.
///
/// # Errors
/// Every setting that cannot be taken, and why, in the form that completes "expected ...".
pub fn merge_extra(base: Map, extra: &str, server: bool) -> Result<Map, Vec<String>> {
    let Value::Object(extra) = parse(extra).map_err(|why| vec![why])? else {
        return Err(vec!["expected a YAML mapping of RKE2's settings".into()]);
    };
    let mut merged = base;
    let mut refused = Vec::new();
    for (key, value) in &extra {
        // RKE2's own sign for "add to the list".
        let name = key.strip_suffix('+').unwrap_or(key);
        if let Err(why) = set(&mut merged, name, value, server) {
            refused.push(format!("expected no {name}: {why}"));
        }
    }
    if refused.is_empty() { Ok(merged) } else { Err(refused) }
}

fn set(merged: &mut Map, name: &str, value: &Value, server: bool) -> Result<(), String> {
    if OWNED.contains(&name) {
        return Err("the agent itself sets it".into());
    }
    let Some(kind) = flags::kind(name, server) else {
        // Not this role's; or nobody's.
        return flags::kind(name, true).map(|_| ()).ok_or_else(|| "RKE2 knows no such setting".into());
    };
    let there = merged.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value);
    let variable = VARIABLES.iter().find(|(key, _)| *key == name);
    match (there, kind) {
        (None, _) => merged.push((name.to_owned(), from_json(value))),
        (Some(own), _) if *own == from_json(value) => {}
        (Some(_), _) if let Some((_, variable)) = variable => return Err(format!("{variable} says it")),
        (Some(Yaml::List(items)), Kind::Many) => append(items, value)?,
        (Some(_), _) => return Err("the agent itself sets it".into()),
    }
    Ok(())
}

/// Adds entries, unless one names what the agent's own entries name: `provider-id=one://1` beside `provider-id=x`.
fn append(items: &mut Vec<Yaml>, value: &Value) -> Result<(), String> {
    let more = match from_json(value) {
        Yaml::List(more) => more,
        one => vec![one],
    };
    for item in more {
        if items.contains(&item) {
            continue;
        }
        if let Some(own) =
            items.iter().find(|own| argument(own).is_some() && argument(own) == argument(&item))
        {
            return Err(format!("the agent itself sets {}", argument(own).unwrap_or_default()));
        }
        items.push(item);
    }
    Ok(())
}

fn argument(item: &Yaml) -> Option<&str> {
    let Yaml::Text(text) = item else { return None };
    text.split_once('=').map(|(name, _)| name)
}

/// True if the user asks RKE2 for a hardened node (`profile: cis`): it then checks the machine before it starts.
pub(super) fn is_hardened(config: &Config) -> bool {
    let extra = config.node.extra_config.as_ref().and_then(|text| parse(text.expose()).ok());
    extra.is_some_and(|extra| extra.get("profile").is_some_and(Value::is_string))
}

/// `registries.yaml` as the user wrote it, its last line ended.
///
/// # Errors
/// If it is not what RKE2 takes. It may hold passwords, and is not repeated.
pub fn registries(text: &str) -> Result<Secret, String> {
    let Value::Object(map) = parse(text)? else {
        return Err("expected a YAML mapping with mirrors and configs".into());
    };
    if let Some(key) = map.keys().find(|key| !matches!(key.as_str(), "mirrors" | "configs")) {
        return Err(format!("expected mirrors and configs alone, not {key}"));
    }
    Ok(Secret::new(format!("{}\n", text.trim_end())))
}

fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error
            .location()
            .map_or(String::new(), |at| format!(": line {}, column {}", at.line(), at.column()));
        // The parser's own words may repeat the text, which may hold secrets.
        format!("expected YAML{place}")
    })
}

pub(super) fn from_json(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(flag) => Yaml::Flag(*flag),
        Value::Number(number) => number.as_i64().map_or_else(|| number.to_string().into(), Yaml::Number),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Yaml::List(items.iter().map(from_json).collect()),
        Value::Object(map) => {
            Yaml::Map(map.iter().map(|(key, value)| (key.clone(), from_json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn base() -> Map {
        yaml::map([
            ("node-name", "n".into()),
            ("kubelet-arg", vec!["provider-id=one://1"].into()),
            ("tls-san", vec!["localhost"].into()),
            ("cluster-cidr", "10.42.0.0/16".into()),
            ("cni", vec!["cilium"].into()),
        ])
    }

    #[test]
    fn what_is_added_is_taken() {
        let extra = "profile: cis\netcd-snapshot-retention: 9\nkubelet-arg+: [max-pods=250]\ntls-san: [localhost, more]\n\
                     etcd-expose-metrics: true\ncluster-cidr: 10.42.0.0/16\n";
        let merged = yaml::document(&merge_extra(base(), extra, true).unwrap());
        for line in [
            "profile: \"cis\"",
            "etcd-snapshot-retention: 9",
            "  - \"max-pods=250\"",
            "etcd-expose-metrics: true",
        ] {
            assert!(merged.lines().any(|have| have == line), "{line} in\n{merged}");
        }
        assert!(merged.contains("tls-san:\n  - \"localhost\"\n  - \"more\"\n"), "{merged}");
    }

    #[test]
    fn a_servers_settings_do_not_reach_agents() {
        let merged = merge_extra(base(), "etcd-expose-metrics: true\nprofile: cis\n", false).unwrap();
        assert_eq!(merged.last().unwrap().0, "profile");
    }

    #[test]
    fn contradictions_are_refused_by_name_and_all_at_once() {
        let extra = "node-ip: 1.2.3.4\ntoken: x\ncni: [canal]\nkubelet-arg: [provider-id=x]\nnonsense: 1\ndata-dir: /x\n";
        let refused = merge_extra(base(), extra, true).unwrap_err();
        let expected = [
            "expected no cni: ONEAPP_K8S_CNI_PLUGIN says it",
            "expected no data-dir: the agent itself sets it",
            "expected no kubelet-arg: the agent itself sets provider-id",
            "expected no node-ip: the agent itself sets it",
            "expected no nonsense: RKE2 knows no such setting",
            "expected no token: the agent itself sets it",
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn what_is_no_mapping_is_refused_with_its_place() {
        let refused = merge_extra(base(), "a: [1\nb: 2\n", true).unwrap_err();
        assert!(refused[0].starts_with("expected YAML: line "), "{refused:?}");
        assert_eq!(
            merge_extra(base(), "- a\n", true).unwrap_err(),
            ["expected a YAML mapping of RKE2's settings"]
        );
    }

    #[test]
    fn registries_are_passed_on_but_not_printed() {
        let text = "mirrors:\n  docker.io:\n    endpoint: [\"https://mirror\"]\nconfigs:\n  mirror:\n    auth: {password: hidden}\n";
        assert_eq!(registries(text.trim_end()).unwrap().expose(), text);
        assert!(!format!("{:?}", registries(text)).contains("hidden"));
        assert_eq!(registries("mirror: {}\n").unwrap_err(), "expected mirrors and configs alone, not mirror");
        assert!(registries("mirrors: [\n").unwrap_err().starts_with("expected YAML: line"));
    }
}
