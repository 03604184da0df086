//! What RKE2 nodes read of the context.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::addons::AddonValues;
use super::disks::StorageConfig;
use super::forms;
use super::manifests;
use super::networks;
use super::nics::Nic;
use super::placeholder;
use super::reader::Reader;
use super::scheduling;
use super::settings::{self, NodeNic, PublishKubeconfig};
use super::table::{Form, Roles, find};
use crate::plan::Secret;

const NODES: Roles = Roles::NODES;

/// How joiners get their token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TokenMode {
    /// Sealed to each joiner's key; nothing readable in OneGate.
    #[default]
    Sealed,
    /// `ONEGATE_K8S_TOKEN` in clear, for services that mix with the old appliance.
    Plain,
}

/// What RKE2 nodes read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `ONEAPP_VROUTER_ETH0_VIP0`.
    pub eth0_vip0: Option<Ipv4Addr>,
    /// `ONEAPP_VROUTER_ETH1_VIP0`.
    pub eth1_vip0: Option<Ipv4Addr>,
    /// `ONEAPP_RKE2_SUPERVISOR_EP` or its default: host and port. `None`: no vnf and no endpoint; use the masters' own.
    pub supervisor: Option<(String, u16)>,
    /// `ONEAPP_K8S_CONTROL_PLANE_EP` likewise.
    pub control_plane: Option<(String, u16)>,
    /// `ONEAPP_K8S_EXTRA_SANS`, split, without empties.
    pub extra_sans: Vec<String>,
    /// `ONEAPP_K8S_CLUSTER_CIDR`; two for dual stack.
    pub cluster_cidr: Vec<IpNet>,
    /// `ONEAPP_K8S_SERVICE_CIDR`.
    pub service_cidr: Vec<IpNet>,
    /// `ONEAPP_K8S_HTTP_PROXY`.
    pub http_proxy: Option<String>,
    /// `ONEAPP_K8S_HTTPS_PROXY`.
    pub https_proxy: Option<String>,
    /// `ONEAPP_K8S_NO_PROXY`.
    pub no_proxy: Option<String>,
    /// `ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED`.
    pub cloud_controller: bool,
    /// `ONEAPP_K8S_MULTUS_ENABLED`.
    pub multus: bool,
    /// `ONEAPP_K8S_MULTUS_CONFIG`, decoded.
    pub multus_config: Option<String>,
    /// `ONEAPP_K8S_CNI_PLUGIN`.
    pub cni: String,
    /// `ONEAPP_K8S_CNI_CONFIG`, decoded.
    pub cni_config: Option<String>,
    /// `ONEAPP_K8S_CILIUM_BGP_ENABLED`.
    pub cilium_bgp: bool,
    /// `ONEAPP_K8S_CILIUM_RANGE*`.
    pub cilium_ranges: Vec<IpNet>,
    /// `ONEAPP_K8S_LONGHORN_ENABLED`.
    pub longhorn: bool,
    /// `ONEAPP_K8S_METALLB_ENABLED`.
    pub metallb: bool,
    /// `ONEAPP_K8S_METALLB_CLASS`.
    pub metallb_class: String,
    /// `ONEAPP_K8S_METALLB_CONFIG`, decoded.
    pub metallb_config: Option<String>,
    /// `ONEAPP_K8S_METALLB_RANGE*`, as `first-last`.
    pub metallb_ranges: Vec<(IpAddr, IpAddr)>,
    /// `ONEAPP_K8S_TRAEFIK_ENABLED`.
    pub traefik: bool,
    /// The variables of all other add-ons.
    pub addons: AddonValues,
    /// `ONE_SERVICE_AIRGAPPED`.
    pub airgapped: bool,
    /// The four listeners of the vnf: `ONEAPP_VNF_HAPROXY_LBn_IP` verbatim, published as it stands, and the port.
    pub lb: [LbEndpoint; 4],
    /// `ONEAPP_VNF_DNS_ENABLED` as nodes read it: default YES.
    pub vnf_dns: bool,
    /// `FALLBACK_GW`.
    pub fallback_gw: Option<Ipv4Addr>,
    /// `FALLBACK_DNS`.
    pub fallback_dns: Option<Ipv4Addr>,
    /// `ONEAPP_K8S_TOKEN_MODE`.
    pub token_mode: TokenMode,
    /// `ONEAPP_STORAGE_*` and the disks of RKE2.
    pub storage: StorageConfig,
    /// `ONEAPP_K8S_REGISTRIES`, decoded.
    pub registries: Option<Secret>,
    /// `ONEAPP_RKE2_EXTRA_CONFIG`, decoded.
    pub extra_config: Option<Secret>,
    /// `ONEAPP_K8S_NODE_LABELS`: `key=value`.
    pub node_labels: Vec<String>,
    /// `ONEAPP_K8S_NODE_TAINTS`: `key=value:Effect` or `key:Effect`.
    pub node_taints: Vec<String>,
    /// `ONEAPP_K8S_NODE_NIC`.
    pub node_nic: Option<NodeNic>,
    /// `ONEAPP_K8S_PUBLISH_KUBECONFIG`.
    pub publish_kubeconfig: PublishKubeconfig,
    /// `ONEAPP_K8S_EXTERNAL_LB`.
    pub external_lb: bool,
    /// `ONEAPP_K8S_FOLLOW_CONTEXT`.
    pub follow_context: bool,
    /// `ONEAPP_K8S_JOIN_BATCH`.
    pub join_batch: u32,
}

