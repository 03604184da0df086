//! Who founds: the one decision that must never be taken twice (invariant 1).
//!
//! ```text
//!  unread ──whole service read──▶ not lowest ──▶ wait for the lowest to found
//!    │                             lowest, a sign of a cluster ──▶ wait: join it, or restore it
//!    │                             lowest, no sign ──▶ claim ──seen by a later whole answer──▶ found
//!    └── OneGate silent, half an answer: wait
//! ```
//!
//! The claim is an attribute of the claimer's own VM, published before anything is started and believed only once a
//! whole answer of the service, read after it, shows it: so a founder that dies in the middle has left its sign, and
//! two VMs that both think to be the lowest see each other's claim.

use std::time::Duration;

use crate::facts::{Facts, Observed};
use crate::service::{Service, ServiceNode, Vm, VmId, names};

/// An answer older than this is not believed when it is about founding.
const FRESH: Duration = Duration::from_secs(10);

/// What a master that has not joined does about founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// It founds, now.
    Found,
    /// It is to found, and must claim so first.
    Claim,
    /// It does not found, and why; `known` is false if it could not be seen.
    Wait {
        /// CamelCase.
        reason: &'static str,
        /// For the operator.
        message: String,
        /// False: OneGate did not tell enough.
        known: bool,
    },
}

/// Decides about founding for the master `me`. An old answer is good enough to wait by, never to found by.
pub fn founding(me: VmId, facts: &Facts) -> Founding {
    let Some(service) = facts.service.last.known() else {
        return unknown("WholeServiceUnread", unread(facts));
    };
    let founding = by_answer(me, service);
    let acts = matches!(founding, Founding::Found | Founding::Claim);
    if acts && facts.service.fresh(facts.now, FRESH).is_none() {
        return unknown("WholeServiceUnread", unread(facts));
    }
    founding
}

fn by_answer(me: VmId, service: &Service) -> Founding {
    if let Some((vm, sign)) =
        service.vms().filter(|(_, vm)| vm.id != me).find_map(|(role, vm)| Some((vm, sign(role, vm)?)))
    {
        return wait(
            "ClusterExists",
            format!("VM {} shows {sign}: this master joins that cluster and never founds another", vm.id),
        );
    }
    if let Some(gap) = service.gap() {
        return unknown("WholeServiceUnread", format!("{gap}: founding waits for a whole answer"));
    }
    let masters = existing_masters(service);
    let Some(lowest) =
        masters.iter().map(|node| node.id).min().filter(|_| masters.iter().any(|n| n.id == me))
    else {
        return unknown("WholeServiceUnread", format!("the service does not list VM {me} as a master yet"));
    };
    if lowest != me {
        return wait(
            "WaitingForFounder",
            format!("waiting for VM {lowest}, the lowest ID among the masters, to found the cluster"),
        );
    }
    let mine = service.vms().find(|(_, vm)| vm.id == me).map(|(_, vm)| vm);
    if let Some(sign) = mine.and_then(own_sign) {
        return wait(
            "MemberBefore",
            format!(
                "this VM shows {sign} in OneGate, but its disk is empty: it was recreated, and no other VM is in its cluster; \
                 restore an etcd snapshot, or deploy the service anew"
            ),
        );
    }
    let claimed = mine.and_then(|vm| vm.attribute(names::CLUSTER)) == Some(names::FOUNDING);
    if claimed { Founding::Found } else { Founding::Claim }
}

/// Masters that are there: a DONE one is history, a leaving one is not.
fn existing_masters(service: &Service) -> Vec<&ServiceNode> {
    let nodes = service.role("master").map_or(&[][..], |role| &role.nodes);
    nodes.iter().filter(|node| node.vm.as_ref().is_none_or(|vm| !vm.is_done())).collect()
}

/// A sign that another VM is in a cluster, or about to found one.
fn sign(role: &str, vm: &Vm) -> Option<String> {
    own_sign(vm)
        .or_else(|| {
            let claims = vm.attribute(names::CLUSTER) == Some(names::FOUNDING) && !vm.is_done();
            claims.then(|| format!("{}={}", names::CLUSTER, names::FOUNDING))
        })
        .or_else(|| {
            let ready = role != "vnf" && vm.attribute(names::READY) == Some("YES");
            ready.then(|| "READY=YES".to_owned())
        })
}

/// A sign that this very VM was in a cluster: what it published then stays when it is recreated (onegate.md).
fn own_sign(vm: &Vm) -> Option<String> {
    let cluster = vm.attribute(names::CLUSTER).filter(|id| *id != names::FOUNDING && *id != names::NONE);
    cluster.map(|id| format!("{}={id}", names::CLUSTER)).or_else(|| {
        let old = [names::TOKEN, names::MASTER, names::KUBECONFIG];
        old.into_iter()
            .find(|name| vm.attribute(name).is_some_and(|value| value != names::NONE))
            .map(str::to_owned)
    })
}

/// Why there is no fresh answer about the service.
pub fn unread(facts: &Facts) -> String {
    match (&facts.service.fault, &facts.service.last) {
        (Some(fault), _) => format!("waiting for OneGate to tell the whole service: {}", fault.message),
        (None, Observed::Absent) => {
            "this VM belongs to no service: OneKE is deployed as a OneFlow service".into()
        }
        (None, _) => "the service was not read yet".into(),
    }
}

fn wait(reason: &'static str, message: String) -> Founding {
    Founding::Wait { reason, message, known: true }
}

