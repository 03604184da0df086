//! One master leads: the holder of the service's Lease. It alone reads `/service`, answers joiners with sealed
//! tickets, and tells the vnf VMs the backends; everyone else reads only what is written on his own VM (design.md,
//! "one reader, many listeners").

use std::time::Duration;

use crate::facts::{Lease, Observed};
use crate::plan::{Attributes, Decision, Effect, Secret};
use crate::service::digest::Digest;
use crate::service::{AttributeName, AttributeValue, Role, Service, Vm, names, state};

use super::ticket::{self, Ticket};
use super::{AGENT_TOKEN, Node, OnDisk, SERVER_TOKEN, cluster_id};

/// A Lease that was not renewed for so long, by its watcher's clock, is anybody's.
const LEASE_LASTS: Duration = Duration::from_secs(30);
/// Renewed so often that two lost renewals do no harm.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// Joiners that may be on their way at once (rke2.md: batches of 50 or fewer).
const BATCH: usize = 50;
/// Tickets of one pass: each is a dear request of about a second, and the Lease must be renewed meanwhile.
const AT_ONCE: usize = 8;
/// Reading of the service in steady state: with what follows a renewal of the digest, under twice a minute.
const STEADY: Duration = Duration::from_secs(35);
/// And while VMs come or go.
const MOVING: Duration = Duration::from_secs(2);
/// Between the discovery that an answer is outdated and the next look.
const SOON: Duration = Duration::from_millis(50);
/// An older answer is not acted upon: another master may have led, and known more, since then.
const FRESH: Duration = Duration::from_secs(5);

/// What a master whose API is ready does beside running.
pub fn decide(node: &Node<'_>, disk: &OnDisk, decision: &mut Decision) {
    if !hold(node, decision) {
        return;
    }
    decision.reads.service = Some(MOVING);
    let Some(service) = node.facts.service.last.known() else { return };
    if is_outdated(service, node) {
        // Read at once, and once: the next answer is younger than what is known of this VM.
        decision.reads.service = Some(Duration::ZERO);
        let answers = node.facts.service.fault.is_none();
        return decision.look_again_within(if answers { SOON } else { MOVING });
    }
    let whole = service.gap().is_none();
    let joiners = cluster_id(node.facts, disk).map(|cluster| (joiners(node, service, &cluster), cluster));
    let waiting = joiners.as_ref().is_some_and(|(joiners, _)| !joiners.is_empty());
    let interval = interval(service, whole && !waiting);
    decision.reads.service = Some(interval);
    decision.look_again_within(interval);
    if node.facts.service.fresh(node.facts.now, FRESH).is_none() {
        return;
    }
    // Joiners need both, and HAProxy takes a moment longer than they do.
    if whole {
        tell_backends(node, service, decision);
    }
    if let Some((joiners, cluster)) = joiners {
        answer(node, disk, &joiners, &cluster, decision);
    }
}

/// True if this VM's own attributes changed since the service was read: whatever is written by that answer would be
/// older than what this VM has told, and the vnf nodes would find it contradicted.
fn is_outdated(service: &Service, node: &Node<'_>) -> bool {
    let me = node.facts.me.last.known().filter(|_| node.facts.me.at > node.facts.service.at);
    me.is_some_and(|me| service.vms().any(|(_, vm)| vm.id == me.id && !told(vm).eq(told(me))))
}

/// What a VM told its fellows; the rest is the cloud's business, and may differ between two of its answers.
fn told(vm: &Vm) -> impl Iterator<Item = (&String, &String)> {
    vm.attributes.iter().flatten().filter(|(name, _)| name.starts_with("ONEGATE_"))
}

/// How long until the service is read again. Nobody moves in a steady one; reading a large one costs more.
fn interval(service: &Service, settled: bool) -> Duration {
    if settled && matches!(service.state, state::RUNNING | state::WARNING | state::COOLDOWN) {
        return STEADY;
    }
    MOVING + Duration::from_millis(20) * u32::try_from(service.size()).unwrap_or(u32::MAX)
}

/// Takes, renews or respects the Lease; true if this node leads now.
fn hold(node: &Node<'_>, decision: &mut Decision) -> bool {
    let take = |version| Effect::HoldLease { holder: node.name.clone(), version };
    match &node.facts.kubernetes.lease {
        Observed::Absent => decision.effects.push(take(None)),
        Observed::Unknown(_) => {}
        Observed::Known(lease) => {
            let age = node.facts.now.saturating_sub(lease.seen);
            let mine = lease.holder == node.name;
            let Lease { version, .. } = lease;
            if (mine && age >= RENEW_AFTER) || age > LEASE_LASTS {
                decision.effects.push(take(Some(version.clone())));
            }
            return mine && age <= LEASE_LASTS;
        }
    }
    false
}

