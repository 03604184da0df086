//! The service's backends in one attribute: what the service's one reader writes onto the vnf VMs, so that they need
//! not ask for the whole service themselves.
//!
//! ```text
//! v1 at=1763715000 h0/<ETH0_EP0>/9345 7/172.20.0.5/9345 -8/172.20.0.6/9345 l2/10.0.0.9/ 7/172.20.0.5//w10
//! ```
//!
//! After the version and the time of the answer that it was made from stand groups: a balancer (`h` HAProxy's, `l`
//! IPVS's, with its n, address and port), then its servers (VM, host, port, and if set w weight, u upper, l lower
//! limit). A `-` marks what is gone: absence from the digest proves nothing, for its writer may know less than its
//! reader. All characters survive OneGate's escaping.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::offers::{Family, Offer, Proof, Slot, Testimony, listener};
use super::{AttributeValue, Service, VmId};
use crate::context::vnf::{Host, Server, limit, weight};

/// Its writer renews it after this time even if nothing changed.
pub const RENEWED_AFTER: Duration = Duration::from_secs(300);
/// Older ones are stale, and vnf nodes ask for themselves: two renewals were missed, and clocks differ a little.
pub const STALE_AFTER: Duration = Duration::from_secs(900);
/// What is gone is told this long, and by this many entries at most, the latest first.
const GONE_TOLD: usize = 64;

/// A balancer: where it stands, its address and port.
type Group<'a> = (Slot, &'a str, Option<u16>);

/// What is offered and what is gone, as of one answer of OneGate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Digest {
    /// Wall clock of the answer, seconds since 1970.
    pub at: u64,
    /// What stands.
    pub offers: BTreeSet<Offer>,
    /// What was taken back, or whose VM is gone.
    pub gone: BTreeSet<Offer>,
}

impl Digest {
    /// The next one, from an answer of OneGate that came at `at` to `me`. What `previous` held goes only on proof.
    pub fn next(previous: Option<&Self>, service: &Service, me: Option<VmId>, at: u64) -> Self {
        let testimony = Testimony::of(service, me, None);
        let mut next = Self { at, offers: testimony.offers().cloned().collect(), gone: BTreeSet::new() };
        let Some(previous) = previous else { return next };
        if previous.at > at {
            // An older answer proves nothing against what is known since.
            return previous.clone();
        }
        for offer in &previous.offers {
            match testimony.proof(offer.vm, offer.slot, |other| other.is_same_place(offer)) {
                Proof::Stands => {}
                Proof::None => drop(next.offers.insert(offer.clone())),
                Proof::Withdrawn | Proof::Absent => drop(next.gone.insert(offer.clone())),
            }
        }
        next.gone.extend(previous.gone.iter().cloned());
        next.gone.retain(|gone| !next.offers.iter().any(|offer| offer.is_same_place(gone)));
        while next.gone.len() > GONE_TOLD {
            // The lowest VM ID is the oldest VM, whose end most have heard of.
            let oldest = next.gone.iter().min_by_key(|offer| offer.vm).cloned();
            oldest.map(|oldest| next.gone.remove(&oldest));
        }
        next
    }

    /// True if it says what `other` says, whenever.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.offers == other.offers && self.gone == other.gone
    }

    /// True if the writer must put it in place of `published`.
    pub fn must_replace(&self, published: Option<&Self>) -> bool {
        published.is_none_or(|old| {
            !self.says_the_same(old) || self.at.saturating_sub(old.at) >= RENEWED_AFTER.as_secs()
        })
    }

    /// True if it is young enough to be relied on. Clocks of two VMs differ: one from the future is as good as its
    /// distance.
    pub fn is_fresh(&self, wall: u64) -> bool {
        self.at.abs_diff(wall) <= STALE_AFTER.as_secs()
    }

    /// The value of [`super::names::BACKENDS`].
    pub fn value(&self) -> AttributeValue {
        AttributeValue::new(self.encode())
            .expect("hosts, placeholders and numbers hold none of the characters that the server damages")
    }

    fn encode(&self) -> String {
        let mut groups: BTreeMap<Group<'_>, Vec<(&Offer, bool)>> = BTreeMap::new();
        for (offer, gone) in self.offers.iter().map(|o| (o, false)).chain(self.gone.iter().map(|o| (o, true)))
        {
            groups.entry((offer.slot, &offer.listener, offer.listener_port)).or_default().push((offer, gone));
        }
        let mut text = format!("v1 at={}", self.at);
        for (((family, index), address, port), servers) in groups {
            let letter = match family {
                Family::Haproxy => 'h',
                Family::Lvs => 'l',
            };
            text.push_str(&format!(" {letter}{index}/{address}/{}", Shown(port)));
            for (offer, gone) in servers {
                let sign = if gone { "-" } else { "" };
                let Server { host, port, weight, upper, lower } = &offer.server;
                text.push_str(&format!(" {sign}{}/{host}/{}", offer.vm, Shown(*port)));
                weight.iter().for_each(|weight| text.push_str(&format!("/w{weight}")));
                upper.iter().for_each(|upper| text.push_str(&format!("/u{upper}")));
                lower.iter().for_each(|lower| text.push_str(&format!("/l{lower}")));
            }
        }
        text
    }

    /// Reads the attribute's value; `None` for another version, or anything that is not whole.
    pub fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? != "v1" {
            return None;
        }
        let mut digest = Self { at: words.next()?.strip_prefix("at=")?.parse().ok()?, ..Self::default() };
        let mut group: Option<(Slot, String, Option<u16>)> = None;
        for word in words {
            if word.starts_with(['h', 'l']) {
                group = Some(decode_group(word)?);
                continue;
            }
            let (slot, listener, listener_port) = group.clone()?;
            let (gone, rest) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
            let (vm, server) = decode_server(rest)?;
            let offer = Offer { slot, listener, listener_port, vm, server };
            if gone {
                digest.gone.insert(offer)
            } else {
                digest.offers.insert(offer)
            };
        }
        Some(digest)
    }
}

/// Nothing for all ports.
struct Shown(Option<u16>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |port| port.fmt(f))
    }
}

fn decode_group(word: &str) -> Option<(Slot, String, Option<u16>)> {
    let mut parts = word.split('/');
    let slot = parts.next()?;
    let family = if slot.starts_with('h') { Family::Haproxy } else { Family::Lvs };
    let group = ((family, slot[1..].parse().ok()?), listener(parts.next()?)?, decode_port(parts.next()?)?);
    parts.next().is_none().then_some(group)
}

fn decode_port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() { Some(None) } else { crate::context::vnf::port(text).map(Some) }
}

fn decode_server(word: &str) -> Option<(VmId, Server)> {
    let mut parts = word.split('/');
    let vm = VmId(parts.next()?.parse().ok()?);
    let host = Host::parse(parts.next()?)?;
    let port = decode_port(parts.next()?)?;
    let mut server = Server { host, port, weight: None, upper: None, lower: None };
    for part in parts {
        match part.split_at_checked(1)? {
            ("w", text) => server.weight = Some(weight(text)?),
            ("u", text) => server.upper = Some(limit(text)?),
            ("l", text) => server.lower = Some(limit(text)?),
            _ => return None,
        }
    }
    Some((vm, server))
}
