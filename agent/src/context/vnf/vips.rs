//! What is wrong or odd about virtual addresses: those that no host can have, that are somebody's already, or that
//! nobody would find.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::Nic;
use super::super::reader::Reader;
use super::vrrp::Instance;

/// The variable that gives the address: OpenNebula's own gives VIP 0 where the appliance's does not.
pub(super) fn variable(reader: &Reader<'_>, nic: &Nic, n: u8) -> String {
    let name = format!("ONEAPP_VROUTER_ETH{}_VIP{n}", nic.index);
    if n == 0 && reader.text(&name).is_none() { format!("ETH{}_VROUTER_IP", nic.index) } else { name }
}

/// Tells all of it. `instances` carry the addresses.
pub(super) fn tell(reader: &mut Reader<'_>, nics: &[Nic], instances: &[Instance]) {
    for nic in nics {
        for (at, (n, ip, _)) in nic.vips.iter().enumerate() {
            let name = variable(reader, nic, *n);
            if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() {
                reader.problem(
                    &name,
                    &ip.to_string(),
                    "expected an address that a host on a network can have",
                );
                continue;
            }
            if nic.vips[..at].iter().any(|(_, earlier, _)| earlier == ip) {
                reader.warn(&name, format!("{ip} is given twice; it is carried once"));
            }
            tell_owner(reader, &name, (nic, *ip), nics, instances);
            tell_stray(reader, &name, nic, *ip);
        }
        tell_lost(reader, nic, instances);
    }
}

/// Keepalived takes its virtual addresses off their NICs when it starts, this VM's own one as well (tried with 2.2.7):
/// on the NIC that speaks VRRP nothing is left to speak with.
fn tell_owner(
    reader: &mut Reader<'_>,
    name: &str,
    (nic, ip): (&Nic, Ipv4Addr),
    nics: &[Nic],
    instances: &[Instance],
) {
    let before = |other: &&Nic| other.index < nic.index && other.vips.iter().any(|(_, vip, _)| *vip == ip);
    let owns = |other: &&Nic| other.index != nic.index && other.ip == Some(ip);
    if let Some(other) = nics.iter().find(|other| before(other) || owns(other)) {
        let form = format!("expected an address that no other interface has: {} has it, too", other.name());
        reader.problem(name, &ip.to_string(), form);
    }
    if nic.ip != Some(ip) || !instances.iter().any(|instance| instance.vips.iter().any(|vip| vip.ip == ip)) {
        return;
    }
    let eth = nic.name();
    if instances.iter().any(|instance| instance.nic == nic.index) {
        let form = format!(
            "expected an address beside {eth}'s own: VRRP speaks from that one, and Keepalived would take it away"
        );
        reader.problem(name, &ip.to_string(), form);
    } else {
        let message = format!("{ip} is {eth}'s own address, too: {eth} loses it while another VM holds it");
        reader.warn(name, message);
    }
}

/// An address beside its NIC's network can be meant (hosts reach it by a route), but a slip of the pen is likelier.
fn tell_stray(reader: &mut Reader<'_>, name: &str, nic: &Nic, ip: Ipv4Addr) {
    let Some(network) = nic.ip.and_then(|own| Ipv4Net::new(own, nic.prefix).ok()) else { return };
    let (network, eth) = (network.trunc(), nic.name());
    if !network.contains(&ip) {
        let message =
            format!("{ip} is not in {eth}'s network {network}: its neighbours there will not find it");
        reader.warn(name, message);
    } else if network.prefix_len() < 31 && (ip == network.network() || ip == network.broadcast()) {
        let message = format!("{ip} is {eth}'s network or its broadcast address: no neighbour can reach it");
        reader.warn(name, message);
    }
}

/// A NIC that the context does not know, but that a list names, can be meant: the VM may have it all the same.
fn tell_lost(reader: &mut Reader<'_>, nic: &Nic, instances: &[Instance]) {
    if nic.is_attached {
        return;
    }
    let is_carried = |ip: Ipv4Addr| instances.iter().flat_map(|i| &i.vips).any(|vip| vip.ip == ip);
    for (n, ip, _) in nic.vips.iter().filter(|(_, ip, _)| is_carried(*ip)) {
        let eth = nic.name();
        let message = format!(
            "the context knows no {eth}: unless the VM has one, no virtual address is served; attach a NIC for {ip}, or drop it"
        );
        let name = variable(reader, nic, *n);
        reader.warn(&name, message);
    }
}
