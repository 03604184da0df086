//! One master leads: the holder of the service's Lease. It alone reads `/service`, answers joiners with sealed
//! tickets, and tells the vnf VMs the backends; everyone else reads only what is written on his own VM (design.md,
//! "one reader, many listeners").

use std::collections::BTreeSet;
use std::time::Duration;

use crate::facts::{Lease, Moment, Observed};
use crate::plan::{Attributes, Decision, Effect, Secret};
use crate::service::digest::Digest;
use crate::service::told::Told;
use crate::service::{AttributeName, AttributeValue, Role, Service, Vm, names, state};

use super::ticket::{self, Answer, Body, Place, Ticket};
use super::{AGENT_TOKEN, Node, OnDisk, SERVER_TOKEN, cluster_id, files};

/// A Lease that was not renewed for so long, by its watcher's clock, is anybody's.
const LEASE_LASTS: Duration = Duration::from_secs(30);
/// Renewed so often that two lost renewals do no harm.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// Masters on their way at once: etcd takes one learner at a time (rke2.md). The others: `ONEAPP_K8S_JOIN_BATCH`.
const MASTERS_AT_ONCE: usize = 1;
/// Who has not joined so long after he got his ticket holds up nobody any more: pulling images and starting etcd take a
/// minute or two on slow disks. A worker keeps his ticket; a master loses it unless he says that he has started.
const PLACE_HELD: Duration = Duration::from_secs(300);
/// A master that started holds his place for so long: etcd may take him for a learner at any moment.
const START_HELD: Duration = Duration::from_secs(1800);
/// The place of one who was told none.
const UNTOLD: usize = usize::MAX;
/// Answers of one pass. Eight dear requests take a second or two together, ten seconds at a front end that is at its
/// limit (onegate.md, "Cost"), and the Lease must be renewed meanwhile.
const ANSWERS: usize = 16;
/// Reading of the service in steady state: with what follows a renewal of the digest, under twice a minute.
const STEADY: Duration = Duration::from_secs(35);
/// And while VMs come or go.
const MOVING: Duration = Duration::from_secs(2);
/// And when somebody said that there is news, once for each word: a server shall be served within 3 s.
const NEWS: Duration = Duration::from_millis(200);
/// The larger the service, the dearer.
const PER_VM: Duration = Duration::from_millis(20);
/// Between the discovery that an answer is outdated and the next look.
const SOON: Duration = Duration::from_millis(50);
/// An older answer is not acted upon: another master may have led, and known more, since then. OneGate may need up to
/// 50 ms for each VM of a service before it answers (onegate.md, "Cost").
const FRESH: Duration = Duration::from_secs(5);
const FRESH_PER_VM: Duration = Duration::from_millis(50);

/// What a master whose API is ready does beside running.
pub fn decide(node: &Node<'_>, disk: &OnDisk, decision: &mut Decision) {
    if !hold(node, decision) {
        return;
    }
    decision.reads.service = Some(MOVING);
    decision.reads.told = true;
    let Some(service) = node.facts.service.last.known() else { return };
    if is_outdated(service, node) {
        // Read at once, and once: the next answer is younger than what is known of this VM.
        decision.reads.service = Some(Duration::ZERO);
        return decision.look_again_within(at_once(node));
    }
    let whole = service.gap().is_none();
    let joiners = cluster_id(node.facts, disk).map(|cluster| (joiners(node, service, &cluster), cluster));
    let wall = node.facts.wall;
    let moving = |joiner: &Joiner<'_>| joiner.asks(wall) || joiner.is_on_its_way(wall);
    let waiting = joiners.as_ref().is_some_and(|(joiners, _)| joiners.iter().any(moving));
    let news = has_news(service, node);
    let interval = if news { news_after(service) } else { interval(service, whole && !waiting) };
    decision.reads.service = Some(interval);
    let age = node.facts.service.age(node.facts.now).filter(|_| news).unwrap_or_default();
    let rest = interval.checked_sub(age).filter(|rest| !rest.is_zero());
    decision.look_again_within(rest.unwrap_or_else(|| at_once(node)));
    let fresh = FRESH + FRESH_PER_VM.saturating_mul(size(service));
    if node.facts.service.fresh(node.facts.now, fresh).is_none() {
        return;
    }
    // Joiners need both, and HAProxy takes a moment longer than they do.
    if whole {
        tell_backends(node, service, decision);
    }
    if let Some((joiners, cluster)) = joiners {
        // What an answer lacks may be the one master that is on its way.
        let masters = if whole { MASTERS_AT_ONCE } else { 0 };
        answer(node, disk, &joiners, &cluster, masters, decision);
    }
}

