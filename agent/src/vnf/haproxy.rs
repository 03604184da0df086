//! Renders `/etc/haproxy/haproxy.cfg`, and reads its own servers back.
//!
//! The same file is right on every vnf VM at any time: it binds virtual addresses whether or not this VM holds them
//! (`net.ipv4.ip_nonlocal_bind`), so that a failover moves addresses only. Good for HAProxy 2.6 (Debian 12) and later.
//!
//! The file always says everything, for the next start. Offered servers are changed in the running HAProxy as well
//! ([`super::live`]); what only a reload changes has a name of its own, which stands in the file as HAProxy's
//! `description`, so that HAProxy itself tells which configuration it runs with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::backends::{AS_OF, Backend, Backends, InForce, Listener, as_of};
use crate::context::vnf::{Balancer, Check, HaproxyConfig, Host, ProxyProtocol, Server, limit, weight};
use crate::facts::{HaproxyServer, HaproxyStats, ServerState};
use crate::plan::digest;
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

/// The first part of `global`.
///
/// maxconn: two sockets a connection must fit under a hard limit of 20,000 open files, with room for 1,000 checks.
/// hard-stop-after: after a reload the old process serves its long connections so long, and then lets them reconnect.
const GLOBAL: &str = "\
# Written by oneke-agent from the VM's context; changes here are overwritten.
global
    log /dev/log local0
    user haproxy
    group haproxy
    maxconn 8000
    hard-stop-after 15m
    stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners
    stats timeout 30s
";

/// tunnel: watches of the Kubernetes API are silent for minutes; dead peers are found by keep-alive probes instead.
const DEFAULTS: &str = "
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

/// How the file names what only a reload changes.
const DESCRIPTION: &str = "    description ";

/// A configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The whole file.
    pub text: String,
    /// Names everything in it that only a reload changes: all but the offered servers, those by host name included.
    pub fixed: String,
    /// The servers that can be changed at run time, by `backend/server`.
    pub live: BTreeMap<String, LiveServer>,
}

/// A server that can be added, changed and removed while HAProxy runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveServer {
    /// Its address and options. A server that is added takes no defaults from its backend (management guide, "add
    /// server"), so all of them.
    pub words: String,
    /// Its share; 0 drains it.
    pub weight: u16,
    /// Its limit of connections; 0: none.
    pub limit: u32,
    /// HAProxy checks it.
    pub checked: bool,
}

/// Renders everything.
pub fn render(config: &HaproxyConfig, in_force: &InForce) -> Rendered {
    // HAProxy resolves names only for servers that were in its file: `add server` refuses `resolvers`.
    let mut named = in_force.backends.clone();
    named.values_mut().for_each(|servers| servers.retain(|_, backend| is_named(&backend.server)));
    let fixed = digest(&compose(config, &named, "", ""))[..16].to_owned();
    let as_of = if config.dynamic { format!("\n{AS_OF}{}\n", in_force.as_of) } else { String::new() };
    let text = compose(config, &in_force.backends, &format!("{DESCRIPTION}{fixed}\n"), &as_of);
    let live = config.balancers.iter().flat_map(|balancer| live(balancer, &in_force.backends)).collect();
    Rendered { text, fixed, live }
}

fn compose(config: &HaproxyConfig, backends: &Backends, description: &str, as_of: &str) -> String {
    let mut text = [GLOBAL, description, DEFAULTS, as_of].concat();
    text.push_str(&format!(
        "\nfrontend health\n    mode http\n    no log\n    bind {HEALTH}\n    monitor-uri /\n"
    ));
    let offered = || backends.values().flat_map(|servers| servers.values()).map(|backend| &backend.server);
    if config.balancers.iter().flat_map(|balancer| &balancer.servers).chain(offered()).any(is_named) {
        text.push_str("\nresolvers system\n    parse-resolv-conf\n    hold valid 10s\n");
    }
    for balancer in &config.balancers {
        render_balancer(&mut text, balancer, backends);
    }
    text
}

fn is_named(server: &Server) -> bool {
    matches!(server.host, Host::Name(_))
}

/// Round robin is one of the two algorithms whose servers and shares can change at run time.
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
        text.push_str(&format!("    server static_{} {}\n", place(server), server_words(server)));
    }
    for backend in offered(balancer, backends) {
        let words = server_words(&backend.server);
        text.push_str(&format!("    server {} {words}\n", name(backend)));
    }
}

