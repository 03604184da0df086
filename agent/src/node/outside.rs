//! A node that has not joined: it founds, or asks for a ticket and enters; or waits and says for what.

use std::time::Duration;

use crate::context::TokenMode;
use crate::facts::{Active, Observed};
use crate::identity::Identity;
use crate::plan::{Condition, Decision, Effect, Secret};
use crate::service::{Role, names};

use super::entry::{self, Founding};
use super::ticket::{self, Ticket};
use super::{Node, OnDisk, clock, cluster_of, files, host, publish, write_if_different};

/// While something is waited for that OneGate tells on this VM's own attributes: cheap to ask (onegate.md).
const ASK_OWN: Duration = Duration::from_secs(1);
/// A candidate for founding reads the whole service this often; there are few masters.
const ASK_SERVICE: Duration = Duration::from_secs(2);
/// Once it has claimed, it alone waits for the answer that shows the claim.
const ASK_FOR_CLAIM: Duration = Duration::from_millis(200);

/// What this VM's own attributes say of its turn is not acted upon when it is older.
const FRESH: Duration = Duration::from_secs(10);

/// Nothing is configured yet.
pub fn decide(node: &Node<'_>, decision: &mut Decision) {
    decision.reads.me = ASK_OWN;
    decision.look_again_within(ASK_OWN);
    publish(decision, names::NODE_NAME, node.name.clone());
    if node.config.node.is_dual_stack() && node.second_ip.is_none() {
        let message = format!(
            "ONEAPP_K8S_CLUSTER_CIDR has two families, but the NIC of {} has no IPv6 address: give its network one (ETHx_IP6)",
            node.ip
        );
        return decision.conditions.push(Condition::unmet("IdentityKnown", "NoSecondAddress", message));
    }
    let key = match ticket::key(node) {
        Ok(key) => key,
        Err(effect) => {
            decision.effects.push(effect);
            return decision
                .conditions
                .push(waiting("MakingKey", "making the key to which the join token will be sealed"));
        }
    };
    if let Observed::Known(ticket) = ticket::received(node, &key) {
        return join(node, &ticket, decision);
    }
    if *node.role == Role::Master {
        found_or_wait(node, &key, decision);
    } else {
        ask(node, &key, decision);
        if let Some(turn) = turn(node, &key) {
            return decision.conditions.push(turn);
        }
        decision.reads.service = outsiders_interval(node);
        decision.conditions.push(waiting("WaitingForTicket", "waiting for a master to answer this VM's join request: the masters' own status says what they wait for"));
    }
}

fn found_or_wait(node: &Node<'_>, key: &crate::seal::KeyPair, decision: &mut Decision) {
    decision.reads.service = Some(ASK_SERVICE);
    match entry::founding(node.vm, node.facts) {
        Founding::Claim => {
            // The answer that shows the claim is all that is missing.
            decision.reads.service = Some(ASK_FOR_CLAIM);
            decision.look_again_within(ASK_FOR_CLAIM);
            publish(decision, names::CLUSTER, names::FOUNDING);
            decision.conditions.push(waiting(
                "ClaimingFounding",
                "this VM has the lowest ID among the masters and claims to found the cluster",
            ));
        }
        Founding::Found => {
            publish(decision, names::CLUSTER, names::FOUNDING);
            found(node, decision);
            decision.conditions.push(waiting("Founding", "founding the cluster"));
        }
        Founding::Wait { reason, message, known } => {
            withdraw_claim(node, decision);
            ask(node, key, decision);
            if matches!(reason, "ClusterExists" | "WaitingForFounder") {
                decision.reads.service = outsiders_interval(node);
            }
            let kind = "ClusterEntered";
            decision.conditions.push(match turn(node, key) {
                Some(turn) => turn,
                None if known => Condition::unmet(kind, reason, message),
                None => Condition::unknown(kind, reason, message),
            });
        }
    }
}

/// Puts everything in place for the founder and starts it. Called only after a fresh [`Founding::Found`].
fn found(node: &Node<'_>, decision: &mut Decision) {
    let sealed = node.config.node.token_mode == TokenMode::Sealed;
    let entry = files::Entry::Found { agent_token: sealed.then(|| node.facts.entropy.clone()) };
    configure(node, &entry, decision);
}

