//! Renders `/etc/haproxy/haproxy.cfg`, and reads its own servers back.
//!
//! The same file is right on every vnf VM at any time: it binds virtual addresses whether or not this VM holds them
//! (`net.ipv4.ip_nonlocal_bind`), so that a failover moves addresses only. Good for HAProxy 2.6 (Debian 12) and later.

use std::net::{Ipv4Addr, SocketAddr};

use super::backends::{AS_OF, Backend, Backends, InForce, Listener, as_of};
use crate::context::vnf::{Balancer, Check, HaproxyConfig, Host, ProxyProtocol, Server, limit, weight};
use crate::service::VmId;
use crate::service::offers::Family;

/// Where it is.
pub const PATH: &str = "/etc/haproxy/haproxy.cfg";
/// Its unit.
pub const UNIT: &str = "haproxy.service";
/// HAProxy answers 200 on it to this machine alone, as long as it works; Keepalived asks. 8405 is no ephemeral port.
pub const HEALTH: &str = "127.0.0.1:8405";

/// The listeners of the configuration.
pub fn listeners(config: &HaproxyConfig) -> Vec<Listener> {
    config.balancers.iter().map(listener).collect()
}

fn listener(balancer: &Balancer) -> Listener {
    Listener { slot: (Family::Haproxy, balancer.index), address: balancer.address, port: Some(balancer.port) }
}

/// Everything before the balancers.
///
/// maxconn: two sockets a connection must fit under a hard limit of 20,000 open files, with room for 1,000 checks.
/// hard-stop-after: after a reload the old process serves its long connections so long, and then lets them reconnect.
/// tunnel: watches of the Kubernetes API are silent for minutes; dead peers are found by keep-alive probes instead.
const HEAD: &str = "\
# Written by oneke-agent from the VM's context; changes here are overwritten.
global
    log /dev/log local0
    user haproxy
    group haproxy
    maxconn 8000
    hard-stop-after 15m
    stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners
    stats timeout 30s

defaults
    mode tcp
    log global
    option tcplog
    option dontlog-normal
    option redispatch
    option clitcpka
    option srvtcpka
    retries 3
    timeout connect 3s
    timeout check 2s
    timeout queue 10s
    timeout client 120s
    timeout server 120s
    timeout client-fin 30s
    timeout tunnel 1h
";

/// The whole file.
pub fn render(config: &HaproxyConfig, in_force: &InForce) -> String {
    let backends = &in_force.backends;
    let mut text = String::from(HEAD);
    if config.dynamic {
        text.push_str(&format!("\n{AS_OF}{}\n", in_force.as_of));
    }
    text.push_str(&format!(
        "\nfrontend health\n    mode http\n    no log\n    bind {HEALTH}\n    monitor-uri /\n"
    ));
    let named = |server: &Server| matches!(server.host, Host::Name(_));
    let offered = || backends.values().flat_map(|servers| servers.values()).map(|backend| &backend.server);
    if config.balancers.iter().flat_map(|balancer| &balancer.servers).chain(offered()).any(named) {
        text.push_str("\nresolvers system\n    parse-resolv-conf\n    hold valid 10s\n");
    }
    for balancer in &config.balancers {
        render_balancer(&mut text, balancer, backends);
    }
    text
}

fn render_balancer(text: &mut String, balancer: &Balancer, backends: &Backends) {
    let Balancer { index, address, port, .. } = balancer;
    text.push_str(&format!(
        "\nfrontend lb{index}\n    bind {address}:{port}\n    default_backend lb{index}\n"
    ));
    text.push_str(&format!("\nbackend lb{index}\n    balance roundrobin\n"));
    if balancer.check == Check::Api {
        text.push_str("    option httpchk\n");
        text.push_str("    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost\n");
        text.push_str("    http-check expect status 200,401\n");
    }
    let options = server_options(balancer);
    if !options.is_empty() {
        text.push_str(&format!("    default-server{options}\n"));
    }
    for server in &balancer.servers {
        text.push_str(&format!("    server static_{}\n", server_words(server)));
    }
    let is_static =
        |server: &Server| balancer.servers.iter().any(|s| s.host == server.host && s.port == server.port);
    for backend in backends.get(&listener(balancer)).into_iter().flat_map(|servers| servers.values()) {
        if !is_static(&backend.server) {
            text.push_str(&format!("    server vm{}_{}\n", backend.vm, server_words(&backend.server)));
        }
    }
}

