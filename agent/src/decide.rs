//! One decision from all deciders: who this VM is, then what its role and the signals want.

use std::time::Duration;

use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Facts, Observed};
use crate::identity::{self, Identity};
use crate::plan::{Condition, Decision};
use crate::service::Role;
use crate::{guest, node, signals, vnf};

/// The role: what is pinned on disk, else what OneGate says. `Absent`: OneGate answered, and there is none.
pub fn role_of(facts: &Facts) -> Observed<Role> {
    match Identity::observed(facts) {
        Observed::Known(Ok(identity)) => return Observed::Known(identity.role),
        Observed::Known(Err(why)) => return Observed::Unknown(why),
        Observed::Unknown(why) => return Observed::Unknown(why),
        Observed::Absent => {}
    }
    match &facts.me.last {
        Observed::Known(vm) => vm.role().map_or(Observed::Absent, Observed::Known),
        Observed::Absent => Observed::Absent,
        Observed::Unknown(why) => Observed::Unknown(why.clone()),
    }
}

/// What must be looked at to decide for this configuration and role.
pub fn interests(config: Option<&Config>, role: Option<&Role>, facts: &Facts) -> Interests {
    let mut interests = Interests { files: vec![identity::PATH.into()], ..Interests::default() };
    if let Some(config) = config {
        guest::interests(config, role, facts, &mut interests);
    }
    if let (Some(config), Some(role)) = (config, role) {
        match role {
            Role::Vnf => vnf::interests(config, &facts.links, &mut interests),
            Role::Master | Role::Worker(_) | Role::Storage => {
                node::interests(config, role, facts, &mut interests)
            }
        }
    }
    interests
}

/// The whole decision of a pass.
pub fn decide(config: &Config, facts: &Facts) -> Decision {
    let mut decision = Decision::default();
    let role = role_of(facts);
    if let (Some(_), Some(refusal)) = (role.known(), identity::contradiction(config, facts)) {
        decision.conditions.push(Condition::unmet("IdentityKept", "IdentityContradicted", refusal));
        decision.look_again_within(Duration::from_secs(30));
        return decision;
    }
    guest::decide(config, role.known(), facts, &mut decision);
    match role {
        Observed::Known(role) => {
            match role {
                Role::Vnf => {
                    pin_vnf(config, facts, &mut decision);
                    vnf::decide(config, facts, &mut decision);
                }
                Role::Master | Role::Worker(_) | Role::Storage => {
                    node::decide(config, facts, &role, &mut decision)
                }
            }
            signals::decide(config, facts, &mut decision);
        }
        Observed::Absent => {
            let message = "OneGate knows no ROLE_NAME of this VM: deploy it as a role of a OneFlow service";
            decision.conditions.push(Condition::unmet("RoleKnown", "NoRole", message));
            decision.look_again_within(Duration::from_secs(10));
        }
        Observed::Unknown(why) => {
            let why = facts.me.fault.as_ref().map_or(why, |fault| fault.message.clone());
            decision.conditions.push(Condition::unknown(
                "RoleKnown",
                "OneGateSilent",
                format!("waiting for OneGate to tell the role: {why}"),
            ));
            decision.look_again_within(Duration::from_secs(1));
        }
    }
    decision
}

/// After a power cycle a vnf VM knows itself without OneGate; a node pins more, and when it joins.
fn pin_vnf(config: &Config, facts: &Facts, decision: &mut Decision) {
    let Some(vm) = config.vm.filter(|_| Identity::observed(facts).is_absent()) else { return };
    let identity = Identity { vm, service: config.service, role: Role::Vnf, node_name: None, node_ip: None };
    decision.effects.push(identity.pin());
}