/// The ticket is here: enter through the supervisor that it, or the context, names.
fn join(node: &Node<'_>, ticket: &Ticket, decision: &mut Decision) {
    withdraw_claim(node, decision);
    let Some(server) = server(node, ticket) else {
        return decision.conditions.push(waiting("NoSupervisor", "neither the context (ONEAPP_RKE2_SUPERVISOR_EP, a VIP) nor the ticket names a supervisor to join through"));
    };
    if let Err(condition) = reachable(node, &server, &ticket.token) {
        return decision.conditions.push(condition);
    }
    let agent_token = ticket.agent_token.clone().filter(|_| *node.role == Role::Master);
    let entry =
        files::Entry::Join { server: format!("https://{server}"), token: ticket.token.clone(), agent_token };
    if let Some(condition) = contradicts(node, &entry, ticket) {
        return decision.conditions.push(condition);
    }
    // A master does not say that it starts, and hold its turn, before it can.
    if let Some(condition) = clock::awaited(node) {
        return decision.conditions.push(condition);
    }
    decision.conditions.push(waiting("Joining", format!("joining through {server}")));
    if is_announced(node) {
        configure(node, &entry, decision);
    }
}

/// A master says that he starts, and sees later that he still has his ticket: then no leader gives the turn to another
/// (the leader's half is `Joiner::has_started`). Where the token is in clear nobody gives out turns.
fn is_announced(node: &Node<'_>) -> bool {
    let me = node.facts.me.fresh(node.facts.now, FRESH);
    let says = me.and_then(|me| me.attribute(names::STATE));
    *node.role != Role::Master || ticket::is_in_clear(node) || says == Some("joining")
}

/// Pins who this node is, writes what RKE2 reads, and starts it: in this order, so that a crash in between leaves
/// either an outsider or a node that enters.
fn configure(node: &Node<'_>, entry: &files::Entry, decision: &mut Decision) {
    if let Some(condition) = clock::awaited(node) {
        return decision.conditions.push(condition);
    }
    clock::tell(node, decision);
    let identity = Identity {
        vm: node.vm,
        service: Some(node.service),
        role: node.role.clone(),
        node_name: Some(node.name.clone()),
        node_ip: Some(node.ip),
        adopted: false,
    };
    if !matches!(Identity::observed(node.facts), Observed::Known(Ok(pinned)) if pinned == identity) {
        decision.effects.push(identity.pin());
    }
    let (last, first): (Vec<_>, Vec<_>) =
        node.files(entry).into_iter().partition(|file| file.path == super::CONFIG);
    host::link(node.config, node.facts, node.role, decision);
    for file in first.into_iter().chain(last) {
        write_if_different(node.facts, file, decision);
    }
    decision.effects.push(Effect::StartUnit(node.unit().into()));
}

/// Configured, but RKE2 has left no trace of having joined: a founder must still be the founder; a joiner may have got
/// a new ticket since; neither is started into the void.
pub fn enter(node: &Node<'_>, disk: &OnDisk, decision: &mut Decision) {
    clock::tell(node, decision);
    decision.reads.me = ASK_OWN;
    decision.look_again_within(ASK_OWN);
    publish(decision, names::NODE_NAME, node.name.clone());
    match &disk.server {
        None => enter_as_founder(node, decision),
        Some(server) => enter_as_joiner(node, disk, server, decision),
    }
}

fn runs(node: &Node<'_>) -> bool {
    let state = node.facts.unit(node.unit());
    state
        .known()
        .is_some_and(|unit| matches!(unit.active, Active::Active | Active::Activating | Active::Reloading))
}

fn enter_as_founder(node: &Node<'_>, decision: &mut Decision) {
    publish(decision, names::CLUSTER, names::FOUNDING);
    decision.conditions.push(waiting("Founding", "founding the cluster: RKE2 brings up etcd"));
    if runs(node) {
        return node.keep_running(decision);
    }
    decision.reads.service = Some(ASK_SERVICE);
    match entry::founding(node.vm, node.facts) {
        Founding::Found => node.keep_running(decision),
        Founding::Claim => {}
        Founding::Wait { reason, message, .. } => {
            decision.conditions.push(Condition::unmet("FoundingAllowed", reason, message))
        }
    }
}

