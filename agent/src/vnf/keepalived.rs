//! Renders `/etc/keepalived/keepalived.conf`.
//!
//! What moves the addresses is this VM's own health: the carrier of every NIC that carries one, and its HAProxy; never
//! the backends'. Both lower the priority instead of giving the addresses up, so that a fault that all VMs share (a
//! dead public switch) does not leave the cluster without its gateway. Priorities are otherwise equal, and an equal
//! one never takes over from a living master, so addresses stay where they are when a VM comes back.
//!
//! A backup waits (256 - priority) / 256 of a second before it succeeds a master that resigned (RFC 5798, 6.1, "skew"):
//! 0.6 s at the usual 100. So the loopback interface, which is always up, adds to every VM's priority alike ([`lift`]);
//! what is ill costs that as well, so that a router without it, of the old appliance, is preferred to one that is ill.
//!
//! Whole seconds speak VRRP version 2, as the old appliance does, so that both can share a role; fractions need version
//! 3. Who holds what is seen on the NICs themselves, not told by Keepalived: it survives a restart of either.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::links::Names;
use super::peers::Peers;
use crate::context::vnf::{Instance, VrrpConfig};
use crate::plan::{Content, Secret};

/// Where it is.
pub const PATH: &str = "/etc/keepalived/keepalived.conf";
/// Its unit.
pub const UNIT: &str = "keepalived.service";
/// What Keepalived runs to ask HAProxy.
pub const CHECK_PATH: &str = "/etc/keepalived/check-haproxy";

/// The check's program: HAProxy itself must answer, within Keepalived's time-out.
pub const CHECK: &str = "\
#!/bin/bash
# Written by oneke-agent; changes here are overwritten. True as long as HAProxy answers.
exec 3<>/dev/tcp/127.0.0.1/8405 || exit 1
printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3
read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]
";

/// How much a lost NIC costs. More than a dead HAProxy: routing, NAT and names need the NIC, too.
const NIC_WEIGHT: u16 = 40;
/// How much a dead HAProxy costs.
const HAPROXY_WEIGHT: u16 = 20;
/// How much a priority of 100 or less is lifted. At 200 the skew is 0.22 s, and there is room for higher ones.
const LIFT: u16 = 100;
/// The highest that adding makes of a priority (keepalived: VRRP_PRIO_OWNER is 255).
const HIGHEST: u16 = 254;

/// The whole file, with IPVS's part at its end. It is secret if it has a password.
pub fn render(
    config: &VrrpConfig,
    names: &Names,
    peers: &Peers,
    balances: bool,
    virtual_servers: &str,
) -> Content {
    // Without a router_id Keepalived looks up the machine's own host name, and hangs where no name server answers.
    let mut text = String::from(
        "# Written by oneke-agent from the VM's context; changes here are overwritten.\n\
         global_defs {\n    router_id oneke\n    enable_script_security\n    script_user root\n    \
         vrrp_garp_master_repeat 3\n    vrrp_garp_master_refresh 30\n    vrrp_garp_master_refresh_repeat 1\n}\n",
    );
    if balances {
        // Two failures take a second or two; three successes prove that it stays.
        let cost = lift(config) + HAPROXY_WEIGHT;
        text.push_str(&format!(
                "\nvrrp_script haproxy {{\n    script \"{CHECK_PATH}\"\n    interval 1\n    timeout 2\n    fall 2\n    \
                 rise 3\n    weight -{cost}\n}}\n"
            ));
    }
    // A group of one says nothing, and Keepalived warns of it.
    if config.instances.len() > 1 {
        render_group(&mut text, config, names, balances);
    }
    for instance in &config.instances {
        render_instance(&mut text, instance, names, peers.get(&instance.nic).map_or(&[], Vec::as_slice));
        if config.instances.len() == 1 {
            text.push_str(&tracked(config, names, balances));
        }
        text.push_str("}\n");
    }
    text.push_str(virtual_servers);
    let is_secret = config.instances.iter().any(|instance| instance.password.is_some());
    if is_secret { Content::Secret(Secret::new(text)) } else { Content::Public(text) }
}

fn render_group(text: &mut String, config: &VrrpConfig, names: &Names, balances: bool) {
    text.push_str("\nvrrp_sync_group VRouter {\n    group {\n");
    for instance in &config.instances {
        text.push_str(&format!("        {}\n", instance.name()));
    }
    // One priority for the whole group: it must move as one.
    text.push_str("    }\n    sync_group_tracking_weight\n");
    text.push_str(&tracked(config, names, balances));
    text.push_str("}\n");
}

