//! Decides HAProxy's file and daemon from the context's servers and the service's.

use super::backends::{Backends, Evidence, InForce};
use super::daemons::{Loading, Standing};
use super::haproxy::Rendered;
use super::live::Reconciled;
use super::{daemons, digest_of, haproxy, keepalived, live, lvs, public};
use crate::context::Config;
use crate::context::vnf::{HaproxyConfig, Source};
use crate::facts::{Facts, Moment, Observed};
use crate::plan::{Checker, Condition, Decision, Effect, Load};
use crate::service::digest::Digest;
use crate::service::names;
use crate::service::offers::Testimony;

/// What balancing knows and still needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Balanced {
    /// Servers come from OneGate at all.
    pub is_dynamic: bool,
    /// Some VM's server is in force.
    pub has_any: bool,
    /// Every balancer without static servers has one.
    pub has_all: bool,
    /// A fresh digest stands by all of them: the service need not be read.
    pub is_explained: bool,
}

impl Balanced {
    /// What both families together know and need.
    pub fn and(self, other: Self) -> Self {
        match (self.is_dynamic, other.is_dynamic) {
            (_, false) => self,
            (false, true) => other,
            (true, true) => Self {
                is_dynamic: true,
                has_any: self.has_any && other.has_any,
                has_all: self.has_all && other.has_all,
                is_explained: self.is_explained && other.is_explained,
            },
        }
    }
}

const RUNNING: &str = "BalancerRunning";
const KNOWN: &str = "BackendsKnown";

pub fn decide(config: &Config, facts: &Facts, decision: &mut Decision) -> Balanced {
    let Some(haproxy) = &config.vnf.haproxy else {
        daemons::retire(haproxy::UNIT, facts, decision);
        return Balanced::default();
    };
    let memory = match facts.file(haproxy::PATH) {
        Observed::Known(file) => haproxy::in_force(file.content.expose()),
        Observed::Absent => InForce::default(),
        Observed::Unknown(why) => {
            let why = format!("could not read {}: {why}; the servers in it stay", haproxy::PATH);
            decision.conditions.push(Condition::unknown(RUNNING, "FileUnseen", why));
            return Balanced { is_dynamic: haproxy.dynamic, ..Balanced::default() };
        }
    };
    let (digest, testimony) = (digest_on(facts), testimony(config, facts));
    let evidence = evidence(config, digest.as_ref(), testimony.as_ref(), facts.wall);
    let listeners = if haproxy.dynamic { haproxy::listeners(haproxy) } else { Vec::new() };
    let in_force = evidence.apply(&listeners, memory);
    let rendered = haproxy::render(haproxy, &in_force);
    let InForce { backends, .. } = in_force;
    keep_running(haproxy, &rendered, facts, decision);
    let count = |index: u16| -> usize {
        backends
            .iter()
            .filter(|(listener, _)| listener.slot.1 == index)
            .map(|(_, servers)| servers.len())
            .sum()
    };
    let mut empty = haproxy.balancers.iter().filter(|b| b.servers.is_empty() && count(b.index) == 0);
    let balanced = Balanced {
        is_dynamic: haproxy.dynamic,
        has_any: backends.values().any(|servers| !servers.is_empty()),
        has_all: empty.next().is_none(),
        is_explained: evidence.is_explained(&backends),
    };
    decision.conditions.push(told(config, facts, &backends, &balanced));
    balanced
}

/// HAProxy runs with this configuration: by a reload what only a reload changes, the offered servers as it runs. One
/// that does not answer on its socket is reloaded for everything.
fn keep_running(config: &HaproxyConfig, rendered: &Rendered, facts: &Facts, decision: &mut Decision) {
    let digest = digest_of(&rendered.text);
    let running = facts.haproxy.known();
    let is_loaded = match running {
        Some(running) => running.loaded.as_ref() == Some(&rendered.fixed),
        None => facts.unit(haproxy::UNIT).known().is_some_and(|unit| unit.loaded.as_ref() == Some(&digest)),
    };
    let mut live = running.map(|running| live::reconcile(&rendered.live, running)).unwrap_or_default();
    if !is_loaded {
        // Servers of balancers that do not run yet come with them.
        live.changes.retain(|change| running.is_some_and(|running| running.has_backend_of(&change.server)));
    }
    let changes = Effect::SetServers { changes: live.changes.clone(), digest: digest.clone() };
    let changes = Some(changes).filter(|_| !live.changes.is_empty());
    // What is written is known after a crash. But a file that is refused must not hold up the servers of what runs.
    let (first, last) = if is_loaded { (None, changes) } else { (changes, None) };
    decision.effects.extend(first);
    let file = public(haproxy::PATH, 0o644, rendered.text.clone(), Some(Checker::Haproxy));
    if let Err(why) = daemons::keep_file(file, facts, decision) {
        return decision.conditions.push(Condition::unknown(RUNNING, "FileUnseen", why));
    }
    let loading = Loading { digest: &digest, is_loaded, how: Load::Reload };
    let standing = daemons::keep_loaded(haproxy::UNIT, &loading, facts, decision);
    decision.effects.extend(last.filter(|_| standing == Standing::Serving));
    let places: Vec<String> = config.balancers.iter().map(|b| format!("{}:{}", b.address, b.port)).collect();
    let mut serving = format!("listening on {}", places.join(", "));
    if live.leaving > 0 {
        let Reconciled { leaving, connections, .. } = live;
        serving.push_str(&format!(
            "; {leaving} server(s) that nobody offers any more go with the last of their {connections} connection(s)"
        ));
    }
    decision.conditions.push(standing.condition(RUNNING, haproxy::UNIT, serving));
}

