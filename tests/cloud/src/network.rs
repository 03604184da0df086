//! Virtual networks: one range of addresses each, leased lowest first.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::id::VmId;

/// A virtual network with one IPv4 range.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// What users call it: `private`.
    pub name: String,
    /// First address of the range.
    pub first: Ipv4Addr,
    /// How many addresses the range has.
    pub size: u32,
    /// `NETWORK_ADDRESS`.
    pub address: Ipv4Addr,
    /// `NETWORK_MASK`.
    pub mask: Ipv4Addr,
    /// `GATEWAY`; OneKE's private network has none.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// `DNS`: addresses with a blank between them, or nothing.
    #[serde(default)]
    pub dns: String,
    /// The bridge on the host.
    #[serde(default)]
    pub bridge: String,
    /// Whether addresses of this network are reached from outside only (`EXTERNAL=YES`).
    #[serde(default)]
    pub external: bool,
    /// Dual stack: prefixes of 64 bits.
    #[serde(default)]
    pub ipv6: Option<Ipv6Prefixes>,
}

/// The IPv6 side of a dual-stack range; interface identifiers come from the MAC.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Ipv6Prefixes {
    /// `GLOBAL_PREFIX`.
    pub global: Ipv6Addr,
    /// `ULA_PREFIX`.
    pub local: Ipv6Addr,
    /// `IP6_GATEWAY`.
    pub gateway: Ipv6Addr,
}

/// Who holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A NIC of this VM.
    Vm(VmId),
    /// The floating address of this virtual router.
    VirtualRouter(u32),
}

/// A network as the cloud keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub id: u32,
    pub spec: NetworkSpec,
    pub leases: BTreeMap<Ipv4Addr, Holder>,
    /// Index of the next address that was never leased.
    pub next: u32,
}

impl Network {
    pub fn new(id: u32, spec: NetworkSpec) -> Self {
        Self { id, spec, leases: BTreeMap::new(), next: 0 }
    }

    /// Leases an address: with `reuse` the lowest free one, else the lowest that was never used.
    /// None when the range is exhausted.
    pub fn lease(&mut self, holder: Holder, reuse: bool) -> Option<Ipv4Addr> {
        let start = if reuse { 0 } else { self.next };
        let (index, address) = (start..self.spec.size)
            .map(|index| (index, Ipv4Addr::from(u32::from(self.spec.first) + index)))
            .find(|(_, address)| !self.leases.contains_key(address))?;
        self.next = self.next.max(index + 1);
        self.leases.insert(address, holder);
        Some(address)
    }

    /// Gives back every address that the VM held.
    pub fn release(&mut self, vm: VmId) {
        self.leases.retain(|_, holder| *holder != Holder::Vm(vm));
    }
}

/// A NIC or a NIC alias of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// `NIC0`, `_NIC0` when the template itself calls it `NIC0`, or the template's own name.
    pub name: String,
    /// The network's number.
    pub network_id: u32,
    /// The network's name.
    pub network: String,
    /// Its leased address.
    pub ip: Ipv4Addr,
    /// 02:00 and the four bytes of the address.
    pub mac: String,
    /// Global and link-local IPv6 addresses, on dual-stack networks.
    pub ipv6: Option<NicIpv6>,
    /// The floating address, on NICs of a virtual router that has one.
    pub vrouter_ip: Option<Ipv4Addr>,
    /// For an alias: the NIC it sits on.
    pub parent: Option<String>,
}

/// The IPv6 addresses of a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicIpv6 {
    /// From the network's global prefix.
    pub global: Ipv6Addr,
    /// From the network's unique-local prefix.
    pub local: Ipv6Addr,
    /// `fe80::/64`.
    pub link: Ipv6Addr,
}

/// oned's default MAC: prefix 02:00, then the address.
pub(crate) fn mac(ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Addresses made of a prefix and the MAC's EUI-64 (RFC 4291, appendix A).
pub(crate) fn ipv6(prefixes: Ipv6Prefixes, ip: Ipv4Addr) -> NicIpv6 {
    let [a, b, c, d] = ip.octets().map(u128::from);
    // 02:00 with its universal bit inverted is 00:00; ff:fe goes into the middle.
    let interface = (a << 40) | (0xfffe << 24) | (b << 16) | (c << 8) | d;
    let join = |prefix: Ipv6Addr| Ipv6Addr::from((u128::from(prefix) >> 64 << 64) | interface);
    NicIpv6 {
        global: join(prefixes.global),
        local: join(prefixes.local),
        link: join(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> NetworkSpec {
        NetworkSpec {
            name: "private".into(),
            first: [10, 0, 0, 10].into(),
            size: 3,
            address: [10, 0, 0, 0].into(),
            mask: [255, 255, 255, 0].into(),
            gateway: None,
            dns: String::new(),
            bridge: "br0".into(),
            external: false,
            ipv6: None,
        }
    }

    #[test]
    fn a_freed_address_comes_back_only_when_reuse_is_asked_for() {
        let mut network = Network::new(0, spec());
        let mut lease = |vm, reuse, free: Option<u32>| {
            if let Some(vm) = free {
                network.release(VmId(vm));
            }
            network.lease(Holder::Vm(VmId(vm)), reuse).map(|ip| ip.octets()[3])
        };
        assert_eq!(lease(1, false, None), Some(10));
        assert_eq!(lease(2, false, Some(1)), Some(11));
        assert_eq!(lease(3, true, None), Some(10));
        assert_eq!(lease(4, false, None), Some(12));
        assert_eq!(lease(5, true, None), None);
    }

    #[test]
    fn addresses_of_a_mac() {
        let prefixes = Ipv6Prefixes {
            global: "2001:db8:1::".parse().unwrap(),
            local: "fd00:1::".parse().unwrap(),
            gateway: "2001:db8:1::1".parse().unwrap(),
        };
        let ip = Ipv4Addr::new(192, 0, 2, 10);
        assert_eq!(mac(ip), "02:00:c0:00:02:0a");
        assert_eq!(ipv6(prefixes, ip).global.to_string(), "2001:db8:1::c0ff:fe00:20a");
    }
}
