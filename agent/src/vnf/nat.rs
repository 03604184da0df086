//! Renders the one nftables table that is ours. Loading the file replaces the table in one transaction and touches no
//! other table.

use super::links::Names;
use crate::context::vnf::NatConfig;

/// Where it is.
pub const PATH: &str = "/etc/nftables.d/oneke.nft";
/// A oneshot of ours that loads the file, at boot before the network's addresses are served and on reload.
pub const UNIT: &str = "oneke-nft.service";

/// The whole file; without a configuration it removes the table.
pub fn render(config: Option<&NatConfig>, names: &Names) -> String {
    // Naming the table before deleting it makes the deletion right even where there is none.
    let mut text = String::from(
        "# Written by oneke-agent from the VM's context; changes here are overwritten.\ntable ip oneke\ndelete table ip oneke\n",
    );
    let Some(config) = config.filter(|config| **config != NatConfig::default()) else { return text };
    text.push_str("\ntable ip oneke {\n");
    text.push_str(
        "    chain prerouting {\n        type nat hook prerouting priority dstnat; policy accept;\n",
    );
    for forward in &config.forwards {
        let to = forward.to.map_or_else(String::new, |to| match to.prefix_len() {
            32 => format!("ip daddr {} ", to.addr()),
            _ => format!("ip daddr {to} "),
        });
        let target_port = forward.target_port.map_or_else(String::new, |port| format!(":{port}"));
        for protocol in ["tcp", "udp"] {
            let (port, target) = (forward.port, forward.target);
            text.push_str(&format!("        {to}{protocol} dport {port} dnat to {target}{target_port}\n"));
        }
    }
    text.push_str("    }\n\n    chain postrouting {\n");
    text.push_str("        type nat hook postrouting priority srcnat; policy accept;\n");
    for nic in &config.outward {
        let name = names.of(*nic);
        text.push_str(&match config.synced.as_ref().and_then(|synced| synced.get(nic)) {
            // What this VM sends itself keeps its address: the virtual one may be elsewhere.
            Some(vip) => format!("        oifname \"{name}\" fib saddr type != local snat to {vip}\n"),
            None => format!("        oifname \"{name}\" masquerade\n"),
        });
    }
    text.push_str("    }\n}\n");
    text
}
