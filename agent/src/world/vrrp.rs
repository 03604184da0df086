//! VRRP's state, seen from what it does: who holds the virtual addresses.
//!
//! Keepalived tells transitions only to who listens at that moment, and dumps its state into a file of /tmp on a
//! signal. The addresses on the links are the state itself: they are right after a restart of the agent, or of
//! Keepalived, and cost one system call.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::facts::{Link, VrrpState};

/// Where Keepalived's configuration is.
pub const CONFIGURATION: &str = "/etc/keepalived/keepalived.conf";

/// A VRRP instance as `keepalived.conf` describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Instance {
    interface: String,
    addresses: Vec<IpAddr>,
}

/// The state of every instance of this configuration, while Keepalived runs.
pub fn states(configuration: &str, links: &[Link]) -> BTreeMap<String, VrrpState> {
    instances(configuration).into_iter().map(|(name, instance)| (name, state(&instance, links))).collect()
}

/// Holding any address is being master: while they move, both nodes are asked about what they have.
fn state(instance: &Instance, links: &[Link]) -> VrrpState {
    let holds = |ip: &IpAddr| links.iter().any(|link| link.addresses.iter().any(|(has, _)| has == ip));
    if instance.addresses.iter().any(holds) {
        return VrrpState::Master;
    }
    match links.iter().find(|link| link.name == instance.interface) {
        Some(link) if link.running && speaks(link) => VrrpState::Backup,
        // Keepalived itself puts an instance into FAULT when its interface is down or gone, or has no IPv4 address.
        Some(_) | None => VrrpState::Fault,
    }
}

fn speaks(link: &Link) -> bool {
    link.addresses.iter().any(|(ip, _)| ip.is_ipv4())
}

/// Reads names, interfaces and virtual addresses; everything else is skipped.
fn instances(configuration: &str) -> BTreeMap<String, Instance> {
    let mut found: BTreeMap<String, Instance> = BTreeMap::new();
    let mut current: Option<String> = None;
    // The names of the blocks around this line.
    let mut blocks: Vec<String> = Vec::new();
    for line in configuration.lines() {
        let line = line.split(['#', '!']).next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["}"] => {
                blocks.pop();
                if blocks.is_empty() {
                    current = None;
                }
            }
            [.., "{"] => {
                if let ["vrrp_instance", name, "{"] = words.as_slice() {
                    current = Some((*name).to_owned());
                    found.insert((*name).to_owned(), Instance::default());
                }
                blocks.push(words[0].to_owned());
            }
            _ => {
                let instance = current.as_ref().and_then(|name| found.get_mut(name));
                if let Some(instance) = instance {
                    within(instance, &blocks, &words);
                }
            }
        }
    }
    found
}

fn within(instance: &mut Instance, blocks: &[String], words: &[&str]) {
    match (blocks, words) {
        ([_], ["interface", name]) => instance.interface = (*name).to_owned(),
        ([_, block], [address, ..]) if block == "virtual_ipaddress" => {
            let address = address.split('/').next().unwrap_or_default();
            instance.addresses.extend(address.parse::<IpAddr>().ok()); // a name cannot be compared: skipped
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "
global_defs {
    router_id vnf # not a VIP
}
vrrp_sync_group VRouter {
    group {
        ETH0
    }
}
vrrp_instance ETH0 {
    interface eth0
    virtual_router_id 1
    virtual_ipaddress {
        10.0.0.5/24 dev eth0
        10.0.0.6/24 dev eth0
    }
    virtual_ipaddress_excluded {
        10.0.0.7
    }
}
vrrp_instance ETH1 {
    interface eth1
    virtual_ipaddress {
        172.20.0.1/24
    }
}
";

    fn link(name: &str, running: bool, address: &str) -> Link {
        let addresses = vec![(address.parse().unwrap(), 24)];
        Link { name: name.into(), mac: String::new(), running, addresses }
    }

    fn check(links: &[Link], eth0: VrrpState, eth1: VrrpState) {
        let expected = BTreeMap::from([("ETH0".to_owned(), eth0), ("ETH1".to_owned(), eth1)]);
        assert_eq!(states(CONF, links), expected);
    }

    #[test]
    fn who_holds_an_address_is_master() {
        use VrrpState::{Backup, Fault, Master};
        let eth1 = link("eth1", true, "172.20.0.9");
        check(&[link("eth0", true, "10.0.0.6"), eth1.clone()], Master, Backup);
        check(&[link("eth0", true, "10.0.0.7"), eth1.clone()], Backup, Backup);
        check(&[link("eth0", false, "10.0.0.2"), eth1], Fault, Backup);
        check(&[link("eth0", true, "10.0.0.2")], Backup, Fault);
        check(&[link("eth0", true, "fe80::1")], Fault, Fault);
    }
}
