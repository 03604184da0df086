//! Decides what the other virtual routers on our networks mean: fellows of this role may speak for our virtual router
//! ID, one at a time; anybody else's use of it takes our addresses away or keeps them from moving.
//!
//! Who is a fellow is OneGate's to say. A stranger is foreign only if an answer that is younger than his first word does
//! not know him: the service may have grown.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::links::Names;
use crate::context::Config;
use crate::context::vnf::{Instance, Source};
use crate::facts::{Facts, Link, Moment, Observed};
use crate::plan::{Condition, Decision};
use crate::service::{ServiceRole, Vm};
use crate::vrrp::{Advert, Heard};

const KIND: &str = "RoutersAgree";
/// A stranger is looked up at most so often; the answer concerns the whole service, so it is dear.
const ASKING: Duration = Duration::from_secs(30);
/// What is not answered by then is told as unknown.
const PATIENCE: Duration = Duration::from_secs(90);
/// So many of its adverts while we are master, too, are no takeover under way.
const SURE: u32 = 3;

/// Who speaks for one of our virtual router IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker<'a> {
    /// Another VM of this role.
    Fellow(&'a Vm),
    /// None of this service's.
    Foreign,
    /// OneGate has not told yet, or cannot.
    Unknown,
}

/// This VM's role as OneGate told it last, and when.
pub fn own_role<'a>(config: &Config, facts: &'a Facts) -> Option<(&'a ServiceRole, Option<Moment>)> {
    let service = facts.service.last.known()?;
    let mine = |role: &&ServiceRole| role.nodes.iter().any(|node| Some(node.id) == config.vm);
    Some((service.roles.iter().find(mine)?, facts.service.at))
}

/// Who that is.
pub fn speaker<'a>(config: &Config, facts: &'a Facts, heard: &Heard) -> Speaker<'a> {
    let Some((role, at)) = own_role(config, facts) else { return Speaker::Unknown };
    let has = |vm: &&Vm| vm.nics.iter().any(|nic| nic.ip == Some(IpAddr::V4(heard.advert.source)));
    if let Some(vm) = role.nodes.iter().filter_map(|node| node.vm.as_ref()).find(has) {
        return Speaker::Fellow(vm);
    }
    let is_whole = role.nodes.iter().all(|node| node.vm.is_some());
    if is_whole && at >= Some(heard.since) { Speaker::Foreign } else { Speaker::Unknown }
}

/// Who else speaks for this instance's virtual router ID on its interface.
pub fn heard_by<'a>(instance: &Instance, names: &Names, facts: &'a Facts) -> Vec<&'a Heard> {
    let links = facts.links.known().map_or(&[][..], Vec::as_slice);
    let interface = names.of(instance.nic);
    let all = facts.heard.known().into_iter().flatten();
    all.filter(|heard| heard.interface == interface && heard.advert.vrid == instance.vrid.get())
        .filter(|heard| !has_address(links, heard.advert.source))
        .collect()
}

/// True if one of this VM's interfaces has the address now.
pub fn has_address(links: &[Link], ip: Ipv4Addr) -> bool {
    links.iter().any(|link| link.addresses.iter().any(|(address, _)| *address == IpAddr::V4(ip)))
}

