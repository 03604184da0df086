//! The enabled add-ons as manifests: the catalogue's data, filled in with the context's values and the service's shape.

use std::net::IpAddr;

use ipnet::IpNet;

use super::catalogue::{Addon, Device, Manifest, Workload, catalogue};
use super::template::{Values, filled};
use super::yaml::{Map, Yaml, document, map, stream};
use super::{MANIFESTS, Shape, chart_config, manifest, secret_manifest};
use crate::context::Config;
use crate::plan::FileSpec;
use crate::service::Role;

/// Where the image carries charts as manifests (`RELEASE.yaml`, a HelmChart with its `chartContent`) and the makers' own
/// manifests.
pub const SHIPPED: &str = "/opt/one-appliance/addons";

/// Longhorn's own default; more replicas than nodes with disks would leave every volume degraded.
const STORAGE_REPLICAS: u32 = 3;
/// Two of what serves requests, if two nodes can run them.
const SPREAD_REPLICAS: u32 = 2;

/// The manifests of all enabled add-ons, for servers.
pub(super) fn manifests(config: &Config, shape: &Shape) -> Vec<FileSpec> {
    let values = values(config, shape);
    enabled(&values).flat_map(|addon| files(addon, &values, config.node.airgapped)).collect()
}

/// What must be available in the cluster for all enabled add-ons to be healthy.
pub fn workloads(config: &Config) -> Vec<Workload> {
    let values = values(config, &Shape::default());
    enabled(&values).flat_map(|addon| addon.healthy.iter().cloned()).collect()
}

/// Variables that an enabled add-on cannot do without and that have no value, each with the add-on's name.
pub(super) fn missing(config: &Config) -> Vec<(&'static str, &'static str)> {
    let values = values(config, &Shape::default());
    let of = |addon: &'static Addon| addon.needs.iter().map(move |name| (addon, name.as_str()));
    let lacking = enabled(&values).flat_map(of).filter(|(_, name)| !values.contains_key(*name));
    lacking.map(|(addon, name)| (name, addon.name.as_str())).collect()
}

/// Manifests of an add-on that stand on a server although the context does not ask for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The add-on.
    pub addon: &'static str,
    /// What would ask for it again.
    pub enable: &'static [String],
    /// Where they may stand.
    pub paths: Vec<String>,
}

/// Every manifest of add-ons that a server may have once been given and that it would not be given now. What only tunes a
/// chart of RKE2's own does nothing without it, and is passed over.
pub fn leftovers(config: &Config) -> Vec<Leftover> {
    let mut wanted: Vec<String> =
        manifests(config, &Shape::default()).into_iter().map(|file| file.path).collect();
    wanted.extend(shipped(config).iter().map(|name| format!("{MANIFESTS}/{name}.yaml")));
    let unwanted = |addon: &'static Addon| {
        let paths = possible(addon).filter(|path| !wanted.contains(path)).collect();
        Leftover { addon: &addon.name, enable: &addon.enable, paths }
    };
    catalogue().iter().map(unwanted).filter(|leftover| !leftover.paths.is_empty()).collect()
}

/// Every manifest that an add-on may ever have.
fn possible(addon: &Addon) -> impl Iterator<Item = String> {
    let chart =
        addon.chart.iter().flat_map(|chart| [chart.release.clone(), format!("{}-values", chart.release)]);
    let manifests = addon.manifests.iter().map(|item| item.file.clone());
    let shipped = addon.shipped.iter().map(|item| item.file.clone());
    chart.chain(manifests).chain(shipped).map(|name| format!("{MANIFESTS}/{name}.yaml"))
}

/// Kernel modules that the enabled add-ons need on a node of this role.
pub(super) fn modules(config: &Config, role: &Role) -> Vec<&'static str> {
    let values = values(config, &Shape::default());
    let here = enabled(&values).filter(|addon| runs_on(addon, role));
    here.flat_map(|addon| addon.node.modules.iter().map(String::as_str)).collect()
}

