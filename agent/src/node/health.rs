//! What an operator wants to know of a node that has joined, beside that it works: its network, etcd, the add-ons.
//!
//! The network belongs to this node, and Ready waits for it. Add-ons need workers, which a service deploys after its
//! masters and only once these are ready: so they are told, and nothing waits for them. etcd is told likewise, for the
//! API is not ready without it.

use std::time::Duration;

use super::{Node, files};
use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Observed, Replicas};
use crate::plan::{Condition, Decision};
use crate::service::Role;

/// How often the add-ons are looked at: each is a request, and nothing is decided by it.
const ASK: Duration = Duration::from_secs(15);
const ASK_WHEN_HEALTHY: Duration = Duration::from_secs(60);
/// The operator reads names, not all of them.
const NAMED: usize = 5;

/// What is looked at for it.
pub fn interests(config: &Config, role: &Role, interests: &mut Interests) {
    interests.files.extend(super::certificates::paths(role).map(str::to_owned));
    if *role == Role::Master {
        interests.etcd = true;
        interests.workloads = files::workloads(config);
    }
}

/// The kubelet and its network, as the Node object tells.
pub fn node(node: &Node<'_>, decision: &mut Decision) {
    let Observed::Known(seen) = &node.facts.kubernetes.node else { return };
    let name = &node.name;
    let kubelet = "KubeletUp";
    decision.conditions.push(if seen.silent {
        let message = format!("the kubelet of {name} has stopped reporting: journalctl -u {}", node.unit());
        Condition::unmet(kubelet, "Silent", message)
    } else {
        Condition::met(kubelet, "Reporting", format!("the kubelet of {name} reports"))
    });
    let cni = "CniReady";
    decision.conditions.push(match &seen.no_network {
        Some(why) => {
            let what = match node.config.node.cni.as_str() {
                "none" => {
                    "ONEAPP_K8S_CNI_PLUGIN is none: it comes with an add-on that is a network, or by you"
                        .to_owned()
                }
                plugin => {
                    format!("{plugin} comes up by itself once its Pods run: kubectl -n kube-system get pods")
                }
            };
            Condition::unmet(cni, "NoNetwork", format!("{name} has no Pod network yet ({why}); {what}"))
        }
        None => Condition::met(cni, "Ready", format!("{name} has its Pod network")),
    });
}

/// etcd and the add-ons, as a server sees them.
pub fn cluster(node: &Node<'_>, decision: &mut Decision) {
    etcd(node, decision);
    let healthy = addons(node, decision);
    decision.reads.addons = Some(if healthy { ASK_WHEN_HEALTHY } else { ASK });
}

fn etcd(node: &Node<'_>, decision: &mut Decision) {
    let kind = "EtcdMember";
    let voter = node.facts.kubernetes.node.known().and_then(|node| node.voter);
    decision.told.push(match (&node.facts.etcd, voter) {
        (Observed::Known(etcd), _) if !etcd.has_leader => Condition::unmet(
            kind,
            "NoLeader",
            "etcd here knows no leader: a majority of the masters must run and reach each other on ports 2379 and 2380",
        ),
        (Observed::Known(etcd), _) if etcd.is_learner => {
            Condition::unmet(kind, "Learner", "etcd here is still learning, and has no vote yet")
        }
        (Observed::Known(etcd), _) if etcd.is_leader => Condition::met(kind, "Leader", "etcd here votes, and leads"),
        (Observed::Known(_), _) => Condition::met(kind, "Follower", "etcd here votes, and follows a leader"),
        (Observed::Absent | Observed::Unknown(_), Some(true)) => {
            Condition::met(kind, "Voter", "etcd here votes, says its Node")
        }
        (Observed::Absent | Observed::Unknown(_), Some(false)) => {
            Condition::unmet(kind, "Learner", "etcd here has no vote yet, says its Node")
        }
        (Observed::Absent, None) => Condition::unknown(kind, "NoAnswer", "etcd does not answer on 127.0.0.1:2381"),
        (Observed::Unknown(why), None) => Condition::unknown(kind, "NotSeen", why.clone()),
    });
}

