//! The servers behind a balancer, and the static ones of the context: `..._LBn_SERVERm_*`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::super::forms::{number, port};
use super::super::reader::Reader;
use super::family::{Names, PORT_FORM};
use super::index_in;

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
    /// A host name (RFC 1123, and `_`, which resolvers and their users take), lower case.
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
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
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

/// The static servers of a balancer. One without a host or, where it must have one, a port serves nothing: theirs is
/// left out in silence, ours with a warning.
pub(super) fn servers(reader: &mut Reader<'_>, names: &Names, index: u16, needs_port: bool) -> Vec<Server> {
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
    let form = "expected an address or a host name";
    let parse = |text: &str| Host::parse(text.trim());
    // HAProxy refuses its whole file for one wrong word; IPVS's Keepalived leaves out the server.
    let (host, port) = if needs_port {
        (reader.parse(&host_name, form, parse), reader.parse(&port_name, PORT_FORM, port))
    } else {
        let host = reader.parse_leniently(&host_name, form, parse);
        (host, reader.parse_leniently(&port_name, PORT_FORM, port))
    };
    let is_wrong = reader.text(&port_name).is_some() && port.is_none();
    let (most, parse_weight): (u32, fn(&str) -> Option<u16>) =
        if needs_port { (HEAVIEST, weight) } else { (u16::MAX.into(), ipvs_weight) };
    let form = format!("expected a weight from 0 to {most}");
    // Theirs reads these for IPVS only, whose Keepalived leaves out what it cannot read.
    let weight = reader.parse_leniently(&weight_name, &form, parse_weight);
    let upper = reader.parse_leniently(&upper_name, LIMIT_FORM, limit);
    let lower = reader.parse_leniently(&lower_name, LIMIT_FORM, limit);
    for (name, needed) in [(&host_name, true), (&port_name, needs_port)] {
        if needed && reader.text(name).is_none() {
            reader.warn(name, format!("not set: server {server} of balancer {index} is left out"));
            return None;
        }
    }
    host.filter(|_| !is_wrong).map(|host| Server { host, port, weight, upper, lower })
}

const LIMIT_FORM: &str = "expected a number of connections";

/// The most that HAProxy takes (configuration manual, "weight").
const HEAVIEST: u32 = 256;

/// A share of a server behind HAProxy: 0 to 256.
pub(crate) fn weight(text: &str) -> Option<u16> {
    ipvs_weight(text).filter(|weight| u32::from(*weight) <= HEAVIEST)
}

/// A share of a server behind IPVS: Keepalived's are wider.
pub(crate) fn ipvs_weight(text: &str) -> Option<u16> {
    number(text, 0, u16::MAX.into()).and_then(|weight| u16::try_from(weight).ok())
}

/// A number of connections; 0 is no limit, as in ipvsadm.
pub(crate) fn limit(text: &str) -> Option<u32> {
    number(text, 0, 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_can_hold_no_second_word() {
        for sound in ["10.0.0.1", "fd00::1", "node-1", "a_b", "Node1.example.com", "a.b-c.d1"] {
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
            "a#b",
            "$HOME",
            "\u{e9}",
            "[fd00::1]",
        ] {
            assert_eq!(Host::parse(refused), None, "{refused:?}");
        }
    }
}
