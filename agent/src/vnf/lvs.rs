//! Renders Keepalived's `virtual_server` blocks (IPVS), and reads their servers back.
//!
//! They stand in `keepalived.conf` behind the VRRP instances. Comments say which balancer a block is and which VM
//! offered a server, so that the file remembers what is in force.

use std::net::{IpAddr, Ipv4Addr};

use super::backends::{AS_OF, Backend, Backends, InForce, Listener, as_of};
use crate::context::vnf::{Host, LvsConfig, LvsMethod, Protocol, Server, VirtualServer, limit, weight};
use crate::service::VmId;
use crate::service::offers::Family;

/// There in every kernel that has IPVS loaded.
pub const PARAMETER: &str = "net.ipv4.vs.expire_nodest_conn";

/// Keepalived loads the kernel's part when it starts. Where there is none it ends at once, and VRRP with it (2.2.7:
/// "exited with permanent error FATAL"), although `keepalived -t` accepts the file.
pub const KERNEL_LACKS_IT: &str = "the kernel has no IPVS (module ip_vs), without which Keepalived ends at once, and the virtual addresses with it: boot a kernel that has the module, or drop ONEAPP_VNF_LB_ENABLED; see journalctl -u keepalived";

/// The listeners of the configuration.
pub fn listeners(config: &LvsConfig) -> Vec<Listener> {
    config.services.iter().map(listener).collect()
}

/// Where a service listens.
pub fn listener(service: &VirtualServer) -> Listener {
    Listener { slot: (Family::Lvs, service.index), address: service.address, port: service.port }
}

/// All blocks. A service without servers has none: Keepalived ignores it with a warning.
pub fn render(config: &LvsConfig, in_force: &InForce) -> String {
    let blocks: String =
        config.services.iter().map(|service| render_service(service, &in_force.backends)).collect();
    if config.dynamic { format!("\n{AS_OF}{}\n{blocks}", in_force.as_of) } else { blocks }
}

fn render_service(service: &VirtualServer, backends: &Backends) -> String {
    let is_static =
        |server: &Server| service.servers.iter().any(|s| s.host == server.host && s.port == server.port);
    let offered = backends.get(&listener(service)).into_iter().flat_map(|servers| servers.values());
    let offered = offered.filter(|backend| !is_static(&backend.server));
    let servers: String = service
        .servers
        .iter()
        .map(|server| (None, server))
        .chain(offered.map(|backend| (Some(backend.vm), &backend.server)))
        .filter_map(|(vm, server)| render_server(vm, server, service))
        .collect();
    if servers.is_empty() {
        return String::new();
    }
    let VirtualServer { index, address, .. } = service;
    let port = service.port.map_or_else(String::new, |port| format!(" {port}"));
    let mut text = format!("\n# lb{index}\nvirtual_server {address}{port} {{\n    delay_loop 6\n");
    service.scheduler.iter().for_each(|word| text.push_str(&format!("    lb_algo {word}\n")));
    service
        .method
        .iter()
        .for_each(|method| text.push_str(&format!("    lb_kind {}\n", method_word(*method))));
    service.protocol.iter().for_each(|p| text.push_str(&format!("    protocol {}\n", protocol_word(*p))));
    text.push_str(&servers);
    text.push_str("}\n");
    text
}

fn method_word(method: LvsMethod) -> &'static str {
    match method {
        LvsMethod::Nat => "NAT",
        LvsMethod::Dr => "DR",
        LvsMethod::Tun => "TUN",
    }
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// `None` for a name: IPVS knows addresses only.
fn render_server(vm: Option<VmId>, server: &Server, service: &VirtualServer) -> Option<String> {
    let Host::Address(address) = server.host else { return None };
    let port = server.port.map_or_else(String::new, |port| format!(" {port}"));
    let mut text = vm.map_or_else(String::new, |vm| format!("    # vm{vm}\n"));
    text.push_str(&format!("    real_server {address}{port} {{\n"));
    server.weight.iter().for_each(|weight| text.push_str(&format!("        weight {weight}\n")));
    server.upper.iter().for_each(|upper| text.push_str(&format!("        uthreshold {upper}\n")));
    server.lower.iter().for_each(|lower| text.push_str(&format!("        lthreshold {lower}\n")));
    match (server.port, service.protocol) {
        (Some(port), Some(Protocol::Tcp)) => text.push_str(&format!(
            "        TCP_CHECK {{\n            connect_timeout 3\n            connect_port {port}\n        }}\n"
        )),
        _ => text.push_str("        PING_CHECK {\n            retry 4\n        }\n"),
    }
    text.push_str("    }\n");
    Some(text)
}

/// The servers that VMs offered, as the file has them: what is in force.
pub fn in_force(file: &str) -> InForce {
    let mut backends = Backends::new();
    let (mut index, mut here, mut vm): (Option<u16>, Option<Listener>, Option<VmId>) = (None, None, None);
    let mut place = None;
    for line in file.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["#", comment] => {
                index = comment.strip_prefix("lb").and_then(|digits| digits.parse().ok()).or(index);
                vm = comment.strip_prefix("vm").and_then(|digits| digits.parse().ok()).map(VmId).or(vm);
            }
            ["virtual_server", address, rest @ .., "{"] => {
                let address: Option<Ipv4Addr> = address.parse().ok();
                let port = rest.first().and_then(|port| port.parse().ok());
                let slot = index.take().map(|index| (Family::Lvs, index));
                here = slot.zip(address).map(|(slot, address)| Listener { slot, address, port });
            }
            ["real_server", address, rest @ .., "{"] => {
                let host = address.parse::<IpAddr>().ok().map(Host::Address);
                let port = rest.first().and_then(|port| port.parse().ok());
                place = host.map(|host| (host, port));
                if let (Some(listener), Some((host, port)), Some(vm)) = (here, place.clone(), vm.take()) {
                    let server = Server { host: host.clone(), port, weight: None, upper: None, lower: None };
                    backends.entry(listener).or_default().insert((host, port), Backend { vm, server });
                }
            }
            [setting, value] => {
                let server = here.zip(place.as_ref()).and_then(|(listener, place)| {
                    backends.get_mut(&listener)?.get_mut(place).map(|backend| &mut backend.server)
                });
                match (server, *setting) {
                    (Some(server), "weight") => server.weight = weight(value),
                    (Some(server), "uthreshold") => server.upper = limit(value),
                    (Some(server), "lthreshold") => server.lower = limit(value),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    InForce { backends, as_of: as_of(file) }
}
