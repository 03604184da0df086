//! Values that are each right and do not go together on a node. What can be seen without the add-ons and the node's
//! place in the cluster is already refused where the context is read.

use std::net::IpAddr;

use ipnet::IpNet;

use super::addons;
use super::yaml::Yaml;
use crate::context::{Config, Nic, NodeConfig, Problem, Warning};

/// Every contradiction.
pub fn conflicts(config: &Config) -> Vec<Problem> {
    let (node, nics) = (&config.node, &config.nics[..]);
    let mut problems = Vec::new();
    problems.extend(addons::missing(config).into_iter().map(|(name, addon)| Problem {
        variable: name.into(),
        value: String::new(),
        expected: format!("expected a value, for {addon} is enabled and needs it"),
    }));
    if node.cloud_controller && node.addons.get("ONEAPP_K8S_CCM_ENABLED") == Some(&Yaml::Flag(true)) {
        problems.push(Problem {
            variable: "ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED".into(),
            value: "YES".into(),
            expected: "expected NO, for ONEAPP_K8S_CCM_ENABLED is YES: a cluster has one cloud controller"
                .into(),
        });
    }
    if node.cni != "none" && node.addons.get("ONEAPP_K8S_KUBE_OVN_ENABLED") == Some(&Yaml::Flag(true)) {
        problems.push(Problem {
            variable: "ONEAPP_K8S_CNI_PLUGIN".into(),
            value: node.cni.clone(),
            expected: "expected none, for ONEAPP_K8S_KUBE_OVN_ENABLED is YES: a cluster has one network"
                .into(),
        });
    }
    let taken = taken(node, nics);
    if node.cilium_bgp && node.cni == "cilium" && node.cni_config.is_none() {
        let ranges = node.cilium_ranges.iter();
        let inside = ranges.filter_map(|range| Some((range, overlapping(range, node)?)));
        problems.extend(inside.map(|(range, (name, network))| Problem {
            variable: "ONEAPP_K8S_CILIUM_RANGE".into(),
            value: range.to_string(),
            expected: format!("expected a network apart from {name}={network}"),
        }));
    }
    for (name, networks) in cluster_networks(node) {
        for (what, ip) in &taken {
            if let Some(network) = networks.iter().find(|network| network.contains(ip)) {
                problems.push(Problem {
                    variable: name.into(),
                    value: network.to_string(),
                    expected: format!("expected a network without {ip}, {what}"),
                });
            }
        }
    }
    problems
}

/// Addresses in MetalLB's ranges that something else has: all goes well until a Service gets one.
pub fn overlaps(config: &Config) -> Vec<Warning> {
    let node = &config.node;
    let ranges = if node.metallb && node.metallb_config.is_none() { &node.metallb_ranges[..] } else { &[] };
    let taken = taken(node, &config.nics);
    let inside = |(first, last): &(IpAddr, IpAddr), ip: &IpAddr| {
        ip.is_ipv4() == first.is_ipv4() && (first..=last).contains(&ip)
    };
    let found =
        ranges.iter().filter_map(|range| Some((range, taken.iter().find(|(_, ip)| inside(range, ip))?)));
    found
        .map(|((first, last), (what, ip))| Warning {
            variable: "ONEAPP_K8S_METALLB_RANGE".into(),
            message: format!("{first}-{last} holds {ip}, {what}: a Service that gets it takes it away"),
        })
        .collect()
}

