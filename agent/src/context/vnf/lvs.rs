//! IPVS's balancers: `ONEAPP_VNF_LB*`, the older way.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::Nic;
use super::super::forms::port;
use super::super::reader::Reader;
use super::Host;
use super::family::{Allowed, Names, PORT_FORM, allowed, listener, refresh};
use super::servers::{Server, servers};

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
    /// `ONEAPP_VNF_LBn_PROTOCOL`; `None` leaves it to Keepalived, which takes UDP (2.2 and 2.3: none of our checks of
    /// such a server speaks TCP).
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

pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Option<LvsConfig> {
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

fn virtual_server(
    reader: &mut Reader<'_>,
    names: &Names,
    index: u16,
    nics: &[Nic],
    allowed: &Allowed,
) -> Option<VirtualServer> {
    let address = listener(reader, names, index, nics, allowed);
    let name = |setting: &str| format!("{}{index}_{setting}", names.current);
    // Keepalived leaves out a balancer without a port that is one, and goes on without a word that it does not know.
    let is_given = reader.text(&name("PORT")).is_some();
    let port = reader.parse_leniently(&name("PORT"), PORT_FORM, port);
    let protocol = reader.parse_leniently(&name("PROTOCOL"), "expected TCP, UDP or SCTP", |text| {
        [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)]
            .into_iter()
            .find_map(|(word, protocol)| text.eq_ignore_ascii_case(word).then_some(protocol))
    });
    if reader.text(&name("PROTOCOL")).is_none() {
        reader.warn(
            &name("PROTOCOL"),
            "it is not set, and Keepalived then balances UDP alone: set it to TCP for TCP",
        );
    }
    let method = reader.parse_leniently(&name("METHOD"), "expected NAT, DR or TUN", |text| {
        [("NAT", LvsMethod::Nat), ("DR", LvsMethod::Dr), ("TUN", LvsMethod::Tun)]
            .into_iter()
            .find_map(|(word, method)| text.eq_ignore_ascii_case(word).then_some(method))
    });
    let form = format!("expected one of {}", SCHEDULERS.join(", "));
    let scheduler = reader.parse_leniently(&name("SCHEDULER"), &form, |text| {
        SCHEDULERS.iter().find(|word| **word == text.to_ascii_lowercase()).copied()
    });
    let servers = servers(reader, names, index, false);
    if is_given && port.is_none() {
        return None;
    }
    tell_names(reader, names, index);
    Some(VirtualServer { index, address: address?, port, protocol, method, scheduler, servers })
}

/// Keepalived's words for `lb_algo` (keepalived.conf(5)).
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "fo", "ovf", "lblc", "lblcr", "sed", "nq"];

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
        reader.warn(name, format!("{value:?} is left out: IPVS knows addresses, no names"));
    }
}
