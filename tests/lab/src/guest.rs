//! What the image does around the agent, as far as the lab needs it: the network as the context says, before the first
//! service starts. On a network without a gateway (OneKE's private one) that is the private virtual address.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::network::{Network, Port};

/// The variables of a `context.sh`: `KEY='value'` with `'` written as `'\''`.
pub fn variables(context: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut rest = context;
    while let Some((name, after)) = rest.split_once("='") {
        let name = name.rsplit('\n').next().unwrap_or(name).trim();
        let (value, after) = quoted(after);
        variables.insert(name.to_owned(), value);
        rest = after;
    }
    variables
}

/// The value up to its closing quote, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    while let Some((part, after)) = rest.split_once('\'') {
        value.push_str(part);
        match after.strip_prefix("\\''") {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return (value, after),
        }
    }
    (value, "")
}

/// The ports that `ETHx_MAC` and `ETHx_IP` name, in order.
pub fn ports(variables: &BTreeMap<String, String>) -> Vec<Port> {
    let port = |index: u8| {
        let mac = variables.get(&format!("ETH{index}_MAC"))?.clone();
        let network = Network::of(variables.get(&format!("ETH{index}_IP"))?)?;
        Some(Port { index, mac, network })
    };
    (0..8).filter_map(port).collect()
}

/// Writes the guest's network configuration below `root`: one file per NIC, matched by MAC, the name servers, and the
/// guest's own name, which programs look up when they start.
///
/// # Errors
/// When a file cannot be written.
pub fn configure(root: &Path, name: &str, variables: &BTreeMap<String, String>) -> Result<()> {
    let directory = root.join("etc/systemd/network");
    fs::create_dir_all(&directory).context("could not make the guest's network directory")?;
    for port in ports(variables) {
        let file = directory.join(format!("10-eth{}.network", port.index));
        fs::write(&file, network_file(&port, variables))
            .with_context(|| format!("could not write {}", file.display()))?;
    }
    fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n"))
        .context("could not write the guest's hosts")?;
    let servers = servers(variables);
    if !servers.is_empty() {
        let file = root.join("etc/resolv.conf");
        if file.is_symlink() {
            fs::remove_file(&file).context("could not remove the guest's resolv.conf")?;
        }
        fs::write(&file, servers).context("could not write the guest's resolv.conf")?;
    }
    Ok(())
}

fn network_file(port: &Port, variables: &BTreeMap<String, String>) -> String {
    let value = |key: &str| {
        let text = variables.get(&format!("ETH{}_{key}", port.index)).map(String::as_str);
        text.filter(|text| !text.is_empty())
    };
    let mask = value("MASK").and_then(|mask| mask.parse::<Ipv4Addr>().ok());
    let length = mask.map_or(24, |mask| u32::from(mask).count_ones());
    let mut text = format!("[Match]\nMACAddress={}\n\n[Network]\nLinkLocalAddressing=no\n", port.mac);
    if let Some(address) = value("IP") {
        let _ = writeln!(text, "Address={address}/{length}");
    }
    if let Some(gateway) = value("GATEWAY").or_else(|| fallback_gateway(port, variables)) {
        let _ = writeln!(text, "Gateway={gateway}");
    }
    // A link-local OneGate (the transparent proxy) is reached on the first NIC, as one-context sets it up.
    let onegate = variables.get("ONEGATE_ENDPOINT").map(|endpoint| endpoint.trim_start_matches("http://"));
    if let (0, Some(address)) = (port.index, onegate.filter(|endpoint| endpoint.starts_with("169.254."))) {
        let address = address.split(':').next().unwrap_or(address);
        let _ = write!(text, "\n[Route]\nDestination={address}/32\nScope=link\n");
    }
    text
}