fn unknown(reason: &'static str, message: String) -> Founding {
    Founding::Wait { reason, message, known: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::facts::Reading;
    use crate::service::{ServiceRole, state};

    /// `master:5 master:6 READY=YES worker:8`: VMs with their attributes behind them.
    fn service(text: &str) -> Service {
        let mut roles: Vec<ServiceRole> = Vec::new();
        for word in text.split_whitespace() {
            if let Some((role, id)) = word.split_once(':') {
                let vm = vm(id.parse().expect("an ID"));
                if roles.last().is_none_or(|last| last.name != role) {
                    roles.push(ServiceRole {
                        name: role.into(),
                        cardinality: 0,
                        state: state::RUNNING,
                        nodes: Vec::new(),
                    });
                }
                let last = roles.last_mut().expect("just pushed");
                last.nodes.push(ServiceNode { id: vm.id, vm: Some(vm) });
                last.cardinality += 1;
            } else {
                let (name, value) = word.split_once('=').expect("NAME=value");
                let vm =
                    roles.last_mut().and_then(|role| role.nodes.last_mut()).and_then(|node| node.vm.as_mut());
                let vm = vm.expect("an attribute stands behind its VM");
                match name {
                    "STATE" => vm.state = value.parse().expect("a number"),
                    _ => drop(vm.attributes.as_mut().map(|all| all.insert(name.into(), value.into()))),
                }
            }
        }
        Service { id: 1, state: state::RUNNING, roles }
    }

    fn vm(id: u32) -> Vm {
        Vm {
            id: VmId(id),
            name: String::new(),
            state: 3,
            lcm_state: 3,
            attributes: Some(BTreeMap::new()),
            nics: Vec::new(),
        }
    }

    fn facts(service: Service, age: u64) -> Facts {
        let now = Duration::from_secs(1_000);
        let at = now - Duration::from_secs(age);
        Facts { now, service: Reading::of(service, at), ..Facts::default() }
    }

    /// What VM `me` does about founding, as one word.
    fn word(me: u32, text: &str) -> &'static str {
        match founding(VmId(me), &facts(service(text), 1)) {
            Founding::Found => "Found",
            Founding::Claim => "Claim",
            Founding::Wait { reason, .. } => reason,
        }
    }

    #[test]
    fn the_lowest_claims_then_founds() {
        assert_eq!(word(5, "vnf:1 READY=YES master:5 master:6"), "Claim");
        assert_eq!(word(5, "master:5 ONEGATE_K8S_CLUSTER=founding master:6"), "Found");
        assert_eq!(word(6, "master:5 master:6"), "WaitingForFounder");
        assert_eq!(word(6, "master:6 master:5"), "WaitingForFounder");
        assert_eq!(word(6, "master:5 STATE=6 master:6"), "Claim", "a DONE master is no more");
        assert_eq!(word(6, "master:5 STATE=8 master:6"), "WaitingForFounder", "a powered-off one is");
        assert_eq!(word(5, "master:5 ONEGATE_K8S_CLUSTER=none"), "Claim", "a withdrawn claim is none");
    }

    #[test]
    fn any_sign_of_a_cluster_forbids_it() {
        for sign in [
            "master:6 ONEGATE_K8S_CLUSTER=abc",
            "master:6 ONEGATE_K8S_CLUSTER=founding",
            "master:6 ONEGATE_K8S_TOKEN=K10x",
            "master:6 ONEGATE_K8S_MASTER=10.0.0.6",
            "master:6 ONEKE_KUBECONFIG=abc",
            "master:6 READY=YES",
            "worker:8 READY=YES",
            "storage:9 ONEGATE_K8S_CLUSTER=abc",
            "master:6 STATE=6 ONEGATE_K8S_CLUSTER=abc",
        ] {
            assert_eq!(word(5, &format!("master:5 {sign}")), "ClusterExists", "{sign}");
            assert_eq!(
                word(5, &format!("master:5 ONEGATE_K8S_CLUSTER=founding {sign}")),
                "ClusterExists",
                "{sign}"
            );
        }
        assert_eq!(word(5, "vnf:1 READY=YES master:5"), "Claim", "a vnf VM is in no cluster");
        assert_eq!(
            word(5, "master:5 worker:8 ONEGATE_K8S_NODE_NAME=oneke-1-worker-8"),
            "Claim",
            "a name is no sign"
        );
    }

    #[test]
    fn a_recreated_member_does_not_found_again() {
        assert_eq!(word(5, "master:5 ONEGATE_K8S_CLUSTER=abc READY=YES"), "MemberBefore");
        assert_eq!(word(5, "master:5 ONEGATE_K8S_TOKEN=K10x"), "MemberBefore");
    }

    #[test]
    fn doubt_means_wait() {
        let mut half = service("master:5 ONEGATE_K8S_CLUSTER=founding master:6");
        half.roles[0].nodes[1].vm = None;
        let wait = |facts: Facts| matches!(founding(VmId(5), &facts), Founding::Wait { known: false, .. });
        assert!(wait(facts(half.clone(), 1)), "a VM without data");
        half.roles[0].nodes.pop();
        assert!(wait(facts(half, 1)), "fewer VMs than the role shall have");
        let whole = service("master:5 ONEGATE_K8S_CLUSTER=founding master:6");
        assert!(wait(facts(whole.clone(), 11)), "an old answer");
        assert!(!wait(facts(whole.clone(), 9)), "a fresh one");
        assert!(wait(Facts::default()), "no answer at all");
        let mut blind = whole;
        blind.roles[0].nodes[1].vm.as_mut().expect("it has data").attributes = None;
        assert!(wait(facts(blind, 1)), "a VM without its attributes");
        assert!(wait(facts(service("master:6 master:7"), 1)), "not listed oneself");
    }
}