fn enter_as_joiner(node: &Node<'_>, disk: &OnDisk, server: &str, decision: &mut Decision) {
    let address = server.strip_prefix("https://").unwrap_or(server);
    let key = ticket::key(node).ok();
    let ticket = key.as_ref().map(|key| ticket::received(node, key));
    let has_turn = *node.role != Role::Master || matches!(ticket, Some(Observed::Known(_)));
    if let Some(Observed::Known(ticket)) = ticket {
        let new = Some(&ticket.token) != disk.token.as_ref()
            || self::server(node, &ticket).is_some_and(|now| now != address);
        if new && reachable(node, address, &ticket.token).is_ok() {
            join(node, &ticket, decision);
            if runs(node) {
                decision.effects.push(Effect::RestartUnit(node.unit().into()));
            }
            return;
        }
    }
    let joining = waiting("Joining", format!("joining through {address}"));
    if runs(node) {
        decision.conditions.push(joining);
        return node.keep_running(decision);
    }
    if !has_turn && !ticket::is_in_clear(node) {
        if let Some(key) = &key {
            ask(node, key, decision);
        }
        let lost =
            || waiting("WaitingForTurn", "waiting for the leading master to give this VM its turn again");
        return decision.conditions.push(key.as_ref().and_then(|key| turn(node, key)).unwrap_or_else(lost));
    }
    let token = disk.token.clone().unwrap_or_default();
    if let Err(condition) = reachable(node, address, &token) {
        return decision.conditions.push(condition);
    }
    decision.conditions.push(joining);
    if is_announced(node) {
        node.keep_running(decision);
    }
}

/// The supervisor answers, and with the CA that the token names: else RKE2 would only fail against it.
fn reachable(node: &Node<'_>, server: &str, token: &Secret) -> Result<(), Condition> {
    let unmet = |reason, message| Err(Condition::unmet("SupervisorReachable", reason, message));
    match (&node.facts.supervisor, cluster_of(token)) {
        (Observed::Known(there), Some(wanted)) if *there != wanted => unmet(
            "OtherCluster",
            format!(
                "the supervisor at {server} belongs to another cluster (its CA is {there:.12}.., the token's {wanted:.12}..): check ONEAPP_RKE2_SUPERVISOR_EP and the VIPs"
            ),
        ),
        (Observed::Unknown(why), _) => {
            unmet("SupervisorSilent", format!("waiting for the supervisor at {server}: {why}"))
        }
        (Observed::Known(_) | Observed::Absent, _) => Ok(()),
    }
}

/// A master that says otherwise than the cluster would be refused by RKE2, or bring a second network.
fn contradicts(node: &Node<'_>, entry: &files::Entry, ticket: &Ticket) -> Option<Condition> {
    let own = node.files(entry).into_iter().find(|file| file.path == super::CONFIG)?;
    let differences = files::contradictions(own.content.as_str(), &ticket.critical);
    let message = format!(
        "this master cannot join, for all masters of a cluster must say alike: {}; correct this VM's context",
        differences.join("; ")
    );
    (!differences.is_empty()).then(|| waiting("OtherSettings", message))
}

/// Where this node enters: the endpoint of the context first, although the ticket's own address answers a moment earlier
/// (the vnf nodes learn of a new master by their next look at OneGate). RKE2 keeps the address in its configuration and
/// starts by it after every power cycle, when that one master may be gone; and writing the one now and the other later
/// would leave a node with the wrong one wherever the power fails in between. It costs a joiner less than half a second.
fn server(node: &Node<'_>, ticket: &Ticket) -> Option<String> {
    let named = node.config.node.supervisor.as_ref().map(|(host, port)| super::host_port(host, *port));
    named.or_else(|| ticket.server.clone())
}

/// Publishes the key, so that the leader can answer.
fn ask(node: &Node<'_>, key: &crate::seal::KeyPair, decision: &mut Decision) {
    if node.config.node.token_mode == TokenMode::Sealed {
        publish(decision, names::JOIN_KEY, key.public());
    }
}

/// What a joiner waits for that a leader has noted, while others go first.
fn turn(node: &Node<'_>, key: &crate::seal::KeyPair) -> Option<Condition> {
    let ticket::Place { place, of } = ticket::place(node, key)?;
    let most = if *node.role == Role::Master {
        "etcd takes one new master at a time".to_owned()
    } else {
        format!("{} join at once ({})", node.config.node.join_batch, crate::context::JOIN_BATCH)
    };
    let message = format!(
        "waiting for others to join first: {most}; this VM was number {place} of {of} when the leading master last told it"
    );
    Some(waiting("WaitingForTurn", message))
}

/// A claim that is not acted upon would block the others for ever.
fn withdraw_claim(node: &Node<'_>, decision: &mut Decision) {
    let me = node.facts.me.last.known();
    if me.and_then(|vm| vm.attribute(names::CLUSTER)) == Some(names::FOUNDING) {
        publish(decision, names::CLUSTER, names::NONE);
    }
}