/// The way out of a node whose only network has no gateway: through the vnf, as OneKE's contexts name it.
fn fallback_gateway<'a>(port: &Port, variables: &'a BTreeMap<String, String>) -> Option<&'a str> {
    if port.index != 0 || variables.contains_key("ETH1_MAC") {
        return None;
    }
    let named =
        ["ONEAPP_VROUTER_ETH1_VIP0", "FALLBACK_GW"].into_iter().filter_map(|name| variables.get(name));
    named.map(String::as_str).find(|address| !address.is_empty())
}

fn servers(variables: &BTreeMap<String, String>) -> String {
    let lists = (0..8).filter_map(|index| variables.get(&format!("ETH{index}_DNS")));
    lists.flat_map(|list| list.split_whitespace()).fold(String::new(), |mut text, server| {
        let _ = writeln!(text, "nameserver {server}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: &str = "# Context variables generated by OpenNebula\nDISK_ID='1'\nETH0_DNS='10.77.0.1'\n\
        ETH0_IP='10.77.0.10'\nETH0_MAC='02:00:0a:4d:00:0a'\nETH0_MASK='255.255.0.0'\nETH0_GATEWAY='10.77.0.1'\n\
        ETH1_IP='172.27.0.10'\nETH1_MAC='02:00:ac:1b:00:0a'\nETH1_GATEWAY=''\n\
        ONEGATE_ENDPOINT='http://169.254.16.9:5030'\nSCRIPT='echo '\\''a'\\''\nETH1_IP=trap'\nLAST='x'\n";

    #[test]
    fn quotes_and_line_breaks_inside_values_are_kept() {
        let variables = variables(CONTEXT);
        assert_eq!(variables["SCRIPT"], "echo 'a'\nETH1_IP=trap");
        assert_eq!(variables["LAST"], "x");
        assert_eq!(variables["ETH1_IP"], "172.27.0.10");
    }

    #[test]
    fn each_nic_gets_its_file() {
        let variables = variables(CONTEXT);
        let ports = ports(&variables);
        assert_eq!(
            ports.iter().map(|port| port.network).collect::<Vec<_>>(),
            [Network::Public, Network::Private]
        );
        assert_eq!(
            network_file(&ports[0], &variables),
            "[Match]\nMACAddress=02:00:0a:4d:00:0a\n\n[Network]\nLinkLocalAddressing=no\nAddress=10.77.0.10/16\n\
             Gateway=10.77.0.1\n\n[Route]\nDestination=169.254.16.9/32\nScope=link\n"
        );
        assert_eq!(
            network_file(&ports[1], &variables),
            "[Match]\nMACAddress=02:00:ac:1b:00:0a\n\n[Network]\nLinkLocalAddressing=no\nAddress=172.27.0.10/24\n"
        );
    }

    #[test]
    fn a_node_without_a_gateway_goes_through_the_vnf() {
        let node = "ETH0_MAC='02:00:ac:1b:00:0b'\nETH0_IP='172.27.0.11'\nETH0_GATEWAY=''\nFALLBACK_GW='172.27.0.100'\n";
        let gateway = |context: &str| {
            let variables = variables(context);
            let file = network_file(&ports(&variables)[0], &variables);
            file.lines().find_map(|line| line.strip_prefix("Gateway=").map(str::to_owned))
        };
        assert_eq!(gateway(node).as_deref(), Some("172.27.0.100"));
        let with_vip = format!("{node}ONEAPP_VROUTER_ETH1_VIP0='172.27.0.10'\n");
        assert_eq!(gateway(&with_vip).as_deref(), Some("172.27.0.10"));
        assert_eq!(gateway(&format!("{with_vip}ETH1_MAC='02:00:00:00:00:01'\n")), None);
    }

    #[test]
    fn the_files_are_written_where_networkd_looks() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        configure(root.path(), "vm3", &variables(CONTEXT)).unwrap();
        assert!(root.path().join("etc/systemd/network/10-eth1.network").exists());
        assert_eq!(
            fs::read_to_string(root.path().join("etc/resolv.conf")).unwrap(),
            "nameserver 10.77.0.1\n"
        );
    }
}
