//! Network interfaces: what they are, setting them up, and being woken when their addresses move.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket,
};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;

use super::command;
use crate::facts::{Link, Observed};

/// All interfaces, the loopback included, by name.
pub fn read() -> Observed<Vec<Link>> {
    match getifaddrs() {
        Ok(entries) => Observed::Known(collect(entries)),
        Err(error) => Observed::Unknown(format!("could not list the network interfaces: {error}")),
    }
}

fn collect(entries: impl Iterator<Item = InterfaceAddress>) -> Vec<Link> {
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    for entry in entries {
        // An address may carry a label of its own, `eth0:1`; no interface's name holds a colon (dev_valid_name).
        let name = entry.interface_name.split(':').next().unwrap_or_default().to_owned();
        let link = links.entry(name).or_insert_with_key(|name| Link {
            name: name.clone(),
            mac: String::new(),
            running: entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
            addresses: Vec::new(),
        });
        let Some(address) = entry.address else { continue };
        if let Some(mac) = address.as_link_addr().and_then(|link| link.addr()) {
            link.mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        }
        if let Some(ip) = ip_of(&address) {
            let prefix = entry.netmask.as_ref().and_then(ip_of).map_or(0, prefix_of);
            link.addresses.push((ip, prefix));
        }
    }
    links.into_values().collect()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    address
        .as_sockaddr_in()
        .map(|v4| IpAddr::V4(v4.ip()))
        .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn prefix_of(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().count_ones(),
        IpAddr::V6(mask) => mask.to_bits().count_ones(),
    };
    u8::try_from(ones).expect("an address has at most 128 bits")
}

/// Sets an interface up.
///
/// # Errors
/// What `ip` said.
pub async fn set_up(name: &str) -> anyhow::Result<()> {
    let outcome = command::run("ip", ["link", "set", "dev", name, "up"], Duration::from_secs(5)).await?;
    if outcome.code != Some(0) {
        bail!("could not set link {name} up: {}", outcome.said);
    }
    Ok(())
}

/// Wakes `wake` whenever an IPv4 address comes or goes: so a VRRP transition is seen within milliseconds.
///
/// # Errors
/// If the kernel gives no netlink socket; then addresses are seen at the next look only.
pub fn watch_addresses(wake: Arc<Notify>) -> anyhow::Result<()> {
    let could_not = "could not watch the network addresses";
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .context(could_not)?;
    let groups = u32::try_from(nix::libc::RTMGRP_IPV4_IFADDR).expect("a group is one bit of 32");
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, groups)).context(could_not)?;
    // recv(2) is the same for every kind of socket, and this type is the safe way to a readable descriptor in tokio.
    let netlink = UnixDatagram::from_std(netlink.into()).context(could_not)?;
    tokio::spawn(forward(netlink, wake));
    Ok(())
}

async fn forward(netlink: UnixDatagram, wake: Arc<Notify>) {
    let mut buffer = [0_u8; 4096];
    loop {
        // What a message says does not matter: the next pass looks for itself. An overflow is news as well.
        match netlink.recv(&mut buffer).await {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(_) => return,
        }
        wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_seen() {
        let links = read();
        let loopback = links.known().unwrap().iter().find(|link| link.name == "lo").unwrap();
        assert!(loopback.addresses.contains(&("127.0.0.1".parse().unwrap(), 8)));
    }

    #[test]
    fn masks_become_prefixes() {
        assert_eq!(prefix_of("255.255.240.0".parse().unwrap()), 20);
        assert_eq!(prefix_of("ffff:ffff::".parse().unwrap()), 32);
    }
}