fn render_instance(text: &mut String, instance: &Instance, names: &Names, peers: &[Ipv4Addr]) {
    let nic = names.of(instance.nic);
    let version = if instance.interval.is_whole() { 2 } else { 3 };
    let Instance { vrid, priority, interval, .. } = instance;
    text.push_str(&format!(
        "\nvrrp_instance {} {{\n    state BACKUP\n    interface {nic}\n    version {version}\n    \
             virtual_router_id {vrid}\n    priority {priority}\n    advert_int {interval}\n",
        instance.name()
    ));
    if let Some(password) = &instance.password {
        let password = password.expose();
        text.push_str(&format!(
            "    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}\n"
        ));
    }
    if !peers.is_empty() {
        text.push_str(&format!("    unicast_src_ip {}\n    unicast_peer {{\n", instance.network.0));
        for peer in peers {
            text.push_str(&format!("        {peer}\n"));
        }
        text.push_str("    }\n");
    }
    // Empty blocks are refused or warned about.
    if !instance.vips.is_empty() {
        text.push_str("    virtual_ipaddress {\n");
        for vip in &instance.vips {
            // Left to itself Keepalived gives everything up when the NIC of any address is down.
            let untracked = if vip.nic == instance.nic { "" } else { " no_track" };
            text.push_str(&format!(
                "        {}/{} dev {}{untracked}\n",
                vip.ip,
                vip.prefix,
                names.of(vip.nic)
            ));
        }
        text.push_str("    }\n");
    }
    if let Some((nic, gateway)) = &instance.gateway {
        // onlink: the gateway's network may be known by a virtual address alone.
        text.push_str(&format!(
            "    virtual_routes {{\n        0.0.0.0/0 via {gateway} dev {} onlink\n    }}\n",
            names.of(*nic)
        ));
    }
}

/// How much is added to these priorities, one number for the group. What is above 100 shares the room that is left up to
/// 254: who was given more than another keeps more, or at least as much.
fn lift(config: &VrrpConfig) -> u16 {
    lift_of(config.instances.iter().map(|instance| instance.priority))
}

fn lift_of(priorities: impl Iterator<Item = u8>) -> u16 {
    let highest = u16::from(priorities.max().unwrap_or_default());
    (HIGHEST.saturating_sub(highest) * LIFT).div_ceil(HIGHEST - 100).min(LIFT)
}

/// The lift, and NICs that carry addresses but speak no VRRP; those that do are watched by Keepalived anyway.
fn tracked(config: &VrrpConfig, names: &Names, balances: bool) -> String {
    let speakers: BTreeSet<u8> = config.instances.iter().map(|instance| instance.nic).collect();
    let carriers: BTreeSet<u8> = config.instances.iter().flat_map(|i| &i.vips).map(|vip| vip.nic).collect();
    let mut text = String::new();
    let lift = lift(config);
    let lifted = (lift > 0).then(|| format!("        lo weight {lift}\n"));
    let silent = carriers.difference(&speakers);
    let cost = lift + NIC_WEIGHT;
    let lost = silent.map(|nic| format!("        {} weight -{cost}\n", names.of(*nic)));
    let interfaces: String = lifted.into_iter().chain(lost).collect();
    if !interfaces.is_empty() {
        text.push_str(&format!("    track_interface {{\n{interfaces}    }}\n"));
    }
    if balances {
        text.push_str("    track_script {\n        haproxy\n    }\n");
    }
    text
}

/// The unicast peers that the file has.
pub fn peers_in_force(file: &str) -> Peers {
    let mut peers = Peers::new();
    let (mut nic, mut inside) = (None, false);
    for line in file.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("vrrp_instance ETH") {
            nic = name.split_whitespace().next().and_then(|digits| digits.parse::<u8>().ok());
        } else if line.starts_with("unicast_peer") {
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if let (true, Some(nic), Ok(peer)) = (inside, nic, line.parse()) {
            peers.entry(nic).or_default().push(peer);
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lift_keeps_the_order_of_priorities() {
        let lifted = |priority: u8| u16::from(priority) + lift_of([priority].into_iter());
        let all: Vec<u16> = (1..=254).map(lifted).collect();
        assert!(all.is_sorted(), "{all:?}");
        assert_eq!([1, 99, 100, 101, 150, 253, 254].map(lifted), [101, 199, 200, 201, 218, 254, 254]);
        assert_eq!(lifted(255), 255, "it owns the addresses");
        assert_eq!(
            lift_of([100, 150].into_iter()),
            lift_of([150].into_iter()),
            "one for the group, and none is cut off"
        );
    }
}