/// True if nothing is missing.
fn addons(node: &Node<'_>, decision: &mut Decision) -> bool {
    let workloads = files::workloads(node.config);
    if workloads.is_empty() {
        return true;
    }
    let kind = "AddonsHealthy";
    let (mut missing, mut unseen) = (Vec::new(), Vec::new());
    for workload in &workloads {
        match node.facts.workloads.get(workload) {
            Some(Observed::Known(Replicas { wanted, available })) if available >= wanted => {}
            Some(Observed::Known(Replicas { wanted, available })) => {
                missing.push(format!("{workload} ({available} of {wanted} Pods)"));
            }
            Some(Observed::Absent) => missing.push(format!("{workload} (not there yet)")),
            Some(Observed::Unknown(why)) => unseen.push(format!("{workload} ({why})")),
            None => unseen.push(workload.to_string()),
        }
    }
    let condition = if !missing.is_empty() {
        let message = format!("waiting for {}; kubectl -n NAMESPACE get pods says why", listed(&missing));
        Condition::unmet(kind, "Missing", message)
    } else if !unseen.is_empty() {
        Condition::unknown(kind, "NotSeen", format!("not seen yet: {}", listed(&unseen)))
    } else {
        Condition::met(
            kind,
            "Available",
            format!("all {} workloads of the add-ons are available", workloads.len()),
        )
    };
    decision.told.push(condition);
    missing.is_empty() && unseen.is_empty()
}

fn listed(items: &[String]) -> String {
    let shown = items.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::{Etcd, Facts, KubernetesNode};

    /// What is told of a cluster with Longhorn and MetalLB.
    fn told(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut config = fixture::config();
        (config.node.longhorn, config.node.metallb) = (true, true);
        let mut facts = Facts::default();
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.etcd = Observed::Known(Etcd { has_leader: true, is_leader: false, is_learner: false });
        for workload in files::workloads(&config) {
            facts.workloads.insert(workload, Observed::Known(Replicas { wanted: 0, available: 0 }));
        }
        change(&mut facts);
        let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
        let mut decision = Decision::default();
        cluster(&node, &mut decision);
        assert_eq!(decision.conditions, [], "nothing waits for these");
        decision.told.iter().map(|it| format!("{} {}: {}", it.kind, it.reason, it.message)).collect()
    }

    #[test]
    fn missing_addons_are_named() {
        assert_eq!(told(|_| {})[1], "AddonsHealthy Available: all 4 workloads of the add-ons are available");
        let set = |facts: &mut Facts, name: &str, seen| {
            let there = facts.workloads.iter_mut().find(|(workload, _)| workload.name == name);
            *there.unwrap().1 = seen;
        };
        let lacking = told(|facts| {
            set(facts, "longhorn-manager", Observed::Known(Replicas { wanted: 3, available: 2 }));
            set(facts, "one-metallb-controller", Observed::Absent);
            set(facts, "one-metallb-speaker", Observed::Unknown("403".into()));
        });
        assert_eq!(
            lacking[1],
            "AddonsHealthy Missing: waiting for DaemonSet longhorn-system/longhorn-manager (2 of 3 Pods), \
             Deployment metallb-system/one-metallb-controller (not there yet); kubectl -n NAMESPACE get pods says why"
        );
        // Unknown is never no.
        let unseen = told(|facts| set(facts, "one-metallb-speaker", Observed::Unknown("403".into())));
        assert!(
            unseen[1].starts_with("AddonsHealthy NotSeen: not seen yet: DaemonSet metallb"),
            "{unseen:?}"
        );
        assert!(told(|facts| facts.workloads.clear())[1].contains("NotSeen"));
    }

    #[test]
    fn etcd_says_itself_how_it_stands_and_else_its_node() {
        let reason = |etcd: Observed<Etcd>, voter: Option<bool>| {
            let told = told(|facts| {
                facts.etcd = etcd;
                facts.kubernetes.node =
                    Observed::Known(KubernetesNode { voter, ..KubernetesNode::default() });
            });
            told[0].split([' ', ':']).nth(1).unwrap_or_default().to_owned()
        };
        let etcd =
            |has_leader, is_leader, is_learner| Observed::Known(Etcd { has_leader, is_leader, is_learner });
        assert_eq!(reason(etcd(true, true, false), None), "Leader");
        assert_eq!(reason(etcd(true, false, false), None), "Follower");
        assert_eq!(reason(etcd(true, false, true), Some(true)), "Learner");
        assert_eq!(reason(etcd(false, false, false), Some(true)), "NoLeader");
        assert_eq!(reason(Observed::Absent, Some(true)), "Voter");
        assert_eq!(reason(Observed::Absent, None), "NoAnswer");
    }
}
