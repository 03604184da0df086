//! Whether the NICs of a node have the addresses that the context gives them. Who configures them is the guest's own
//! network service (netplan, systemd-networkd, one-context); now and then it comes up without them, and then neither
//! OneGate nor RKE2 says why they stay silent.

use std::net::IpAddr;

use super::link_of;
use crate::context::{Config, Nic};
use crate::facts::{Facts, Link, Observed};
use crate::plan::{Condition, Decision};

const KIND: &str = "AddressesPresent";

/// Tells which NIC lacks its address; says nothing while all is well, or not seen.
pub fn decide(config: &Config, facts: &Facts, decision: &mut Decision) {
    let Observed::Known(links) = &facts.links else { return };
    let lacking: Vec<String> = config.nics.iter().filter_map(|nic| lack(nic, links)).collect();
    if !lacking.is_empty() {
        decision.told.push(Condition::unmet(KIND, "AddressMissing", lacking.join("; ")));
    }
}

fn lack(nic: &Nic, links: &[Link]) -> Option<String> {
    let ip = nic.ip?;
    let variable = format!("ETH{}_IP={ip}", nic.index);
    let Some(link) = link_of(nic, links) else {
        let which = if nic.mac.is_empty() { nic.name() } else { nic.mac.clone() };
        return Some(format!("{variable}: this VM has no interface {which}: attach the NIC again"));
    };
    let has_it = link.addresses.iter().any(|(own, _)| *own == IpAddr::V4(ip));
    let name = &link.name;
    let state = if link.running { "" } else { ", which is down" };
    (!has_it).then(|| {
        format!("{variable} is not on {name}{state}: see networkctl status {name}, then netplan apply")
    })
}
