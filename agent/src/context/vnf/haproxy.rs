//! HAProxy's balancers: `ONEAPP_VNF_HAPROXY_*`.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::Nic;
use super::super::forms::port;
use super::super::reader::Reader;
use super::family::{Allowed, Names, PORT_FORM, allowed, listener, refresh};
use super::index_in;
use super::servers::{Server, servers};

/// What HAProxy shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyConfig {
    /// `ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED`: servers that VMs publish in OneGate count, too.
    pub dynamic: bool,
    /// `ONEAPP_VNF_HAPROXY_REFRESH_RATE`: OneGate is asked at least so often while servers are awaited.
    pub refresh: Duration,
    /// By index; no two listen on one address and port.
    pub balancers: Vec<Balancer>,
}

/// One listener of HAProxy, `LBn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// The n of `LBn`.
    pub index: u16,
    /// An address of this VM, own or virtual.
    pub address: Ipv4Addr,
    /// Where it listens.
    pub port: u16,
    /// Static servers.
    pub servers: Vec<Server>,
    /// How servers prove life.
    pub check: Check,
    /// What servers are told of the client.
    pub proxy: ProxyProtocol,
}

/// How HAProxy checks a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It accepts a connection.
    Tcp,
    /// It answers `GET /readyz` over TLS with 200, or with 401 where anonymous requests are off: both are given by an
    /// API server that works.
    Api,
    /// It is not checked.
    None,
}

/// The PROXY protocol towards servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Not used.
    Off,
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Option<HaproxyConfig> {
    if !reader.flag("ONEAPP_VNF_HAPROXY_ENABLED", false) {
        return None;
    }
    let names = Names { current: "ONEAPP_VNF_HAPROXY_LB", former: former(reader) };
    let listen = allowed(reader, "ONEAPP_VNF_HAPROXY_INTERFACES", nics);
    let mut balancers = Vec::new();
    // The old appliance does not read HAProxy's balancers from the former names, so nothing there stops it.
    reader.only_if(names.former.is_none(), |reader| {
        for index in names.indices(reader) {
            balancers.extend(balancer(reader, &names, index, nics, &listen));
        }
        tell_twice(reader, &names, &mut balancers);
    });
    Some(HaproxyConfig {
        dynamic: reader.flag("ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED", false),
        refresh: refresh(reader, "ONEAPP_VNF_HAPROXY_REFRESH_RATE"),
        balancers,
    })
}

/// The papers of the IPVS era call HAProxy's balancers `ONEAPP_VNF_LBn`. They mean HAProxy's only if nothing else can
/// be meant: IPVS is off, and no `ONEAPP_VNF_HAPROXY_LBn_IP` is given.
fn former(reader: &mut Reader<'_>) -> Option<&'static str> {
    let former = "ONEAPP_VNF_LB";
    let is_given = |prefix: &str, (name, value): (&str, &str)| {
        !value.is_empty() && index_in(name, prefix, "_IP").is_some()
    };
    if reader.flag("ONEAPP_VNF_LB_ENABLED", false) {
        return None;
    }
    if !reader.vars().iter().any(|variable| is_given("ONEAPP_VNF_HAPROXY_LB", variable)) {
        return Some(former);
    }
    let unread: Vec<&str> =
        reader.vars().iter().filter(|v| is_given(former, *v)).map(|(name, _)| name).collect();
    for name in unread {
        reader.warn(
            name,
            "not used: ONEAPP_VNF_LB_ENABLED is not YES, and HAProxy's balancers have their newer names",
        );
    }
    None
}

fn balancer(
    reader: &mut Reader<'_>,
    names: &Names,
    index: u16,
    nics: &[Nic],
    allowed: &Allowed,
) -> Option<Balancer> {
    let address = listener(reader, names, index, nics, allowed);
    let port_name = names.of(reader, index, "PORT");
    let given = reader.text(&port_name).is_some();
    let listens = reader.parse(&port_name, PORT_FORM, port);
    let servers = servers(reader, names, index, true);
    let check = check(reader, index);
    let proxy = proxy(reader, index);
    if !given {
        reader.warn(&port_name, format!("not set: balancer {index} does not listen"));
    }
    let (address, port) = (address?, listens?);
    // 6443 is where Kubernetes serves its API (OneKE's LB1, Cluster API's LB0). Servers of the context may be anything.
    let by_port = if port == 6443 && servers.is_empty() { Check::Api } else { Check::Tcp };
    let check = check.unwrap_or(by_port);
    Some(Balancer { index, address, port, servers, check, proxy })
}

fn check(reader: &mut Reader<'_>, index: u16) -> Option<Check> {
    let name = format!("ONEAPP_VNF_HAPROXY_LB{index}_CHECK");
    let form = "expected TCP, API (TLS and GET /readyz) or NONE";
    reader.parse(&name, form, |text| match text.to_ascii_uppercase().as_str() {
        "TCP" => Some(Check::Tcp),
        "API" => Some(Check::Api),
        "NONE" => Some(Check::None),
        _ => None,
    })
}

fn proxy(reader: &mut Reader<'_>, index: u16) -> ProxyProtocol {
    let name = format!("ONEAPP_VNF_HAPROXY_LB{index}_PROXY_PROTOCOL");
    let form = "expected NO, V1 or V2";
    let parse = |text: &str| match text.to_ascii_uppercase().as_str() {
        "NO" => Some(ProxyProtocol::Off),
        "V1" => Some(ProxyProtocol::V1),
        "V2" => Some(ProxyProtocol::V2),
        _ => None,
    };
    reader.parse(&name, form, parse).unwrap_or(ProxyProtocol::Off)
}

/// Two cannot listen on one address and port. The later one goes.
fn tell_twice(reader: &mut Reader<'_>, names: &Names, balancers: &mut Vec<Balancer>) {
    let mut alone: Vec<Balancer> = Vec::new();
    for balancer in balancers.drain(..) {
        let same = |other: &&Balancer| (other.address, other.port) == (balancer.address, balancer.port);
        if let Some(other) = alone.iter().find(same) {
            let name = names.of(reader, balancer.index, "PORT");
            let expected = format!(
                "expected a port that is free on {}: balancer {} listens there",
                balancer.address, other.index
            );
            reader.problem(&name, &balancer.port.to_string(), expected);
        } else {
            alone.push(balancer);
        }
    }
    *balancers = alone;
}
