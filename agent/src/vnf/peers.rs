//! Unicast VRRP: who the other vnf VMs are, and when it is safe to speak to them alone.
//!
//! Keepalived with unicast peers is deaf to multicast, and the other way round: two VMs of one role in different modes
//! are two masters (tried with 2.2.7, VRRP 2 and 3). So each VM says in an attribute how it speaks and whom it knows,
//! and a VM goes to unicast only after its fellows have said that they know it:
//!
//! ```text
//!  fresh ── every fellow that runs says "unicast ME" ──▶ unicast    (until then Keepalived is not configured: a fellow
//!                                                                    serves; nobody heard for five minutes: alone)
//!  multicast ── every fellow that runs names ME, in either mode ──▶ unicast
//!  unicast ── fellows come and go ──▶ unicast; the last one goes ──▶ multicast, which nobody is left to hear
//! ```
//!
//! So a VM that joins a running role never takes its addresses, and a role that boots at once meets before it speaks.
//! After a reboot the peers in the file count, without OneGate.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::keepalived;
use super::links::Names;
use super::neighbours::{heard_by, own_role};
use crate::context::Config;
use crate::context::vnf::{Instance, Source};
use crate::facts::{Facts, Observed};
use crate::plan::Decision;
use crate::service::{
    AttributeName, AttributeValue, Holder, Networks, ServiceRole, VNet, Vm, VmId, names as attributes,
};

/// Peers by [`Instance::nic`].
pub type Peers = BTreeMap<u8, Vec<Ipv4Addr>>;

/// A fellow that runs and is not heard all this time after boot serves nothing, or its agent is dead. More than
/// [`READ_AT_LEAST`], so that a living one has learnt of us.
const LONELY_AFTER: Duration = Duration::from_secs(300);
/// How often the service is read at least, for new fellows.
const READ_AT_LEAST: Duration = Duration::from_secs(240);
/// How often it is read while a fellow is waited for.
const READ_WAITING: Duration = Duration::from_secs(10);

/// The peers of every instance; empty where multicast is used. `Err` says what is waited for.
pub fn of(config: &Config, facts: &Facts, names: &Names) -> Result<Peers, String> {
    if !config.vnf.vrrp.unicast {
        return Ok(Peers::new());
    }
    let memory = in_force(facts);
    let waits = || {
        String::from("ONEAPP_VNF_KEEPALIVED_UNICAST is YES: waiting for OneGate to name the other vnf VMs")
    };
    if config.vnf.source == Source::Networks {
        let leased = facts.networks.last.known().and_then(|networks| leased(config, networks));
        return leased.or(memory).ok_or_else(waits);
    }
    let Some((me, role)) = config.vm.zip(whole_role(config, facts)) else {
        return memory.ok_or_else(waits);
    };
    let told = told(config, role, me);
    let unaware = |mode| others(role, me).filter(|vm| runs(vm)).find(|vm| !says(vm, mode, me));
    match &memory {
        // Fellows only come and go.
        Some(memory) if is_unicast(memory) => Ok(told),
        // It speaks multicast now. It may be alone, or its fellows may not have the option yet.
        Some(_) if unaware(None).is_some() => Ok(Peers::new()),
        Some(_) => Ok(told),
        None => match unaware(Some(UNICAST)).filter(|_| must_wait(config, facts, names)) {
            Some(fellow) => Err(format!(
                "waiting for VM {} to say that it knows this VM as its unicast peer ({} there): until then it would not be heard",
                fellow.id,
                attributes::VRRP_PEERS
            )),
            None => Ok(told),
        },
    }
}

/// Says how this VM speaks, and whom it knows.
pub fn publish(config: &Config, facts: &Facts, decision: &mut Decision) {
    let unicast = config.vnf.vrrp.unicast;
    let Some((me, role)) = config.vm.zip(whole_role(config, facts)).filter(|_| unicast) else { return };
    let mode = if in_force(facts).is_none_or(|peers| is_unicast(&peers)) { UNICAST } else { MULTICAST };
    let ids = others(role, me).map(|vm| format!(" {}", vm.id));
    let value = ids.fold(mode.to_owned(), |value, id| value + &id);
    let name = AttributeName::new(attributes::VRRP_PEERS).expect("our own names are well formed");
    let value = AttributeValue::new(value).expect("words and numbers survive OneGate");
    decision.publish.insert(name, value);
}