/// What the enabled add-ons must find on a node of this role.
pub fn devices(config: &Config, role: &Role) -> impl Iterator<Item = &'static Device> {
    let values = values(config, &Shape::default());
    let here: Vec<&Addon> = enabled(&values).filter(|addon| runs_on(addon, role)).collect();
    let is_wanted = move |device: &&Device| !device.unless.iter().any(|name| is_on(&values, name));
    here.into_iter().flat_map(|addon| &addon.node.devices).filter(is_wanted)
}

/// Archives of images that a node of this role wants for its add-ons, without `.tar.zst`.
pub(super) fn archives(config: &Config, role: &Role) -> Vec<&'static str> {
    let values = values(config, &Shape::default());
    let here = enabled(&values).filter(|addon| runs_on(addon, role));
    here.map(|addon| addon.archive.as_deref().unwrap_or(&addon.name)).collect()
}

/// The manifests that servers take from the image, without `.yaml`: charts if nothing can be fetched, and all that is
/// not data here.
pub(super) fn shipped(config: &Config) -> Vec<&'static str> {
    let values = values(config, &Shape::default());
    enabled(&values)
        .flat_map(|addon| {
            let chart =
                addon.chart.iter().filter(|_| config.node.airgapped).map(|chart| chart.release.as_str());
            chart.chain(addon.shipped.iter().map(|shipped| shipped.file.as_str()))
        })
        .collect()
}

/// Arguments that the enabled add-ons want of every kubelet.
pub(super) fn kubelet(config: &Config) -> Vec<&'static str> {
    let values = values(config, &Shape::default());
    enabled(&values).flat_map(|addon| addon.node.kubelet.iter().map(String::as_str)).collect()
}

/// The values that the context and the service's shape give.
fn values(config: &Config, shape: &Shape) -> Values {
    let node = &config.node;
    let mut values = computed(config, shape);
    values.extend(node.addons.iter().map(|(name, value)| (name.to_owned(), value.clone())));
    let mut set = |name: &str, value: Yaml| values.insert(name.to_owned(), value);
    set("ONEAPP_K8S_LONGHORN_ENABLED", node.longhorn.into());
    set("ONEAPP_K8S_METALLB_ENABLED", node.metallb.into());
    set("ONEAPP_K8S_METALLB_CLASS", node.metallb_class.as_str().into());
    if let Some(text) = &node.metallb_config {
        set("ONEAPP_K8S_METALLB_CONFIG", text.as_str().into());
    }
    if !node.metallb_ranges.is_empty() {
        let ranges = node.metallb_ranges.iter().map(|(first, last)| format!("{first}-{last}"));
        set("ONEAPP_K8S_METALLB_RANGE", ranges.collect::<Vec<_>>().into());
    }
    set("ONEAPP_K8S_TRAEFIK_ENABLED", node.traefik.into());
    if let Some(vip) = node.eth0_vip0 {
        set("ONEAPP_VROUTER_ETH0_VIP0", vip.to_string().into());
    }
    values
}