/// Adds the condition, and the wish to ask OneGate about strangers.
pub fn decide(config: &Config, facts: &Facts, names: &Names, decision: &mut Decision) {
    let instances = &config.vnf.vrrp.instances;
    match &facts.heard {
        Observed::Known(_) if !instances.is_empty() => {}
        Observed::Unknown(why) if !instances.is_empty() => {
            decision.conditions.push(Condition::unknown(KIND, "NotListening", why.clone()));
            return;
        }
        _ => return,
    }
    let links = facts.links.known().map_or(&[][..], Vec::as_slice);
    let (mut foreign, mut twice, mut strangers) = (Vec::new(), Vec::new(), Vec::new());
    for instance in instances {
        // A virtual address that is this VM's own, too, says nothing: it is always here.
        let moves = |ip: Ipv4Addr| config.nics.iter().all(|nic| nic.ip != Some(ip));
        let is_master = instance.vips.iter().any(|vip| moves(vip.ip) && has_address(links, vip.ip));
        for heard in heard_by(instance, names, facts) {
            match speaker(config, facts, heard) {
                Speaker::Foreign => foreign.push(described(heard)),
                Speaker::Fellow(vm) if is_master && is_sure(heard, facts.now) => twice.push((vm, heard)),
                Speaker::Fellow(_) => {}
                Speaker::Unknown => strangers.push(heard),
            }
        }
    }
    let asks = config.vnf.source == Source::Service && config.service.is_some();
    if asks && let Some(since) = strangers.iter().map(|heard| heard.since).max() {
        let wish = facts.now.saturating_sub(since).max(ASKING);
        let service = &mut decision.reads.service;
        *service = Some(service.map_or(wish, |other| other.min(wish)));
        decision.look_again_within(ASKING);
    }
    let taken = taken(config, facts);
    decision.conditions.push(if !foreign.is_empty() {
        let message = format!(
            "{}, and is no VM of this service: give this service's vnf VMs another ONEAPP_VNF_KEEPALIVED_VRID, or the other router another ID",
            foreign.join("; ")
        );
        Condition::unmet(KIND, "ForeignRouter", message)
    } else if let Some((vm, heard)) = twice.first() {
        let message = format!(
            "VM {} holds this VM's addresses as well: {}; see that both have the same ONEAPP_VNF_KEEPALIVED_* variables, and that the network between them carries VRRP (IP protocol 112)",
            vm.id,
            described(heard)
        );
        Condition::unmet(KIND, "TwoMasters", message)
    } else if let Some(message) = taken {
        Condition::unmet(KIND, "AddressTaken", message)
    } else {
        about(&strangers, asks, facts)
    });
}

/// It goes on speaking, and has spoken for a while.
fn is_sure(heard: &Heard, now: Moment) -> bool {
    heard.is_master(now) && heard.at.saturating_sub(heard.since) >= heard.advert.interval * SURE
}

fn about(strangers: &[&Heard], asks: bool, facts: &Facts) -> Condition {
    let Some(first) = strangers.first() else {
        return Condition::met(KIND, "Alone", "nobody else speaks for this service's virtual router IDs");
    };
    let said = described(first);
    if !asks {
        let message = format!("{said}; OneGate cannot tell whether it is a fellow of this VM");
        return Condition::met(KIND, "FellowsUntold", message);
    }
    if strangers.iter().all(|heard| facts.now.saturating_sub(heard.since) < PATIENCE) {
        return Condition::met(KIND, "Asking", format!("{said}; asking OneGate who that is"));
    }
    let why = facts.service.fault.as_ref().map_or("its answer lacks VMs of this role", |f| &f.message);
    Condition::unknown(KIND, "FellowsUnknown", format!("{said}; OneGate does not tell who that is: {why}"))
}

/// `10.0.0.7 on eth1 speaks for VRID 5 (version 2, priority 100, addresses 10.0.0.100)`.
fn described(heard: &Heard) -> String {
    let Heard { interface, advert, .. } = heard;
    let Advert { source, vrid, version, priority, addresses, .. } = advert;
    let addresses: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    let addresses = if addresses.is_empty() { "none".to_owned() } else { addresses.join(" ") };
    format!(
        "{source} on {interface} speaks for VRID {vrid} (version {version}, priority {priority}, addresses {addresses})"
    )
}

/// A virtual address that is a fellow's own would never come free.
fn taken(config: &Config, facts: &Facts) -> Option<String> {
    let (role, _) = own_role(config, facts)?;
    let others = role.nodes.iter().filter(|node| Some(node.id) != config.vm);
    let vips =
        || config.nics.iter().flat_map(|nic| nic.vips.iter().map(move |(n, ip, _)| (nic.index, n, ip)));
    others.filter_map(|node| node.vm.as_ref()).filter(|vm| !vm.is_done()).find_map(|vm| {
        let own = |ip: &Ipv4Addr| vm.nics.iter().any(|nic| !nic.alias && nic.ip == Some(IpAddr::V4(*ip)));
        let (nic, n, ip) = vips().find(|(_, _, ip)| own(ip))?;
        Some(format!(
            "ONEAPP_VROUTER_ETH{nic}_VIP{n}=\"{ip}\": expected an address that no VM has: it is VM {}'s own, and cannot move",
            vm.id
        ))
    })
}