/// Where a vnf listens, as a node publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LbEndpoint {
    /// An address or a placeholder such as `<ETH0_EP0>`; `None`: the ETH0 VIP, if there is one.
    pub ip: Option<String>,
    /// 9345, 6443, 443, 80 by default.
    pub port: u16,
}

impl NodeConfig {
    /// Reads what nodes need; on a vnf its problems do not count.
    pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Self {
        let vip =
            |reader: &mut Reader<'_>, name| reader.value(name, NODES, forms::ipv4_prefixed).map(|(ip, _)| ip);
        let eth0_vip0 = vip(reader, "ONEAPP_VROUTER_ETH0_VIP0");
        let eth1_vip0 = vip(reader, "ONEAPP_VROUTER_ETH1_VIP0");
        let lb = [0, 1, 2, 3].map(|n| LbEndpoint::read(reader, n, eth0_vip0));
        let proxies = Proxies::read(reader);
        let cni = Cni::read(reader);
        let metallb = Metallb::read(reader, nics);
        let vnf_dns = reader.on("ONEAPP_VNF_DNS_ENABLED", NODES);
        let (cluster_cidr, service_cidr) = networks::read(reader, nics);
        Self {
            supervisor: endpoint(reader, "ONEAPP_RKE2_SUPERVISOR_EP", lb[0].port, eth0_vip0),
            control_plane: endpoint(reader, "ONEAPP_K8S_CONTROL_PLANE_EP", lb[1].port, eth0_vip0),
            extra_sans: reader.value("ONEAPP_K8S_EXTRA_SANS", NODES, forms::names).unwrap_or_default(),
            cluster_cidr,
            service_cidr,
            http_proxy: proxies.http,
            https_proxy: proxies.https,
            no_proxy: proxies.none,
            cloud_controller: reader.on("ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED", NODES),
            multus: cni.multus,
            multus_config: cni.multus_config,
            cni: cni.plugin,
            cni_config: cni.config,
            cilium_bgp: cni.bgp,
            cilium_ranges: cni.ranges,
            longhorn: reader.on("ONEAPP_K8S_LONGHORN_ENABLED", NODES),
            metallb: metallb.enabled,
            metallb_class: metallb.class,
            metallb_config: metallb.config,
            metallb_ranges: metallb.ranges,
            traefik: reader.on("ONEAPP_K8S_TRAEFIK_ENABLED", NODES),
            airgapped: reader.on("ONE_SERVICE_AIRGAPPED", NODES),
            lb,
            vnf_dns,
            fallback_gw: fallback(reader, "FALLBACK_GW", eth1_vip0.is_none()),
            fallback_dns: fallback(reader, "FALLBACK_DNS", eth1_vip0.is_none() && vnf_dns),
            token_mode: TokenMode::read(reader),
            storage: StorageConfig::read(reader),
            addons: AddonValues::read(reader),
            registries: settings::registries(reader),
            extra_config: settings::extra_config(reader),
            node_labels: scheduling::labels(reader),
            node_taints: scheduling::taints(reader),
            node_nic: NodeNic::read(reader, nics),
            publish_kubeconfig: PublishKubeconfig::read(reader),
            external_lb: settings::external_lb(reader),
            follow_context: reader.on("ONEAPP_K8S_FOLLOW_CONTEXT", NODES),
            join_batch: settings::join_batch(reader),
            eth0_vip0,
            eth1_vip0,
        }
    }
}