/// The servers of IPVS, which stand in Keepalived's file. Nothing is known of them if that could not be read.
pub fn ipvs(config: &Config, facts: &Facts) -> (InForce, Balanced) {
    let Some(lvs) = config.vnf.lvs.as_ref().filter(|lvs| lvs.dynamic) else { return Default::default() };
    let memory = facts.file(keepalived::PATH).known().map(|file| lvs::in_force(file.content.expose()));
    let (digest, testimony) = (digest_on(facts), testimony(config, facts));
    let evidence = evidence(config, digest.as_ref(), testimony.as_ref(), facts.wall);
    let in_force = evidence.apply(&lvs::listeners(lvs), memory.unwrap_or_default());
    let backends = &in_force.backends;
    let balanced = Balanced {
        is_dynamic: true,
        has_any: backends.values().any(|servers| !servers.is_empty()),
        has_all: lvs
            .services
            .iter()
            .all(|service| !service.servers.is_empty() || backends.contains_key(&lvs::listener(service))),
        is_explained: evidence.is_explained(backends),
    };
    (in_force, balanced)
}

/// The service's digest on this VM, if it reads as one.
pub(super) fn digest_on(facts: &Facts) -> Option<Digest> {
    facts.me.last.known().and_then(|vm| Digest::decode(vm.attribute(names::BACKENDS)?))
}

/// What OneGate told last of those who may offer servers, and its wall clock.
pub(super) fn testimony(config: &Config, facts: &Facts) -> Option<(Testimony, u64)> {
    let at = |asked: Option<Moment>| facts.wall_at(asked.unwrap_or(facts.now));
    if config.vnf.source == Source::Networks {
        let (networks, id) = (facts.networks.last.known()?, config.vrouter?);
        return Some((Testimony::of_networks(networks, config.vm, id), at(facts.networks.at)));
    }
    let service = facts.service.last.known()?;
    Some((Testimony::of(service, config.vm, config.service), at(facts.service.at)))
}

fn evidence<'a>(
    config: &'a Config,
    digest: Option<&'a Digest>,
    testimony: Option<&'a (Testimony, u64)>,
    wall: u64,
) -> Evidence<'a> {
    let testimony = testimony.map(|(testimony, at)| (testimony, *at));
    Evidence { nics: &config.nics, wall, testimony, digest }
}

/// What a virtual router could not read of its networks.
fn unseen(facts: &Facts) -> Option<String> {
    let unread = || facts.networks.last.known().map(|networks| networks.unread.join("; "));
    facts
        .networks
        .fault
        .as_ref()
        .map(|fault| fault.message.clone())
        .or_else(unread)
        .filter(|why| !why.is_empty())
}

/// Always true: the masters are deployed only after vnf is READY, so vnf cannot wait for their servers.
fn told(config: &Config, facts: &Facts, backends: &Backends, balanced: &Balanced) -> Condition {
    let given: usize =
        config.vnf.haproxy.iter().flat_map(|haproxy| &haproxy.balancers).map(|b| b.servers.len()).sum();
    let offered: usize = backends.values().map(std::collections::BTreeMap::len).sum();
    if !balanced.is_dynamic {
        return Condition::met(KNOWN, "Static", format!("{given} server(s), all from the context"));
    }
    let fault = match config.vnf.source {
        Source::Service => facts.service.fault.as_ref().map(|fault| fault.message.clone()),
        Source::Networks => unseen(facts),
    };
    let source = match (fault, balanced.is_explained) {
        (_, true) => "as the service's digest tells".to_owned(),
        (None, false) => "as OneGate tells".to_owned(),
        (Some(fault), false) => format!("kept while OneGate does not tell: {fault}"),
    };
    let reason = if offered + given == 0 { "NoneYet" } else { "Known" };
    let message = format!("{offered} server(s) offered by VMs and {given} from the context, {source}");
    Condition::met(KNOWN, reason, message)
}
