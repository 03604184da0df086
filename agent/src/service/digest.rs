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
//!
//! A thousand workers offer two servers each, so what stands is written short where it can be: `8/.6` is VM 8 at the host
//! of the server before but for its last octets, with that one's port and shares; `=32080` are all servers of the group
//! before, at that port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::offers::{Family, Offer, Proof, Slot, Testimony, listener};
use super::{AttributeValue, Service, VmId};
use crate::context::vnf::{Host, Server, ipvs_weight, limit};

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
            // An older answer proves nothing against what is known since; nor does a younger one of a leader whose clock is
            // behind its predecessor's, but nobody who is new waits for the clocks to agree.
            let mut same = previous.clone();
            let is_known = |offer: &Offer| same.gone.iter().any(|gone| gone.is_same_place(offer));
            next.offers.retain(|offer| !is_known(offer));
            same.offers.extend(next.offers);
            return same;
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
        let mut groups: BTreeMap<Group<'_>, (Vec<&Offer>, Vec<&Offer>)> = BTreeMap::new();
        for offer in &self.offers {
            groups.entry((offer.slot, &offer.listener, offer.listener_port)).or_default().0.push(offer);
        }
        for gone in &self.gone {
            groups.entry((gone.slot, &gone.listener, gone.listener_port)).or_default().1.push(gone);
        }
        let mut text = format!("v1 at={}", self.at);
        let mut before: &[&Offer] = &[];
        for (((family, index), address, port), (offers, gone)) in &groups {
            let letter = match family {
                Family::Haproxy => 'h',
                Family::Lvs => 'l',
            };
            text.push_str(&format!(" {letter}{index}/{address}/{}", Shown(*port)));
            match port_of_the_same(before, offers) {
                Some(port) => text.push_str(&format!(" ={}", Shown(port))),
                None => {
                    let last = std::iter::once(None).chain(offers.iter().map(|offer| Some(*offer)));
                    for (offer, last) in offers.iter().zip(last) {
                        text.push_str(&format!(" {}", short(offer, last)));
                    }
                }
            }
            gone.iter().for_each(|gone| text.push_str(&format!(" -{}", short(gone, None))));
            before = offers;
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
        let (mut before, mut servers) = (Vec::<(VmId, Server)>::new(), Vec::<(VmId, Server)>::new());
        for word in words {
            if word.starts_with(['h', 'l']) {
                group = Some(decode_group(word)?);
                before = std::mem::take(&mut servers);
                continue;
            }
            let (slot, listener, listener_port) = group.as_ref()?;
            let offer = |(vm, server): (VmId, Server)| Offer {
                slot: *slot,
                listener: listener.clone(),
                listener_port: *listener_port,
                vm,
                server,
            };
            if let Some(port) = word.strip_prefix('=') {
                let port = decode_port(port)?;
                let same = Some(std::mem::take(&mut before)).filter(|same| !same.is_empty())?.into_iter();
                servers.extend(same.map(|(vm, server)| (vm, Server { port, ..server })));
                digest.offers.extend(servers.iter().cloned().map(offer));
            } else if let Some(gone) = word.strip_prefix('-') {
                digest.gone.insert(offer(decode_server(gone, None)?));
            } else {
                let server = decode_server(word, servers.last().map(|(_, server)| server))?;
                digest.offers.insert(offer(server.clone()));
                servers.push(server);
            }
        }
        Some(digest)
    }
}

/// The port of all `offers`, if they are those of the group before at another port.
fn port_of_the_same(before: &[&Offer], offers: &[&Offer]) -> Option<Option<u16>> {
    let port = offers.first().filter(|_| offers.len() > 1 && offers.len() == before.len())?.server.port;
    let moved =
        |old: &Offer, new: &Offer| old.vm == new.vm && Server { port, ..old.server.clone() } == new.server;
    before.iter().zip(offers).all(|(old, new)| moved(old, new)).then_some(port)
}

