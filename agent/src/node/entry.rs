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

/// Decides about founding for the master `me`.
pub fn founding(me: VmId, facts: &Facts) -> Founding {
    let Some(service) = facts.service.fresh(facts.now, FRESH) else {
        return unknown("WholeServiceUnread", unread(facts));
    };
    if let Some(gap) = service.gap() {
        return unknown("WholeServiceUnread", format!("{gap}: founding waits for a whole answer"));
    }
    let masters = existing_masters(service);
    let Some(lowest) =
        masters.iter().map(|node| node.id).min().filter(|_| masters.iter().any(|n| n.id == me))
    else {
        return unknown("WholeServiceUnread", format!("the service does not list VM {me} as a master yet"));
    };
    if let Some((vm, sign)) =
        service.vms().filter(|(_, vm)| vm.id != me).find_map(|(role, vm)| Some((vm, sign(role, vm)?)))
    {
        return wait(
            "ClusterExists",
            format!("VM {} shows {sign}: this master joins that cluster and never founds another", vm.id),
        );
    }
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
    if mine.and_then(|vm| vm.attribute(names::CLUSTER)) == Some(names::FOUNDING) {
        Founding::Found
    } else {
        Founding::Claim
    }
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
