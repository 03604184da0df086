//! `/etc/rancher/rke2/config.yaml`: written for a node, and read back from one that has joined.

use std::net::IpAddr;

use serde::Deserialize;

use super::yaml::{Map, Yaml, document};
use super::{Entry, Pinned, Shape, addons, merge_extra};
use crate::context::Config;
use crate::plan::Secret;
use crate::service::Role;

/// The label by which workloads choose a role or a worker group; its value is OneFlow's role name.
pub const ROLE_LABEL: &str = "oneke.opennebula.io/role";
/// Longhorn makes its default disk on nodes with this label; the same taint keeps other Pods away.
const LONGHORN_DISK: &str = "node.longhorn.io/create-default-disk=true";

/// The file's text.
pub(super) fn render(config: &Config, role: &Role, pinned: &Pinned, entry: &Entry, shape: &Shape) -> String {
    document(&settings(config, role, pinned, entry, shape))
}

/// The agent's own settings and the user's.
pub(super) fn settings(config: &Config, role: &Role, pinned: &Pinned, entry: &Entry, shape: &Shape) -> Map {
    let own = own(config, role, pinned, entry, shape);
    let Some(extra) = &config.node.extra_config else { return own };
    // What contradicts was refused where the context was read; were something left, the node comes up without.
    merge_extra(own.clone(), extra.expose(), *role == Role::Master).unwrap_or(own)
}

/// The agent's own settings.
pub(super) fn own(config: &Config, role: &Role, pinned: &Pinned, entry: &Entry, shape: &Shape) -> Map {
    let mut map = node(config, role, pinned, shape);
    enter(&mut map, role, entry);
    if *role == Role::Master {
        server(&mut map, config, pinned, entry);
    }
    map
}

/// What every node says of itself.
fn node(config: &Config, role: &Role, pinned: &Pinned, shape: &Shape) -> Map {
    let mut map = Map::new();
    let mut set = |key: &str, value: Yaml| map.push((key.to_owned(), value));
    set("node-name", pinned.name.as_str().into());
    let mut own: Vec<&IpAddr> = std::iter::once(&pinned.ip).chain(&pinned.second_ip).collect();
    // The first of both lists is the primary family, and must be the same one (K3s, "Dual-stack networking").
    let primary = config.node.cluster_cidr.first();
    own.sort_by_key(|ip| primary.is_some_and(|cidr| cidr.addr().is_ipv4() != ip.is_ipv4()));
    set("node-ip", addresses(own));
    if !pinned.external.is_empty() {
        set("node-external-ip", addresses(&pinned.external));
    }
    let mut labels = vec![format!("{ROLE_LABEL}={}", label_value(role.name()))];
    let mut taints = Vec::new();
    match role {
        // Old OneKE's rule, except that without workers nothing would ever run.
        Role::Master if !shape.masters_work() => taints.push("CriticalAddonsOnly=true:NoExecute".to_owned()),
        // The one node of a cluster has Longhorn's disk as well.
        Role::Master if config.node.longhorn && shape.is_single_node() => {
            labels.push(LONGHORN_DISK.to_owned())
        }
        Role::Storage => {
            labels.push(LONGHORN_DISK.to_owned());
            taints.push(format!("{LONGHORN_DISK}:NoSchedule"));
        }
        Role::Master | Role::Worker(_) | Role::Vnf => {}
    }
    add(&mut labels, &config.node.node_labels, |label| {
        label.split('=').next().unwrap_or_default().to_owned()
    });
    add(&mut taints, &config.node.node_taints, taint_name);
    set("node-label", labels.into());
    if !taints.is_empty() {
        set("node-taint", taints.into());
    }
    // The Node is created with it, and RKE2's own cloud controller gives an ID (`rke2://NAME`) only to a Node that has
    // none (cloud-provider's node controller): so both controllers may be used, and everything that maps a Node to its
    // VM (OpenNebula's cloud controller, CSI, cluster-autoscaler) finds `one://VMID`.
    let mut kubelet = vec![format!("provider-id=one://{}", pinned.vm)];
    kubelet.extend(addons::kubelet(config).into_iter().map(str::to_owned));
    set("kubelet-arg", kubelet.into());
    map
}

/// Adds the user's to our own, unless they name the same thing: the kubelet takes each only once.
fn add(own: &mut Vec<String>, users: &[String], name: impl Fn(&str) -> String) {
    for item in users {
        if !own.iter().any(|own| name(own) == name(item)) {
            own.push(item.clone());
        }
    }
}

