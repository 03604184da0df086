//! The context parsed, defaulted and validated: it cannot be wrong any more.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::nics::Nic;
use super::problem::{Problem, Warning};
use super::reader::Reader;
use super::vars::Vars;
use super::vnf::VnfConfig;
use crate::service::{Role, VmId};

/// Everything that the context says, for one role.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `VMID`.
    pub vm: Option<VmId>,
    /// `SERVICE_ID`.
    pub service: Option<u32>,
    /// `VROUTER_ID`: this VM is an OpenNebula virtual router.
    pub vrouter: Option<u32>,
    /// How to reach OneGate.
    pub onegate: OneGateConfig,
    /// `REPORT_READY`.
    pub report_ready: bool,
    /// The NICs by index `ETHx`.
    pub nics: Vec<Nic>,
    /// What RKE2 nodes read.
    pub node: NodeConfig,
    /// What vnf nodes read.
    pub vnf: VnfConfig,
    /// What is odd.
    pub warnings: Vec<Warning>,
}

/// How to reach OneGate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OneGateConfig {
    /// `ONEGATE_ENDPOINT`, without a trailing slash.
    pub endpoint: Option<String>,
    /// `ONEAPP_ONEGATE_CA`: PEM, base64 in the context.
    pub ca: Option<String>,
    /// False only if `ONEAPP_ONEGATE_INSECURE` is YES.
    pub verify: bool,
}

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
    /// `ONEAPP_STORAGE_*`.
    pub storage: StorageConfig,
}

/// Where a vnf listens, as a node publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LbEndpoint {
    /// An address or a placeholder such as `<ETH0_EP0>`; `None`: the ETH0 VIP, if there is one.
    pub ip: Option<String>,
    /// 9345, 6443, 443, 80 by default.
    pub port: u16,
}

/// The storage role's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// `ONEAPP_STORAGE_DEVICE`.
    pub device: Option<String>,
    /// `ONEAPP_STORAGE_FILESYSTEM`: xfs or ext4.
    pub filesystem: String,
    /// `ONEAPP_STORAGE_MOUNTPOINT`.
    pub mountpoint: String,
}

impl Config {
    /// Reads a context for `role`; `None` holds it against every role's rules, as `check` does.
    ///
    /// # Errors
    /// Every problem of the variables that the role reads.
    pub fn read(vars: &Vars, role: Option<Role>) -> Result<Self, Vec<Problem>> {
        let reader = Reader::new(vars, role);
        let (problems, _warnings) = reader.finish();
        Err(problems)
    }
}