/// True if this VM's own attributes changed since the service was read: whatever is written by that answer would be
/// older than what this VM has told, and the vnf nodes would find it contradicted.
fn is_outdated(service: &Service, node: &Node<'_>) -> bool {
    let me = node.facts.me.last.known().filter(|_| node.facts.me.at > node.facts.service.at);
    me.is_some_and(|me| service.vms().any(|(_, vm)| vm.id == me.id && !told(vm).eq(told(me))))
}

/// True if somebody said that he offers something else than the service showed, since it was asked for. One answer is
/// enough, whatever it says: what an older word and a younger answer disagree about is not asked again.
fn has_news(service: &Service, node: &Node<'_>) -> bool {
    let younger = |(_, seen): &&(Told, Moment)| node.facts.service.at.is_none_or(|at| *seen > at);
    let mut words = node.facts.told.values().filter(younger).peekable();
    if words.peek().is_none() {
        return false;
    }
    let shown: BTreeSet<Told> = service.vms().filter_map(|(_, vm)| Told::of(vm)).collect();
    words.any(|(told, _)| !shown.contains(told))
}

/// When the next pass shall read: the observation asks before it is decided. Not so soon while OneGate does not answer.
fn at_once(node: &Node<'_>) -> Duration {
    let answers = node.facts.me.fault.is_none() && node.facts.service.fault.is_none();
    if answers { SOON } else { MOVING }
}

/// Tells the leader what OneGate has taken of this VM: not what it was only sent.
pub fn announce(node: &Node<'_>, decision: &mut Decision) {
    let told = node.facts.me.last.known().and_then(|me| Told::of(me));
    let (Some(told), Some(seen)) = (told, node.facts.kubernetes.node.known()) else { return };
    if seen.told.as_ref() != Some(&told.to_string()) {
        decision.effects.push(Effect::AnnotateNode { node: node.name.clone(), told });
    }
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
    MOVING + PER_VM.saturating_mul(size(service))
}

fn news_after(service: &Service) -> Duration {
    NEWS + PER_VM.saturating_mul(size(service))
}

fn size(service: &Service) -> u32 {
    u32::try_from(service.size()).unwrap_or(u32::MAX)
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

/// Answers joiners in the service's own order: tickets to as many as may be on their way, masters and others apart; to
/// the rest their places, once and again when they are half way.
fn answer(
    node: &Node<'_>,
    disk: &OnDisk,
    joiners: &[Joiner<'_>],
    cluster: &str,
    masters: usize,
    decision: &mut Decision,
) {
    let Some(mut entropy) = crate::seal::bytes_of_hex(&node.facts.entropy).map(|bytes| *bytes) else {
        return;
    };
    let batch = usize::try_from(node.config.node.join_batch).unwrap_or(usize::MAX);
    let (mut tickets, mut places) = (Vec::new(), Vec::new());
    for (master, most) in [(true, masters), (false, batch)] {
        let kind = || joiners.iter().filter(|joiner| joiner.is_master() == master);
        let on_their_way = kind().filter(|joiner| joiner.holds_a_place(node.facts.wall)).count();
        let mut asking: Vec<&Joiner<'_>> = kind().filter(|joiner| joiner.asks(node.facts.wall)).collect();
        asking.sort_by_key(|joiner| joiner.told_place());
        let (first, rest) = asking.split_at(most.saturating_sub(on_their_way).min(asking.len()));
        for joiner in first.iter().take(ANSWERS) {
            tickets.extend(seal(node, disk, joiner, cluster, &mut entropy));
        }
        // Who let his turn pass goes behind everybody, once somebody waits for it.
        let lapsed: Vec<_> = kind().filter(|joiner| joiner.lapses(node.facts.wall)).collect();
        let lapsed = if asking.is_empty() { &[] } else { &lapsed[..] };
        let last = asking.iter().map(|joiner| joiner.told_place()).filter(|place| *place < UNTOLD).max();
        let behind = last.unwrap_or_default().max(rest.len());
        let of = rest.len() + lapsed.len();
        let tell = |joiner: &Joiner<'_>, place| {
            let body = Body::Place(Place { place, of: of.max(place) });
            publish_on(joiner.vm, names::JOIN_TICKET, joiner.told(node, cluster, body))
        };
        let moved = rest.iter().zip(1..).filter(|(joiner, place)| joiner.is_far_from(*place));
        places.extend(moved.map(|(joiner, place)| tell(joiner, place)));
        places.extend(lapsed.iter().zip(1..).map(|(joiner, place)| tell(joiner, behind + place)));
    }
    decision.effects.extend(tickets.into_iter().chain(places).take(ANSWERS));
}

/// Everybody who asks to join, or was answered and has not joined.
fn joiners<'a>(node: &Node<'_>, service: &'a Service, cluster: &str) -> Vec<Joiner<'a>> {
    let others = service.vms().filter(|(_, vm)| vm.id != node.vm);
    others.filter_map(|(role, vm)| Joiner::of(role, vm, cluster)).collect()
}

/// A VM that asks to join, or was answered and has not joined.
struct Joiner<'a> {
    vm: &'a Vm,
    role: Role,
    key: &'a str,
    /// To this key, for this cluster.
    answer: Option<Answer<'a>>,
    /// It runs, and is to stay.
    is_there: bool,
}

