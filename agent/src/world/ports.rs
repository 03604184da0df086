//! Whether somebody else listens where HAProxy shall: `haproxy -c` binds nothing, and a reload that fails to bind stops
//! the old process for two seconds before it gives up (haproxy.c, MAX_START_RETRIES).
//!
//! Read from `/proc/net/tcp` and `tcp6`, whose addresses are words in the machine's byte order (proc(5)).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listening {
    at: SocketAddr,
    inode: u64,
}

/// What keeps the configuration from being served, in the operator's words. `None` if nothing does, or if it is not
/// known: unknown is no refusal.
pub fn taken(configuration: &str) -> Option<String> {
    let wanted = binds(configuration);
    // A kernel without IPv6 has no second table.
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let listening = [read("/proc/net/tcp"), read("/proc/net/tcp6")].concat();
    let conflicts = conflicts(&wanted, &parse(&listening));
    conflicts.into_iter().find_map(|(bind, inode)| {
        let owner = owner(Path::new("/proc"), inode)?;
        // The one that runs hands its sockets over to the next.
        (owner != "haproxy").then(|| format!("port {} of {} is taken by {owner}", bind.port(), bind.ip()))
    })
}

fn binds(configuration: &str) -> Vec<SocketAddrV4> {
    let word = |line: &str| line.trim().strip_prefix("bind ")?.split(' ').next()?.parse().ok();
    configuration.lines().filter_map(word).collect()
}

fn conflicts(wanted: &[SocketAddrV4], listening: &[Listening]) -> Vec<(SocketAddrV4, u64)> {
    let meets = |bind: &SocketAddrV4, other: &Listening| {
        let same = match other.at.ip() {
            IpAddr::V4(ip) => ip.is_unspecified() || ip == *bind.ip(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.to_ipv4_mapped() == Some(*bind.ip()),
        };
        other.at.port() == bind.port() && same
    };
    let of = |bind: &SocketAddrV4| {
        let bind = *bind;
        listening.iter().filter(move |other| meets(&bind, other)).map(move |other| (bind, other.inode))
    };
    wanted.iter().flat_map(of).collect()
}

/// The lines in state 0A, TCP_LISTEN.
fn parse(table: &str) -> Vec<Listening> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1).filter(|_| words.get(3) == Some(&"0A"))?.split_once(':')?;
        let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok();
        let ip = if address.len() == 8 {
            IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes()))
        } else {
            let bytes: Vec<u8> = (0..4).filter_map(word).flat_map(u32::to_ne_bytes).collect();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        };
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(Listening { at: SocketAddr::new(ip, port), inode: words.get(9)?.parse().ok()? })
    };
    table.lines().filter_map(line).collect()
}

/// The name of the program that holds the socket; `None` if none can be seen to. HAProxy's, if it is one of several.
fn owner(proc: &Path, inode: u64) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == &*socket)
    };
    let processes = std::fs::read_dir(proc).ok()?.flatten().map(|entry| entry.path());
    let name = |process: &Path| Some(std::fs::read_to_string(process.join("comm")).ok()?.trim().to_owned());
    let names: BTreeSet<String> =
        processes.filter(|process| holds(process)).filter_map(|process| name(&process)).collect();
    names.get("haproxy").or_else(|| names.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0
   1: C800000A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4243 1 0
   2: C800000A:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4244 1 0
   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4245 1
   1: 0000000000000000FFFF0000C800000A:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4246 1
";

    #[test]
    fn who_listens_everywhere_listens_here() {
        let listening = parse(TABLE);
        assert_eq!(listening.len(), 4, "{listening:?}");
        let found = |bind: &str| -> Vec<u64> {
            let file = format!("frontend lb1\n    bind {bind}\n    default_backend lb1\n");
            conflicts(&binds(&file), &listening).into_iter().map(|(_, inode)| inode).collect()
        };
        assert_eq!(found("10.0.0.200:22"), [4242], "0.0.0.0");
        assert_eq!(found("10.0.0.200:8080"), [4243]);
        assert_eq!(found("10.0.0.201:8080"), [0; 0], "another address");
        assert_eq!(found("10.0.0.200:80"), [0; 0], "a connection is no listener");
        assert_eq!(found("10.0.0.200:53"), [4245], "::");
        assert_eq!(found("10.0.0.200:443"), [4246], "mapped");
    }

    #[test]
    fn this_very_process_is_told_by_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let port = listener.local_addr().expect("it listens").port();
        let told = taken(&format!("    bind 127.0.0.1:{port}\n"));
        assert!(told.is_some_and(|told| told.starts_with(&format!("port {port} of 127.0.0.1 is taken by "))));
        drop(listener);
        assert_eq!(taken(&format!("    bind 127.0.0.1:{port}\n")), None);
    }
}
