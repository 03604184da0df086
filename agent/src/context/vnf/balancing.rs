//! Balancers and their static servers: `ONEAPP_VNF_HAPROXY_LBn_*` for HAProxy, `ONEAPP_VNF_LBn_*` for IPVS.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::Nic;
use super::super::forms::{number, port};
use super::super::placeholder;
use super::super::reader::Reader;
use super::index_in;

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

/// What IPVS shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LvsConfig {
    /// `ONEAPP_VNF_LB_ONEGATE_ENABLED`.
    pub dynamic: bool,
    /// `ONEAPP_VNF_LB_REFRESH_RATE`.
    pub refresh: Duration,
    /// By index.
    pub services: Vec<VirtualServer>,
}

/// One virtual server of IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// The n of `LBn`.
    pub index: u16,
    /// An address of this VM, own or virtual.
    pub address: Ipv4Addr,
    /// `None`: all ports.
    pub port: Option<u16>,
    /// `ONEAPP_VNF_LBn_PROTOCOL`; `None` leaves it to Keepalived (TCP).
    pub protocol: Option<Protocol>,
    /// `ONEAPP_VNF_LBn_METHOD`.
    pub method: Option<LvsMethod>,
    /// `ONEAPP_VNF_LBn_SCHEDULER`, one of Keepalived's words.
    pub scheduler: Option<&'static str>,
    /// Static servers.
    pub servers: Vec<Server>,
}

/// A transport protocol of IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// How IPVS forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LvsMethod {
    /// Address translation.
    Nat,
    /// Direct routing.
    Dr,
    /// Tunnelling.
    Tun,
}

/// A server behind a balancer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Where it is.
    pub host: Host,
    /// `None` (IPVS only): the port that the client asked for.
    pub port: Option<u16>,
    /// Its share.
    pub weight: Option<u16>,
    /// `ULIMIT`: no more connections than this at once.
    pub upper: Option<u32>,
    /// `LLIMIT`: after reaching the upper limit, new ones again below this. IPVS only: HAProxy queues instead.
    pub lower: Option<u32>,
}

/// An address, or a name that may resolve. Holds no blank, line break or anything else that could end a word of a
/// configuration file: any VM of the service can publish one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A host name (RFC 1123), lower case.
    Name(String),
}

