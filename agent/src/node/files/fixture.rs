//! A master of the marketplace's default service, for the tests of this directory.

use std::net::IpAddr;

use super::{Entry, Pinned, Shape};
use crate::context::{
    Config, LbEndpoint, Nic, NodeConfig, OneGateConfig, PublishKubeconfig, StorageConfig, TokenMode,
};
use crate::plan::{FileSpec, Secret};
use crate::service::{Role, VmId};

pub fn config() -> Config {
    let nic = Nic {
        index: 0,
        mac: "02:00:ac:14:00:64".into(),
        ip: Some([172, 20, 0, 100].into()),
        ip6: None,
        prefix: 24,
        gateway: None,
        mtu: None,
        management: false,
        vips: vec![],
        is_attached: true,
    };
    Config {
        vm: Some(VmId(42)),
        service: Some(7),
        vrouter: None,
        onegate: OneGateConfig::default(),
        report_ready: true,
        nics: vec![nic],
        node: node(),
        vnf: Default::default(),
        warnings: vec![],
    }
}

fn node() -> NodeConfig {
    let lb = |ip: Option<&str>, port| LbEndpoint { ip: ip.map(str::to_owned), port };
    NodeConfig {
        eth0_vip0: Some([10, 2, 11, 86].into()),
        eth1_vip0: Some([172, 20, 0, 86].into()),
        supervisor: Some(("ep0.eth0.vr".into(), 9345)),
        control_plane: Some(("ep0.eth0.vr".into(), 6443)),
        extra_sans: vec!["localhost".into(), "127.0.0.1".into(), "ep0.eth0.vr".into(), "10.2.11.40".into()],
        cluster_cidr: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidr: vec!["10.43.0.0/16".parse().unwrap()],
        http_proxy: None,
        https_proxy: None,
        no_proxy: None,
        cloud_controller: true,
        multus: false,
        multus_config: None,
        cni: "cilium".into(),
        cni_config: None,
        cilium_bgp: false,
        cilium_ranges: vec![],
        longhorn: false,
        metallb: false,
        metallb_class: "metallb".into(),
        metallb_config: None,
        metallb_ranges: vec![],
        traefik: false,
        airgapped: false,
        addons: Default::default(),
        registries: None,
        extra_config: None,
        node_labels: vec![],
        node_taints: vec![],
        node_nic: None,
        publish_kubeconfig: PublishKubeconfig::No,
        external_lb: false,
        follow_context: true,
        join_batch: 50,
        lb: [lb(Some("<ETH0_EP0>"), 9345), lb(Some("<ETH0_EP0>"), 6443), lb(None, 443), lb(None, 80)],
        vnf_dns: true,
        fallback_gw: None,
        fallback_dns: None,
        token_mode: TokenMode::Sealed,
        storage: StorageConfig::default(),
    }
}

pub fn pinned() -> Pinned {
    let ip = IpAddr::from([172, 20, 0, 100]);
    Pinned { name: "oneke-7-master-42".into(), vm: VmId(42), ip, second_ip: None, external: vec![] }
}

pub fn shape(masters: u32, workers: u32, storage: u32) -> Shape {
    Shape { masters, workers, storage, vnf: 1 }
}

pub fn founds() -> Entry {
    Entry::Found { agent_token: Some(Secret::new("agents-only")) }
}

pub fn joins() -> Entry {
    Entry::Join {
        server: "https://ep0.eth0.vr:9345".into(),
        token: Secret::new("K10ab::server:cd"),
        agent_token: Some(Secret::new("agents-only")),
    }
}

pub fn worker() -> Role {
    Role::Worker("worker".into())
}

/// The text of the file that ends in `suffix`.
#[track_caller]
pub fn text<'a>(files: &'a [FileSpec], suffix: &str) -> &'a str {
    let file = files.iter().find(|file| file.path.ends_with(suffix));
    let paths = || files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>();
    file.unwrap_or_else(|| panic!("no {suffix} among {:?}", paths())).content.as_str()
}
