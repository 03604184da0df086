//! The servers behind the balancers over time. Invariant 7: once a server was live it goes only on positive proof.
//!
//! Nothing is remembered here: what is in force stands in the configuration file on disk, with the time of what
//! changed it last; what is known of the service stands in the service's digest and in OneGate's last answer. Each pass
//! applies these to the file's servers again, so that a silent OneGate, or one that answers half, changes nothing. What
//! is older than the file's last change removes nothing: the server may have come back since. Adding is harmless at any
//! time, as HAProxy's own check finds the dead.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::context::vnf::{Host, Server};
use crate::context::{Nic, placeholder};
use crate::service::VmId;
use crate::service::digest::{Digest, STALE_AFTER};
use crate::service::offers::{Offer, Proof, Slot, Testimony};

/// Where a balancer listens, after its placeholders were resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Which balancer.
    pub slot: Slot,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port; `None` (IPVS only): all.
    pub port: Option<u16>,
}

/// A server in force that a VM offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Who offered it.
    pub vm: VmId,
    /// What it offered.
    pub server: Server,
}

/// By balancer, then by place; two VMs that offer one place are one server.
pub type Backends = BTreeMap<Listener, BTreeMap<(Host, Option<u16>), Backend>>;

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InForce {
    /// The servers.
    pub backends: Backends,
    /// Wall clock of the newest evidence when they last changed, seconds since 1970; 0: never.
    pub as_of: u64,
}

/// The comment by which a configuration file says [`InForce::as_of`].
pub(super) const AS_OF: &str = "# offered servers as of ";

/// What the file says of that.
pub(super) fn as_of(file: &str) -> u64 {
    file.lines().find_map(|line| line.strip_prefix(AS_OF)?.parse().ok()).unwrap_or_default()
}

/// An answer that this VM got is younger than another VM's digest if it is so by more than this, in seconds: clocks that are
/// kept differ by milliseconds, those of two hosts that nobody keeps by a few seconds in a month.
const CLOCKS_DIFFER: u64 = 5;

/// What is known of the service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// This VM's NICs: published placeholders mean their addresses.
    pub nics: &'a [Nic],
    /// The time on this VM's wall clock.
    pub wall: u64,
    /// OneGate's last answer about the fellows, and its wall clock.
    pub testimony: Option<(&'a Testimony, u64)>,
    /// The digest on this VM.
    pub digest: Option<&'a Digest>,
}

impl Evidence<'_> {
    /// The servers in force after this evidence. `memory` is what was in force before.
    pub fn apply(&self, listeners: &[Listener], memory: InForce) -> InForce {
        let mut backends = memory.backends.clone();
        // A time to come was written before the clock was set.
        let as_of = if memory.as_of > self.wall { 0 } else { memory.as_of };
        backends.retain(|listener, _| listeners.contains(listener));
        for listener in listeners {
            backends.entry(*listener).or_default();
        }
        if let Some(digest) = self.digest {
            if digest.at >= as_of {
                self.remove_gone(digest, &mut backends);
            }
            self.add(digest.offers.iter(), &mut backends);
        }
        // An answer older than the digest is part of the digest's past: it could bring back what is gone, and take out what
        // has come since. The digest has its time from another VM's clock. If that is far ahead, the clocks tell nothing.
        let newer = |(_, at): &(&Testimony, u64)| {
            let far_ahead = |digest: &Digest| digest.at > self.wall + STALE_AFTER.as_secs();
            self.digest.is_none_or(|digest| *at > digest.at + CLOCKS_DIFFER || far_ahead(digest))
        };
        if let Some((testimony, at)) = self.testimony.filter(newer) {
            if at >= as_of {
                self.remove_proven(testimony, &mut backends);
            }
            self.add(testimony.offers(), &mut backends);
        }
        backends.retain(|_, servers| !servers.is_empty());
        if backends == memory.backends {
            return memory;
        }
        let newest = self.digest.map(|digest| digest.at).max(self.testimony.map(|(_, at)| at));
        InForce { backends, as_of: newest.unwrap_or_default().max(as_of) }
    }

    fn remove_gone(&self, digest: &Digest, backends: &mut Backends) {
        for gone in &digest.gone {
            if let Some(servers) = self.servers_of(gone, backends) {
                servers.retain(|place, backend| !(backend.vm == gone.vm && is_at(place, &gone.server)));
            }
        }
    }

    fn remove_proven(&self, testimony: &Testimony, backends: &mut Backends) {
        for (listener, servers) in backends.iter_mut() {
            let proofs: BTreeMap<(Host, Option<u16>), Proof> = servers
                .iter()
                .map(|(place, backend)| {
                    let same = |offer: &Offer| self.listens(offer, listener) && is_at(place, &offer.server);
                    (place.clone(), testimony.proof(backend.vm, listener.slot, same))
                })
                .collect();
            servers.retain(|place, _| proofs.get(place) != Some(&Proof::Withdrawn));
            // Absence alone never empties a balancer: a server that nobody answers for harms nobody, and an answer
            // that lacks all of them at once is more likely wrong than right.
            let replaced = testimony.offers().any(|offer| self.listens(offer, listener));
            let remains = servers.keys().any(|place| proofs.get(place) != Some(&Proof::Absent));
            if replaced || remains {
                servers.retain(|place, _| proofs.get(place) != Some(&Proof::Absent));
            }
        }
    }

    fn add<'o>(&self, offers: impl Iterator<Item = &'o Offer>, backends: &mut Backends) {
        for offer in offers {
            let Some(servers) = self.servers_of(offer, backends) else { continue };
            let place = (offer.server.host.clone(), offer.server.port);
            let backend = Backend { vm: offer.vm, server: offer.server.clone() };
            // An address that was given to a newer VM is the newer VM's.
            match servers.get(&place) {
                Some(known) if known.vm > offer.vm => {}
                _ => drop(servers.insert(place, backend)),
            }
        }
    }

    fn servers_of<'b>(
        &self,
        offer: &Offer,
        backends: &'b mut Backends,
    ) -> Option<&'b mut BTreeMap<(Host, Option<u16>), Backend>> {
        let address = placeholder::resolve(self.nics, &offer.listener)?;
        backends.get_mut(&Listener { slot: offer.slot, address, port: offer.listener_port })
    }

    /// The joining rule of contract.md 1.3: index, address and port must all be the balancer's.
    fn listens(&self, offer: &Offer, listener: &Listener) -> bool {
        offer.slot == listener.slot
            && offer.listener_port == listener.port
            && placeholder::resolve(self.nics, &offer.listener) == Some(listener.address)
    }

    /// True if a fresh digest stands by every server in force: nobody needs to ask OneGate more.
    pub fn is_explained(&self, backends: &Backends) -> bool {
        let Some(digest) = self.digest.filter(|digest| digest.is_fresh(self.wall)) else { return false };
        let mut offers: BTreeMap<VmId, Vec<&Offer>> = BTreeMap::new();
        for offer in &digest.offers {
            offers.entry(offer.vm).or_default().push(offer);
        }
        backends.iter().all(|(listener, servers)| {
            servers.iter().all(|(place, backend)| {
                let mut offers = offers.get(&backend.vm).into_iter().flatten();
                offers.any(|offer| is_at(place, &offer.server) && self.listens(offer, listener))
            })
        })
    }
}

fn is_at(place: &(Host, Option<u16>), server: &Server) -> bool {
    place.0 == server.host && place.1 == server.port
}
