//! How RKE2's packaged networks are tuned: one HelmChartConfig per chart, or the user's own text in its place.

use super::yaml::{Map, Yaml, document, map, stream};
use super::{Pinned, Shape, chart_config, manifest};
use crate::context::Config;
use crate::plan::FileSpec;

/// What VXLAN takes from a packet; the encapsulation of canal and calico in RKE2's charts.
const VXLAN_OVERHEAD: u32 = 50;

/// The manifests of the network, for servers.
pub(super) fn manifests(config: &Config, pinned: &Pinned, shape: &Shape) -> Vec<FileSpec> {
    let node = &config.node;
    let mut files = Vec::new();
    if node.multus {
        let generated = || document(&chart_config("rke2-multus", &multus()));
        files.push(manifest("rke2-multus-config", node.multus_config.clone().unwrap_or_else(generated)));
    }
    let name = format!("rke2-{}-config", node.cni);
    if let Some(own) = &node.cni_config {
        files.push(manifest(&name, own.clone()));
    } else if let Some(text) = generated(config, pinned, shape) {
        files.push(manifest(&name, text));
    }
    files
}

fn generated(config: &Config, pinned: &Pinned, shape: &Shape) -> Option<String> {
    let mtu = mtu(config, pinned);
    match config.node.cni.as_str() {
        "cilium" => {
            let mut documents = vec![chart_config("rke2-cilium", &cilium(config, mtu, shape))];
            documents.extend(pool(config));
            Some(stream(&documents))
        }
        "canal" => mtu.map(|mtu| {
            let values = map([("calico", [("vethuMTU", mtu.saturating_sub(VXLAN_OVERHEAD).into())].into())]);
            document(&chart_config("rke2-canal", &values))
        }),
        "calico" => mtu.map(|mtu| {
            let network = [("mtu", mtu.saturating_sub(VXLAN_OVERHEAD).into())].into();
            let values = map([("installation", [("calicoNetwork", network)].into())]);
            document(&chart_config("rke2-calico", &values))
        }),
        // Flannel takes its links' own MTU; `none` has no chart.
        _ => None,
    }
}

/// The MTU that the context gives to the NIC of the node's address.
fn mtu(config: &Config, pinned: &Pinned) -> Option<u32> {
    config.nics.iter().find(|nic| nic.ip.is_some_and(|ip| pinned.ip == ip)).and_then(|nic| nic.mtu)
}

fn cilium(config: &Config, mtu: Option<u32>, shape: &Shape) -> Map {
    // Each RKE2 node has the API on its own port 6443: servers the API itself, agents RKE2's balancer over all servers.
    // So Cilium, which must reach the API before any Service works, needs neither the vnf nor its name server.
    let mut values = map([
        ("kubeProxyReplacement", true.into()),
        ("k8sServiceHost", "localhost".into()),
        ("k8sServicePort", 6443.into()),
    ]);
    let mut set = |key: &str, value: Yaml| values.push((key.to_owned(), value));
    if shape.is_single_node() {
        // Two by default, never on the same node: one would be pending for ever.
        set("operator", [("replicas", 1.into())].into());
    }
    if let Some(mtu) = mtu {
        // The device's MTU: Cilium itself subtracts what its tunnel takes.
        set("MTU", mtu.into());
    }
    // In place of kube-proxy Cilium serves host ports itself, for which RKE2's chart chains `portmap`; and it leaves the
    // configuration of Multus, or of another plug-in, where it is.
    set("cni", [("chainingMode", "none".into()), ("exclusive", false.into())].into());
    if config.node.cilium_bgp {
        set("bgpControlPlane", [("enabled", true.into())].into());
    }
    values
}