/// A taint without its value: key and effect.
fn taint_name(taint: &str) -> String {
    let (left, effect) = taint.rsplit_once(':').unwrap_or((taint, ""));
    format!("{}:{effect}", left.split('=').next().unwrap_or_default())
}

fn enter(map: &mut Map, role: &Role, entry: &Entry) {
    let mut set = |key: &str, value: &str| map.push((key.to_owned(), value.into()));
    let agent_token = match entry {
        Entry::Found { agent_token } => agent_token,
        Entry::Join { server, token, agent_token } => {
            set("server", server);
            set("token", token.expose());
            agent_token
        }
    };
    if let (Role::Master, Some(agent_token)) = (role, agent_token) {
        set("agent-token", agent_token.expose());
    }
}

/// What servers say of the cluster. The critical values (rke2.md) come from the context alone, so that all masters of a
/// service have the same ones.
fn server(map: &mut Map, config: &Config, pinned: &Pinned, entry: &Entry) {
    let node = &config.node;
    let mut set = |key: &str, value: Yaml| map.push((key.to_owned(), value));
    set("tls-san", names(config, pinned, entry).into());
    set("cluster-cidr", joined(&node.cluster_cidr).into());
    set("service-cidr", joined(&node.service_cidr).into());
    let mut cni = Vec::new();
    if node.multus {
        // RKE2 takes multus only as the first of two.
        cni.push("multus");
    }
    cni.push(&node.cni);
    set("cni", cni.into());
    // RKE2's default is ingress-nginx up to 1.35 and Traefik from 1.36 on; naming one always overrides both.
    set("ingress-controller", if node.traefik { "traefik" } else { "none" }.into());
    set("disable-kube-proxy", (node.cni == "cilium").into());
    set("disable-cloud-controller", (!node.cloud_controller).into());
    set("write-kubeconfig-mode", "0600".into());
}

/// Every name and address by which clients come to this server: `tls-san-security` refuses all others.
fn names(config: &Config, pinned: &Pinned, entry: &Entry) -> Vec<String> {
    let node = &config.node;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(std::iter::once(&pinned.ip).chain(&pinned.second_ip).map(IpAddr::to_string));
    names.extend(pinned.external.iter().map(IpAddr::to_string));
    names.extend(node.eth0_vip0.iter().chain(&node.eth1_vip0).map(ToString::to_string));
    names.extend(config.nics.iter().flat_map(|nic| &nic.vips).map(|(_, vip, _)| vip.to_string()));
    names.extend(
        node.supervisor.iter().chain(&node.control_plane).map(|(host, _)| bare_host(host).to_owned()),
    );
    // LB0 and LB1 lead to servers; a placeholder has no address here.
    names.extend(
        node.lb[..2].iter().filter_map(|lb| lb.ip.as_deref()).filter(|ip| is_address(ip)).map(str::to_owned),
    );
    if let Entry::Join { server, .. } = entry {
        names.push(host_of(server).to_owned());
    }
    names.extend(node.extra_sans.iter().map(|san| host_of(san).to_owned()));
    unique(names)
}

