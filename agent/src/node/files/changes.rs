//! What the `config.yaml` of a node that has joined becomes when its context changes: settings follow, identity and what
//! the whole cluster agreed upon stay.
//!
//! | settings | what happens |
//! |---|---|
//! | who the node is, the cluster's networks and CNI, the critical values (rke2.md) | kept; a context that says otherwise is told (invariant 9) |
//! | taints | kept: the kubelet sets them when it registers its Node, and never again |
//! | labels | new and changed ones are taken; RKE2 never takes one away |
//! | everything else | follows, and counts from RKE2's next start |

use super::config::{self, settings};
use super::extra::from_json;
use super::yaml::{Map, Yaml, document};
use super::{CONFIG, Entry, Pinned, Shape, secret};
use crate::context::Config;
use crate::plan::FileSpec;
use crate::service::Role;

/// Settings that stay as they are, and the variable that says them.
const KEPT: [(&str, &str); 10] = [
    ("cluster-cidr", "ONEAPP_K8S_CLUSTER_CIDR"),
    ("cluster-dns", super::EXTRA_CONFIG),
    ("cluster-domain", super::EXTRA_CONFIG),
    ("cni", "ONEAPP_K8S_CNI_PLUGIN"),
    ("disable-cloud-controller", "ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED"),
    ("disable-kube-proxy", "ONEAPP_K8S_CNI_PLUGIN"),
    ("egress-selector-mode", super::EXTRA_CONFIG),
    ("node-ip", "ONEAPP_K8S_NODE_NIC"),
    ("node-taint", "ONEAPP_K8S_NODE_TAINTS"),
    ("service-cidr", "ONEAPP_K8S_SERVICE_CIDR"),
];
/// Kept, and nobody's to say.
const PINNED: [&str; 2] = ["agent-token", "node-name"];
/// By them a node finds a supervisor when it starts; nothing of what runs depends on them.
const QUIET: [&str; 2] = ["server", "token"];
const LABELS: &str = "node-label";

/// What becomes of a `config.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    /// The file, if it must be written.
    pub file: Option<FileSpec>,
    /// Settings that count from RKE2's next start.
    pub settings: Vec<String>,
    /// What the context says and the node does not follow, for the operator.
    pub kept: Vec<String>,
}

/// How the context differs from what is on disk.
///
/// # Errors
/// If `there` does not read as settings. It holds tokens, and is not repeated.
pub fn changes(
    config: &Config,
    role: &Role,
    pinned: &Pinned,
    entry: &Entry,
    there: &str,
) -> Result<Changes, String> {
    let there = read(there)?;
    let find =
        |map: &Map, key: &str| map.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let mut changes = Changes::default();
    let mut next = Map::new();
    for (key, wanted) in settings(config, role, pinned, entry, &Shape::default()) {
        let old = find(&there, &key);
        let value = if key == LABELS {
            Some(labels(old.as_ref(), config))
        } else if is_kept(&key) {
            old
        } else {
            Some(wanted)
        };
        next.extend(value.map(|value| (key, value)));
    }
    // Kept settings that the context no longer says, such as the taints of a service whose shape is not known.
    let lost = there.iter().filter(|(key, _)| is_kept(key) && find(&next, key).is_none());
    next.extend(lost.cloned().collect::<Vec<_>>());
    changes.kept = kept(config, role, pinned, entry, &there);
    let names = next.iter().chain(&there).map(|(key, _)| key);
    let mut differ: Vec<&String> = names.filter(|key| find(&next, key) != find(&there, key)).collect();
    differ.sort();
    differ.dedup();
    if !differ.is_empty() {
        changes.file = Some(secret(CONFIG, document(&next)));
    }
    changes.settings = differ.into_iter().filter(|key| !QUIET.contains(&key.as_str())).cloned().collect();
    Ok(changes)
}

fn is_kept(key: &str) -> bool {
    PINNED.contains(&key) || KEPT.iter().any(|(kept, _)| *kept == key)
}

/// What the user says about kept settings, if it is not what the node has.
fn kept(config: &Config, role: &Role, pinned: &Pinned, entry: &Entry, there: &Map) -> Vec<String> {
    let wanted = settings(config, role, pinned, entry, &Shape::default());
    let contradicted = |(key, variable): &(&str, &str)| {
        let (_, wanted) = wanted.iter().find(|(name, _)| name == key)?;
        let old = there.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        let follows = match *key {
            // The agent's own taints depend on the service's shape when the node joined.
            "node-taint" => config.node.node_taints.iter().all(|taint| items(old).contains(taint)),
            // The address is pinned, and checked where the identity is.
            "node-ip" => true,
            _ => old == Some(wanted),
        };
        let has = old.map_or("nothing".to_owned(), short);
        (!follows).then(|| format!("{variable} (the node joined with {key} {has})"))
    };
    KEPT.iter().filter_map(contradicted).collect()
}

