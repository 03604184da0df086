//! Forwarding and NAT: `ONEAPP_VNF_ROUTER4_*`, `ONEAPP_VNF_NAT4_*`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::Nic;
use super::super::forms::port;
use super::super::placeholder;
use super::super::reader::Reader;
use super::index_in;
use super::vrrp::VrrpConfig;

/// Which NICs forward packets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouterConfig {
    /// By index; empty where routing is switched off.
    pub forwarding: Vec<u8>,
}

/// What is translated.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NatConfig {
    /// NICs by index; what leaves by them takes their address.
    pub outward: Vec<u8>,
    /// Where sessions shall outlive a failover: which address what leaves by a NIC takes, a virtual one, by NIC.
    pub synced: Option<BTreeMap<u8, Ipv4Addr>>,
    /// Port forwards by their number.
    pub forwards: Vec<Forward>,
}

/// A port forward, TCP and UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// To which address, or to which network's, it was sent; `None`: to any.
    pub to: Option<Ipv4Net>,
    /// To which port.
    pub port: u16,
    /// Where it goes instead.
    pub target: Ipv4Addr,
    /// To which port there; `None`: the same.
    pub target_port: Option<u16>,
}

pub(super) fn read_router(reader: &mut Reader<'_>, nics: &[Nic]) -> RouterConfig {
    let is_virtual_router = reader.text("VROUTER_ID").is_some();
    if !reader.flag("ONEAPP_VNF_ROUTER4_ENABLED", is_virtual_router) {
        return RouterConfig::default();
    }
    RouterConfig { forwarding: chosen(reader, "ONEAPP_VNF_ROUTER4_INTERFACES", true, nics) }
}

pub(super) fn read_nat(reader: &mut Reader<'_>, nics: &[Nic], vrrp: &VrrpConfig) -> Option<NatConfig> {
    if !reader.flag("ONEAPP_VNF_NAT4_ENABLED", false) {
        return None;
    }
    let outward = chosen(reader, "ONEAPP_VNF_NAT4_INTERFACES_OUT", false, nics);
    let synced = synced(reader, nics, vrrp, &outward);
    Some(NatConfig { synced, outward, forwards: forwards(reader, nics) })
}

/// The first virtual address of each NIC. One's own address does not move, and neither do sessions that took it.
fn synced(
    reader: &mut Reader<'_>,
    nics: &[Nic],
    vrrp: &VrrpConfig,
    outward: &[u8],
) -> Option<BTreeMap<u8, Ipv4Addr>> {
    let name = "ONEAPP_VNF_NAT4_CONNTRACK_SYNC";
    if !reader.flag(name, false) {
        return None;
    }
    if vrrp.instances.is_empty() {
        reader.warn(name, "no interface runs VRRP, so there is nobody to tell sessions to: it has no effect");
        return None;
    }
    let carried = |nic: u8| {
        let vips = vrrp.instances.iter().flat_map(|instance| &instance.vips);
        vips.filter(move |vip| vip.nic == nic).map(|vip| vip.ip).next()
    };
    for nic in nics.iter().filter(|nic| outward.contains(&nic.index) && carried(nic.index).is_none()) {
        let message = format!(
            "{} has no virtual address: what leaves by it takes this VM's own, and does not outlive a failover",
            nic.name()
        );
        reader.warn(name, message);
    }
    Some(outward.iter().filter_map(|nic| Some((*nic, carried(*nic)?))).collect())
}

