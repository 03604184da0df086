//! Renders unbound's part of ours: a recursor for the cluster's networks that knows the cluster's own names.
//!
//! It listens on virtual addresses before it holds them (`ip-freebind`), and does not validate DNSSEC, as the old
//! appliance did not: forwarders in private networks often strip it.

use std::net::IpAddr;

use crate::context::vnf::DnsConfig;

/// Where it is; Debian's and Ubuntu's `unbound.conf` includes that directory.
pub const PATH: &str = "/etc/unbound/unbound.conf.d/oneke.conf";
/// Its unit.
pub const UNIT: &str = "unbound.service";

/// The whole file.
pub fn render(config: &DnsConfig) -> String {
    let mut text = String::from(
        "# Written by oneke-agent from the VM's context; changes here are overwritten.\nserver:\n    module-config: \"iterator\"\n",
    );
    text.push_str("    interface: 127.0.0.1\n");
    for listen in &config.listen {
        text.push_str(&format!("    interface: {}\n", at(listen.address, listen.port)));
    }
    text.push_str("    ip-freebind: yes\n");
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let v6 = |address: &IpAddr| address.is_ipv6();
    let needs_v6 = config.listen.iter().any(|listen| v6(&listen.address))
        || config.forwarders.iter().flatten().any(|forwarder| v6(&forwarder.address))
        || config.allowed.iter().any(|network| v6(&network.addr()));
    text.push_str(&format!(
        "    do-ip4: yes\n    do-ip6: {}\n    do-udp: {}\n    do-tcp: {}\n    tcp-upstream: {}\n    \
             udp-upstream-without-downstream: {}\n",
        yes_no(needs_v6),
        yes_no(config.udp),
        yes_no(config.tcp),
        yes_no(!config.udp),
        yes_no(config.udp),
    ));
    text.push_str(&format!(
            "    unknown-server-time-limit: {}\n    cache-min-ttl: 0\n    cache-max-ttl: {}\n    serve-expired: no\n",
            config.timeout_ms, config.max_ttl_secs
        ));
    text.push_str("    access-control: 0.0.0.0/0 refuse\n    access-control: ::0/0 refuse\n");
    text.push_str("    access-control: 127.0.0.0/8 allow\n");
    for network in &config.allowed {
        text.push_str(&format!("    access-control: {network} allow\n"));
    }
    text.push_str("    hide-identity: yes\n    hide-version: yes\n");
    text.push_str(&format!("    local-zone: \"{}.\" static\n", config.domain));
    for (name, address) in &config.records {
        text.push_str(&format!("    local-data: \"{name}.{}. IN A {address}\"\n", config.domain));
    }
    if let Some(forwarders) = &config.forwarders {
        text.push_str("\nforward-zone:\n    name: \".\"\n");
        for forwarder in forwarders {
            text.push_str(&format!("    forward-addr: {}\n", at(forwarder.address, forwarder.port)));
        }
    }
    text
}

/// `10.0.0.1@53`.
fn at(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| format!("{address}@{port}"))
}