/// The labels that the node has, with the user's in place of those of the same key.
fn labels(old: Option<&Yaml>, config: &Config) -> Yaml {
    let key = |label: &str| label.split('=').next().unwrap_or_default().to_owned();
    let own = |label: &String| key(label) == config::ROLE_LABEL;
    let users: Vec<&String> = config.node.node_labels.iter().filter(|label| !own(label)).collect();
    let mut all: Vec<String> = items(old);
    for label in users {
        match all.iter_mut().find(|there| key(there) == key(label)) {
            Some(there) => there.clone_from(label),
            None => all.push(label.clone()),
        }
    }
    all.into()
}

fn items(value: Option<&Yaml>) -> Vec<String> {
    let text = |item: &Yaml| if let Yaml::Text(text) = item { Some(text.clone()) } else { None };
    match value {
        Some(Yaml::List(items)) => items.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn short(value: &Yaml) -> String {
    match value {
        Yaml::List(_) => items(Some(value)).join(","),
        Yaml::Text(text) => text.clone(),
        Yaml::Flag(flag) => flag.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::Null | Yaml::Map(_) => String::new(),
    }
}

/// Settings as they are on disk. One whose name ends in `+` adds to a list, for RKE2 as for us.
pub(super) fn read(text: &str) -> Result<Map, String> {
    let fault = || format!("{CONFIG} does not read as RKE2's configuration");
    match serde_saphyr::from_str(text).map_err(|_| fault())? {
        serde_json::Value::Object(map) => {
            Ok(map.iter().map(|(key, value)| (key.clone(), from_json(value))).collect())
        }
        _ => Err(fault()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, founds, joins, pinned, shape};
    use super::*;
    use crate::plan::Secret;

    /// What the node joined with: a master of a service of three with workers, so that it is tainted.
    fn joined() -> String {
        config::render(&config(), &Role::Master, &pinned(), &joins(), &shape(3, 2, 0))
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), settings: &[&str], kept: &[&str]) -> Option<String> {
        let mut config = config();
        change(&mut config);
        let changes = changes(&config, &Role::Master, &pinned(), &joins(), &joined()).unwrap();
        assert_eq!((changes.settings, changes.kept), (owned(settings), owned(kept)));
        changes.file.map(|file| file.content.as_str().to_owned())
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_unchanged_context_changes_nothing() {
        assert_eq!(check(|_| {}, &[], &[]), None);
    }

    #[test]
    fn settings_follow() {
        let change = |config: &mut Config| {
            config.node.extra_sans.push("more.example".into());
            config.node.extra_config =
                Some(Secret::new("kubelet-arg: [max-pods=250]\netcd-expose-metrics: true\n"));
            config.node.node_labels = vec!["zone=b".into()];
        };
        let text =
            check(change, &["etcd-expose-metrics", "kubelet-arg", "node-label", "tls-san"], &[]).unwrap();
        for line in
            ["  - \"more.example\"", "  - \"max-pods=250\"", "etcd-expose-metrics: true", "  - \"zone=b\""]
        {
            assert!(text.lines().any(|there| there == line), "{line} in\n{text}");
        }
        assert!(text.contains("CriticalAddonsOnly=true:NoExecute"), "the taint stays\n{text}");
        assert_eq!(read(&text).unwrap().len(), read(&joined()).unwrap().len() + 1);
    }

    #[test]
    fn identity_and_what_the_cluster_agreed_upon_stay() {
        let change = |config: &mut Config| {
            config.node.cluster_cidr = vec!["10.50.0.0/16".parse().unwrap()];
            config.node.cni = "canal".into();
            config.node.node_taints = vec!["gpu=true:NoSchedule".into()];
        };
        let kept = [
            "ONEAPP_K8S_CLUSTER_CIDR (the node joined with cluster-cidr 10.42.0.0/16)",
            "ONEAPP_K8S_CNI_PLUGIN (the node joined with cni cilium)",
            "ONEAPP_K8S_CNI_PLUGIN (the node joined with disable-kube-proxy true)",
            "ONEAPP_K8S_NODE_TAINTS (the node joined with node-taint CriticalAddonsOnly=true:NoExecute)",
        ];
        assert_eq!(check(change, &[], &kept), None);
    }

    #[test]
    fn a_founder_learns_its_supervisor_without_a_restart() {
        let founder = config::render(&config(), &Role::Master, &pinned(), &founds(), &shape(3, 2, 0));
        let changes = changes(&config(), &Role::Master, &pinned(), &joins(), &founder).unwrap();
        assert_eq!((changes.settings, changes.kept), (vec![], vec![]));
        let next = changes.file.unwrap();
        let back = config::on_disk(next.content.as_str()).unwrap();
        assert_eq!(back.server.as_deref(), Some("https://ep0.eth0.vr:9345"));
        assert_eq!(back.agent_token, Some(Secret::new("agents-only")));
    }

    #[test]
    fn tokens_are_not_repeated() {
        let error = changes(&config(), &Role::Master, &pinned(), &joins(), "token: [secret\n").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}
