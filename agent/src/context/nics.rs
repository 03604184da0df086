//! The NICs of this VM, with their addresses and virtual addresses: `ETHx_*` and `ONEAPP_VROUTER_ETHx_VIPn`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::forms;
use super::placeholder::number;
use super::reader::Reader;
use super::table::Roles;
use crate::service::Role;

/// A NIC of this VM: `ETHx_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The x of `ETHx`.
    pub index: u8,
    /// `ETHx_MAC`, lower case.
    pub mac: String,
    /// `ETHx_IP`, without a prefix.
    pub ip: Option<Ipv4Addr>,
    /// `ETHx_IP6`, else the older `ETHx_IPV6`, else `ETHx_IP6_ULA`.
    pub ip6: Option<Ipv6Addr>,
    /// Prefix length by the inference rules of contract.md 1.0.
    pub prefix: u8,
    /// `ETHx_GATEWAY`.
    pub gateway: Option<Ipv4Addr>,
    /// `ETHx_MTU`.
    pub mtu: Option<u32>,
    /// `ETHx_VROUTER_MANAGEMENT`.
    pub management: bool,
    /// `ONEAPP_VROUTER_ETHx_VIPn` with their prefix length, by n; VIP0 falls back to `ETHx_VROUTER_IP`.
    pub vips: Vec<(u8, Ipv4Addr, u8)>,
    /// The context has its address (even an empty one) or its MAC, not just virtual addresses: the VM has it. Otherwise
    /// only a list that names it selects it.
    pub is_attached: bool,
}

impl Nic {
    /// `ethX`: the name by which the context and the variables call it.
    pub fn name(&self) -> String {
        format!("eth{}", self.index)
    }
}

/// All NICs of the context, by index.
pub(super) fn read(reader: &mut Reader<'_>) -> Vec<Nic> {
    indices(reader).into_iter().map(|index| nic(reader, index)).collect()
}

/// A NIC is there if the context has its MAC, its address (even an empty one) or its floating address. On vnf a
/// virtual address alone makes one too: a NIC that carries nothing else. On nodes it does not: they know the vnf's
/// addresses of networks that they are not in.
fn indices(reader: &Reader<'_>) -> BTreeSet<u8> {
    let carries_vips = matches!(reader.role(), None | Some(Role::Vnf));
    let index = |(name, value): (&str, &str)| {
        if let Some((index, rest)) = name.strip_prefix("ETH").and_then(|rest| rest.split_once('_')) {
            let is_nic = rest == "IP" || (matches!(rest, "MAC" | "VROUTER_IP") && !value.is_empty());
            return number(index).filter(|_| is_nic);
        }
        let (index, rest) = name.strip_prefix("ONEAPP_VROUTER_ETH")?.split_once('_')?;
        let is_vip = rest.starts_with("VIP") && !value.is_empty();
        number(index).filter(|_| carries_vips && is_vip)
    };
    reader.vars().iter().filter_map(index).collect()
}

fn nic(reader: &mut Reader<'_>, index: u8) -> Nic {
    let name = |rest: &str| format!("ETH{index}_{rest}");
    let own = reader.value(&name("IP"), Roles::ALL, forms::ipv4_prefixed);
    let network = Network {
        mask: reader.value(&name("MASK"), Roles::ALL, forms::mask),
        network: reader.value(&name("NETWORK"), Roles::ALL, forms::ipv4),
    };
    let mac = reader.value(&name("MAC"), Roles::ALL, forms::mac);
    let ip6 = ["IP6", "IPV6", "IP6_ULA"].map(|rest| reader.value(&name(rest), Roles::ALL, forms::ipv6));
    let vips = vips(reader, index);
    Nic {
        index,
        mac: mac.unwrap_or_default(),
        ip: own.map(|(ip, _)| ip),
        ip6: ip6.into_iter().flatten().next(),
        prefix: network.prefix(own.unwrap_or((Ipv4Addr::UNSPECIFIED, None))),
        gateway: reader.value(&name("GATEWAY"), Roles::ALL, forms::ipv4),
        mtu: reader.value(&name("MTU"), Roles::ALL, |text| forms::number(text, 68, 65_535)),
        management: reader.on(&name("VROUTER_MANAGEMENT"), Roles::VNF),
        vips: vips.into_iter().map(|(n, vip)| (n, vip.0, network.prefix(vip))).collect(),
        is_attached: reader.vars().raw(&name("IP")).is_some() || reader.text(&name("MAC")).is_some(),
    }
}

fn vips(reader: &mut Reader<'_>, index: u8) -> BTreeMap<u8, (Ipv4Addr, Option<u8>)> {
    let mut vips = BTreeMap::new();
    if let Some(vip) = vip(reader, &format!("ETH{index}_VROUTER_IP")) {
        vips.insert(0, vip);
    }
    let prefix = format!("ONEAPP_VROUTER_ETH{index}_VIP");
    let names: Vec<(String, u8)> = reader
        .vars()
        .with_prefix(&prefix)
        .filter_map(|(name, _)| Some((name.to_owned(), number(name.strip_prefix(&prefix)?)?)))
        .collect();
    // Nodes only refer to the vnf's addresses: one that is wrong is the vnf's to refuse, and what nodes themselves make of
    // one is told where they read it.
    let is_own = matches!(reader.role(), None | Some(Role::Vnf));
    for (name, n) in names {
        let vip = match is_own {
            true => vip(reader, &name),
            false => reader.text(&name).and_then(forms::ipv4_prefixed),
        };
        if let Some(vip) = vip {
            vips.insert(n, vip);
        }
    }
    vips
}