/// What no variable says, in lower case.
fn computed(config: &Config, shape: &Shape) -> Values {
    let node = &config.node;
    let bounded = |nodes: Option<u32>, limit: u32| nodes.map_or(limit, |nodes| nodes.min(limit));
    let service = config.service.map_or("oneke".to_owned(), |service| format!("oneke-{service}"));
    let pairs = [
        ("null", Yaml::Null),
        ("storage_replicas", bounded(shape.with_disks(), STORAGE_REPLICAS).into()),
        ("spread_replicas", bounded(shape.schedulable(), SPREAD_REPLICAS).into()),
        ("https_node_port", node_port(node.lb[2].port, 443).into()),
        ("http_node_port", node_port(node.lb[3].port, 80).into()),
        ("cluster_name", service.into()),
        ("storage_directory", node.storage.mountpoint.as_str().into()),
        ("net_stack", net_stack(&node.cluster_cidr).into()),
        ("pod_cidr", joined(node.cluster_cidr.iter()).into()),
        ("pod_gateway", joined(node.cluster_cidr.iter().filter_map(gateway)).into()),
        ("service_cidr", joined(node.service_cidr.iter()).into()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Kube-OVN's word for the families of the pods' networks.
fn net_stack(networks: &[IpNet]) -> &'static str {
    match networks {
        [IpNet::V6(_)] => "ipv6",
        [_] | [] => "ipv4",
        [..] => "dual_stack",
    }
}

/// The first address of a network behind its own.
fn gateway(network: &IpNet) -> Option<IpAddr> {
    network.hosts().find(|ip| *ip != network.network())
}

fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// Where the ingress listens on each node: 32000 above the vnf's port, which is what workers publish (contract.md 1.1);
/// the usual port's if that is outside of Kubernetes' range (30000 to 32767).
fn node_port(port: u16, usual: u16) -> u32 {
    let above = 32_000 + u32::from(port);
    if above <= 32_767 { above } else { 32_000 + u32::from(usual) }
}

fn enabled(values: &Values) -> impl Iterator<Item = &'static Addon> {
    catalogue().iter().filter(|addon| addon.enable.iter().any(|name| is_on(values, name)))
}

/// A flag by YES, another variable by a value.
fn is_on(values: &Values, name: &str) -> bool {
    values.get(name).is_some_and(|value| *value != Yaml::Flag(false))
}

fn runs_on(addon: &Addon, role: &Role) -> bool {
    let role = if let Role::Worker(_) = role { "worker" } else { role.name() };
    addon.roles.iter().any(|name| name == role)
}

fn files(addon: &Addon, values: &Values, airgapped: bool) -> Vec<FileSpec> {
    let mut files = Vec::new();
    // A file with a secret in it is secret as a whole.
    let is_secret =
        addon.variables.iter().any(|variable| variable.secret && values.contains_key(&variable.name));
    let write = |name: &str, text| if is_secret { secret_manifest(name, text) } else { manifest(name, text) };
    if let Some(chart) = &addon.chart {
        if !airgapped {
            files.push(manifest(&chart.release, document(&helm_chart(chart))));
        }
        let config = chart_config(&chart.release, &filled(&chart.values, values));
        files.push(write(&format!("{}-values", chart.release), document(&config)));
    }
    if let Some(packaged) = &addon.packaged {
        let config = chart_config(&packaged.chart, &filled(&packaged.values, values));
        files.push(write(&format!("{}-config", packaged.chart), document(&config)));
    }
    files.extend(addon.manifests.iter().filter_map(|item| Some(write(&item.file, text(item, values)?))));
    files
}

fn helm_chart(chart: &super::catalogue::Chart) -> Map {
    let mut spec = map([
        ("repo", chart.repo.as_str().into()),
        ("chart", chart.chart.as_str().into()),
        ("version", chart.version.as_str().into()),
        ("targetNamespace", chart.namespace.as_str().into()),
        ("createNamespace", true.into()),
    ]);
    if chart.bootstrap {
        // The job that installs it runs on a server's own network and tolerates a node without one.
        spec.push(("bootstrap".into(), true.into()));
    }
    // RKE2 writes the cluster's settings into every HelmChart that it finds at its start: the file would no longer be ours,
    // be written again, and the chart be installed anew each time (RKE2, pkg/bootstrap, rewriteChart).
    let annotations = [("rke2.cattle.io/inject-cluster-config", "false".into())];
    let metadata: [(&str, Yaml); 3] = [
        ("name", chart.release.as_str().into()),
        ("namespace", "kube-system".into()),
        ("annotations", annotations.into()),
    ];
    map([
        ("apiVersion", "helm.cattle.io/v1".into()),
        ("kind", "HelmChart".into()),
        ("metadata", metadata.into()),
        ("spec", Yaml::Map(spec)),
    ])
}

/// A manifest's text; `None` if it is not wanted.
fn text(manifest: &Manifest, values: &Values) -> Option<String> {
    if let Some(Yaml::Text(own)) = manifest.replaced_by.as_ref().and_then(|name| values.get(name)) {
        return Some(own.clone());
    }
    if manifest.needs.as_ref().is_some_and(|name| !values.contains_key(name)) {
        return None;
    }
    Some(stream(&manifest.documents.iter().map(|table| filled(table, values)).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, shape, text};
    use super::*;
    use crate::context::NodeConfig;

    fn rendered(change: impl FnOnce(&mut NodeConfig), shape: Shape) -> Vec<FileSpec> {
        let mut config = config();
        change(&mut config.node);
        manifests(&config, &shape)
    }

    #[test]
    fn nothing_is_installed_unasked() {
        assert_eq!(rendered(|_| {}, shape(3, 2, 1)), []);
        assert_eq!(workloads(&config()), []);
    }

    #[test]
    fn metallb_takes_class_and_ranges_at_run_time() {
        let files = rendered(
            |node| {
                node.metallb = true;
                node.metallb_class = "mine".into();
                node.metallb_ranges = vec![
                    ("172.20.0.90".parse().unwrap(), "172.20.0.95".parse().unwrap()),
                    ("fd00::1".parse().unwrap(), "fd00::1".parse().unwrap()),
                ];
            },
            shape(1, 1, 0),
        );
        let chart = r#"apiVersion: "helm.cattle.io/v1"
kind: "HelmChart"
metadata:
  name: "one-metallb"
  namespace: "kube-system"
  annotations:
    rke2.cattle.io/inject-cluster-config: "false"
spec:
  repo: "https://metallb.github.io/metallb"
  chart: "metallb"
  version: "0.15.2"
  targetNamespace: "metallb-system"
  createNamespace: true
"#;
        assert_eq!(text(&files, "/one-metallb.yaml"), chart);
        assert!(text(&files, "/one-metallb-values.yaml").contains("loadBalancerClass: \"mine\"\n"));
        let config = text(&files, "/one-metallb-config.yaml");
        assert!(
            config.contains("    - \"172.20.0.90-172.20.0.95\"\n    - \"fd00::1-fd00::1\"\n"),
            "{config}"
        );
        assert!(config.contains("\n---\n") && config.contains("L2Advertisement"), "{config}");
    }

    #[test]
    fn metallb_without_ranges_waits_for_the_users_own_pools() {
        let files = rendered(|node| node.metallb = true, shape(1, 1, 0));
        assert!(!files.iter().any(|file| file.path.contains("config")), "{files:?}");
        let own = |node: &mut NodeConfig| {
            node.metallb = true;
            node.metallb_config = Some("kind: BGPPeer\n".into());
        };
        let files = rendered(own, shape(1, 1, 0));
        assert_eq!(text(&files, "/one-metallb-config.yaml"), "kind: BGPPeer\n");
    }

    #[test]
    fn replicas_never_outnumber_the_nodes_that_can_run_them() {
        let cases = [
            (1, 0, 0, 1, 1),
            (1, 1, 1, 1, 1),
            (3, 2, 2, 2, 2),
            (3, 5, 9, 3, 2),
            (3, 0, 1, 1, 2),
            // No storage node yet, and nothing known at all: Longhorn's own default.
            (1, 1, 0, 3, 1),
            (0, 0, 0, 3, 2),
        ];
        for (masters, workers, storage, disks, spread) in cases {
            let files = rendered(
                |node| {
                    node.longhorn = true;
                    node.traefik = true;
                },
                shape(masters, workers, storage),
            );
            let longhorn = text(&files, "/one-longhorn-values.yaml");
            assert!(longhorn.contains(&format!("defaultReplicaCount: {disks}\n")), "{longhorn}");
            assert!(longhorn.contains(&format!("defaultClassReplicaCount: {disks}\n")), "{longhorn}");
            let traefik = text(&files, "/rke2-traefik-config.yaml");
            assert!(traefik.contains(&format!("replicas: {spread}\n")), "{traefik}");
            assert!(
                traefik.contains("hostPort: null\n") && traefik.contains("nodePort: 32443\n"),
                "{traefik}"
            );
        }
    }

    #[test]
    fn without_a_network_the_images_own_chart_is_taken() {
        let online = rendered(|node| node.longhorn = true, shape(3, 2, 2));
        let offline = |node: &mut NodeConfig| {
            node.longhorn = true;
            node.airgapped = true;
        };
        let paths = |files: &[FileSpec]| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        let airgapped = rendered(offline, shape(3, 2, 2));
        assert_eq!(paths(&online)[1..], paths(&airgapped)[..]);
        assert!(paths(&online)[0].ends_with("/one-longhorn.yaml"));
    }

    #[test]
    fn the_ingress_listens_where_workers_say() {
        let change = |node: &mut NodeConfig| {
            node.traefik = true;
            node.lb[2].port = 444;
            node.lb[3].port = 8080;
        };
        let files = rendered(change, shape(1, 1, 0));
        let traefik = text(&files, "/rke2-traefik-config.yaml");
        assert!(traefik.contains("nodePort: 32444\n") && traefik.contains("nodePort: 32080\n"), "{traefik}");
    }

    /// Every add-on, with every variable that it knows: nothing that it names is missing, and what comes out is YAML of
    /// Kubernetes objects.
    #[test]
    fn every_addon_renders() {
        for addon in catalogue() {
            let mut values = values(&config(), &shape(3, 2, 1));
            for variable in &addon.variables {
                values.insert(variable.name.clone(), format!("x-{}", variable.name).into());
            }
            values.insert("ONEAPP_K8S_METALLB_RANGE".into(), vec!["10.0.0.1-10.0.0.2"].into());
            for name in &addon.enable {
                values.entry(name.clone()).or_insert(Yaml::Flag(true));
            }
            let written = files(addon, &values, false);
            let sources = super::super::catalogue::SOURCES;
            let source = sources.iter().find(|(name, _)| *name == addon.name).unwrap().1;
            for placeholder in source.split("${").skip(1).map(|rest| rest.split_once('}').unwrap().0) {
                assert!(values.contains_key(placeholder), "{}: {placeholder}", addon.name);
            }
            assert!(!written.is_empty(), "{}", addon.name);
            for file in &written {
                assert!(!file.content.as_str().contains("${"), "{}: {}", addon.name, file.path);
                let documents: Vec<serde_json::Value> =
                    serde_saphyr::from_multiple(file.content.as_str()).unwrap();
                for document in documents {
                    for key in ["/apiVersion", "/kind", "/metadata/name"] {
                        assert!(
                            document.pointer(key).is_some_and(serde_json::Value::is_string),
                            "{}: {key}",
                            file.path
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn credentials_are_not_printed_and_cannot_break_out() {
        let ccm = catalogue().iter().find(|addon| addon.name == "opennebula-ccm").unwrap();
        let hidden = "oneadmin:hid\"den\nvirtualRouter: {}";
        let values = Values::from([("ONEAPP_K8S_ONE_AUTH".into(), hidden.into())]);
        let files = files(ccm, &values, false);
        assert!(!format!("{files:?}").contains("oneadmin"));
        let secret: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(text(&files, "/one-cloud-controller.yaml")).unwrap();
        let config = secret[0]["stringData"]["config.yaml"].as_str().unwrap();
        let config: serde_json::Value = serde_saphyr::from_str(config).unwrap();
        assert_eq!(config["opennebula"]["endpoint"]["ONE_AUTH"], hidden);
    }
}