impl<'a> Joiner<'a> {
    fn of(role: &str, vm: &'a Vm, cluster: &str) -> Option<Self> {
        let role = Role::from(role.to_owned());
        let is_there = vm.state == 3 && !vm.is_leaving();
        let key = vm.attribute(names::JOIN_KEY).filter(|key| *key != names::NONE && role.is_node())?;
        let answer = vm.attribute(names::JOIN_TICKET).and_then(Answer::parse);
        let answer = answer.filter(|answer| answer.is_to(key) && answer.cluster == cluster);
        let joiner = Self { vm, role, key, answer, is_there };
        let joined = joiner.has_ticket() && vm.attribute(names::CLUSTER) == Some(cluster);
        (!joined).then_some(joiner)
    }

    fn is_master(&self) -> bool {
        self.role == Role::Master
    }

    fn has_ticket(&self) -> bool {
        matches!(self.answer, Some(Answer { body: Body::Sealed(_), .. }))
    }

    /// It has no ticket, and has not started by an earlier one.
    fn asks(&self, wall: u64) -> bool {
        self.is_there && !self.has_ticket() && !self.is_on_its_way(wall)
    }

    /// It has a ticket, and not for too long, or started by one; also if it does not run now, as an etcd member that has
    /// not learnt everything yet is one all the same. Clocks of two masters differ: a time to come is as good as its
    /// distance.
    fn is_on_its_way(&self, wall: u64) -> bool {
        let within =
            |limit: Duration| self.answer.is_some_and(|answer| answer.at.abs_diff(wall) <= limit.as_secs());
        self.has_ticket() && within(PLACE_HELD) || self.has_started() && within(START_HELD)
    }

    /// A master says so, and sees afterwards that he still has his ticket, before he starts RKE2: so a ticket that was
    /// taken back is either seen by its owner, or its owner's word by the next reading.
    fn has_started(&self) -> bool {
        let says = self.vm.attribute(names::STATE).is_some_and(|state| state != "waiting");
        self.is_master() && !self.vm.is_done() && says
    }

    /// No other may go instead: a master's ticket is good until he has seen that he lost it.
    fn holds_a_place(&self, wall: u64) -> bool {
        self.is_on_its_way(wall) || self.lapses(wall)
    }

    /// A master that had his turn and did not start.
    fn lapses(&self, wall: u64) -> bool {
        self.is_master() && !self.vm.is_done() && self.has_ticket() && !self.is_on_its_way(wall)
    }

    /// Who was told a place keeps his order; who was not comes after them.
    fn told_place(&self) -> usize {
        match self.answer.map(|answer| answer.body) {
            Some(Body::Place(told)) => told.place,
            Some(Body::Sealed(_)) | None => UNTOLD,
        }
    }

    /// It was told no place, or one twice as far away.
    fn is_far_from(&self, place: usize) -> bool {
        match self.told_place() {
            UNTOLD => true,
            told => told >= 2 * place,
        }
    }

    fn told(&self, node: &Node<'_>, cluster: &str, body: Body<'_>) -> AttributeValue {
        AttributeValue::new(ticket::attribute(self.key, cluster, node.facts.wall, body))
            .expect("hex digits, base64, points and hyphens survive OneGate")
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
        let critical = read(super::CONFIG).map(|own| files::critical(own.expose())).unwrap_or_default();
        Ticket { token: read(SERVER_TOKEN)?, agent_token: disk.agent_token.clone(), server, critical }
    } else {
        Ticket { token: read(AGENT_TOKEN)?, agent_token: None, server, critical: files::Critical::new() }
    };
    let binding = ticket::binding(node.service, joiner.vm.id, &joiner.role, cluster);
    // A key that is no key is its owner's fault: it stays unanswered, the others do not suffer.
    let sealed = crate::seal::seal(joiner.key, &binding, &ticket.to_text(), entropy).ok()?;
    *entropy = next(entropy);
    let value = joiner.told(node, cluster, Body::Sealed(&sealed));
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
    let asked = node.facts.wall_at(node.facts.service.at.unwrap_or(node.facts.now));
    let next = Digest::next(previous, service, node.config.vm, asked);
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

#[cfg(test)]
mod tests;