fn chosen(reader: &mut Reader<'_>, name: &str, unset_is_all: bool, nics: &[Nic]) -> Vec<u8> {
    let mut chosen: Vec<u8> =
        reader.interfaces(name, unset_is_all, nics).into_iter().map(|selected| selected.nic).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

const FORWARD_FORM: &str = "expected [DEST:]PORT:NEWDEST[:NEWPORT], with IPv4 addresses, ports from 1 to 65535, and DEST an address, a network or a placeholder such as <ETH0_EP0>";

fn forwards(reader: &mut Reader<'_>, nics: &[Nic]) -> Vec<Forward> {
    let prefix = "ONEAPP_VNF_NAT4_PORT_FWD";
    let mut names: Vec<(u16, &str)> = reader
        .vars()
        .iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .filter_map(|(name, _)| Some((index_in(name, prefix, "")?, name)))
        .collect();
    names.sort_unstable();
    let mut forwards: Vec<Forward> = Vec::new();
    for (_, name) in names {
        let is_left_out = reader.text(name).is_some_and(|text| is_left_out(text, nics));
        let parse = |text: &str| forward(text, nics);
        let parsed = if is_left_out {
            reader.parse_leniently(name, FORWARD_FORM, parse)
        } else {
            reader.parse(name, FORWARD_FORM, parse)
        };
        let Some(forward) = parsed else { continue };
        let caught = |earlier: &&Forward| {
            let holds = |net: Ipv4Net| forward.to.is_some_and(|to| net.contains(&to));
            earlier.port == forward.port && earlier.to.is_none_or(holds)
        };
        if let Some(earlier) = forwards.iter().find(caught).filter(|earlier| **earlier != forward) {
            let message = format!(
                "never reached: port {} goes to {} by an earlier forward",
                forward.port, earlier.target
            );
            reader.warn(name, message);
        }
        if forward.to.is_none() {
            let message = format!(
                "without DEST it also catches what only passes through this router to port {}",
                forward.port
            );
            reader.warn(name, message);
        }
        forwards.push(forward);
    }
    forwards
}

/// Trailing colons say nothing, as in the old appliance.
fn parts(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = text.split(':').map(str::trim).collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

/// The old appliance leaves out what has not the form of a forward, and forwards the rest. What has it, but ports that are
/// none, it hands to iptables, which refuses them all.
fn is_left_out(text: &str, nics: &[Nic]) -> bool {
    let parts = parts(text);
    let is_number =
        |text: &&str| text.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && !text.contains('.');
    let first = parts.first().copied().unwrap_or_default();
    let has_destination = placeholder::resolve(nics, first).is_some() || first.parse::<Ipv4Net>().is_ok();
    let rest = &parts[usize::from(has_destination)..];
    let target = rest.get(1).is_some_and(|text| text.parse::<Ipv4Addr>().is_ok());
    !(rest.first().is_some_and(is_number) && target && rest.get(2).is_none_or(is_number) && rest.len() <= 3)
}

fn forward(text: &str, nics: &[Nic]) -> Option<Forward> {
    let parts = parts(text);
    let to = match parts.first()? {
        first if port(first).is_some() => None,
        first if placeholder::is_placeholder(first) => Some(placeholder::resolve(nics, first)?.into()),
        first => Some(first.parse().or_else(|_| first.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok()?.trunc()),
    };
    let mut rest = parts.into_iter().skip(usize::from(to.is_some()));
    let forward = Forward {
        to,
        port: port(rest.next()?)?,
        target: rest.next()?.parse().ok()?,
        target_port: rest.next().map_or(Some(None), |text| port(text).map(Some))?,
    };
    rest.next().is_none().then_some(forward)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_forward_is_left_out() {
        for text in
            [":", "::", "1234:", "1.2.3.4:1:1.2.3.4:2:3", "asd:1:1.2.3.4:1", "1:<ETH0_IP0>", "1:1.2.3.4:x"]
        {
            assert!(is_left_out(text, &[]), "{text}");
        }
        for text in ["1:1.2.3.4", "0:1.2.3.4", "70000:1.2.3.4:80", "1.2.3.4:0x50:1.2.3.4", "1:1.2.3.4:1_000"]
        {
            assert!(!is_left_out(text, &[]), "{text}");
        }
    }

    #[test]
    fn forwards_have_four_forms() {
        let parsed =
            |text| forward(text, &[]).map(|f| (f.to.is_some(), f.port, f.target.octets()[3], f.target_port));
        assert_eq!(parsed("14.15.16.17/24:1234:10.11.12.13"), Some((true, 1234, 13, None)));
        assert_eq!(parsed("14.15.16.17:1234:10.11.12.13:4321"), Some((true, 1234, 13, Some(4321))));
        assert_eq!(parsed("14.15.16.17:1234:10.11.12.13"), Some((true, 1234, 13, None)));
        assert_eq!(parsed("1234:10.11.12.13:4321"), Some((false, 1234, 13, Some(4321))));
        assert_eq!(parsed(" 1234 : 10.11.12.13 :"), Some((false, 1234, 13, None)));
        for refused in [
            ":",
            "::",
            "1234:",
            "1.2.3.4:1:1.2.3.4:2:3",
            "asd:1:1.2.3.4:1",
            "0:1.2.3.4",
            "70000:1.2.3.4",
            "0x50:1.2.3.4",
            "1_000:1.2.3.4",
            "1:1.2.3.4:0",
            "<ETH0_IP0>:1:1.2.3.4",
            "1:<ETH0_IP0>",
            "1::2",
        ] {
            assert_eq!(parsed(refused), None, "{refused}");
        }
    }
}