/// Addresses that this node knows to be in use, and whose they are.
fn taken(node: &NodeConfig, nics: &[Nic]) -> Vec<(String, IpAddr)> {
    let mut taken: Vec<(String, IpAddr)> = Vec::new();
    let vips = [("ONEAPP_VROUTER_ETH0_VIP0", node.eth0_vip0), ("ONEAPP_VROUTER_ETH1_VIP0", node.eth1_vip0)];
    taken.extend(
        vips.into_iter().filter_map(|(name, ip)| Some((format!("the address of {name}"), ip?.into()))),
    );
    for nic in nics {
        let own = [nic.ip.map(IpAddr::V4), nic.ip6.map(IpAddr::V6)].into_iter().flatten();
        taken.extend(own.map(|ip| (format!("this VM's own address on {}", nic.name()), ip)));
        taken.extend(nic.gateway.map(|ip| (format!("the gateway of {}", nic.name()), ip.into())));
        let vip =
            |(n, ip, _): &(u8, _, u8)| (format!("virtual address {n} of {}", nic.name()), IpAddr::V4(*ip));
        taken.extend(nic.vips.iter().map(vip));
    }
    taken.sort_by_key(|(_, ip)| *ip);
    taken.dedup_by_key(|(_, ip)| *ip);
    taken
}

fn cluster_networks(node: &NodeConfig) -> [(&'static str, &[IpNet]); 2] {
    [("ONEAPP_K8S_CLUSTER_CIDR", &node.cluster_cidr), ("ONEAPP_K8S_SERVICE_CIDR", &node.service_cidr)]
}

fn overlapping<'a>(range: &IpNet, node: &'a NodeConfig) -> Option<(&'static str, &'a IpNet)> {
    cluster_networks(node).into_iter().find_map(|(name, networks)| {
        networks
            .iter()
            .find(|network| network.contains(range) || range.contains(*network))
            .map(|network| (name, network))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::config;
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut NodeConfig, &mut Nic), expected: &[&str]) {
        let mut config = config();
        change(&mut config.node, &mut config.nics[0]);
        let problems: Vec<String> = conflicts(&config).iter().map(ToString::to_string).collect();
        assert_eq!(problems, expected);
    }

    #[test]
    fn the_default_service_has_none() {
        check(|_, _| {}, &[]);
    }

    #[test]
    fn pools_that_hold_an_address_in_use_are_told() {
        let range = |first: &str, last: &str| (first.parse().unwrap(), last.parse().unwrap());
        let pool = |node: &mut NodeConfig| {
            node.metallb = true;
            node.metallb_ranges = vec![
                range("172.20.0.80", "172.20.0.90"),
                range("172.20.0.100", "172.20.0.100"),
                range("172.20.0.200", "172.20.0.220"),
                range("fd00::1", "fd00::9"),
            ];
        };
        let mut config = config();
        pool(&mut config.node);
        let told: Vec<String> = overlaps(&config).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "ONEAPP_K8S_METALLB_RANGE: 172.20.0.80-172.20.0.90 holds 172.20.0.86, the address of ONEAPP_VROUTER_ETH1_VIP0: a Service that gets it takes it away",
                "ONEAPP_K8S_METALLB_RANGE: 172.20.0.100-172.20.0.100 holds 172.20.0.100, this VM's own address on eth0: a Service that gets it takes it away",
            ]
        );
        config.node.metallb_config = Some("own".into());
        assert_eq!(overlaps(&config), []);
    }

    #[test]
    fn the_clusters_networks_are_its_own() {
        check(
            |node, nic| {
                node.cluster_cidr = vec!["172.20.0.0/16".parse().unwrap()];
                nic.gateway = Some([10, 43, 0, 1].into());
                node.eth1_vip0 = None;
                node.eth0_vip0 = None;
            },
            &[
                "ONEAPP_K8S_CLUSTER_CIDR=\"172.20.0.0/16\": expected a network without 172.20.0.100, this VM's own address on eth0",
                "ONEAPP_K8S_SERVICE_CIDR=\"10.43.0.0/16\": expected a network without 10.43.0.1, the gateway of eth0",
            ],
        );
        check(
            |node, _| {
                node.cilium_bgp = true;
                node.cilium_ranges = vec!["10.42.7.0/24".parse().unwrap(), "10.50.0.0/16".parse().unwrap()];
            },
            &[
                "ONEAPP_K8S_CILIUM_RANGE=\"10.42.7.0/24\": expected a network apart from ONEAPP_K8S_CLUSTER_CIDR=10.42.0.0/16",
            ],
        );
    }
}
