//! Decides for the guest under a node: its way out and its name servers; and tells what its network lacks. A vnf VM is left
//! alone: it is the way out.
//!
//! What is decided here goes into [`Decision::asides`]: whatever of it fails, the node goes on entering its cluster.
//!
//! The role is usually read from OneGate, and OneGate may lie behind the very gateway that is set here. So before the
//! role is known, a VM with a single NIC and no gateway of its own is taken for a node: no vnf is made like that, for
//! it would have no way out itself. Any other VM is left alone until its role is known.

mod addresses;
pub mod disks;
mod gateway;
mod names;

use crate::context::{Config, Nic};
use crate::driver::Interests;
use crate::facts::{Facts, Link, Observed};
use crate::plan::{Condition, Content, Decision, Effect, FileSpec};
use crate::service::Role;

pub use gateway::{OURS, STATIC};
pub use names::{BEFORE, RESOLV_CONF, RESOLVED};

/// What the guest's deciders look at.
pub fn interests(config: &Config, role: Option<&Role>, facts: &Facts, interests: &mut Interests) {
    if is_node(config, role) {
        gateway::interests(config, facts, interests);
        names::interests(interests);
    }
}

/// What the guest needs.
pub fn decide(config: &Config, role: Option<&Role>, facts: &Facts, decision: &mut Decision) {
    if is_node(config, role) {
        addresses::decide(config, facts, decision);
        gateway::decide(config, facts, decision);
        names::decide(config, facts, decision);
    }
}

fn is_node(config: &Config, role: Option<&Role>) -> bool {
    match role {
        Some(Role::Vnf) => false,
        Some(Role::Master | Role::Worker(_) | Role::Storage) => true,
        None => {
            // Nodes know virtual addresses of networks that they are not in.
            let mut attached = config.nics.iter().filter(|nic| nic.is_attached);
            attached.next().is_some_and(|nic| nic.gateway.is_none()) && attached.next().is_none()
        }
    }
}

/// The interface of a NIC: by its MAC, as the kernel may number them in another order; by its name without one.
fn link_of<'a>(nic: &Nic, links: &'a [Link]) -> Option<&'a Link> {
    links.iter().find(|link| if nic.mac.is_empty() { link.name == nic.name() } else { link.mac == nic.mac })
}

/// A file that everybody may read.
fn public(path: &str, content: String) -> FileSpec {
    FileSpec { path: path.to_owned(), mode: 0o644, content: Content::Public(content), checker: None }
}

/// Adds what makes the file hold `wanted`, or be gone. One that could not be seen is left alone.
fn keep(path: &str, wanted: Option<String>, facts: &Facts, decision: &mut Decision) {
    match (facts.file(path), wanted) {
        (Observed::Known(file), Some(text)) if file.mode == 0o644 && file.content.expose() == text => {}
        (Observed::Known(_) | Observed::Absent, Some(text)) => {
            decision.asides.push(Effect::WriteFile(public(path, text)));
        }
        (Observed::Known(_), None) => decision.asides.push(Effect::RemoveFile { path: path.to_owned() }),
        (Observed::Absent, None) | (Observed::Unknown(_), _) => {}
    }
}

/// How a wish stands that has not come true: it counts only if the node cannot do without.
fn unfulfilled(kind: &str, needed: bool, reason: &str, message: String) -> Condition {
    if needed { Condition::unmet(kind, reason, message) } else { Condition::met(kind, reason, message) }
}
