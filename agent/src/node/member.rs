//! A node that has joined: its unit is enabled and runs, OneGate or not; what works is told; a master may lead.

use std::time::Duration;

use crate::facts::Observed;
use crate::identity::Identity;
use crate::plan::{Condition, Decision, Effect};
use crate::service::{Role, names};

use super::{
    Node, OnDisk, certificates, cluster_id, follow, forget_joining, health, kubeconfig, lead, publish,
};

/// How often the cluster's API is asked until this node is Ready, and afterwards.
const ASK_UNTIL_READY: Duration = Duration::from_millis(500);
const ASK_WHEN_READY: Duration = Duration::from_secs(5);
/// How often `/vm` is asked in steady state.
const ASK_OWN: Duration = Duration::from_secs(10);
/// And by a master: what somebody else wrote onto it, an operator or a hook, shall serve as soon as what it says itself.
/// There are few masters; a thousand workers at this pace would be more than one front end can answer.
const ASK_OWN_MASTER: Duration = Duration::from_millis(500);

/// What a member does.
pub fn decide(node: &Node<'_>, disk: &OnDisk, decision: &mut Decision) {
    let own = if *node.role == Role::Master { ASK_OWN_MASTER } else { ASK_OWN };
    decision.reads.me = own;
    decision.look_again_within(own);
    decision.conditions.push(Condition::met(
        "ClusterEntered",
        "Member",
        format!("this node is {} in the cluster", node.name),
    ));
    adopt(node, decision);
    enable(node, decision);
    node.keep_running(decision);
    follow::decide(node, disk, decision);
    let ready = node_ready(node, decision);
    health::node(node, decision);
    certificates::decide(node, decision);
    let serving = *node.role != Role::Master || api_ready(node, decision);
    let asked = if ready && serving { ASK_WHEN_READY } else { ASK_UNTIL_READY };
    decision.reads.kubernetes = Some(asked);
    decision.look_again_within(asked);
    // A server whose API answers takes joiners in, whether its own Node is Ready or not yet.
    let works = if *node.role == Role::Master { serving } else { ready };
    tell(node, disk, works, decision);
    lead::announce(node, decision);
    if *node.role == Role::Master && serving {
        health::cluster(node, decision);
        lead::decide(node, disk, decision);
        // Last: whatever is wrong with it holds up nothing else.
        kubeconfig::publish(node, decision);
    }
}

/// A node that the old appliance has joined is pinned as what it is.
fn adopt(node: &Node<'_>, decision: &mut Decision) {
    if Identity::observed(node.facts).is_absent() {
        let identity = Identity {
            vm: node.vm,
            service: Some(node.service),
            role: node.role.clone(),
            node_name: Some(node.name.clone()),
            node_ip: Some(node.ip),
            adopted: true,
        };
        decision.effects.push(identity.pin());
    }
}

/// A joined node starts by itself after any power loss (invariant 2).
fn enable(node: &Node<'_>, decision: &mut Decision) {
    if node.facts.unit(node.unit()).known().is_some_and(|unit| !unit.enabled) {
        decision.effects.push(Effect::EnableUnit(node.unit().into()));
    }
}

fn node_ready(node: &Node<'_>, decision: &mut Decision) -> bool {
    let name = &node.name;
    let condition = match &node.facts.kubernetes.node {
        Observed::Known(seen) if seen.ready => {
            Condition::met("NodeReady", "Ready", format!("{name} is Ready in Kubernetes"))
        }
        Observed::Known(seen) => Condition::unmet(
            "NodeReady",
            "NotReady",
            format!("{name} is not Ready in Kubernetes: {}", seen.message),
        ),
        Observed::Absent => Condition::unmet(
            "NodeReady",
            "NotRegistered",
            format!("waiting for the kubelet to register {name}"),
        ),
        Observed::Unknown(why) => {
            Condition::unknown("NodeReady", "ApiSilent", format!("waiting for the Kubernetes API: {why}"))
        }
    };
    let ready = condition.status == crate::plan::Status::True;
    decision.conditions.push(condition);
    ready
}

