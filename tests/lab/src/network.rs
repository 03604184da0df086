//! The wires: a switch with a public and a private bridge, the cloud, a client, and each node's ports.
//!
//! ```text
//!            client 10.77.0.250            cloud 10.77.0.1, 172.27.0.250, 169.254.16.9
//!                  |                          |                    |
//!   br-public =====+==========+===============+====                |
//!                             | eth0                               |
//!                            vnf                                   |
//!                             | eth1                               |
//!   br-private ===============+==========+=========================+===
//!                                        | eth0
//!                              master, worker, storage
//! ```
//!
//! A namespace `servers` on the private bridge has the addresses of all VMs that are no machines (plain.rs), and goes out
//! through the vnf's virtual address as they would.
//!
//! Bridges live in a namespace of their own, so the machine's own network never sees the lab. OneGate answers at the
//! link-local address that OpenNebula's transparent proxy uses, on both networks: nodes reach it without the vnf.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::command::{run, succeeds};
pub use crate::host::namespace;

/// Where OneGate listens: the address and port of OpenNebula's transparent proxy (169.254.16.9:5030).
pub const ONEGATE: &str = "169.254.16.9:5030";

/// The two networks of a OneKE service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Where clients come from; only vnf nodes have a port here.
    Public,
    /// Where the nodes talk.
    Private,
}

impl Network {
    /// The /24 all addresses of this network start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Public => "10.77.0",
            Self::Private => "172.27.0",
        }
    }

    /// The network that an address belongs to.
    pub fn of(address: &str) -> Option<Self> {
        [Self::Public, Self::Private]
            .into_iter()
            .find(|network| address.strip_prefix(network.prefix()).is_some_and(|rest| rest.starts_with('.')))
    }

    fn bridge(self) -> &'static str {
        match self {
            Self::Public => "br-public",
            Self::Private => "br-private",
        }
    }
}

/// Lays the wires that do not depend on any node.
///
/// # Errors
/// When the kernel refuses a namespace, a bridge or a veth pair.
pub fn lay() -> Result<()> {
    for name in ["switch", "cloud", "client", "servers"] {
        run(&["ip", "netns", "add", &namespace(name)])?;
        run(&["ip", "-n", &namespace(name), "link", "set", "lo", "up"])?;
    }
    let switch = namespace("switch");
    for network in [Network::Public, Network::Private] {
        // No snooping: VRRP's multicast must reach all ports, and there is no querier here.
        run(&[
            "ip",
            "-n",
            &switch,
            "link",
            "add",
            network.bridge(),
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        ])?;
        run(&["ip", "-n", &switch, "link", "set", network.bridge(), "up"])?;
    }
    attach("client", "eth0", None, "client-0", Network::Public)?;
    attach("cloud", "eth0", None, "cloud-0", Network::Public)?;
    attach("cloud", "eth1", None, "cloud-1", Network::Private)?;
    address("client", "eth0", "10.77.0.250/24")?;
    address("cloud", "eth0", "10.77.0.1/24")?;
    address("cloud", "eth1", "172.27.0.250/24")?;
    address("cloud", "lo", "169.254.16.9/32")?;
    attach("servers", "eth0", None, "servers-0", Network::Private)?;
    address("servers", "eth0", "172.27.0.240/24")?;
    run(&["ip", "-n", &namespace("servers"), "route", "add", "default", "via", "172.27.0.10"]).map(drop)
}

/// Gives the plain servers one more address on the private network. Idempotent.
///
/// # Errors
/// When the kernel refuses it.
pub fn add_server(ip: Ipv4Addr) -> Result<()> {
    run(&["ip", "-n", &namespace("servers"), "address", "replace", &format!("{ip}/24"), "dev", "eth0"])
        .map(drop)
}

/// One port of a node: `index` is the number of `ETHx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The x of `ETHx`, and of `ethx` inside.
    pub index: u8,
    /// Its MAC as the context has it.
    pub mac: String,
    /// What it is plugged into.
    pub network: Network,
}