/// The addresses that Cilium gives to LoadBalancer Services.
fn pool(config: &Config) -> Option<Map> {
    let ranges = &config.node.cilium_ranges;
    if !config.node.cilium_bgp || ranges.is_empty() {
        return None;
    }
    let block = |range: &ipnet::IpNet| Yaml::from([("cidr", range.trunc().to_string().into())]);
    Some(map([
        // v2 is served since Cilium 1.18 (RKE2 1.33.4), v2alpha1 no longer from 1.20 on; cluster-wide.
        ("apiVersion", "cilium.io/v2".into()),
        ("kind", "CiliumLoadBalancerIPPool".into()),
        ("metadata", [("name", "default".into())].into()),
        // The first and the last address of a network may be taken for its own and its broadcast address.
        (
            "spec",
            [("blocks", Yaml::List(ranges.iter().map(block).collect())), ("allowFirstLastIPs", "No".into())]
                .into(),
        ),
    ]))
}

fn multus() -> Map {
    map([("rke2-whereabouts", [("enabled", true.into())].into())])
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, pinned, shape, text};
    use super::*;

    fn texts(config: &Config) -> Vec<FileSpec> {
        manifests(config, &pinned(), &shape(3, 2, 0))
    }

    #[test]
    fn cilium_with_bgp_pools_and_multus() {
        let mut config = config();
        config.nics[0].mtu = Some(9000);
        config.node.multus = true;
        config.node.cilium_bgp = true;
        config.node.cilium_ranges = vec!["10.2.12.7/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        let files = texts(&config);
        let expected = r#"apiVersion: "helm.cattle.io/v1"
kind: "HelmChartConfig"
metadata:
  name: "rke2-cilium"
  namespace: "kube-system"
spec:
  valuesContent: |
    kubeProxyReplacement: true
    k8sServiceHost: "localhost"
    k8sServicePort: 6443
    MTU: 9000
    cni:
      chainingMode: "none"
      exclusive: false
    bgpControlPlane:
      enabled: true
---
apiVersion: "cilium.io/v2"
kind: "CiliumLoadBalancerIPPool"
metadata:
  name: "default"
spec:
  blocks:
    - cidr: "10.2.12.0/24"
    - cidr: "fd00:1::/64"
  allowFirstLastIPs: "No"
"#;
        assert_eq!(text(&files, "/rke2-cilium-config.yaml"), expected);
        assert!(
            text(&files, "/rke2-multus-config.yaml").contains("    rke2-whereabouts:\n      enabled: true\n")
        );
    }

    #[test]
    fn a_lone_node_needs_one_operator() {
        let alone = manifests(&config(), &pinned(), &shape(1, 0, 0));
        assert!(text(&alone, "cilium-config.yaml").contains("operator:\n      replicas: 1\n"));
        assert!(!text(&texts(&config()), "cilium-config.yaml").contains("operator"));
    }

    #[test]
    fn ranges_without_bgp_make_no_pool() {
        let mut config = config();
        config.node.cilium_ranges = vec!["10.2.12.0/24".parse().unwrap()];
        assert!(!text(&texts(&config), "cilium-config.yaml").contains("Pool"));
    }

    #[test]
    fn an_override_replaces_what_we_would_write() {
        let mut config = config();
        config.node.cni_config = Some("own: 1\n".into());
        config.node.multus = true;
        config.node.multus_config = Some("own: 2\n".into());
        let files = texts(&config);
        assert_eq!(text(&files, "/rke2-cilium-config.yaml"), "own: 1\n");
        assert_eq!(text(&files, "/rke2-multus-config.yaml"), "own: 2\n");
    }

    #[test]
    fn tunnels_fit_into_the_nic() {
        let mut config = config();
        config.nics[0].mtu = Some(1450);
        config.node.cni = "canal".into();
        assert!(text(&texts(&config), "rke2-canal-config.yaml").contains("vethuMTU: 1400\n"));
        config.node.cni = "calico".into();
        assert!(text(&texts(&config), "rke2-calico-config.yaml").contains("      mtu: 1400\n"));
        for plain in ["flannel", "none"] {
            config.node.cni = plain.into();
            assert_eq!(texts(&config), []);
        }
        config.nics[0].mtu = None;
        config.node.cni = "canal".into();
        assert_eq!(texts(&config), []);
    }
}