fn api_ready(node: &Node<'_>, decision: &mut Decision) -> bool {
    let condition = match &node.facts.kubernetes.readyz {
        Observed::Known(()) => Condition::met("ApiReady", "Ready", "this server's Kubernetes API is ready"),
        Observed::Absent => {
            Condition::unmet("ApiReady", "NoCredentials", "waiting for RKE2 to write its kubeconfig")
        }
        Observed::Unknown(why) => Condition::unmet(
            "ApiReady",
            "NotReady",
            format!("this server's Kubernetes API is not ready: {why}; etcd needs a majority of its members"),
        ),
    };
    let ready = condition.status == crate::plan::Status::True;
    decision.conditions.push(condition);
    ready
}

/// What others may know: of a master once its API answers, for then others can join through it and its cluster must be
/// known; of the others once their Node is Ready. Backends are never withdrawn for a passing weakness: HAProxy checks
/// health by itself.
fn tell(node: &Node<'_>, disk: &OnDisk, works: bool, decision: &mut Decision) {
    publish(decision, names::NODE_NAME, node.name.clone());
    if !works {
        return;
    }
    // Not before: it holds one of the places of those who join, and a master may still be a learner.
    forget_joining(node.facts, decision);
    let plain = node.config.node.token_mode == crate::context::TokenMode::Plain;
    if let Some(id) = cluster_id(node.facts, disk) {
        publish(decision, names::CLUSTER, id);
    } else if node
        .facts
        .me
        .last
        .known()
        .and_then(|vm| vm.attribute(names::CLUSTER))
        .is_none_or(|v| v == names::FOUNDING)
    {
        publish(decision, names::CLUSTER, "joined");
    }
    match node.role {
        Role::Master => {
            publish(decision, names::MASTER, node.ip.to_string());
            if let (true, Some(file)) = (plain, node.facts.file(super::SERVER_TOKEN).known()) {
                publish(decision, names::TOKEN, file.content.expose().trim());
            }
        }
        Role::Worker(_) | Role::Storage | Role::Vnf => {}
    }
    register(node, decision);
}

/// The listeners of the vnf that this node serves.
fn listeners(role: &Role) -> &'static [usize] {
    match role {
        Role::Master => &[0, 1],
        Role::Worker(_) => &[2, 3],
        Role::Storage | Role::Vnf => &[],
    }
}

/// What this node offered takes no new connections while it is away; [`share_told`] brings them back with it.
pub fn rest(node: &Node<'_>, decision: &mut Decision) {
    let Some(me) = node.facts.me.last.known() else { return };
    for n in listeners(node.role) {
        if me.attribute(&format!("ONEGATE_HAPROXY_LB{n}_SERVER_HOST")).is_some() {
            publish(decision, &share(*n), "0");
        }
    }
}

fn share(n: usize) -> String {
    format!("ONEGATE_HAPROXY_LB{n}_SERVER_WEIGHT")
}

/// Registers this node behind the vnf's listeners: the same port for masters, the ingress NodePort for workers
/// (contract.md 1.3: LB port + 32000).
fn register(node: &Node<'_>, decision: &mut Decision) {
    if node.config.node.external_lb {
        return;
    }
    for n in listeners(node.role).iter().copied() {
        let lb = &node.config.node.lb[n];
        let vip = node.config.node.eth0_vip0.map(|ip| ip.to_string());
        let Some(ip) = lb.ip.clone().or(vip) else { continue };
        let server_port = if n < 2 { lb.port } else { lb.port.saturating_add(32_000) };
        for (suffix, value) in [
            ("IP", ip),
            ("PORT", lb.port.to_string()),
            ("SERVER_HOST", node.ip.to_string()),
            ("SERVER_PORT", server_port.to_string()),
        ] {
            publish(decision, &format!("ONEGATE_HAPROXY_LB{n}_{suffix}"), value);
        }
        let share = share(n);
        if let Some(weight) = share_told(node, &share) {
            publish(decision, &share, weight);
        }
    }
}