impl Host {
    /// Reads an address or a host name.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name whose last label is all digits is a mistyped address, and no resolver finds it.
        let numeric =
            text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        let sound = text.len() <= 253 && text.split('.').all(label) && !numeric;
        sound.then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

const PORT_FORM: &str = "expected a port from 1 to 65535";

pub(super) fn read_haproxy(reader: &mut Reader<'_>, nics: &[Nic]) -> Option<HaproxyConfig> {
    if !reader.flag("ONEAPP_VNF_HAPROXY_ENABLED", false) {
        return None;
    }
    let names = Names { current: "ONEAPP_VNF_HAPROXY_LB", former: former(reader) };
    let listen = allowed(reader, "ONEAPP_VNF_HAPROXY_INTERFACES", nics);
    let mut balancers = Vec::new();
    for index in names.indices(reader) {
        balancers.extend(balancer(reader, &names, index, nics, &listen));
    }
    tell_twice(reader, &names, &balancers);
    Some(HaproxyConfig {
        dynamic: reader.flag("ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED", false),
        refresh: refresh(reader, "ONEAPP_VNF_HAPROXY_REFRESH_RATE"),
        balancers,
    })
}

pub(super) fn read_lvs(reader: &mut Reader<'_>, nics: &[Nic]) -> Option<LvsConfig> {
    if !reader.flag("ONEAPP_VNF_LB_ENABLED", false) {
        return None;
    }
    let names = Names { current: "ONEAPP_VNF_LB", former: None };
    let listen = allowed(reader, "ONEAPP_VNF_LB_INTERFACES", nics);
    let mut services = Vec::new();
    for index in names.indices(reader) {
        services.extend(virtual_server(reader, &names, index, nics, &listen));
    }
    Some(LvsConfig {
        dynamic: reader.flag("ONEAPP_VNF_LB_ONEGATE_ENABLED", false),
        refresh: refresh(reader, "ONEAPP_VNF_LB_REFRESH_RATE"),
        services,
    })
}

/// How the variables of a family are called.
struct Names {
    current: &'static str,
    /// Also accepted, where the current name is not set.
    former: Option<&'static str>,
}

/// The papers of the IPVS era call HAProxy's balancers `ONEAPP_VNF_LBn`. They mean HAProxy's only if nothing else can
/// be meant: IPVS is off, and no `ONEAPP_VNF_HAPROXY_LBn_IP` is given.
fn former(reader: &Reader<'_>) -> Option<&'static str> {
    let current = reader
        .vars()
        .iter()
        .any(|(name, value)| !value.is_empty() && index_in(name, "ONEAPP_VNF_HAPROXY_LB", "_IP").is_some());
    (!current && !reader.flag("ONEAPP_VNF_LB_ENABLED", false)).then_some("ONEAPP_VNF_LB")
}

impl Names {
    /// The balancers that have any variable of their own.
    fn indices(&self, reader: &Reader<'_>) -> BTreeSet<u16> {
        let of = |prefix: &str, name: &str| {
            let rest = name.strip_prefix(prefix)?;
            let (digits, setting) = rest.split_once('_')?;
            let listens = matches!(setting, "IP" | "PORT") || setting.starts_with("SERVER");
            index_in(digits, "", "").filter(|_| listens)
        };
        let prefixes = [Some(self.current), self.former];
        let set = reader.vars().iter().filter(|(_, value)| !value.is_empty());
        set.flat_map(|(name, _)| prefixes.iter().flatten().filter_map(move |prefix| of(prefix, name)))
            .collect()
    }

    /// The name under which a setting is given; the current one if it is not.
    fn of(&self, reader: &mut Reader<'_>, index: u16, setting: &str) -> String {
        let current = format!("{}{index}_{setting}", self.current);
        let Some(former) = self.former.map(|prefix| format!("{prefix}{index}_{setting}")) else {
            return current;
        };
        if reader.text(&current).is_some() || reader.text(&former).is_none() {
            return current;
        }
        reader.warn(&former, format!("an old name: call it {current}"));
        former
    }
}

/// Where a family may listen: own addresses of its interfaces, and every virtual address of this VM.
struct Allowed {
    variable: &'static str,
    addresses: BTreeSet<Ipv4Addr>,
}

fn allowed(reader: &mut Reader<'_>, variable: &'static str, nics: &[Nic]) -> Allowed {
    let chosen: Vec<u8> =
        reader.interfaces(variable, true, nics).into_iter().map(|selected| selected.nic).collect();
    let own = nics.iter().filter(|nic| chosen.contains(&nic.index)).filter_map(|nic| nic.ip);
    let virtual_ones = nics.iter().flat_map(|nic| nic.vips.iter().map(|(_, vip, _)| *vip));
    Allowed { variable, addresses: own.chain(virtual_ones).collect() }
}

/// The address that a balancer shall listen on; `None` if it cannot, which is told.
fn listener(
    reader: &mut Reader<'_>,
    names: &Names,
    index: u16,
    nics: &[Nic],
    allowed: &Allowed,
) -> Option<Ipv4Addr> {
    let name = names.of(reader, index, "IP");
    let Some(text) = reader.text(&name) else {
        let form = "expected an address of this VM or a placeholder such as <ETH0_EP0>, as other variables of this balancer are set";
        reader.problem(&name, "", form);
        return None;
    };
    let ours = |address: Ipv4Addr| nics.iter().any(|nic| nic.ip == Some(address));
    match placeholder::resolve(nics, text) {
        Some(address) if allowed.addresses.contains(&address) => Some(address),
        Some(address) if ours(address) => {
            reader.warn(
                &name,
                format!(
                    "{address} is on an interface that {} leaves out: nothing listens there",
                    allowed.variable
                ),
            );
            None
        }
        found => {
            let known =
                nics.iter().flat_map(|nic| nic.ip.into_iter().chain(nic.vips.iter().map(|(_, vip, _)| *vip)));
            let known: Vec<String> = known.map(|address| address.to_string()).collect();
            let meant = found.filter(|_| placeholder::is_placeholder(text));
            let meant = meant.map_or_else(String::new, |address| format!(" (it means {address})"));
            let form = format!(
                "expected an address of this VM or a placeholder of one{meant}: {}",
                known.join(", ")
            );
            reader.problem(&name, text, form);
            None
        }
    }
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
    let check = check.unwrap_or(if index == 1 && port == 6443 && servers.is_empty() {
        Check::Api
    } else {
        Check::Tcp
    });
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

fn virtual_server(
    reader: &mut Reader<'_>,
    names: &Names,
    index: u16,
    nics: &[Nic],
    allowed: &Allowed,
) -> Option<VirtualServer> {
    let address = listener(reader, names, index, nics, allowed);
    let name = |setting: &str| format!("{}{index}_{setting}", names.current);
    let port = reader.parse(&name("PORT"), PORT_FORM, port);
    let protocol = reader.parse(&name("PROTOCOL"), "expected TCP, UDP or SCTP", |text| {
        [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)]
            .into_iter()
            .find_map(|(word, protocol)| text.eq_ignore_ascii_case(word).then_some(protocol))
    });
    let method = reader.parse(&name("METHOD"), "expected NAT, DR or TUN", |text| {
        [("NAT", LvsMethod::Nat), ("DR", LvsMethod::Dr), ("TUN", LvsMethod::Tun)]
            .into_iter()
            .find_map(|(word, method)| text.eq_ignore_ascii_case(word).then_some(method))
    });
    let form = format!("expected one of {}", SCHEDULERS.join(", "));
    let scheduler = reader.parse(&name("SCHEDULER"), &form, |text| {
        SCHEDULERS.iter().find(|word| **word == text.to_ascii_lowercase()).copied()
    });
    let servers = servers(reader, names, index, false);
    tell_names(reader, names, index);
    Some(VirtualServer { index, address: address?, port, protocol, method, scheduler, servers })
}

/// Keepalived's words for `lb_algo` (keepalived.conf(5)).
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "fo", "ovf", "lblc", "lblcr", "sed", "nq"];

/// The static servers of a balancer. One without a host or, where it must have one, a port serves nothing: theirs is
/// left out in silence, ours with a warning.
fn servers(reader: &mut Reader<'_>, names: &Names, index: u16, needs_port: bool) -> Vec<Server> {
    let mut settings: BTreeSet<u16> = BTreeSet::new();
    for prefix in [Some(names.current), names.former].into_iter().flatten() {
        let prefix = format!("{prefix}{index}_SERVER");
        let set = reader.vars().iter().filter(|(_, value)| !value.is_empty());
        settings.extend(set.filter_map(|(name, _)| {
            let (digits, _) = name.strip_prefix(prefix.as_str())?.split_once('_')?;
            index_in(digits, "", "")
        }));
    }
    let mut servers: BTreeMap<(Host, Option<u16>), Server> = BTreeMap::new();
    for number in settings {
        if let Some(server) = server(reader, names, index, number, needs_port) {
            servers.insert((server.host.clone(), server.port), server);
        }
    }
    servers.into_values().collect()
}

fn server(
    reader: &mut Reader<'_>,
    names: &Names,
    index: u16,
    server: u16,
    needs_port: bool,
) -> Option<Server> {
    let name = |reader: &mut Reader<'_>, setting: &str| {
        names.of(reader, index, &format!("SERVER{server}_{setting}"))
    };
    let (host_name, port_name) = (name(reader, "HOST"), name(reader, "PORT"));
    let weight_name = name(reader, "WEIGHT");
    let (upper_name, lower_name) = (name(reader, "ULIMIT"), name(reader, "LLIMIT"));
    let host =
        reader.parse(&host_name, "expected an address or a host name", |text| Host::parse(text.trim()));
    let port = reader.parse(&port_name, PORT_FORM, port);
    let weight = reader.parse(&weight_name, "expected a weight from 0 to 256", weight);
    let upper = reader.parse(&upper_name, LIMIT_FORM, limit);
    let lower = reader.parse(&lower_name, LIMIT_FORM, limit);
    for (name, needed) in [(&host_name, true), (&port_name, needs_port)] {
        if needed && reader.text(name).is_none() {
            reader.warn(name, format!("not set: server {server} of balancer {index} is left out"));
            return None;
        }
    }
    Some(Server { host: host?, port, weight, upper, lower })
}

