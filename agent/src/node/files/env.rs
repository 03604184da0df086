//! `/etc/default/rke2-server` and `-agent`: the proxy for RKE2, containerd and the kubelet, and what goes around it.

use ipnet::IpNet;

use super::config::{bare_host, host_of, unique};
use super::{Entry, MARK, Pinned, private, secret};
use crate::context::{Config, Nic};
use crate::plan::FileSpec;
use crate::service::Role;

/// Where the unit of this role reads its environment.
pub(super) fn path(role: &Role) -> &'static str {
    match role {
        Role::Master => "/etc/default/rke2-server",
        Role::Worker(_) | Role::Storage | Role::Vnf => "/etc/default/rke2-agent",
    }
}

/// The file, if the context names a proxy.
pub(super) fn proxy(config: &Config, role: &Role, pinned: &Pinned, entry: &Entry) -> Option<FileSpec> {
    let node = &config.node;
    if node.http_proxy.is_none() && node.https_proxy.is_none() {
        return None;
    }
    let around = node.no_proxy.clone().unwrap_or_else(|| no_proxy(config, pinned, entry).join(","));
    let mut text = MARK.to_owned();
    let pairs =
        [("HTTP_PROXY", &node.http_proxy), ("HTTPS_PROXY", &node.https_proxy), ("NO_PROXY", &Some(around))];
    for (name, value) in pairs {
        if let Some(value) = value {
            text.push_str(&format!("{name}={}\n", quoted(value)));
        }
    }
    // A URL with a user has a password in it, as a rule.
    let has_user = [&node.http_proxy, &node.https_proxy].into_iter().flatten().any(|url| url.contains('@'));
    Some(if has_user { secret(path(role), text) } else { private(path(role), text) })
}

/// Everything inside: the node itself, its networks, the cluster's, and the endpoints.
fn no_proxy(config: &Config, pinned: &Pinned, entry: &Entry) -> Vec<String> {
    let node = &config.node;
    let mut around: Vec<String> =
        ["localhost", "127.0.0.0/8", "::1", ".svc", ".cluster.local"].map(str::to_owned).into();
    around.extend(config.nics.iter().filter_map(network).map(|network| network.to_string()));
    around.extend(std::iter::once(&pinned.ip).chain(&pinned.second_ip).map(ToString::to_string));
    around.extend(node.cluster_cidr.iter().chain(&node.service_cidr).map(ToString::to_string));
    around.extend(node.eth0_vip0.iter().chain(&node.eth1_vip0).map(ToString::to_string));
    around.extend(config.nics.iter().flat_map(|nic| &nic.vips).map(|(_, vip, _)| vip.to_string()));
    around.extend(
        node.supervisor.iter().chain(&node.control_plane).map(|(host, _)| bare_host(host).to_owned()),
    );
    if let Entry::Join { server, .. } = entry {
        around.push(host_of(server).to_owned());
    }
    unique(around)
}

/// The network of a NIC.
pub(super) fn network(nic: &Nic) -> Option<IpNet> {
    IpNet::new(nic.ip?.into(), nic.prefix).ok().map(|network| network.trunc())
}

/// A value as systemd reads it in an environment file (systemd.exec, EnvironmentFile=): in double quotes a backslash
/// guards `"`, `\`, `` ` `` and `$`.
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, joins, pinned, worker};
    use super::*;

    #[test]
    fn without_a_proxy_there_is_no_file() {
        assert_eq!(proxy(&config(), &Role::Master, &pinned(), &joins()), None);
    }

    #[test]
    fn everything_inside_goes_around_the_proxy() {
        let mut config = config();
        config.node.http_proxy = Some("http://10.9.9.9:3128".into());
        let file = proxy(&config, &worker(), &pinned(), &joins()).unwrap();
        assert_eq!(file.path, "/etc/default/rke2-agent");
        let expected = "# Written by oneke-agent.\nHTTP_PROXY=\"http://10.9.9.9:3128\"\nNO_PROXY=\"localhost,127.0.0.0/8,::1,.svc,.cluster.local,\
                        172.20.0.0/24,172.20.0.100,10.42.0.0/16,10.43.0.0/16,10.2.11.86,172.20.0.86,ep0.eth0.vr\"\n";
        assert_eq!(file.content.as_str(), expected);
        assert!(matches!(file.content, crate::plan::Content::Public(_)));
    }

    #[test]
    fn a_password_is_kept_from_logs_and_from_systemds_quoting() {
        let mut config = config();
        config.node.https_proxy = Some("http://me:a\"b\\c$d`e@proxy:1".into());
        config.node.no_proxy = Some("only.this".into());
        let file = proxy(&config, &Role::Master, &pinned(), &joins()).unwrap();
        assert_eq!((file.path.as_str(), file.mode), ("/etc/default/rke2-server", 0o600));
        assert_eq!(
            file.content.as_str(),
            "# Written by oneke-agent.\nHTTPS_PROXY=\"http://me:a\\\"b\\\\c\\$d\\`e@proxy:1\"\nNO_PROXY=\"only.this\"\n"
        );
        assert!(!format!("{file:?}").contains("a\\\"b"));
    }
}
