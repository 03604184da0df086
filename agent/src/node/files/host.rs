//! What RKE2 wants of the machine below it: kernel modules, kernel parameters, and network managers that leave the
//! cluster's links alone.

use super::addons;
use super::extra::is_hardened;
use crate::context::Config;
use crate::plan::{Content, FileSpec};
use crate::service::Role;

/// Loaded at boot by systemd-modules-load.
pub const MODULES: &str = "/etc/modules-load.d/oneke-rke2.conf";
/// Set at boot by systemd-sysctl.
pub const SYSCTL: &str = "/etc/sysctl.d/90-oneke-rke2.conf";
/// For NetworkManager, where it runs.
pub const NETWORK_MANAGER: &str = "/etc/NetworkManager/conf.d/90-oneke-rke2.conf";
/// For systemd-networkd.
pub const NETWORKD: &str = "/etc/systemd/networkd.conf.d/90-oneke-rke2.conf";

/// The kernel parameters of every node.
const PARAMETERS: [(&str, &str); 5] = [
    // Limits that busy nodes reach (RKE2's documentation, "Known issues").
    ("fs.inotify.max_user_instances", "8192"),
    ("fs.inotify.max_user_watches", "524288"),
    // Bridged packets pass the rules of kube-proxy and network policies; exist once br_netfilter is loaded.
    ("net.bridge.bridge-nf-call-ip6tables", "1"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("net.ipv4.ip_forward", "1"),
];

/// Without these a hardened RKE2 and its kubelet refuse to start (RKE2's documentation, "CIS Hardening Guide"; the
/// kubelet's `--protect-kernel-defaults`). The user `etcd`, which they want as well, comes with the package.
const HARDENED: [(&str, &str); 6] = [
    ("kernel.keys.root_maxbytes", "25000000"),
    ("kernel.keys.root_maxkeys", "1000000"),
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
];

/// The kernel parameters of [`SYSCTL`], to be set at once as well.
pub fn parameters(config: &Config) -> impl Iterator<Item = (&'static str, &'static str)> {
    let hardened = if is_hardened(config) { &HARDENED[..] } else { &[] };
    PARAMETERS.iter().chain(hardened).copied()
}

/// True if a parameter is as it shall be. A limit that somebody raised further stays.
pub fn is_set(key: &str, value: &str, wanted: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (number(value), number(wanted)) {
        (Some(value), Some(wanted)) if key.contains(".max_") => value >= wanted,
        _ => value.trim() == wanted,
    }
}

/// Links that the networks of RKE2 make.
const CLUSTER_LINKS: [&str; 14] = [
    "cali*",
    "cilium*",
    "cni*",
    "flannel*",
    "lxc*",
    "tunl*",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    // Kube-OVN's: its bridge, the node's own port, the host's ends of the Pods' pairs, and tunnels.
    "br-int",
    "ovn*",
    "ovs-system",
    "*_h",
    "genev_sys_*",
];

/// The files.
pub fn host(config: &Config, role: &Role) -> Vec<FileSpec> {
    let mut modules = vec!["br_netfilter", "overlay"];
    modules.extend(addons::modules(config, role));
    let sysctl: String = parameters(config).map(|(key, value)| format!("{key} = {value}\n")).collect();
    let links: Vec<String> = CLUSTER_LINKS.iter().map(|link| format!("interface-name:{link}")).collect();
    vec![
        public(MODULES, modules.join("\n") + "\n"),
        public(SYSCTL, sysctl),
        public(NETWORK_MANAGER, format!("[keyfile]\nunmanaged-devices={}\n", links.join(";"))),
        // networkd removes routes and rules that are not its own when it restarts; Cilium's are not (Cilium's
        // documentation, "System Requirements").
        public(NETWORKD, "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n".into()),
    ]
}

fn public(path: &str, text: String) -> FileSpec {
    FileSpec { path: path.into(), mode: 0o644, content: Content::Public(text), checker: None }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, text, worker};
    use super::*;

    #[test]
    fn the_machine_is_prepared() {
        let mut config = config();
        let files = host(&config, &worker());
        assert_eq!(text(&files, MODULES), "br_netfilter\noverlay\n");
        assert!(text(&files, SYSCTL).contains("fs.inotify.max_user_instances = 8192\n"));
        assert!(
            text(&files, NETWORK_MANAGER).starts_with("[keyfile]\nunmanaged-devices=interface-name:cali*;")
        );
        assert!(files.iter().all(|file| file.mode == 0o644 && file.content.as_str().ends_with('\n')));
        assert!(!text(&files, SYSCTL).contains("kernel.panic"));
        config.node.extra_config = Some(crate::plan::Secret::new("profile: cis\n"));
        assert!(text(&host(&config, &worker()), SYSCTL).contains("kernel.panic = 10\n"));
        config.node.longhorn = true;
        assert_eq!(text(&host(&config, &worker()), MODULES), "br_netfilter\noverlay\niscsi_tcp\ndm_crypt\n");
    }
}