/// A node that is being shut down takes no new connections; one that came back takes them again. Any other share is the
/// operator's.
fn share_told(node: &Node<'_>, name: &str) -> Option<&'static str> {
    let me = node.facts.me.last.known()?;
    match (me.is_stopping(), me.attribute(name)) {
        (true, _) => Some("0"),
        (false, Some("0")) => Some("1"),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::Facts;

    fn registered(change: impl FnOnce(&mut crate::context::Config)) -> Vec<String> {
        let mut config = fixture::config();
        change(&mut config);
        let mut facts = Facts::default();
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
        let mut decision = Decision::default();
        tell(&node, &OnDisk::default(), true, &mut decision);
        let all = decision.publish.iter().filter(|(name, _)| name.as_str().starts_with("ONEGATE_HAPROXY"));
        all.map(|(name, value)| format!("{}={}", name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_node_that_is_shut_down_takes_no_new_connections() {
        let (config, mut facts) = (fixture::config(), Facts::default());
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        let mut share = |lcm_state: i32, told: &str| {
            let name = "ONEGATE_HAPROXY_LB1_SERVER_WEIGHT";
            let text = format!(
                r#"{{"VM":{{"ID":"8","NAME":"m","STATE":"3","LCM_STATE":"{lcm_state}",
                "USER_TEMPLATE":{{"ROLE_NAME":"master"{told}}},"TEMPLATE":{{"NIC":[]}}}}}}"#
            );
            facts.me = crate::facts::Reading::of(crate::service::Vm::from_json(&text).unwrap(), facts.now);
            let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
            let mut decision = Decision::default();
            tell(&node, &OnDisk::default(), true, &mut decision);
            let found = decision.publish.iter().find(|(it, _)| it.as_str() == name);
            found.map(|(_, value)| value.as_str().to_owned())
        };
        assert_eq!(share(3, ""), None);
        for stopping in [12, 18, 29] {
            assert_eq!(share(stopping, "").as_deref(), Some("0"));
        }
        let told = r#","ONEGATE_HAPROXY_LB1_SERVER_WEIGHT":"0""#;
        assert_eq!(share(3, told).as_deref(), Some("1"), "it is back");
        assert_eq!(share(3, &told.replace('0', "7")), None, "the operator's");
    }

    #[test]
    fn a_node_of_the_old_appliance_keeps_its_name_and_starts_by_itself() {
        let (config, mut facts) = (fixture::config(), Facts::default());
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        let old = "node-name: oneke-ip-172-20-0-100\ntoken: K10x::server:y\ncni: [cilium]\n";
        let file = crate::facts::File { mode: 0o600, content: crate::plan::Secret::new(old) };
        facts.files.insert(super::super::CONFIG.into(), Observed::Known(file));
        let active = crate::facts::Active::Active;
        let unit =
            crate::facts::Unit { active, enabled: false, restarts: 0, status: String::new(), loaded: None };
        facts.units.insert("rke2-server.service".into(), Observed::Known(unit));
        let pass = |facts: &Facts| {
            let node = Node::of(&config, facts, &Role::Master).map_err(|why| why.message).unwrap();
            assert_eq!(node.name, "oneke-ip-172-20-0-100");
            let mut decision = Decision::default();
            decide(&node, &super::super::files::on_disk(old).unwrap(), &mut decision);
            decision.effects
        };
        let effects = pass(&facts);
        let [Effect::WriteFile(pinned), Effect::EnableUnit(_)] = &effects[..] else { panic!("{effects:?}") };
        assert!(pinned.content.as_str().contains("node_name = \"oneke-ip-172-20-0-100\""), "{pinned:?}");
        assert!(pinned.content.as_str().contains("adopted = true"), "{pinned:?}");
        let content = crate::plan::Secret::new(pinned.content.as_str());
        let there = crate::facts::File { mode: pinned.mode, content };
        facts.files.insert(crate::identity::PATH.into(), Observed::Known(there));
        let me = r#"{"VM":{"ID":"42","STATE":"3","LCM_STATE":"3","USER_TEMPLATE":{},"TEMPLATE":{"NIC":[]}}}"#;
        facts.me = crate::facts::Reading::of(crate::service::Vm::from_json(me).unwrap(), facts.now);
        assert_eq!(pass(&facts).len(), 1, "its files are left alone");
    }

    #[test]
    fn masters_register_behind_a_vnf_and_only_there() {
        let behind = registered(|_| {});
        assert_eq!(behind.len(), 8, "{behind:?}");
        assert_eq!(behind[0], "ONEGATE_HAPROXY_LB0_IP=<ETH0_EP0>");
        assert_eq!(behind[6], "ONEGATE_HAPROXY_LB1_SERVER_HOST=172.20.0.100");
        assert_eq!(registered(|config| config.node.external_lb = true), [""; 0]);
        let alone = |config: &mut crate::context::Config| {
            config.node.lb.iter_mut().for_each(|lb| lb.ip = None);
            config.node.eth0_vip0 = None;
        };
        assert_eq!(registered(alone), [""; 0], "no vnf at all");
    }
}
