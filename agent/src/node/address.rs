//! Which NIC a node takes into its cluster (`ONEAPP_K8S_NODE_NIC`), and so which addresses. A joined node keeps the
//! address that is pinned.

use std::net::IpAddr;

use crate::context::{Config, Nic, NodeNic};
use crate::plan::Condition;
use crate::service::VmNic;

/// The NIC: the one that is named, else the first with an address that no management is done over. `told` is what OneGate
/// says of this VM's NICs.
///
/// # Errors
/// Why there is none, as a condition for the operator.
pub fn nic<'a>(config: &'a Config, told: Option<&[VmNic]>) -> Result<&'a Nic, Condition> {
    let mut usable = config.nics.iter().filter(|nic| nic.ip.is_some());
    let found = match &config.node.node_nic {
        None => usable.find(|nic| !nic.management),
        Some(NodeNic::Index(index)) => usable.find(|nic| nic.index == *index),
        Some(NodeNic::Network(name)) => return in_network(config, name, told),
    };
    found.ok_or_else(|| {
        Condition::unmet(
            "IdentityKnown",
            "ContextIncomplete",
            "the context lacks an ETHx_IP for this node: set NETWORK=YES in the VM template's CONTEXT",
        )
    })
}

fn in_network<'a>(config: &'a Config, name: &str, told: Option<&[VmNic]>) -> Result<&'a Nic, Condition> {
    let kind = "IdentityKnown";
    let Some(told) = told else {
        let message = format!(
            "waiting for OneGate to tell the networks of this VM, for ONEAPP_K8S_NODE_NIC={name:?} names one"
        );
        return Err(Condition::unknown(kind, "OneGateSilent", message));
    };
    let own = |network: &VmNic| config.nics.iter().find(|nic| nic.mac == network.mac && nic.ip.is_some());
    let mut networks = told.iter().filter(|nic| !nic.alias);
    networks.clone().filter(|network| network.network == *name).find_map(own).ok_or_else(|| {
        let mut names: Vec<&str> =
            networks.by_ref().filter(|network| own(network).is_some()).map(|nic| nic.network.as_str()).collect();
        names.dedup();
        let message = format!(
            "ONEAPP_K8S_NODE_NIC={name:?}: expected a NIC such as 0 or eth0, or a network of this VM with an IPv4 address: {}",
            names.join(", ")
        );
        Condition::unmet(kind, "NoSuchNic", message)
    })
}

/// The IPv6 address beside `ip`, if the cluster has two families and the context, or OneGate, tells one.
pub fn second_ip(config: &Config, ip: IpAddr, told: Option<&[VmNic]>) -> Option<IpAddr> {
    let nic = config.nics.iter().find(|nic| nic.ip.is_some_and(|own| ip == own))?;
    let seen = || told?.iter().find(|seen| !seen.alias && seen.mac == nic.mac)?.ip6;
    nic.ip6.or_else(seen).map(IpAddr::V6).filter(|_| config.node.is_dual_stack())
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;

    /// eth0 in `public`, eth1 in `private`, eth2 for management.
    fn config(node_nic: Option<NodeNic>) -> (Config, Vec<VmNic>) {
        let mut config = fixture::config();
        let mut told = Vec::new();
        for (index, network) in [(0u8, "public"), (1, "private"), (2, "admin")] {
            let mac = format!("02:00:00:00:00:0{index}");
            let ip = Some([10, index, 0, 1].into());
            let nic = Nic { index, mac: mac.clone(), ip, management: index == 0, ..config.nics[0].clone() };
            config.nics.push(nic);
            told.push(VmNic { mac, network: network.into(), ..VmNic::default() });
        }
        config.nics.remove(0);
        config.node.node_nic = node_nic;
        (config, told)
    }

    #[track_caller]
    fn check(node_nic: Option<NodeNic>, expected: Result<&str, &str>) {
        let (config, told) = config(node_nic);
        let found = nic(&config, Some(&told)).map(Nic::name).map_err(|condition| condition.message);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn a_nic_is_chosen_by_rule_index_or_network() {
        check(None, Ok("eth1"));
        check(Some(NodeNic::Index(0)), Ok("eth0"));
        check(Some(NodeNic::Network("admin".into())), Ok("eth2"));
        check(
            Some(NodeNic::Network("none".into())),
            Err(
                "ONEAPP_K8S_NODE_NIC=\"none\": expected a NIC such as 0 or eth0, or a network of this VM with an IPv4 address: public, private, admin",
            ),
        );
    }

    #[test]
    fn a_network_is_not_guessed_while_onegate_is_silent() {
        let (config, _) = config(Some(NodeNic::Network("admin".into())));
        assert_eq!(nic(&config, None).unwrap_err().status, crate::plan::Status::Unknown);
    }

    #[test]
    fn the_second_address_is_for_two_families_alone() {
        let (mut config, mut told) = config(None);
        told[1].ip6 = Some("fd00::2".parse().unwrap());
        let ip: IpAddr = [10, 1, 0, 1].into();
        assert_eq!(second_ip(&config, ip, Some(&told)), None);
        config.node.cluster_cidr.push("fd42::/56".parse().unwrap());
        assert_eq!(second_ip(&config, ip, Some(&told)), Some("fd00::2".parse().unwrap()));
        config.nics[1].ip6 = Some("fd00::1".parse().unwrap());
        assert_eq!(second_ip(&config, ip, None), Some("fd00::1".parse().unwrap()));
        assert_eq!(second_ip(&config, [10, 2, 0, 1].into(), Some(&told)), None);
    }
}
