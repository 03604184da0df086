//! Listens for VRRP's adverts, so that two clusters with one virtual router ID, or two masters of one cluster, are seen.
//!
//! One raw socket per interface, and a task that notes who spoke last. Keepalived hears the same packets, and tells
//! nobody whom it hears.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::clock;
use crate::facts::{Moment, Observed};
use crate::vrrp::{Advert, GROUP, Heard, PROTOCOL, parse};

/// Who was silent for so long is forgotten. The slowest speak every 255 seconds; those that matter, every few.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// More routers than this on one interface are an attack, or a fault that these tell as well.
const MOST: usize = 64;
/// The longest advert: 255 addresses, the password, and an IP header with all options.
const LARGEST: usize = 60 + 8 + 255 * 4 + 8;

/// All that listens.
pub struct Ears {
    wake: Arc<Notify>,
    by_interface: BTreeMap<String, Ear>,
}

struct Ear {
    index: u32,
    known: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ears {
    /// Nothing is listened to yet; a router that was not known before notifies `wake`.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, by_interface: BTreeMap::new() }
    }

    /// Who was heard on these interfaces, which are listened to from now on. Absent: on none.
    pub fn hear(&mut self, interfaces: &[String], now: Moment) -> Observed<Vec<Heard>> {
        self.by_interface.retain(|name, _| interfaces.contains(name));
        if interfaces.is_empty() {
            return Observed::Absent;
        }
        let mut all = Vec::new();
        for interface in interfaces {
            match self.on(interface) {
                Ok(ear) => {
                    let known = ear.known.lock().unwrap_or_else(PoisonError::into_inner);
                    all.extend(known.lately(interface, now));
                }
                Err(error) => {
                    self.by_interface.remove(interface);
                    return Observed::Unknown(format!("could not listen for VRRP on {interface}: {error:#}"));
                }
            }
        }
        Observed::Known(all)
    }

    /// The ear on this interface; a new one if the interface is another by now, or the old one broke.
    fn on(&mut self, interface: &str) -> anyhow::Result<&Ear> {
        let index = if_nametoindex(interface).context("there is no such interface")?;
        if self.by_interface.get(interface).is_none_or(|ear| ear.index != index || ear.task.is_finished()) {
            let socket = open(interface, index)?;
            let known = Arc::new(Mutex::new(Known::default()));
            let task = tokio::spawn(listen(socket, Arc::clone(&known), Arc::clone(&self.wake)));
            self.by_interface.insert(interface.to_owned(), Ear { index, known, task });
        }
        Ok(&self.by_interface[interface])
    }
}

fn open(interface: &str, index: u32) -> anyhow::Result<UnixDatagram> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(PROTOCOL))))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // Keepalived may be in the group; then the kernel delivers anyway. With unicast peers it is not.
    socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(index))?;
    socket.set_nonblocking(true)?;
    // recv(2) is the same for every kind of socket, and this type is the safe way to a readable descriptor in tokio.
    Ok(UnixDatagram::from_std(OwnedFd::from(socket).into())?)
}

/// Ends when the interface goes away: the next look opens another socket.
async fn listen(socket: UnixDatagram, known: Arc<Mutex<Known>>, wake: Arc<Notify>) {
    let mut packet = [0; LARGEST];
    while let Ok(length) = socket.recv(&mut packet).await {
        let Some(advert) = parse(&packet[..length]) else { continue };
        if known.lock().unwrap_or_else(PoisonError::into_inner).note(advert, clock::now()) {
            wake.notify_one();
        }
    }
}

/// Who spoke on one interface, by source and virtual router ID.
#[derive(Default)]
struct Known(BTreeMap<(std::net::Ipv4Addr, u8), (Advert, Moment, Moment)>);

impl Known {
    /// Notes an advert; true if its sender is new.
    fn note(&mut self, advert: Advert, now: Moment) -> bool {
        let is_over = |at: Moment| now.saturating_sub(at) > FORGOTTEN_AFTER;
        self.0.retain(|_, (_, _, at)| !is_over(*at));
        let who = (advert.source, advert.vrid);
        let before = self.0.get(&who).map(|(last, since, at)| (last.interval, *since, *at));
        if before.is_none() && self.0.len() >= MOST {
            return false;
        }
        // A pause of more than three adverts is a silence: it begins anew.
        let continues =
            |(interval, _, at): &(Duration, Moment, Moment)| now.saturating_sub(*at) <= *interval * 4;
        let since = before.filter(continues).map_or(now, |(_, since, _)| since);
        self.0.insert(who, (advert, since, now));
        before.is_none()
    }

    fn lately(&self, interface: &str, now: Moment) -> Vec<Heard> {
        let heard = self.0.values().filter(|(_, _, at)| now.saturating_sub(*at) <= FORGOTTEN_AFTER);
        heard
            .map(|(advert, since, at)| Heard {
                interface: interface.to_owned(),
                advert: advert.clone(),
                since: *since,
                at: *at,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert(last: u8) -> Advert {
        Advert {
            source: [10, 0, 0, last].into(),
            vrid: 7,
            version: 2,
            priority: 100,
            interval: Duration::from_secs(1),
            addresses: Vec::new(),
        }
    }

    const fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_sender_is_new_once_and_forgotten_after_a_while() {
        let mut known = Known::default();
        assert!(known.note(advert(1), at(10)));
        assert!(!known.note(advert(1), at(11)));
        assert_eq!(known.lately("eth0", at(12)).len(), 1);
        assert_eq!(known.lately("eth0", at(12))[0].since, at(10));
        assert_eq!(known.lately("eth0", at(72)), []);
        assert!(known.note(advert(1), at(72)), "forgotten, so new again");
    }

    #[test]
    fn a_silence_begins_anew() {
        let mut known = Known::default();
        known.note(advert(1), at(10));
        known.note(advert(1), at(30));
        assert_eq!(known.lately("eth0", at(30))[0].since, at(30));
    }

    #[test]
    fn a_flood_of_senders_is_bounded() {
        let mut known = Known::default();
        let noted = (0..=255).filter(|n| known.note(advert(*n), at(1))).count();
        assert_eq!(noted, MOST);
        assert!(!known.note(advert(0), at(2)), "those that are known are heard on");
        assert_eq!(known.lately("eth0", at(2))[0].at, at(2));
    }
}