impl Port {
    fn inside(&self) -> String {
        format!("eth{}", self.index)
    }

    fn outside(&self, node: &str) -> String {
        format!("{node}-{}", self.index)
    }
}

/// Gives a node a fresh namespace with its ports plugged in, but not configured: that is the guest's own work.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn plug(node: &str, ports: &[Port]) -> Result<()> {
    unplug(node, ports)?;
    run(&["ip", "netns", "add", &namespace(node)])?;
    for port in ports {
        attach(node, &port.inside(), Some(&port.mac), &port.outside(node), port.network)?;
    }
    Ok(())
}

/// Takes a node's ports and its namespace away. Idempotent.
///
/// # Errors
/// When one is there and cannot be removed.
pub fn unplug(node: &str, ports: &[Port]) -> Result<()> {
    for port in ports {
        // By itself, not with the namespace: that lives until its last process is reaped.
        let (switch, outside) = (namespace("switch"), port.outside(node));
        if succeeds(&["ip", "-n", &switch, "link", "show", &outside]) {
            run(&["ip", "-n", &switch, "link", "delete", &outside])?;
        }
    }
    if Path::new("/run/netns").join(namespace(node)).exists() {
        run(&["ip", "netns", "delete", &namespace(node)])?;
    }
    Ok(())
}

/// Cuts a node's wires at the switch, as its host's death does: nothing of what it says arrives any more.
///
/// # Errors
/// When a port is not there.
pub fn cut(node: &str, ports: &[Port]) -> Result<()> {
    for port in ports {
        run(&["ip", "-n", &namespace("switch"), "link", "set", &port.outside(node), "down"])?;
    }
    Ok(())
}

/// Takes the carrier from one port of a node, or gives it back.
///
/// # Errors
/// When there is no such port.
pub fn set_carrier(node: &str, index: u8, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    run(&["ip", "-n", &namespace("switch"), "link", "set", &format!("{node}-{index}"), state]).map(drop)
}

fn attach(name: &str, inside: &str, mac: Option<&str>, outside: &str, network: Network) -> Result<()> {
    let (switch, namespace) = (namespace("switch"), namespace(name));
    let mut argv = vec!["ip", "-n", &switch, "link", "add", outside, "type", "veth"];
    argv.extend(["peer", "name", inside, "netns", &namespace]);
    if let Some(mac) = mac {
        argv.extend(["address", mac]);
    }
    run(&argv)?;
    run(&["ip", "-n", &switch, "link", "set", outside, "master", network.bridge(), "up"]).map(drop)
}

fn address(name: &str, interface: &str, address: &str) -> Result<()> {
    run(&["ip", "-n", &namespace(name), "address", "add", address, "dev", interface])?;
    run(&["ip", "-n", &namespace(name), "link", "set", interface, "up"]).map(drop)
}

/// Starts a thread that lives in a namespace: its sockets, and the programs it starts, see only that network.
///
/// # Errors
/// When the thread cannot be started. What fails inside comes back when it is joined.
pub fn inside<T, F>(name: &str, work: F) -> Result<JoinHandle<Result<T>>>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let path = Path::new("/run/netns").join(namespace(name));
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let file = File::open(&path).with_context(|| format!("could not open {}", path.display()))?;
            setns(file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("could not enter {}", path.display()))?;
            work()
        })
        .with_context(|| format!("could not start the thread {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_its_network() {
        assert_eq!(Network::of("10.77.0.12"), Some(Network::Public));
        assert_eq!(Network::of("172.27.0.12"), Some(Network::Private));
        assert_eq!(Network::of("10.77.01.2"), None);
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let port = Port { index: 1, mac: String::new(), network: Network::Private };
        // 15 bytes at most: IFNAMSIZ is 16 with its NUL (linux/if.h).
        assert!(port.outside("vm99999").len() <= 15);
    }
}
