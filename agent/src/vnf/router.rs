//! Which NICs forward, as kernel parameters: a file for the next boot, and the live values.

use std::collections::BTreeSet;

use super::links::Names;
use crate::context::Nic;
use crate::context::vnf::RouterConfig;

/// Where it is.
pub const PATH: &str = "/etc/sysctl.d/98-oneke-router.conf";
/// Lets HAProxy listen on virtual addresses that another VM holds.
pub const NONLOCAL_BIND: &str = "net.ipv4.ip_nonlocal_bind";

/// Setting it overwrites every NIC's own.
pub const ALL_FORWARDING: &str = "net.ipv4.conf.all.forwarding";

/// All parameters, in the order in which they must be set.
pub fn parameters(config: &RouterConfig, nics: &[Nic], names: &Names) -> Vec<(String, &'static str)> {
    let mut parameters: Vec<(String, &'static str)> =
        [(NONLOCAL_BIND, "1"), (ALL_FORWARDING, "0"), ("net.ipv4.conf.default.forwarding", "0")]
            .map(|(key, value)| (key.to_owned(), value))
            .into();
    // A list can name interfaces that the context does not know.
    let all: BTreeSet<u8> =
        nics.iter().map(|nic| nic.index).chain(config.forwarding.iter().copied()).collect();
    for nic in all {
        let value = if config.forwarding.contains(&nic) { "1" } else { "0" };
        parameters.push((format!("net.ipv4.conf.{}.forwarding", names.of(nic)), value));
    }
    parameters
}

/// The file.
pub fn render(parameters: &[(String, &'static str)]) -> String {
    let mut text =
        String::from("# Written by oneke-agent from the VM's context; changes here are overwritten.\n");
    for (key, value) in parameters {
        text.push_str(key);
        text.push_str(" = ");
        text.push_str(value);
        text.push('\n');
    }
    text
}