/// A server, short if it is like the last one.
fn short(offer: &Offer, last: Option<&Offer>) -> String {
    let Server { host, port, weight, upper, lower } = &offer.server;
    let last = last.map(|last| &last.server);
    let start = match last.and_then(|last| Some((v4(&last.host)?.octets(), v4(host)?.octets()))) {
        Some((old, [a, b, c, d])) if old[..3] == [a, b, c] => format!("{}/.{d}", offer.vm),
        Some((old, [a, b, c, d])) if old[..2] == [a, b] => format!("{}/.{c}.{d}", offer.vm),
        _ => format!("{}/{host}", offer.vm),
    };
    if last.is_some_and(|last| Server { host: host.clone(), ..last.clone() } == offer.server) {
        return start;
    }
    let mut text = format!("{start}/{}", Shown(*port));
    weight.iter().for_each(|weight| text.push_str(&format!("/w{weight}")));
    upper.iter().for_each(|upper| text.push_str(&format!("/u{upper}")));
    lower.iter().for_each(|lower| text.push_str(&format!("/l{lower}")));
    text
}

fn v4(host: &Host) -> Option<Ipv4Addr> {
    match host {
        Host::Address(IpAddr::V4(address)) => Some(*address),
        _ => None,
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

/// A server; what a short one leaves out is the last one's.
fn decode_server(word: &str, last: Option<&Server>) -> Option<(VmId, Server)> {
    let mut parts = word.split('/');
    let vm = VmId(parts.next()?.parse().ok()?);
    let host = decode_host(parts.next()?, last)?;
    let Some(port) = parts.next() else { return Some((vm, Server { host, ..last?.clone() })) };
    let mut server = Server { host, port: decode_port(port)?, weight: None, upper: None, lower: None };
    for part in parts {
        match part.split_at_checked(1)? {
            ("w", text) => server.weight = Some(ipvs_weight(text)?),
            ("u", text) => server.upper = Some(limit(text)?),
            ("l", text) => server.lower = Some(limit(text)?),
            _ => return None,
        }
    }
    Some((vm, server))
}

fn decode_host(text: &str, last: Option<&Server>) -> Option<Host> {
    let Some(rest) = text.strip_prefix('.') else { return Host::parse(text) };
    let mut octets = v4(&last?.host)?.octets();
    let given: Vec<u8> = rest.split('.').map(|octet| octet.parse().ok()).collect::<Option<_>>()?;
    let start = octets.len().checked_sub(given.len())?;
    octets[start..].copy_from_slice(&given);
    Some(Host::Address(IpAddr::V4(octets.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_forms_read_alike_and_are_written_short() {
        let long = "v1 at=9 h0/10.0.0.1/9345 2/172.20.0.2/9345 h2/10.0.0.1/443 7/172.20.0.7/32443 \
                    8/172.20.0.8/32443 9/172.20.1.9/32443/w3 10/worker.example/32443/w3 12/10.9.9.9/1/u5 \
                    -3/172.20.0.3/32443 h3/10.0.0.1/80 7/172.20.0.7/32080 8/172.20.0.8/32080 h4/10.0.0.1/81 \
                    7/172.20.0.7/33080 8/172.20.0.8/33080";
        let short = "v1 at=9 h0/10.0.0.1/9345 2/172.20.0.2/9345 h2/10.0.0.1/443 7/172.20.0.7/32443 8/.8 \
                     9/.1.9/32443/w3 10/worker.example 12/10.9.9.9/1/u5 -3/172.20.0.3/32443 h3/10.0.0.1/80 \
                     7/172.20.0.7/32080 8/.8 h4/10.0.0.1/81 =33080";
        let digest = Digest::decode(long).unwrap();
        assert_eq!(digest.offers.len(), 10);
        assert_eq!(digest.value().as_str(), short);
        assert_eq!(Digest::decode(short), Some(digest));
        for nonsense in
            ["8", "8/.8", "-8/.8", "8/172.20.0.8/1 9/.256", "8/172.20.0.8/1 9/.1.2.3.4.5", "=x", "=1"]
        {
            let text = format!("v1 at=9 h0/10.0.0.1/9345 {nonsense}");
            assert_eq!(Digest::decode(&text), None, "{nonsense}");
        }
    }
}
