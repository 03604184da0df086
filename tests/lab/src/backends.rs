//! What stands behind the virtual address: the plain servers' offers in OneGate, and what HAProxy makes of them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::network::Network;
use crate::plain::PORTS;
use crate::service::virtual_address;

/// A plain server's place: as servers call themselves, and as HAProxy shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its VM.
    pub vm: u32,
    /// Its address.
    pub ip: Ipv4Addr,
    /// One of [`PORTS`].
    pub port: u16,
}

impl Place {
    /// The same server on another port.
    pub fn at(self, number: usize) -> Self {
        let offset = number % PORTS.len();
        Self {
            port: PORTS.start + u16::try_from(offset).expect("there are fewer ports than u16 has"),
            ..self
        }
    }

    /// How it begins what it answers.
    pub fn word(&self) -> String {
        format!("{}:{} ", self.ip, self.port)
    }

    fn name(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }
}

/// All plain servers of a lab, each on its first port.
pub fn all(lab: &Lab) -> Vec<Place> {
    let members = lab.members();
    let plain = members.iter().filter(|member| lab.is_plain(&member.role));
    let place = |vm: u32| {
        lab.front.with(|cloud, _| {
            let ip = cloud.vm(oneke_cloud::VmId(vm))?.nics.first()?.ip;
            Some(Place { vm, ip, port: PORTS.start })
        })
    };
    plain.filter_map(|member| place(member.vm)).collect()
}

/// Tells OneGate, in its VM's name, that a server stands behind LB1, or that it does no more.
///
/// # Errors
/// When OneGate does not take it.
pub fn offer(lab: &Lab, place: &Place, stands: bool) -> Result<()> {
    let port = if stands { place.port } else { 0 };
    offer_for(lab, place.vm, (1, 6443), &Place { port, ..*place })
}

/// Tells OneGate, in a VM's name, that a server, which may be another VM's, stands behind a listener with this number and
/// port. Port 0 withdraws it.
///
/// # Errors
/// When OneGate does not take it.
pub fn offer_for(lab: &Lab, vm: u32, (listener, port): (u8, u16), place: &Place) -> Result<()> {
    let words = [
        ("IP", "<ETH0_EP0>".to_owned()),
        ("PORT", port.to_string()),
        ("SERVER_HOST", place.ip.to_string()),
        ("SERVER_PORT", place.port.to_string()),
    ];
    let words = words.map(|(name, value)| (format!("ONEGATE_HAPROXY_LB{listener}_{name}"), value));
    lab.front.say_as(vm, &words)
}

/// What a vnf VM's HAProxy has behind LB1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Takes connections now.
    pub serving: BTreeSet<String>,
    /// Is known at all.
    pub known: BTreeSet<String>,
}

impl Behind {
    /// Asks the HAProxy of a vnf VM over its statistics socket.
    ///
    /// # Errors
    /// When it does not answer, as for a moment while it is reloaded.
    pub fn ask(lab: &Lab, vm: u32) -> Result<Self> {
        let leader = lab.machines.view(vm).leader.with_context(|| format!("VM {vm} is off"))?;
        let path = format!("/proc/{leader}/root/run/haproxy/admin.sock");
        let mut socket =
            UnixStream::connect(&path).with_context(|| format!("could not connect to {path}"))?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).context("could not set a time-out")?;
        socket.write_all(b"show servers state lb1\n").context("could not ask HAProxy")?;
        let mut text = String::new();
        socket.read_to_string(&mut text).context("could not read what HAProxy says")?;
        Ok(Self::read(&text))
    }

    /// Reads `show servers state`, version 1 (HAProxy's management guide, 9.3).
    fn read(text: &str) -> Self {
        let mut behind = Self::default();
        for line in text.lines().skip(1).filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [Some(address), Some(state), Some(admin), Some(port)] = [4, 5, 6, 18].map(|at| words.get(at))
            else {
                continue;
            };
            let name = format!("{address}:{port}");
            // 2: running; of the administrative flags none may say maintenance or drain.
            if *state == "2" && *admin == "0" {
                behind.serving.insert(name.clone());
            }
            behind.known.insert(name);
        }
        behind
    }

    /// Whether a plain server takes connections.
    pub fn serves(&self, place: &Place) -> bool {
        self.serving.contains(&place.name())
    }

    /// Whether a plain server is there, up or down.
    pub fn knows(&self, place: &Place) -> bool {
        self.known.contains(&place.name())
    }
}

/// LB1 as clients reach it.
pub fn api() -> SocketAddr {
    listener(6443)
}

/// The listener on a port as clients reach it.
pub fn listener(port: u16) -> SocketAddr {
    format!("{}:{port}", virtual_address(Network::Public)).parse().expect("an address and a port")
}

/// The name server as nodes reach it.
pub fn names() -> SocketAddr {
    format!("{}:53", virtual_address(Network::Private)).parse().expect("an address and a port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_server_is_known_and_does_not_serve() {
        let text = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ...\n\
            5 lb1 1 vm4_10.0.0.4_20000 10.0.0.4 2 0 1 1 12 6 3 4 6 0 0 0 - 20000 - 0 0 - - 0\n\
            5 lb1 2 vm5_10.0.0.5_20000 10.0.0.5 2 8 1 1 12 6 3 4 6 0 0 0 - 20000 - 0 0 - - 0\n\
            5 lb1 3 vm6_10.0.0.6_20000 10.0.0.6 0 0 1 1 12 6 3 4 6 0 0 0 - 20000 - 0 0 - - 0\n";
        let behind = Behind::read(text);
        let place = |last| Place { vm: 1, ip: [10, 0, 0, last].into(), port: 20_000 };
        assert_eq!([4, 5, 6].map(|last| behind.serves(&place(last))), [true, false, false]);
        assert_eq!([4, 5, 6, 7].map(|last| behind.knows(&place(last))), [true, true, true, false]);
    }

    #[test]
    fn another_number_is_another_port() {
        let place = Place { vm: 1, ip: [10, 0, 0, 4].into(), port: PORTS.start };
        assert_eq!((place.at(3).port, place.at(3 + PORTS.len()).port), (20_003, 20_003));
        assert_eq!(place.at(3).word(), "10.0.0.4:20003 ");
    }
}