/// How often one who only waits reads the whole service: seldom, and the larger the service the less often, so that
/// all together stay near one reading in ten seconds (onegate.md: `/service` is a hundred times dearer than `/vm`).
/// A joiner in sealed mode needs it only if nobody answers, not even with a place (a leader tells four a second or so), so
/// it does not start in its first five minutes; and those that boot together do not start together, for none of them
/// knows yet how many they are.
fn outsiders_interval(node: &Node<'_>) -> Option<Duration> {
    let size = node.facts.service.last.known().map_or(1, |service| service.size()).max(1);
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    if node.config.node.token_mode == TokenMode::Plain {
        return Some(Duration::from_secs(3).max(Duration::from_millis(500).saturating_mul(size)));
    }
    let first = Duration::from_secs(300 + u64::from(node.vm.0 % 300));
    if *node.role != Role::Master && node.facts.now < first {
        return None;
    }
    Some(Duration::from_secs(10).saturating_mul(size))
}

fn waiting(reason: &str, message: impl Into<String>) -> Condition {
    Condition::unmet("ClusterEntered", reason, message)
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::Facts;

    #[test]
    fn nobody_joins_another_cluster_than_the_tokens() {
        let (config, mut facts) = (fixture::config(), Facts::default());
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.supervisor = Observed::Known("b".repeat(64));
        let node = Node::of(&config, &facts, &Role::Storage).map_err(|why| why.message).unwrap();
        let token = |ca: &str| Secret::new(format!("K10{}::node:x", ca.repeat(64)));
        let reason =
            |ca: &str| reachable(&node, "a.b:9345", &token(ca)).map_err(|condition| condition.reason);
        assert_eq!(reason("a"), Err("OtherCluster".into()));
        assert_eq!(reason("b"), Ok(()));
    }

    #[test]
    fn a_master_with_other_settings_than_the_clusters_waits_until_they_are_corrected() {
        let mut config = fixture::config();
        let mut facts = Facts::default();
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.supervisor = Observed::Absent;
        let there = "cni: [cilium]\ndisable-kube-proxy: true\ncluster-cidr: 10.99.0.0/16\n";
        let ticket = Ticket {
            token: Secret::new("K10ab::server:cd"),
            agent_token: None,
            server: None,
            critical: files::critical(there),
        };
        let mut told = |networks: &str| {
            config.node.cluster_cidr = vec![networks.parse().unwrap()];
            let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
            let mut decision = Decision::default();
            join(&node, &ticket, &mut decision);
            assert_eq!(decision.effects, []);
            decision.conditions.last().map(|it| it.reason.clone()).unwrap()
        };
        assert_eq!(told("10.42.0.0/16"), "OtherSettings");
        assert_eq!(told("10.99.0.0/16"), "Joining");
    }

    #[test]
    fn a_master_starts_after_it_has_said_so_and_still_has_its_turn() {
        let (mut config, mut facts) = (fixture::config(), Facts::default());
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.supervisor = Observed::Absent;
        facts.now = Duration::from_secs(100);
        let ticket = Ticket {
            token: Secret::new("K10ab::server:cd"),
            agent_token: None,
            server: None,
            critical: files::Critical::new(),
        };
        let mut starts = |role: &Role, says: Option<&str>, ago: u64| {
            let says = says.map(|says| format!(r#","ONEGATE_K8S_STATE":"{says}""#)).unwrap_or_default();
            let me = format!(
                r#"{{"VM":{{"ID":"5","STATE":"3","LCM_STATE":"3","USER_TEMPLATE":{{"ROLE_NAME":"x"{says}}},"TEMPLATE":{{}}}}}}"#
            );
            let me = crate::service::Vm::from_json(&me).unwrap();
            facts.me = crate::facts::Reading::of(me, facts.now - Duration::from_secs(ago));
            let node = Node::of(&config, &facts, role).map_err(|why| why.message).unwrap();
            let mut decision = Decision::default();
            join(&node, &ticket, &mut decision);
            assert_eq!(crate::signals::phase(&decision), "joining");
            decision.effects.iter().any(|effect| matches!(effect, Effect::StartUnit(_)))
        };
        assert!(!starts(&Role::Master, None, 0));
        assert!(!starts(&Role::Master, Some("waiting"), 0));
        assert!(starts(&Role::Master, Some("joining"), 0));
        assert!(!starts(&Role::Master, Some("joining"), 11), "what it said then may not be true any more");
        assert!(starts(&Role::Storage, None, 0), "an agent takes nobody's turn");
        config.node.token_mode = TokenMode::Plain;
        let starts_in_clear = || {
            let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
            let mut decision = Decision::default();
            join(&node, &ticket, &mut decision);
            decision.effects.iter().any(|effect| matches!(effect, Effect::StartUnit(_)))
        };
        assert!(starts_in_clear(), "nobody gives out turns");
    }
}
