//! Renders Keepalived's `virtual_server` blocks (IPVS), and reads their servers back.
//!
//! They stand in `keepalived.conf` behind the VRRP instances. Comments say which balancer a block is and which VM
//! offered a server, so that the file remembers what is in force.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::backends::{AS_OF, Backend, Backends, InForce, Listener, as_of};
use crate::context::vnf::{Host, LvsConfig, LvsMethod, Protocol, Server, VirtualServer, ipvs_weight, limit};
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
    let none = BTreeMap::new();
    let offered = backends.get(&listener(service)).unwrap_or(&none);
    let from_context = service.servers.iter().map(|server| {
        let place = (server.host.clone(), server.port);
        match offered.get(&place) {
            None => render_server("", server, service),
            Some(Backend { vm, server: offer }) => {
                let comment = format!("    # vm{vm} offers{}\n", settings(offer, " ", ""));
                render_server(&comment, &merged(server, offer), service)
            }
        }
    });
    let from_vms = offered.values().filter(|backend| !is_static(&backend.server));
    let from_vms =
        from_vms.map(|Backend { vm, server }| render_server(&format!("    # vm{vm}\n"), server, service));
    let servers: String = from_context.chain(from_vms).flatten().collect();
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

/// What a VM says of a server that the context has, too, counts where it says anything.
fn merged(server: &Server, offer: &Server) -> Server {
    Server {
        weight: offer.weight.or(server.weight),
        upper: offer.upper.or(server.upper),
        lower: offer.lower.or(server.lower),
        ..server.clone()
    }
}

fn settings(server: &Server, before: &str, after: &str) -> String {
    let weight = server.weight.map(u32::from);
    let all = [("weight", weight), ("uthreshold", server.upper), ("lthreshold", server.lower)];
    all.into_iter()
        .filter_map(|(word, value)| value.map(|value| format!("{before}{word} {value}{after}")))
        .collect()
}

fn set(server: &mut Server, setting: &str, value: &str) {
    match setting {
        "weight" => server.weight = ipvs_weight(value),
        "uthreshold" => server.upper = limit(value),
        "lthreshold" => server.lower = limit(value),
        _ => {}
    }
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
fn render_server(comment: &str, server: &Server, service: &VirtualServer) -> Option<String> {
    let Host::Address(address) = server.host else { return None };
    let port = server.port.map_or_else(String::new, |port| format!(" {port}"));
    let mut text = format!("{comment}    real_server {address}{port} {{\n");
    text.push_str(&settings(server, "        ", "\n"));
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
    let (mut place, mut offer): (_, Option<Server>) = (None, None);
    let plain = |host, port| Server { host, port, weight: None, upper: None, lower: None };
    for line in file.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // An offer for a server of the context: the settings below are both's.
            ["#", comment, "offers", settings @ ..] => {
                vm = comment.strip_prefix("vm").and_then(|digits| digits.parse().ok()).map(VmId);
                let mut server = plain(Host::Name(String::new()), None);
                settings.chunks_exact(2).for_each(|pair| set(&mut server, pair[0], pair[1]));
                offer = Some(server);
            }
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
                let known = offer.take();
                if let (Some(listener), Some((host, port)), Some(vm)) = (here, place.clone(), vm.take()) {
                    let of_both = known.is_some();
                    let server =
                        Server { host: host.clone(), port, ..known.unwrap_or(plain(host.clone(), port)) };
                    backends.entry(listener).or_default().insert((host, port), Backend { vm, server });
                    place = place.filter(|_| !of_both);
                }
            }
            [setting, value] => {
                let server = here.zip(place.as_ref()).and_then(|(listener, place)| {
                    backends.get_mut(&listener)?.get_mut(place).map(|backend| &mut backend.server)
                });
                server.into_iter().for_each(|server| set(server, setting, value));
            }
            _ => {}
        }
    }
    InForce { backends, as_of: as_of(file) }
}
