//! Unicast VRRP: who the other vnf VMs are. Off unless the context asks for it, because a VM that sends to its peers
//! does not hear one that speaks to the multicast group: both would hold the addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::keepalived;
use crate::context::Config;
use crate::context::vnf::{Instance, Source};
use crate::facts::Facts;
use crate::service::{Holder, Networks, Service, VNet};

/// Peers by [`Instance::nic`].
pub type Peers = BTreeMap<u8, Vec<Ipv4Addr>>;

/// The peers of every instance; empty where multicast is used. `Err` says what is waited for.
pub fn of(config: &Config, facts: &Facts) -> Result<Peers, String> {
    if !config.vnf.vrrp.unicast {
        return Ok(Peers::new());
    }
    let whole = || facts.service.last.known().filter(|service| service.gap().is_none());
    let peers = match config.vnf.source {
        Source::Service => whole().and_then(|service| told(config, service)),
        Source::Networks => facts.networks.last.known().and_then(|networks| leased(config, networks)),
    };
    if let Some(peers) = peers {
        return Ok(peers);
    }
    let file = facts.file(keepalived::PATH);
    let memory = file.known().map(|file| keepalived::peers_in_force(file.content.expose()));
    match memory.filter(|peers| !peers.is_empty()) {
        Some(peers) => Ok(peers),
        None => {
            Err("ONEAPP_VNF_KEEPALIVED_UNICAST is YES: waiting for OneGate to name the other vnf VMs".into())
        }
    }
}

/// The other VMs of this VM's role, by their addresses in each instance's network.
fn told(config: &Config, service: &Service) -> Option<Peers> {
    let me = config.vm?;
    let role = service.roles.iter().find(|role| role.nodes.iter().any(|node| node.id == me))?;
    let others = || role.nodes.iter().filter(|node| node.id != me).filter_map(|node| node.vm.as_ref());
    let in_network = |instance: &Instance| -> Vec<Ipv4Addr> {
        let (ip, prefix) = instance.network;
        let network = Ipv4Net::new(ip, prefix).ok();
        let mut peers: Vec<Ipv4Addr> = others()
            .filter(|vm| !vm.is_done())
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
    Some(config.vnf.vrrp.instances.iter().map(|instance| (instance.nic, in_network(instance))).collect())
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