impl NodeConfig {
    /// True if pods and services have addresses of both families.
    pub fn is_dual_stack(&self) -> bool {
        self.cluster_cidr.len() > 1
    }
}

/// Used where there is no private virtual address (contract.md 1.1).
fn fallback(reader: &mut Reader<'_>, name: &str, used: bool) -> Option<Ipv4Addr> {
    reader.only_if(used, |reader| reader.value(name, NODES, forms::ipv4))
}

/// `host:port`, or the virtual address and the listener's port; `None` if there is neither.
fn endpoint(reader: &mut Reader<'_>, name: &str, port: u16, vip: Option<Ipv4Addr>) -> Option<(String, u16)> {
    let default = vip.map(|ip| (ip.to_string(), port));
    let Some(endpoint) = reader.value(name, NODES, forms::endpoint) else { return default };
    if endpoint.scheme {
        reader.warn(
            name,
            format!("has a scheme, which is taken off: host:port is meant, here {}", endpoint.host),
        );
    }
    if endpoint.port.is_none() {
        reader.warn(name, format!("names no port: {port} is taken"));
    }
    Some((endpoint.host, endpoint.port.unwrap_or(port)))
}

/// Workers listen for the ingress this much above the vnf's port (contract.md 1.1).
const INGRESS_OFFSET: u16 = 32_000;

impl LbEndpoint {
    fn read(reader: &mut Reader<'_>, n: u8, vip: Option<Ipv4Addr>) -> Self {
        let name = format!("ONEAPP_VNF_HAPROXY_LB{n}_IP");
        let ip = reader.value(&name, NODES, |text| {
            let known = placeholder::is_well_formed(text) || forms::ipv4_prefixed(text).is_some();
            known.then(|| text.trim().to_owned())
        });
        let name = format!("ONEAPP_VNF_HAPROXY_LB{n}_PORT");
        let port = reader.value(&name, NODES, forms::port).unwrap_or_default();
        if n >= 2 && port.checked_add(INGRESS_OFFSET).is_none() {
            let most = u16::MAX - INGRESS_OFFSET;
            let expected =
                format!("expected a port from 1 to {most}: workers listen {INGRESS_OFFSET} higher");
            reader.problem(&name, &port.to_string(), expected);
        }
        Self { ip: ip.or(vip.map(|ip| ip.to_string())), port }
    }
}

impl TokenMode {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mode = reader.value("ONEAPP_K8S_TOKEN_MODE", NODES, |text| match text.trim() {
            "sealed" => Some(Self::Sealed),
            "plain" => Some(Self::Plain),
            _ => None,
        });
        mode.unwrap_or_default()
    }
}

/// One of the words that the table allows, in any case.
pub(super) fn choice(reader: &mut Reader<'_>, name: &str) -> Option<String> {
    let Some(Form::Choice(words)) = find(name, NODES).map(|variable| variable.form) else { return None };
    reader.value(name, NODES, |text| {
        words.iter().find(|word| word.eq_ignore_ascii_case(text.trim())).map(|word| (*word).to_owned())
    })
}

struct Proxies {
    http: Option<String>,
    https: Option<String>,
    none: Option<String>,
}