/// IPVS knows addresses only.
fn tell_names(reader: &mut Reader<'_>, names: &Names, index: u16) {
    let prefix = format!("{}{index}_SERVER", names.current);
    let named: Vec<(&str, &str)> = reader
        .vars()
        .with_prefix(&prefix)
        .filter(|(name, value)| {
            name.ends_with("_HOST") && matches!(Host::parse(value.trim()), Some(Host::Name(_)))
        })
        .collect();
    for (name, value) in named {
        reader.problem(name, value, "expected an address: IPVS resolves no names");
    }
}

const LIMIT_FORM: &str = "expected a number of connections";

/// A server's share: 0 to 256 (HAProxy's range; Keepalived's is wider).
pub(crate) fn weight(text: &str) -> Option<u16> {
    number(text, 0, 256).and_then(|weight| u16::try_from(weight).ok())
}

/// A number of connections; 0 is no limit, as in ipvsadm.
pub(crate) fn limit(text: &str) -> Option<u32> {
    number(text, 0, 1_000_000)
}

fn refresh(reader: &mut Reader<'_>, name: &str) -> Duration {
    let seconds = reader.parse(name, "expected seconds from 1 to 86400", |text| number(text, 1, 86_400));
    Duration::from_secs(u64::from(seconds.unwrap_or(30)))
}

fn tell_twice(reader: &mut Reader<'_>, names: &Names, balancers: &[Balancer]) {
    for (at, balancer) in balancers.iter().enumerate() {
        let same = |other: &&Balancer| (other.address, other.port) == (balancer.address, balancer.port);
        if let Some(other) = balancers[..at].iter().find(same) {
            let name = names.of(reader, balancer.index, "PORT");
            let expected = format!(
                "expected a port that is free on {}: balancer {} listens there",
                balancer.address, other.index
            );
            reader.problem(&name, &balancer.port.to_string(), expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_can_hold_no_second_word() {
        for sound in ["10.0.0.1", "fd00::1", "node-1", "Node1.example.com", "a.b-c.d1"] {
            let host = Host::parse(sound).unwrap();
            assert_eq!(host.to_string(), sound.to_ascii_lowercase());
        }
        for refused in [
            "",
            " ",
            "10.0.0.1 ",
            "10.0.0.1\nserver evil 1.2.3.4:1",
            "a b",
            "10.0.0.1:80",
            "<ETH0_IP0>",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.1/24",
            "-a",
            "a-",
            "a..b",
            "a.",
            "a_b",
            "a#b",
            "$HOME",
            "\u{e9}",
            "[fd00::1]",
        ] {
            assert_eq!(Host::parse(refused), None, "{refused:?}");
        }
    }
}