/// Seals tickets: masters one at a time (etcd takes one learner at a time), the others in batches.
fn answer(node: &Node<'_>, disk: &OnDisk, joiners: &[Joiner<'_>], cluster: &str, decision: &mut Decision) {
    let Some(mut entropy) = crate::seal::bytes_of_hex(&node.facts.entropy).map(|bytes| *bytes) else {
        return;
    };
    let on_their_way =
        |master: bool| joiners.iter().filter(|j| j.answered && j.is_master() == master).count();
    let mut room =
        [(true, 1usize), (false, BATCH)].map(|(master, most)| most.saturating_sub(on_their_way(master)));
    let mut left = AT_ONCE;
    for joiner in joiners.iter().filter(|joiner| !joiner.answered) {
        let room = &mut room[usize::from(!joiner.is_master())];
        if *room == 0 || left == 0 {
            continue;
        }
        if let Some(effect) = seal(node, disk, joiner, cluster, &mut entropy) {
            decision.effects.push(effect);
            *room -= 1;
            left -= 1;
        }
    }
}

/// Everybody who asks to join, or was answered and is on his way.
fn joiners<'a>(node: &Node<'_>, service: &'a Service, cluster: &str) -> Vec<Joiner<'a>> {
    let others = service.vms().filter(|(_, vm)| vm.id != node.vm);
    others.filter_map(|(role, vm)| Joiner::of(role, vm, cluster)).collect()
}

/// A VM that asks to join, or was answered and is on its way.
struct Joiner<'a> {
    vm: &'a Vm,
    role: Role,
    key: &'a str,
    answered: bool,
}

impl<'a> Joiner<'a> {
    fn of(role: &str, vm: &'a Vm, cluster: &str) -> Option<Self> {
        let role = Role::from(role.to_owned());
        let there = role.is_node() && vm.state == 3 && !vm.is_leaving();
        let key = vm.attribute(names::JOIN_KEY).filter(|key| *key != names::NONE && there)?;
        let answered =
            vm.attribute(names::JOIN_TICKET).is_some_and(|ticket| ticket::answers(ticket, key, cluster));
        let joined = answered && vm.attribute(names::CLUSTER) == Some(cluster);
        (!joined).then_some(Self { vm, role, key, answered })
    }

    fn is_master(&self) -> bool {
        self.role == Role::Master
    }
}

fn seal(
    node: &Node<'_>,
    disk: &OnDisk,
    joiner: &Joiner<'_>,
    cluster: &str,
    entropy: &mut [u8; 32],
) -> Option<Effect> {
    let read =
        |path: &str| node.facts.file(path).known().map(|file| Secret::new(file.content.expose().trim()));
    let server = Some(super::host_port(&node.ip.to_string(), 9345));
    let ticket = if joiner.is_master() {
        Ticket { token: read(SERVER_TOKEN)?, agent_token: disk.agent_token.clone(), server }
    } else {
        Ticket { token: read(AGENT_TOKEN)?, agent_token: None, server }
    };
    let binding = ticket::binding(node.service, joiner.vm.id, &joiner.role, cluster);
    // A key that is no key is its owner's fault: it stays unanswered, the others do not suffer.
    let sealed = crate::seal::seal(joiner.key, &binding, &ticket.to_text(), entropy).ok()?;
    *entropy = next(entropy);
    let value = AttributeValue::new(ticket::attribute(joiner.key, cluster, &sealed)).ok()?;
    Some(publish_on(joiner.vm, names::JOIN_TICKET, value))
}

/// Fresh bytes for the next seal of the same pass.
fn next(entropy: &[u8; 32]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(entropy).into()
}

/// Writes the digest of all backends onto each vnf VM that has another, or an old one.
fn tell_backends(node: &Node<'_>, service: &Service, decision: &mut Decision) {
    let vnf: Vec<(&Vm, Option<Digest>)> = service
        .vms()
        .filter(|(role, vm)| *role == Role::Vnf.name() && vm.state == 3 && !vm.is_leaving())
        .map(|(_, vm)| (vm, vm.attribute(names::BACKENDS).and_then(Digest::decode)))
        .collect();
    let previous = vnf.iter().filter_map(|(_, digest)| digest.as_ref()).max_by_key(|digest| digest.at);
    let age = node.facts.service.age(node.facts.now).unwrap_or_default().as_secs();
    let next = Digest::next(previous, service, node.config.vm, node.facts.wall.saturating_sub(age));
    for (vm, digest) in &vnf {
        if next.must_replace(digest.as_ref()) {
            decision.effects.push(publish_on(vm, names::BACKENDS, next.value()));
        }
    }
}

fn publish_on(vm: &Vm, name: &str, value: AttributeValue) -> Effect {
    let name = AttributeName::new(name).expect("our own names are well formed");
    Effect::Publish { vm: Some(vm.id), attributes: Attributes::from([(name, value)]) }
}
