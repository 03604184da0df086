//! The administrator's kubeconfig as people use it: RKE2's own leads to the server itself (127.0.0.1), theirs to the
//! control plane's endpoint.

use std::net::IpAddr;

use super::host_port;
use crate::context::Config;
use crate::plan::Secret;

/// RKE2's own, on servers; root alone reads it.
pub const PATH: &str = "/etc/rancher/rke2/rke2.yaml";
/// Where a server's API listens.
const API_PORT: u16 = 6443;

/// `host:port` by which clients reach the API: the context's endpoint, else this master itself.
pub fn endpoint(config: &Config, own: IpAddr) -> String {
    match &config.node.control_plane {
        Some((host, port)) => host_port(host, *port),
        None => host_port(&own.to_string(), API_PORT),
    }
}

/// RKE2's kubeconfig with another server.
///
/// # Errors
/// If the text is not what RKE2 writes: one cluster. It is not repeated, for it holds a private key.
pub fn leading_to(endpoint: &str, rke2: &Secret) -> Result<Secret, String> {
    let mut changed = 0;
    let mut text = String::new();
    for line in rke2.expose().lines() {
        match line.split_once("server:") {
            Some((indent, _)) if indent.trim().is_empty() => {
                changed += 1;
                text.push_str(&format!("{indent}server: https://{endpoint}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    let text = Secret::new(text);
    if changed == 1 {
        return Ok(text);
    }
    Err(format!("{PATH} names {changed} servers where RKE2 writes one: it was changed, or is half written"))
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;

    const RKE2: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://127.0.0.1:6443\n  name: default\nkind: Config\nusers:\n- name: default\n  user:\n    client-key-data: S0VZ\n";

    #[test]
    fn only_the_server_changes() {
        let theirs = leading_to("[fd00::1]:6443", &Secret::new(RKE2)).unwrap();
        assert_eq!(theirs.expose(), RKE2.replace("127.0.0.1", "[fd00::1]"));
        for wrong in ["", "apiVersion: v1\n", &format!("{RKE2}{RKE2}")] {
            let why = leading_to("x:1", &Secret::new(wrong)).unwrap_err();
            assert!(why.contains(PATH) && !why.contains("S0VZ"), "{why}");
        }
    }

    #[test]
    fn without_an_endpoint_the_master_itself_is_named() {
        let mut config = fixture::config();
        let own: IpAddr = [172, 20, 0, 100].into();
        assert_eq!(endpoint(&config, own), "ep0.eth0.vr:6443");
        config.node.control_plane = None;
        assert_eq!(endpoint(&config, own), "172.20.0.100:6443");
    }
}
