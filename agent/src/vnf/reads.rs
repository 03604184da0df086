//! Decides how often OneGate is asked. One's own VM is cheap; the service is a hundred times dearer, and its cost falls
//! on the whole cloud (onegate.md, "Cost"). A virtual router's networks cost a look at every VM on them.

use std::time::Duration;

use super::balancing::Balanced;
use super::peers;
use crate::context::Config;
use crate::context::vnf::Source;
use crate::facts::Facts;
use crate::plan::Decision;
use crate::service::{Role, Service, names};

/// The own VM's poll: a new server shall serve within 3 s, and OneGate takes half of that for the leader's reading and
/// writing. About 10 ms of OneGate's time each; the old scripts ask a dear question per VM every 30 s.
const PROMPT: Duration = Duration::from_millis(500);
/// And where no servers come from OneGate.
const ALONE: Duration = Duration::from_secs(10);
/// The poll of a virtual router's networks while no server is known.
const NETWORKS_EAGER: Duration = Duration::from_secs(10);
/// A service that comes up is told of within so long ...
const BRING_UP: Duration = Duration::from_secs(600);
/// ... and meanwhile read so often where no master writes digests.
const UNTOLD: Duration = Duration::from_secs(2);
const UNTOLD_PER_VM: Duration = Duration::from_millis(500);
/// A whole service reads itself at most twice a minute, so each VM that may do it waits so long per VM.
const SHARE: Duration = Duration::from_secs(30);

pub fn decide(config: &Config, facts: &Facts, balanced: &Balanced, decision: &mut Decision) {
    let reads = &mut decision.reads;
    match config.vnf.source {
        Source::Service => {
            reads.me = if balanced.is_dynamic { PROMPT } else { ALONE };
            reads.service = service(config, facts, balanced);
        }
        // Nobody writes a digest onto a virtual router: what its own VM says matters to READY alone.
        Source::Networks => {
            reads.me = ALONE;
            reads.networks = networks(config, balanced);
        }
    }
    let next = [reads.service, reads.networks].into_iter().flatten().fold(reads.me, Duration::min);
    decision.look_again_within(next);
}

fn networks(config: &Config, balanced: &Balanced) -> Option<Duration> {
    let rate = refresh(config);
    balanced.is_dynamic.then(|| if balanced.has_any { rate } else { rate.min(NETWORKS_EAGER) })
}

fn service(config: &Config, facts: &Facts, balanced: &Balanced) -> Option<Duration> {
    let known = facts.service.last.known();
    let size = u32::try_from(known.map_or(1, |service| service.size().max(1))).unwrap_or(u32::MAX);
    let fellows = known.and_then(|service| {
        let mine =
            |role: &&crate::service::ServiceRole| role.nodes.iter().any(|node| Some(node.id) == config.vm);
        service.roles.iter().find(mine).map(|role| role.nodes.len())
    });
    let fellows = u32::try_from(fellows.unwrap_or(1)).unwrap_or(u32::MAX);
    let servers = (balanced.is_dynamic && !balanced.is_explained).then(|| {
        if !balanced.has_any && facts.now < BRING_UP && !known.is_some_and(|service| is_led(service)) {
            UNTOLD.max(UNTOLD_PER_VM.saturating_mul(size))
        } else if !balanced.has_any {
            // Nothing serves yet: worth more, but never without regard to the service's size.
            Duration::from_secs(10).max(Duration::from_secs(2).saturating_mul(size))
        } else if !balanced.has_all {
            // Only vnf VMs wait for this.
            refresh(config).max(SHARE.saturating_mul(fellows))
        } else {
            refresh(config).max(SHARE.saturating_mul(size))
        }
    });
    // Unicast peers come from the service, too, and change when the role is scaled.
    let peers = config.vnf.vrrp.unicast.then(|| peers::reading(config, facts, SHARE));
    [servers, peers].into_iter().flatten().min()
}

/// A master runs this agent, and will write the digest as soon as there is something to tell.
fn is_led(service: &Service) -> bool {
    let masters = service.vms().filter(|(role, _)| *role == Role::Master.name());
    masters.into_iter().any(|(_, vm)| vm.attribute(names::STATE).is_some())
}

fn refresh(config: &Config) -> Duration {
    let haproxy =
        config.vnf.haproxy.as_ref().filter(|haproxy| haproxy.dynamic).map(|haproxy| haproxy.refresh);
    let lvs = config.vnf.lvs.as_ref().filter(|lvs| lvs.dynamic).map(|lvs| lvs.refresh);
    haproxy.into_iter().chain(lvs).min().unwrap_or_default()
}
