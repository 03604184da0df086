//! One decision from all deciders: who this VM is, then what its role and the signals want.

use std::time::Duration;

use crate::context::{Config, Vars};
use crate::driver::Interests;
use crate::facts::{Facts, Observed};
use crate::guest::disks::Passage;
use crate::identity::{self, Identity};
use crate::plan::{Condition, Decision};
use crate::service::Role;
use crate::{guest, node, signals, vnf};

/// The role: what is pinned on disk, else vnf for a VM of a virtual router, which OneGate knows no role of, else what
/// OneGate says. `Absent`: OneGate answered, and there is none.
pub fn role_of(facts: &Facts) -> Observed<Role> {
    match Identity::observed(facts) {
        Observed::Known(Ok(identity)) => return Observed::Known(identity.role),
        Observed::Known(Err(why)) => return Observed::Unknown(why),
        Observed::Unknown(why) => return Observed::Unknown(why),
        Observed::Absent => {}
    }
    if facts.context.known().is_some_and(|context| is_of_virtual_router(context.expose())) {
        return Observed::Known(Role::Vnf);
    }
    match &facts.me.last {
        Observed::Known(vm) => vm.role().map_or(Observed::Absent, Observed::Known),
        Observed::Absent => Observed::Absent,
        Observed::Unknown(why) => Observed::Unknown(why.clone()),
    }
}

/// Most contexts do not even have the name, and are not parsed for it at each pass.
fn is_of_virtual_router(context: &str) -> bool {
    context.contains("VROUTER_ID") && Vars::parse(context).is_ok_and(|vars| vars.is_virtual_router())
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
                node::interests(config, role, facts, &mut interests);
                guest::disks::interests(config, role, &mut interests);
            }
        }
    }
    interests
}