impl Proxies {
    fn read(reader: &mut Reader<'_>) -> Self {
        let http = reader.value("ONEAPP_K8S_HTTP_PROXY", NODES, forms::proxy);
        let https = reader.value("ONEAPP_K8S_HTTPS_PROXY", NODES, forms::proxy);
        let none = reader.only_if(http.is_some() || https.is_some(), |reader| {
            reader.value("ONEAPP_K8S_NO_PROXY", NODES, forms::no_proxy)
        });
        Self { http, https, none }
    }
}

struct Cni {
    plugin: String,
    config: Option<String>,
    bgp: bool,
    ranges: Vec<IpNet>,
    multus: bool,
    multus_config: Option<String>,
}

impl Cni {
    fn read(reader: &mut Reader<'_>) -> Self {
        let plugin = choice(reader, "ONEAPP_K8S_CNI_PLUGIN").unwrap_or_default();
        let config =
            reader.only_if(plugin != "none", |reader| manifests::read(reader, "ONEAPP_K8S_CNI_CONFIG"));
        let bgp = reader.on("ONEAPP_K8S_CILIUM_BGP_ENABLED", NODES);
        let pool = bgp && plugin == "cilium" && config.is_none();
        let ranges = reader.only_if(pool, |reader| {
            family(reader, "ONEAPP_K8S_CILIUM_RANGE", forms::cidr)
                .into_iter()
                .map(|(_, range)| range)
                .collect()
        });
        let multus = reader.on("ONEAPP_K8S_MULTUS_ENABLED", NODES);
        let multus_config =
            reader.only_if(multus, |reader| manifests::read(reader, "ONEAPP_K8S_MULTUS_CONFIG"));
        Self { plugin, config, bgp, ranges, multus, multus_config }
    }
}

/// The values of all variables that begin with `prefix`, with their names.
fn family<T>(reader: &mut Reader<'_>, prefix: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<(String, T)> {
    let names: Vec<String> = reader.vars().with_prefix(prefix).map(|(name, _)| name.to_owned()).collect();
    names.into_iter().filter_map(|name| Some((name.clone(), reader.value(&name, NODES, &parse)?))).collect()
}

struct Metallb {
    enabled: bool,
    class: String,
    config: Option<String>,
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl Metallb {
    fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Self {
        let enabled = reader.on("ONEAPP_K8S_METALLB_ENABLED", NODES);
        reader.only_if(enabled, |reader| {
            let class = reader.value("ONEAPP_K8S_METALLB_CLASS", NODES, forms::class).unwrap_or_default();
            let config = manifests::read(reader, "ONEAPP_K8S_METALLB_CONFIG");
            let ranges = reader.only_if(config.is_none(), |reader| Self::ranges(reader, nics));
            if enabled && config.is_none() && ranges.is_empty() {
                let message = "MetalLB has no addresses to give: set ONEAPP_K8S_METALLB_RANGE";
                reader.warn("ONEAPP_K8S_METALLB_RANGE", message);
            }
            Self { enabled, class, config, ranges }
        })
    }

    /// MetalLB's generated pool answers ARP and neighbour solicitations on the nodes' own networks, so a range elsewhere
    /// reaches nobody. A family of which the context tells no network is not judged.
    fn ranges(reader: &mut Reader<'_>, nics: &[Nic]) -> Vec<(IpAddr, IpAddr)> {
        let mut all = Vec::new();
        let subnets = [networks::of_nics(nics), networks::of_nics6(reader, nics)].concat();
        for (name, ranges) in family(reader, "ONEAPP_K8S_METALLB_RANGE", forms::ranges) {
            for (first, last) in ranges {
                let same_family = |(_, net): &&(String, IpNet)| net.addr().is_ipv4() == first.is_ipv4();
                let subnets: Vec<_> = subnets.iter().filter(same_family).collect();
                let near = subnets.iter().any(|(_, net)| net.contains(&first) && net.contains(&last));
                if !subnets.is_empty() && !near {
                    let own: Vec<String> = subnets.iter().map(|(nic, net)| format!("{nic} {net}")).collect();
                    let value = reader.text(&name).unwrap_or_default();
                    let expected = format!("expected addresses of a network of this VM: {}", own.join(", "));
                    reader.problem(&name, value, expected);
                }
                all.push((first, last));
            }
        }
        all
    }
}
