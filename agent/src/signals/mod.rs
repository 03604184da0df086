//! Decides what the cloud is told of this VM: its state in one word, and READY on proof.

use crate::context::Config;
use crate::facts::Facts;
use crate::plan::{Attributes, Decision, Effect, Status};
use crate::service::{AttributeName, AttributeValue, names};

/// The condition of a machine that goes down, and its reason.
pub const STAYS: &str = "Stays";
/// See [`STAYS`].
pub const LEAVING: &str = "Leaving";

/// The one word for where this VM stands: `waiting`, `founding`, `joining`, `starting`, `running`, `leaving`.
pub fn phase(decision: &Decision) -> &'static str {
    if decision.is_ready() {
        return "running";
    }
    if decision.conditions.iter().any(|c| c.kind == STAYS) {
        return names::LEAVING;
    }
    let entered = decision.conditions.iter().find(|c| c.kind == "ClusterEntered");
    match entered.map(|c| (c.status, c.reason.as_str())) {
        Some((Status::True, _)) => "starting",
        Some((_, "Founding" | "ClaimingFounding")) => "founding",
        Some((_, "Joining")) => "joining",
        Some(_) | None => "waiting",
    }
}

/// Adds one publication of everything that this VM's attributes do not say yet. Nothing is published while OneGate
/// has not told what they say: it would be a write without need, and it would fail.
pub fn decide(config: &Config, facts: &Facts, decision: &mut Decision) {
    wish(decision, names::STATE, phase(decision));
    if config.report_ready && decision.is_ready() {
        wish(decision, names::READY, "YES");
    }
    let Some(me) = facts.me.last.known().filter(|vm| vm.attributes.is_some()) else { return };
    let wanted = std::mem::take(&mut decision.publish);
    let attributes: Attributes = wanted
        .into_iter()
        .filter(|(name, value)| me.attribute(name.as_str()) != Some(value.as_str()))
        .collect();
    if !attributes.is_empty() {
        decision.effects.push(Effect::Publish { vm: None, attributes });
    }
}

fn wish(decision: &mut Decision, name: &str, value: &str) {
    let name = AttributeName::new(name).expect("our own names are well formed");
    let value = AttributeValue::new(value).expect("our own words survive OneGate");
    decision.publish.insert(name, value);
}