/// The whole decision of a pass.
pub fn decide(config: &Config, facts: &Facts) -> Decision {
    if facts.goes_down {
        return farewell(config, facts);
    }
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
                    // Without its disks RKE2 would start on the root file system, as a new node.
                    if guest::disks::decide(config, facts, &role, &mut decision) == Passage::Free {
                        node::decide(config, facts, &role, &mut decision)
                    }
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

/// What a machine that goes down still does: it tells. Everything else is systemd's now; whatever an agent started
/// would be in its way.
fn farewell(config: &Config, facts: &Facts) -> Decision {
    let mut decision = Decision::default();
    let message = "this machine goes down: its fellows are told to send it no new connections";
    decision.conditions.push(Condition::unmet(signals::STAYS, signals::LEAVING, message));
    if let Observed::Known(role) = role_of(facts)
        && role.is_node()
    {
        node::farewell(config, facts, &role, &mut decision);
    }
    signals::decide(config, facts, &mut decision);
    decision
}

/// After a power cycle a vnf VM knows itself without OneGate; a node pins more, and when it joins.
fn pin_vnf(config: &Config, facts: &Facts, decision: &mut Decision) {
    let Some(vm) = config.vm.filter(|_| Identity::observed(facts).is_absent()) else { return };
    let identity = Identity {
        vm,
        service: config.service,
        role: Role::Vnf,
        node_name: None,
        node_ip: None,
        adopted: false,
    };
    decision.effects.push(identity.pin());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Secret;
    use crate::service::Vm;

    fn role(context: &str, user_template: &str, pinned: Observed<&str>) -> Observed<Role> {
        let text = format!(
            r#"{{"VM":{{"ID":"6","NAME":"x","STATE":"3","LCM_STATE":"3","USER_TEMPLATE":{user_template},"TEMPLATE":{{}}}}}}"#
        );
        let mut facts = Facts { context: Observed::Known(Secret::new(context)), ..Facts::default() };
        facts.me = crate::facts::Reading::of(Vm::from_json(&text).unwrap(), facts.now);
        let file = |text: &str| crate::facts::File { mode: 0o644, content: Secret::new(text) };
        facts.files.insert(identity::PATH.into(), pinned.map(file));
        role_of(&facts)
    }

    #[test]
    fn a_virtual_router_has_its_role_from_its_context() {
        let (vnf, worker) = (Observed::Known(Role::Vnf), Observed::Known(Role::Worker("worker".into())));
        let router = r#"{"VROUTER":"YES"}"#;
        assert_eq!(role("VROUTER_ID='0'", router, Observed::Absent), vnf);
        // OneFlow may call the role of a router as it likes.
        assert_eq!(role("VROUTER_ID='0'", r#"{"ROLE_NAME":"edge"}"#, Observed::Absent), vnf);
        assert_eq!(role("VROUTER_ID=''", r#"{"ROLE_NAME":"worker"}"#, Observed::Absent), worker);
        assert_eq!(role("X='VROUTER_ID'", r#"{"ROLE_NAME":"worker"}"#, Observed::Absent), worker);
        assert_eq!(role("VMID='6'", router, Observed::Absent), Observed::Absent);
        let pinned = "vm = 6\nservice = 4\nrole = \"worker\"\n";
        assert_eq!(role("VROUTER_ID='0'", router, Observed::Known(pinned)), worker);
    }

    #[test]
    fn a_virtual_router_serves_while_onegate_is_silent() {
        let context = "VMID='6'\nVROUTER_ID='0'\nVROUTER_KEEPALIVED_ID='1'\nREPORT_READY='YES'\n\
            ETH0_IP='10.0.0.6'\nETH0_MASK='255.255.255.0'\nETH0_VROUTER_IP='10.0.0.9'\n";
        let config = Config::read(&Vars::parse(context).unwrap(), Some(Role::Vnf)).unwrap();
        let mut facts = Facts { context: Observed::Known(Secret::new(context)), ..Facts::default() };
        facts.files.insert(identity::PATH.into(), Observed::Absent);
        let silent = decide(&config, &facts);
        let kinds: Vec<&str> = silent.conditions.iter().map(|condition| condition.kind.as_str()).collect();
        assert!(!kinds.contains(&"RoleKnown"), "{kinds:?}");
        assert!(silent.reads.service.is_none() && silent.reads.networks.is_none(), "{:?}", silent.reads);
        assert_eq!(silent.effects.iter().filter(|effect| effect.to_string().contains("identity")).count(), 1);
    }

    #[test]
    fn a_machine_that_goes_down_only_tells() {
        let context = "VMID='6'\nSERVICE_ID='4'\nETH0_IP='10.0.0.6'\nETH0_MASK='255.255.255.0'\n";
        let config = Config::read(&Vars::parse(context).unwrap(), Some(Role::Master)).unwrap();
        let mut facts = Facts { context: Observed::Known(Secret::new(context)), ..Facts::default() };
        facts.files.insert(identity::PATH.into(), Observed::Absent);
        facts.goes_down = true;
        let mut said = |offers: &str| {
            let text = format!(
                r#"{{"VM":{{"ID":"6","NAME":"x","STATE":"3","LCM_STATE":"3",
                "USER_TEMPLATE":{{"ROLE_NAME":"master","READY":"YES"{offers}}},"TEMPLATE":{{"NIC":[]}}}}}}"#
            );
            facts.me = crate::facts::Reading::of(Vm::from_json(&text).unwrap(), facts.now);
            let decision = decide(&config, &facts);
            assert_eq!(decision.conditions[0].reason, signals::LEAVING);
            assert!(!decision.is_ready() && decision.asides.is_empty());
            decision.effects.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said(""), "publish ONEGATE_K8S_STATE=leaving");
        let offers = r#","ONEGATE_HAPROXY_LB1_SERVER_HOST":"10.0.0.6""#;
        assert_eq!(said(offers), "publish ONEGATE_HAPROXY_LB1_SERVER_WEIGHT=0 ONEGATE_K8S_STATE=leaving");
        let told = r#","ONEGATE_HAPROXY_LB1_SERVER_HOST":"10.0.0.6","ONEGATE_HAPROXY_LB1_SERVER_WEIGHT":"0","ONEGATE_K8S_STATE":"leaving""#;
        assert_eq!(said(told), "", "said once");
    }
}