/// The host of `scheme://host:port`, of `host:port` and of a host alone; IPv6 loses its brackets.
pub(super) fn host_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    if is_address(authority) {
        return authority;
    }
    if authority.starts_with('[') {
        return authority.split_once(']').map_or(authority, |(host, _)| &host[1..]);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// A host without the brackets of IPv6.
pub(super) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// The same list without empties and repetitions, in the same order.
pub(super) fn unique(items: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().filter(|item| !item.is_empty() && seen.insert(item.clone())).collect()
}

/// RKE2 takes a list of addresses in one text, with commas.
fn addresses<'a>(ips: impl IntoIterator<Item = &'a IpAddr>) -> Yaml {
    joined(ips).into()
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// A role's name as the value of a label: up to 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends
/// (Kubernetes, "Labels and Selectors").
fn label_value(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let text: String = name.chars().map(safe).take(63).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// What a `config.yaml` that was written earlier says of the node. It may be the old appliance's.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OnDisk {
    /// `server`.
    pub server: Option<String>,
    /// `token`.
    pub token: Option<Secret>,
    /// `agent-token`.
    pub agent_token: Option<Secret>,
    /// `node-name`.
    pub node_name: Option<String>,
    /// The first of `node-ip`.
    pub node_ip: Option<IpAddr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawConfig {
    server: Option<String>,
    token: Option<String>,
    agent_token: Option<String>,
    node_name: Option<String>,
    node_ip: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Reads a `config.yaml` back. Other keys are passed over: only RKE2 judges them.
///
/// # Errors
/// If it is no YAML mapping, or `node-ip` is no address. The text is not repeated: it holds tokens.
pub fn on_disk(config_yaml: &str) -> Result<OnDisk, String> {
    // An empty file is an empty configuration for RKE2.
    if config_yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(OnDisk::default());
    }
    let raw: RawConfig = serde_saphyr::from_str(config_yaml).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(" at line {}", at.line()));
        format!("{} does not read as RKE2's configuration{place}", super::CONFIG)
    })?;
    let first = match raw.node_ip {
        None => None,
        Some(OneOrMany::One(text)) => text.split(',').next().map(str::to_owned),
        Some(OneOrMany::Many(list)) => list.into_iter().next(),
    };
    let node_ip = first
        .map(|text| {
            text.trim().parse().map_err(|_| format!("node-ip {text:?} in {} is no address", super::CONFIG))
        })
        .transpose()?;
    Ok(OnDisk {
        server: raw.server,
        token: raw.token.map(Secret::new),
        agent_token: raw.agent_token.map(Secret::new),
        node_name: raw.node_name,
        node_ip,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, founds, joins, pinned, shape, worker};
    use super::*;
    use crate::service::VmId;

    #[test]
    fn a_founder_has_no_server_and_no_token() {
        let text = render(&config(), &Role::Master, &pinned(), &founds(), &shape(1, 1, 0));
        let expected = r#"node-name: "oneke-7-master-42"
node-ip: "172.20.0.100"
node-label:
  - "oneke.opennebula.io/role=master"
node-taint:
  - "CriticalAddonsOnly=true:NoExecute"
kubelet-arg:
  - "provider-id=one://42"
agent-token: "agents-only"
tls-san:
  - "localhost"
  - "127.0.0.1"
  - "172.20.0.100"
  - "10.2.11.86"
  - "172.20.0.86"
  - "ep0.eth0.vr"
  - "10.2.11.40"
cluster-cidr: "10.42.0.0/16"
service-cidr: "10.43.0.0/16"
cni:
  - "cilium"
ingress-controller: "none"
disable-kube-proxy: true
disable-cloud-controller: false
write-kubeconfig-mode: "0600"
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_worker_says_only_what_an_agent_may_say() {
        let entry = Entry::Join {
            server: "https://172.20.0.86:9345".into(),
            token: Secret::new("K10ab::node:cd"),
            // Not for agents, and not written even if the caller is careless.
            agent_token: Some(Secret::new("agents-only")),
        };
        let text = render(&config(), &Role::Worker("gpu_".into()), &pinned(), &entry, &shape(3, 2, 0));
        let expected = r#"node-name: "oneke-7-master-42"
node-ip: "172.20.0.100"
node-label:
  - "oneke.opennebula.io/role=gpu"
kubelet-arg:
  - "provider-id=one://42"
server: "https://172.20.0.86:9345"
token: "K10ab::node:cd"
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn storage_nodes_are_kept_for_longhorn() {
        let text = render(&config(), &Role::Storage, &pinned(), &joins(), &shape(3, 2, 1));
        assert!(text.contains("- \"node.longhorn.io/create-default-disk=true\"\n"), "{text}");
        assert!(text.contains("- \"node.longhorn.io/create-default-disk=true:NoSchedule\"\n"), "{text}");
    }

    #[test]
    fn without_workers_the_masters_work() {
        // Storage nodes take no ordinary Pods. All zero: nothing is known of the service.
        for (masters, workers, storage, tainted) in [(3, 0, 1, false), (3, 1, 1, true), (0, 0, 0, true)] {
            let shape = shape(masters, workers, storage);
            let text = render(&config(), &Role::Master, &pinned(), &founds(), &shape);
            assert_eq!(text.contains("NoExecute"), tainted, "{shape:?}");
        }
    }

    #[test]
    fn the_one_node_of_a_cluster_has_longhorns_disk() {
        let mut config = config();
        config.node.longhorn = true;
        for (workers, labelled) in [(0, true), (1, false)] {
            let text = render(&config, &Role::Master, &pinned(), &founds(), &shape(1, workers, 0));
            assert_eq!(text.contains("create-default-disk"), labelled, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = render(&config(), &Role::Master, &pinned(), &joins(), &shape(3, 1, 0));
        let there = on_disk(&text).unwrap();
        let expected = OnDisk {
            server: Some("https://ep0.eth0.vr:9345".into()),
            token: Some(Secret::new("K10ab::server:cd")),
            agent_token: Some(Secret::new("agents-only")),
            node_name: Some("oneke-7-master-42".into()),
            node_ip: Some([172, 20, 0, 100].into()),
        };
        assert_eq!(there, expected);
    }

    #[test]
    fn the_old_appliances_file_is_understood() {
        let old = "---\nnode-name: oneke-ip-172-20-0-100\ntoken: K10x::server:y\ntls-san:\n- localhost\ncni:\n- cilium\n";
        let there = on_disk(old).unwrap();
        assert_eq!(there.node_name.as_deref(), Some("oneke-ip-172-20-0-100"));
        assert_eq!((there.server, there.node_ip), (None, None));
        // A short token of the user's own may look like a number.
        let short = on_disk("token: 0123\nnode-ip: [10.0.0.1, fd00::1]\ndebug: true\n").unwrap();
        assert_eq!(short.token, Some(Secret::new("0123")));
        assert_eq!(short.node_ip, Some([10, 0, 0, 1].into()));
        assert_eq!(on_disk("").unwrap(), OnDisk::default());
        assert_eq!(on_disk("# ours\n\n").unwrap(), OnDisk::default());
    }

    #[test]
    fn a_damaged_file_is_refused_without_its_secrets() {
        let why = on_disk("token: K10secret\n  server: [\n").unwrap_err();
        assert!(why.contains("line") && !why.contains("K10secret"), "{why}");
        assert!(on_disk("node-ip: here\n").unwrap_err().contains("node-ip"));
        assert!(on_disk("- a\n- b\n").is_err());
    }

    #[test]
    fn dual_stack_and_external_addresses() {
        let mut config = config();
        config.node.cluster_cidr.push("fd42::/56".parse().unwrap());
        config.node.service_cidr.push("fd43::/112".parse().unwrap());
        let mut pinned = pinned();
        pinned.vm = VmId(9);
        pinned.second_ip = Some("fd00::64".parse().unwrap());
        pinned.external = vec!["203.0.113.7".parse().unwrap()];
        let text = render(&config, &Role::Master, &pinned, &founds(), &shape(1, 0, 0));
        for line in [
            "node-ip: \"172.20.0.100,fd00::64\"",
            "node-external-ip: \"203.0.113.7\"",
            "cluster-cidr: \"10.42.0.0/16,fd42::/56\"",
            "service-cidr: \"10.43.0.0/16,fd43::/112\"",
            "  - \"fd00::64\"",
            "  - \"203.0.113.7\"",
            "  - \"provider-id=one://9\"",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
        assert_eq!(on_disk(&text).unwrap().node_ip, Some([172, 20, 0, 100].into()));
    }

    #[test]
    fn hosts_come_without_scheme_port_and_brackets() {
        for (text, host) in [
            ("https://a.b:6443", "a.b"),
            ("https://[fd00::1]:9345/x", "fd00::1"),
            ("fd00::1", "fd00::1"),
            ("10.0.0.1:6443", "10.0.0.1"),
            ("name", "name"),
            ("", ""),
        ] {
            assert_eq!(host_of(text), host);
        }
    }

    #[test]
    fn switches_reach_the_servers() {
        let mut config = config();
        config.node.cni = "canal".into();
        config.node.multus = true;
        config.node.cloud_controller = false;
        config.node.traefik = true;
        let text = render(&config, &Role::Master, &pinned(), &founds(), &shape(1, 1, 0));
        assert!(text.contains("cni:\n  - \"multus\"\n  - \"canal\"\n"), "{text}");
        assert!(text.contains("disable-kube-proxy: false\ndisable-cloud-controller: true\n"), "{text}");
        assert!(text.contains("ingress-controller: \"traefik\"\n"), "{text}");
        let worker = render(&config, &worker(), &pinned(), &joins(), &shape(1, 1, 0));
        assert!(!worker.contains("cni"), "{worker}");
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read_or_refused(text in "([a-z-]{0,12}: ?[^a]{0,12}\n){0,6}|.{0,80}") {
            let secret = format!("{text}\ntoken: K10secret");
            if let Err(why) = on_disk(&secret) {
                proptest::prop_assert!(!why.contains("K10secret"), "{}", why);
            }
        }
    }
}