/// How old the service may be for this; `share` is what each of its VMs is given.
pub fn reading(config: &Config, facts: &Facts, share: Duration) -> Duration {
    let waits = in_force(facts).is_none() && facts.now < LONELY_AFTER;
    match facts.service.last.known().filter(|_| own_role(config, facts).is_some()) {
        Some(service) if !waits => {
            share.saturating_mul(u32::try_from(service.size()).unwrap_or(u32::MAX)).min(READ_AT_LEAST)
        }
        Some(_) | None => READ_WAITING,
    }
}

const UNICAST: &str = "unicast";
const MULTICAST: &str = "multicast";

/// Our file's peers; `None`: there is no file of ours yet.
fn in_force(facts: &Facts) -> Option<Peers> {
    let text = facts.file(keepalived::PATH).known()?.content.expose();
    text.contains("vrrp_instance ETH").then(|| keepalived::peers_in_force(text))
}

fn is_unicast(peers: &Peers) -> bool {
    peers.values().any(|peers| !peers.is_empty())
}

/// This VM's role, if OneGate told all of it.
fn whole_role<'a>(config: &Config, facts: &'a Facts) -> Option<&'a ServiceRole> {
    facts.service.last.known().filter(|service| service.gap().is_none())?;
    own_role(config, facts).map(|(role, _)| role)
}

fn others(role: &ServiceRole, me: VmId) -> impl Iterator<Item = &Vm> {
    let vms = role.nodes.iter().filter(move |node| node.id != me).filter_map(|node| node.vm.as_ref());
    vms.filter(|vm| !vm.is_done())
}

/// STATE 3, ACTIVE: its Keepalived may run.
fn runs(vm: &Vm) -> bool {
    vm.state == 3 && !vm.is_leaving()
}

/// True if it says that it knows `me`, in this mode if one is named.
fn says(vm: &Vm, mode: Option<&str>, me: VmId) -> bool {
    let mut words = vm.attribute(attributes::VRRP_PEERS).unwrap_or_default().split(' ');
    let spoken = words.next();
    mode.is_none_or(|mode| spoken == Some(mode)) && words.any(|id| id.parse() == Ok(me.0))
}

/// Where nobody listens (offline) nobody is waited for.
fn must_wait(config: &Config, facts: &Facts, names: &Names) -> bool {
    let serves = |instance| heard_by(instance, names, facts).iter().any(|heard| heard.is_master(facts.now));
    match &facts.heard {
        Observed::Absent => false,
        Observed::Known(_) if config.vnf.vrrp.instances.iter().any(serves) => true,
        Observed::Known(_) | Observed::Unknown(_) => facts.now < LONELY_AFTER,
    }
}

/// The other VMs of this VM's role, by their addresses in each instance's network.
fn told(config: &Config, role: &ServiceRole, me: VmId) -> Peers {
    let in_network = |instance: &Instance| -> Vec<Ipv4Addr> {
        let (ip, prefix) = instance.network;
        let network = Ipv4Net::new(ip, prefix).ok();
        let mut peers: Vec<Ipv4Addr> = others(role, me)
            .flat_map(|vm| &vm.nics)
            .filter_map(|nic| match nic.ip {
                Some(IpAddr::V4(ip)) if !nic.external => Some(ip),
                _ => None,
            })
            .filter(|peer| *peer != ip && network.is_some_and(|network| network.contains(peer)))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    };
    config.vnf.vrrp.instances.iter().map(|instance| (instance.nic, in_network(instance))).collect()
}

/// The other VMs of this virtual router, by what they have leased in each instance's network: the one in which this VM
/// has that instance's address. `None` if one of these networks was not read.
fn leased(config: &Config, networks: &Networks) -> Option<Peers> {
    let me = config.vm?;
    let fellows = &networks.router.as_ref()?.vms;
    let in_network = |instance: &Instance| -> Option<Vec<Ipv4Addr>> {
        let own = (Some(IpAddr::V4(instance.network.0)), Holder::Vm(me));
        let is_own = |network: &&VNet| network.leases.iter().any(|lease| (lease.ip, lease.holder) == own);
        let network = networks.read.iter().find(is_own)?;
        let mut peers: Vec<Ipv4Addr> = network
            .leases
            .iter()
            .filter_map(|lease| match (lease.holder, lease.ip?) {
                (Holder::Vm(vm), IpAddr::V4(ip)) if vm != me && fellows.contains(&vm) => Some(ip),
                _ => None,
            })
            .collect();
        peers.sort_unstable();
        Some(peers)
    };
    let instances = config.vnf.vrrp.instances.iter();
    instances.map(|instance| Some((instance.nic, in_network(instance)?))).collect()
}