/// What VMs offer to a balancer and the context does not give it already.
fn offered<'a>(balancer: &'a Balancer, backends: &'a Backends) -> impl Iterator<Item = &'a Backend> {
    let is_static =
        |server: &Server| balancer.servers.iter().any(|s| s.host == server.host && s.port == server.port);
    let servers = backends.get(&listener(balancer)).into_iter().flat_map(|servers| servers.values());
    servers.filter(move |backend| !is_static(&backend.server))
}

fn live<'a>(
    balancer: &'a Balancer,
    backends: &'a Backends,
) -> impl Iterator<Item = (String, LiveServer)> + use<'a> {
    let options = server_options(balancer);
    let live = offered(balancer, backends).filter(|backend| !is_named(&backend.server));
    live.map(move |backend| {
        let server = &backend.server;
        let live = LiveServer {
            words: format!("{}{options}", address(server)),
            weight: server.weight.unwrap_or(DEFAULT_WEIGHT),
            limit: server.upper.unwrap_or_default(),
            checked: balancer.check != Check::None,
        };
        (format!("lb{}/{}", balancer.index, name(backend)), live)
    })
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

/// `vm7_10.0.0.1_6443`
fn name(backend: &Backend) -> String {
    format!("vm{}_{}", backend.vm, place(&backend.server))
}

/// `10.0.0.1_6443`
fn place(server: &Server) -> String {
    format!("{}_{}", server.host, server.port.unwrap_or_default())
}

/// `10.0.0.1:6443`
fn address(server: &Server) -> String {
    let port = server.port.unwrap_or_default();
    match &server.host {
        Host::Address(address) => SocketAddr::new(*address, port).to_string(),
        Host::Name(name) => format!("{name}:{port}"),
    }
}

/// `10.0.0.1:6443 weight 10`: the address, and what is the server's own.
fn server_words(server: &Server) -> String {
    let mut words = address(server);
    if is_named(server) {
        words.push_str(" resolvers system init-addr last,libc,none");
    }
    server.weight.iter().for_each(|weight| words.push_str(&format!(" weight {weight}")));
    server
        .upper
        .iter()
        .filter(|upper| **upper > 0)
        .for_each(|upper| words.push_str(&format!(" maxconn {upper}")));
    words
}

/// HAProxy's own.
const DEFAULT_WEIGHT: u16 = 1;

/// What a HAProxy shows that has just started with this file: for the worlds in memory.
pub fn running(file: &str) -> HaproxyStats {
    let server = |(listener, backend): (&Listener, &Backend)| {
        let server = HaproxyServer {
            state: ServerState::Up,
            weight: backend.server.weight.unwrap_or(DEFAULT_WEIGHT),
            limit: backend.server.upper.unwrap_or_default(),
            connections: 0,
        };
        (format!("lb{}/{}", listener.slot.1, name(backend)), server)
    };
    let backends = in_force(file).backends;
    let servers = backends.iter().flat_map(|(l, servers)| servers.values().map(move |backend| (l, backend)));
    let servers = servers.map(server).collect();
    HaproxyStats { loaded: description(file).map(str::to_owned), servers }
}

/// The name of what only a reload changes, as the file has it.
pub fn description(file: &str) -> Option<&str> {
    file.lines().find_map(|line| line.strip_prefix(DESCRIPTION))
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
    let Backend { vm, mut server } = read_name(words.next()?)?;
    while let Some(word) = words.next() {
        match word {
            "weight" => server.weight = words.next().and_then(weight),
            "maxconn" => server.upper = words.next().and_then(limit),
            _ => {}
        }
    }
    Some(Backend { vm, server })
}

/// `vm7_10.0.0.1_6443`
fn read_name(name: &str) -> Option<Backend> {
    let (vm, place) = name.strip_prefix("vm")?.split_once('_')?;
    let (host, port) = place.rsplit_once('_')?;
    let (host, port) = (Host::parse(host)?, Some(port.parse().ok()?));
    Some(Backend {
        vm: VmId(vm.parse().ok()?),
        server: Server { host, port, weight: None, upper: None, lower: None },
    })
}

/// True if a running server, `backend/server`, was offered and can be removed at run time.
pub(super) fn is_live(server: &str) -> bool {
    let backend = server.split_once('/').and_then(|(_, name)| read_name(name));
    backend.is_some_and(|backend| !is_named(&backend.server))
}