/// Down after two failed checks, 0.5 s apart once the first has failed; up again after two good ones. What was
/// connected to a dead server is cut, so that it reconnects to a live one.
fn server_options(balancer: &Balancer) -> String {
    let check = match balancer.check {
        Check::None => "",
        Check::Tcp => {
            " check inter 2s fastinter 500ms downinter 1s rise 2 fall 2 on-marked-down shutdown-sessions"
        }
        Check::Api => {
            " check check-ssl verify none inter 2s fastinter 500ms downinter 1s rise 2 fall 2 on-marked-down shutdown-sessions"
        }
    };
    let proxy = match balancer.proxy {
        ProxyProtocol::Off => "",
        ProxyProtocol::V1 => " send-proxy",
        ProxyProtocol::V2 => " send-proxy-v2",
    };
    format!("{check}{proxy}")
}

/// `10.0.0.1_6443 10.0.0.1:6443 weight 10`: the rest of the name, the address, what is its own.
fn server_words(server: &Server) -> String {
    let port = server.port.unwrap_or_default();
    let mut words = match &server.host {
        Host::Address(address) => format!("{address}_{port} {}", SocketAddr::new(*address, port)),
        Host::Name(name) => format!("{name}_{port} {name}:{port} resolvers system init-addr last,libc,none"),
    };
    server.weight.iter().for_each(|weight| words.push_str(&format!(" weight {weight}")));
    server
        .upper
        .iter()
        .filter(|upper| **upper > 0)
        .for_each(|upper| words.push_str(&format!(" maxconn {upper}")));
    words
}

/// The servers that VMs offered, as the file has them: what is in force.
pub fn in_force(file: &str) -> InForce {
    let mut backends = Backends::new();
    let mut bound: Vec<Listener> = Vec::new();
    let (mut index, mut here) = (None, None);
    for line in file.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("frontend" | "backend") => {
                index = words.next().and_then(|name| name.strip_prefix("lb")?.parse::<u16>().ok());
                here = bound.iter().find(|listener| Some(listener.slot.1) == index).copied();
            }
            Some("bind") => {
                let parsed = words.next().and_then(|word| word.rsplit_once(':'));
                let place =
                    parsed.and_then(|(ip, port)| Some((ip.parse::<Ipv4Addr>().ok()?, port.parse().ok()?)));
                if let (Some(index), Some((address, port))) = (index, place) {
                    bound.push(Listener { slot: (Family::Haproxy, index), address, port: Some(port) });
                }
            }
            Some("server") => {
                if let (Some(listener), Some(backend)) = (here, read_server(words)) {
                    let place = (backend.server.host.clone(), backend.server.port);
                    backends.entry(listener).or_default().insert(place, backend);
                }
            }
            _ => {}
        }
    }
    InForce { backends, as_of: as_of(file) }
}

/// `vm7_10.0.0.1_6443 10.0.0.1:6443 ...`
fn read_server<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Backend> {
    let (vm, place) = words.next()?.strip_prefix("vm")?.split_once('_')?;
    let (host, port) = place.rsplit_once('_')?;
    let mut server = Server {
        host: Host::parse(host)?,
        port: Some(port.parse().ok()?),
        weight: None,
        upper: None,
        lower: None,
    };
    while let Some(word) = words.next() {
        match word {
            "weight" => server.weight = words.next().and_then(weight),
            "maxconn" => server.upper = words.next().and_then(limit),
            _ => {}
        }
    }
    Some(Backend { vm: VmId(vm.parse().ok()?), server })
}
