//! What RKE2 nodes read of the context.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::addons::AddonValues;
use super::disks::StorageConfig;
use super::forms;
use super::manifests;
use super::metallb::Metallb;
use super::networks;
use super::nics::Nic;
use super::placeholder;
use super::reader::{PASSED_OVER, Reader};
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
        let (eth0_vip0, front) = front(reader);
        let eth1_vip0 = address(reader, "ONEAPP_VROUTER_ETH1_VIP0");
        let lb = [0, 1, 2, 3].map(|n| LbEndpoint::read(reader, n, front.as_ref()));
        let proxies = Proxies::read(reader);
        let cni = Cni::read(reader);
        let metallb = Metallb::read(reader, nics);
        let vnf_dns = reader.on("ONEAPP_VNF_DNS_ENABLED", NODES);
        let (cluster_cidr, service_cidr) = networks::read(reader, nics);
        Self {
            supervisor: endpoint(reader, "ONEAPP_RKE2_SUPERVISOR_EP", lb[0].port, front.as_ref()),
            control_plane: endpoint(reader, "ONEAPP_K8S_CONTROL_PLANE_EP", lb[1].port, front.as_ref()),
            extra_sans: extra_sans(reader),
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
            fallback_gw: reader.forgiving("FALLBACK_GW", NODES, PASSED_OVER, forms::ipv4),
            fallback_dns: reader.forgiving("FALLBACK_DNS", NODES, PASSED_OVER, forms::ipv4),
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

/// Where clients of the cluster come in, unless another variable says otherwise: `ONEAPP_VROUTER_ETH0_VIP0`. The old
/// scripts took a name there as well, which works with a balancer of one's own.
fn front(reader: &mut Reader<'_>) -> (Option<Ipv4Addr>, Option<String>) {
    const NAME: &str = "ONEAPP_VROUTER_ETH0_VIP0";
    let Some(text) = reader.text(NAME) else { return (None, None) };
    let name = forms::host(text).filter(|_| forms::ipv4(text).is_none());
    if let Some(name) = name {
        reader.warn(
            NAME,
            format!("{name:?} is no IPv4 address: it is the default of both endpoints, and no more"),
        );
        return (None, Some(name));
    }
    let ip = address(reader, NAME);
    (ip, ip.map(|ip| ip.to_string()))
}

/// An address of which the old scripts took what they could read, and did without otherwise.
fn address(reader: &mut Reader<'_>, name: &str) -> Option<Ipv4Addr> {
    reader.forgiving(name, NODES, PASSED_OVER, forms::ipv4_prefixed).map(|(ip, _)| ip)
}

/// The names of a certificate do no harm: of what is none the host is taken, or nothing.
fn extra_sans(reader: &mut Reader<'_>) -> Vec<String> {
    const NAME: &str = "ONEAPP_K8S_EXTRA_SANS";
    let mut names = Vec::new();
    for item in forms::items(reader.text(NAME).unwrap_or_default()) {
        let name = forms::certificate_name(item);
        let host = || forms::endpoint(item).map(|endpoint| endpoint.host);
        match name.clone().or_else(host) {
            Some(host) if name.is_none() => {
                reader.warn(NAME, format!("{item:?} is no name of a certificate: {host} is taken"));
                names.push(host);
            }
            Some(name) => names.push(name),
            None => reader.warn(NAME, format!("{item:?} is no name of a certificate: it is passed over")),
        }
    }
    names
}

/// The port of a URL that names none (RFC 9110, 4.2.2): RKE2 and the old scripts make one of an endpoint.
const HTTPS: u16 = 443;

/// `host:port`, or the virtual address and the listener's port; `None` if there is neither.
fn endpoint(reader: &mut Reader<'_>, name: &str, port: u16, front: Option<&String>) -> Option<(String, u16)> {
    let default = front.map(|host| (host.clone(), port));
    let Some(endpoint) = reader.value(name, NODES, forms::endpoint) else { return default };
    if endpoint.scheme {
        reader.warn(
            name,
            format!("has a scheme, which is taken off: host:port is meant, here {}", endpoint.host),
        );
    }
    if endpoint.port.is_none() {
        reader.warn(name, format!("names no port: {HTTPS} is taken, as of any https URL"));
    }
    Some((endpoint.host, endpoint.port.unwrap_or(HTTPS)))
}

/// Workers listen for the ingress this much above the vnf's port (contract.md 1.1).
const INGRESS_OFFSET: u16 = 32_000;

impl LbEndpoint {
    fn read(reader: &mut Reader<'_>, n: u8, front: Option<&String>) -> Self {
        let name = format!("ONEAPP_VNF_HAPROXY_LB{n}_IP");
        let text = reader.text(&name).map(str::trim).filter(|text| !text.is_empty());
        if let Some(text) = text {
            let known = placeholder::is_well_formed(text) || forms::ipv4_prefixed(text).is_some();
            if !known {
                reader.warn(&name, format!("{text:?} is neither an IPv4 address nor a placeholder such as <ETH0_EP0>: no vnf listens there"));
            }
        }
        let ip = text.filter(|text| is_publishable(text)).map(str::to_owned);
        let name = format!("ONEAPP_VNF_HAPROXY_LB{n}_PORT");
        let port = reader.value(&name, NODES, forms::port).unwrap_or_default();
        if n >= 2 && port.checked_add(INGRESS_OFFSET).is_none() {
            let most = u16::MAX - INGRESS_OFFSET;
            let expected =
                format!("expected a port from 1 to {most}: workers listen {INGRESS_OFFSET} higher");
            reader.problem(&name, &port.to_string(), expected);
        }
        Self { ip: ip.or_else(|| front.cloned()), port }
    }
}

/// OneGate mangles or refuses any other value (onegate.md, Publishing).
fn is_publishable(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._:/+=<>-$(){}".contains(&b))
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
    reader.value(name, NODES, |text| word(words, text))
}

fn word(words: &[&str], text: &str) -> Option<String> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text.trim())).map(|word| (*word).to_owned())
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
        let (first, plugin) = plugins(reader).unwrap_or_default();
        let config =
            reader.only_if(plugin != "none", |reader| manifests::read(reader, "ONEAPP_K8S_CNI_CONFIG"));
        let bgp = reader.on("ONEAPP_K8S_CILIUM_BGP_ENABLED", NODES);
        let pool = bgp && plugin == "cilium" && config.is_none();
        let ranges = reader.only_if(pool, |reader| {
            let names = reader.vars().names("ONEAPP_K8S_CILIUM_RANGE");
            let range = |name: &String| reader.forgiving(name, NODES, PASSED_OVER, forms::cidr);
            names.iter().filter_map(range).collect()
        });
        let multus = reader.on("ONEAPP_K8S_MULTUS_ENABLED", NODES) || first;
        let multus_config =
            reader.only_if(multus, |reader| manifests::read(reader, "ONEAPP_K8S_MULTUS_CONFIG"));
        Self { plugin, config, bgp, ranges, multus, multus_config }
    }
}

/// The plug-in, and whether Multus comes before it: RKE2 itself parts `multus,canal` at the comma.
fn plugins(reader: &mut Reader<'_>) -> Option<(bool, String)> {
    const NAME: &str = "ONEAPP_K8S_CNI_PLUGIN";
    let Some(Form::Choice(words)) = find(NAME, NODES).map(|variable| variable.form) else { return None };
    reader.value(NAME, NODES, |text| {
        let (first, plugin) = match text.split_once(',') {
            Some((first, plugin)) if first.trim().eq_ignore_ascii_case("multus") => (true, plugin),
            _ => (false, text),
        };
        Some((first, word(words, plugin)?))
    })
}