/// Keepalived leaves out an address of another family than its instance's, and takes a length that is none as 32: so
/// did the old appliance, and served the rest.
fn vip(reader: &mut Reader<'_>, name: &str) -> Option<(Ipv4Addr, Option<u8>)> {
    let text = reader.text(name)?.trim();
    if text.is_empty() {
        return None;
    }
    let (ip, length) = text.split_once('/').map_or((text, None), |(ip, length)| (ip, Some(length)));
    if is_ipv6(text) {
        reader.warn(name, format!("{text} is not carried: virtual addresses are IPv4's"));
        return None;
    }
    let vip = match (forms::ipv4_prefixed(text), ip.parse::<Ipv4Addr>(), length) {
        (Some(vip), ..) => Some(vip),
        (None, Ok(ip), Some(length)) => {
            reader.warn(name, format!("{length:?} is no prefix length from 0 to 32: 32 is taken"));
            Some((ip, Some(32)))
        }
        _ => None,
    };
    if vip.is_none() {
        reader.problem(name, text, "expected an IPv4 address, with or without /length");
    }
    vip
}

/// An IPv6 address, with or without `/length` and `%interface`.
pub(super) fn is_ipv6(text: &str) -> bool {
    let address = text.trim().split(['/', '%']).next();
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// What the context says of a NIC's network.
struct Network {
    mask: Option<u8>,
    network: Option<Ipv4Addr>,
}

impl Network {
    /// The prefix length of an address: its own `/length`, else the mask's, else by the network's trailing zero
    /// octets, else by the address's old class; 0 becomes 32 (contract.md 1.0).
    fn prefix(&self, (ip, own): (Ipv4Addr, Option<u8>)) -> u8 {
        let by_network =
            |network: Ipv4Addr| 32 - 8 * network.octets().iter().rev().take_while(|o| **o == 0).count() as u8;
        let prefix = own.or(self.mask).or(self.network.map(by_network)).unwrap_or(match ip.octets() {
            [10, ..] => 8,
            [172, 16..=31, ..] => 16,
            _ => 24,
        });
        if prefix == 0 { 32 } else { prefix }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::vars::Vars;
    use super::*;

    /// The NICs of a vnf with these variables, which must be free of problems.
    pub(in super::super) fn nics(variables: &[(&str, &str)]) -> Vec<Nic> {
        let vars = Vars::from_iter(variables.iter().copied());
        let mut reader = Reader::new(&vars, Some(Role::Vnf));
        let nics = read(&mut reader);
        assert_eq!(reader.finish().0, []);
        nics
    }

    fn prefix(variables: &[(&str, &str)]) -> u8 {
        nics(variables).first().unwrap().prefix
    }

    #[test]
    fn prefixes_follow_the_contract() {
        let ip = ("ETH0_IP", "10.1.2.3");
        assert_eq!(prefix(&[("ETH0_IP", "10.1.2.3/20"), ("ETH0_MASK", "255.255.0.0")]), 20);
        assert_eq!(prefix(&[ip, ("ETH0_MASK", "255.255.252.0"), ("ETH0_NETWORK", "10.0.0.0")]), 22);
        assert_eq!(prefix(&[ip, ("ETH0_NETWORK", "10.1.0.0")]), 16);
        assert_eq!(prefix(&[ip, ("ETH0_NETWORK", "10.1.2.128")]), 32);
        assert_eq!(prefix(&[ip, ("ETH0_NETWORK", "0.0.0.0")]), 32);
        assert_eq!(prefix(&[ip, ("ETH0_MASK", "0.0.0.0")]), 32);
        assert_eq!(prefix(&[ip]), 8);
        assert_eq!(prefix(&[("ETH0_IP", "172.31.0.1")]), 16);
        assert_eq!(prefix(&[("ETH0_IP", "172.32.0.1")]), 24);
        assert_eq!(prefix(&[("ETH0_IP", "192.168.0.1")]), 24);
    }

    #[test]
    fn a_vip_takes_its_own_length_or_its_nics() {
        let nics = nics(&[
            ("ETH0_IP", "10.0.0.1"),
            ("ETH0_MASK", "255.255.0.0"),
            ("ONEAPP_VROUTER_ETH0_VIP0", "10.0.0.2"),
            ("ONEAPP_VROUTER_ETH0_VIP10", "10.0.0.3/32"),
            ("ONEAPP_VROUTER_ETH0_VIP2", ""),
            ("ETH0_VROUTER_IP", "10.0.0.9"),
        ]);
        let vips: Vec<_> = nics[0].vips.iter().map(|(n, ip, len)| format!("{n}: {ip}/{len}")).collect();
        assert_eq!(vips, ["0: 10.0.0.2/16", "10: 10.0.0.3/32"]);
    }

    #[test]
    fn a_nic_is_known_by_its_mac_its_address_or_on_vnf_its_vip() {
        let variables = [
            ("ETH0_MAC", "02:00:0A:00:00:01"),
            ("ETH1_IP", ""),
            ("ETH2_ALIAS0_IP", "10.0.0.9"),
            ("ETH3_MASK", "255.0.0.0"),
            ("ETH04_IP", "10.0.0.4"),
            ("ETH300_IP", "10.0.0.4"),
            ("ONEAPP_VROUTER_ETH5_VIP0", "10.0.0.5"),
        ];
        let found: Vec<u8> = nics(&variables).iter().map(|nic| nic.index).collect();
        assert_eq!(found, [0, 1, 5]);
        assert_eq!(nics(&variables)[0].mac, "02:00:0a:00:00:01");
        let vars = Vars::from_iter(variables);
        let found = read(&mut Reader::new(&vars, Some(Role::Master)));
        assert_eq!(found.len(), 2);
    }
}
