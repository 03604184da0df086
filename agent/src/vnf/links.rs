//! Which kernel interface is which `ethX` of the context: the NIC's MAC decides, as the kernel's numbering may differ.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::context::Nic;
use crate::context::vnf::VrrpConfig;
use crate::facts::Link;

/// Kernel names by the x of `ethX`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Names(BTreeMap<u8, String>);

impl Names {
    /// Finds each NIC by its MAC, else by its name.
    pub fn find(nics: &[Nic], links: &[Link]) -> Self {
        let by_mac = |nic: &&Nic| links.iter().find(|link| !nic.mac.is_empty() && link.mac == nic.mac);
        Self(nics.iter().filter_map(|nic| Some((nic.index, by_mac(&nic)?.name.clone()))).collect())
    }

    /// The name to write into configurations.
    pub fn of(&self, index: u8) -> String {
        self.0.get(&index).cloned().unwrap_or_else(|| format!("eth{index}"))
    }

    /// The link itself.
    pub fn link<'a>(&self, index: u8, links: &'a [Link]) -> Option<&'a Link> {
        let name = self.of(index);
        links.iter().find(|link| link.name == name)
    }
}

/// Addresses of the context that the VM lacks, with where they are expected.
pub fn astray(nics: &[Nic], names: &Names, links: &[Link]) -> Vec<String> {
    let fault = |nic: &Nic| {
        let (ip, name) = (nic.ip?, names.of(nic.index));
        let found = match names.link(nic.index, links) {
            Some(link) if link.addresses.iter().any(|(has, _)| *has == IpAddr::V4(ip)) => return None,
            Some(link) => {
                let v4 = link.addresses.iter().filter(|(has, _)| has.is_ipv4());
                let all: Vec<String> = v4.map(|(has, _)| has.to_string()).collect();
                if all.is_empty() {
                    "which has no address".into()
                } else {
                    format!("which has {}", all.join(" "))
                }
            }
            None => "which is not there".to_owned(),
        };
        Some(format!("ETH{}_IP=\"{ip}\": expected on {name}, {found}", nic.index))
    };
    nics.iter().filter_map(fault).collect()
}

/// The virtual addresses that this VM holds now, as `10.0.0.100 (ETH1)`, in the configuration's order.
pub fn held(config: &VrrpConfig, links: &[Link]) -> Vec<String> {
    let here = |ip: IpAddr| links.iter().any(|link| link.addresses.iter().any(|(address, _)| *address == ip));
    config
        .instances
        .iter()
        .flat_map(|instance| instance.vips.iter().map(move |vip| (instance, vip.ip)))
        .filter(|(_, ip)| here(IpAddr::V4(*ip)))
        .map(|(instance, ip)| format!("{ip} ({})", instance.name()))
        .collect()
}
