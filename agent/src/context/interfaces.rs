//! Interface lists: `eth0,eth1`, `eth0/10.0.0.1@53`, `10.0.0.1`, `!eth1`: which NICs a function runs on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::nics::Nic;
use super::reader::Reader;

/// A NIC that a list selects, with the address and port that it names there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// [`Nic::index`].
    pub nic: u8,
    /// The one address that is meant; `None`: the NIC's own.
    pub address: Option<IpAddr>,
    /// The port that is meant.
    pub port: Option<u16>,
}

/// What a list means for the NICs of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selection {
    /// Each entry once, management NICs left out. In the list's order, but that bare names change places among themselves
    /// until their numbers rise: the first NIC of a VRID leads it, in the old appliance too.
    pub selected: Vec<Selected>,
    /// Items that mean nothing here: they select and exclude nothing.
    pub unknown: Vec<String>,
    /// Interfaces by their names of which the context knows nothing: the VM may have them all the same.
    pub strange: Vec<String>,
}

/// Resolves a list over the NICs. Items stand apart by blanks, commas or semicolons; a list without a positive item
/// means all NICs; an excluded item excludes its whole NIC (contract.md 1.0).
pub fn select(list: &str, nics: &[Nic]) -> Selection {
    let (mut unknown, mut strange) = (Vec::new(), Vec::new());
    let mut included = Vec::new();
    let mut excluded = Vec::new();
    let mut positive = false;
    for item in list.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';')) {
        let (target, named) = match item.strip_prefix('!') {
            Some(named) => (&mut excluded, named),
            None => {
                positive |= !item.is_empty();
                (&mut included, item)
            }
        };
        if named.is_empty() {
            continue;
        }
        let found = resolve(named, nics);
        if found.is_empty() {
            unknown.push(item.to_owned());
        }
        if found.iter().any(|found| !nics.iter().any(|nic| nic.index == found.nic)) {
            strange.push(item.to_owned());
        }
        target.extend(found);
    }
    if !positive {
        let attached = nics.iter().filter(|nic| nic.is_attached);
        included = attached.map(|nic| Selected { nic: nic.index, address: None, port: None }).collect();
    }
    included.retain(|item: &Selected| {
        let managed = nics.iter().any(|nic| nic.index == item.nic && nic.management);
        !managed && !excluded.iter().any(|out: &Selected| out.nic == item.nic)
    });
    Selection { selected: arranged(included), unknown, strange }
}

fn arranged(included: Vec<Selected>) -> Vec<Selected> {
    let is_bare = |item: &Selected| item.address.is_none() && item.port.is_none();
    let mut bare: Vec<Selected> = included.iter().copied().filter(is_bare).collect();
    bare.sort();
    let mut bare = bare.into_iter();
    let mut seen = BTreeSet::new();
    let placed =
        included.into_iter().map(|item| if is_bare(&item) { bare.next().unwrap_or(item) } else { item });
    placed.filter(|item| seen.insert(*item)).collect()
}

/// The NICs of one item; none if it is not understood, or names what this VM lacks.
fn resolve(item: &str, nics: &[Nic]) -> Vec<Selected> {
    let (place, port) = match item.split_once('@') {
        None | Some((_, "")) => (item.trim_end_matches('@'), None),
        Some((place, port)) => match super::forms::port(port) {
            Some(port) => (place, Some(port)),
            None => return Vec::new(),
        },
    };
    if let Ok(address) = place.strip_prefix('/').unwrap_or(place).parse::<IpAddr>() {
        return by_address(address, nics).map(|nic| Selected { nic, address: Some(address), port }).collect();
    }
    let (name, address) = match place.split_once('/') {
        None | Some((_, "")) => (place.trim_end_matches('/'), None),
        Some((name, address)) => match address.parse() {
            Ok(address) => (name, Some(address)),
            Err(_) => return Vec::new(),
        },
    };
    let nic = name.strip_prefix("eth").and_then(super::placeholder::number);
    nic.map(|nic| Selected { nic, address, port }).into_iter().collect()
}

/// The NICs whose own address it is; if there are none, those with such a virtual one.
fn by_address(address: IpAddr, nics: &[Nic]) -> impl Iterator<Item = u8> {
    let own = move |nic: &Nic| nic.ip.is_some_and(|ip| ip == address);
    let virtual_one = move |nic: &Nic| nic.vips.iter().any(|(_, vip, _)| *vip == address);
    let by_own = nics.iter().any(own);
    nics.iter().filter(move |nic| if by_own { own(nic) } else { virtual_one(nic) }).map(|nic| nic.index)
}

impl Reader<'_> {
    /// The NICs that an interface list selects. Unset or empty: all NICs if `unset_is_all`, else none. What means
    /// nothing is warned about, as the old appliance went on without it.
    pub fn interfaces(&mut self, name: &str, unset_is_all: bool, nics: &[Nic]) -> Vec<Selected> {
        let list = match self.text(name) {
            Some(list) => list,
            None if unset_is_all => "",
            None => return Vec::new(),
        };
        let selection = select(list, nics);
        let known = nics.iter().map(Nic::name).collect::<Vec<_>>().join(", ");
        for item in selection.unknown {
            self.warn(name, format!("{item:?} selects nothing: this VM has {known}"));
        }
        for item in selection.strange {
            self.warn(name, format!("{item:?}: the context knows no such interface, only {known}"));
        }
        selection.selected
    }
}

#[cfg(test)]
mod tests {
    use super::super::nics::tests::nics;
    use super::*;

    fn check(list: &str, expected: &str) {
        let nics = nics(&[
            ("ETH0_IP", "10.0.0.1"),
            ("ONEAPP_VROUTER_ETH0_VIP0", "10.0.0.201/24"),
            ("ETH1_IP", "192.168.1.1"),
            ("ETH2_IP", "172.20.0.1"),
            ("ETH2_VROUTER_MANAGEMENT", "YES"),
            ("ETH10_IP", "192.168.10.1"),
        ]);
        let selection = select(list, &nics);
        let mut words: Vec<String> = selection
            .selected
            .iter()
            .map(|item| {
                let address = item.address.map_or(String::new(), |address| format!("/{address}"));
                let port = item.port.map_or(String::new(), |port| format!("@{port}"));
                format!("eth{}{address}{port}", item.nic)
            })
            .collect();
        words.extend(selection.unknown.iter().map(|item| format!("{item}?")));
        words.extend(selection.strange.iter().map(|item| format!("{item}!")));
        assert_eq!(words.join(" "), expected, "{list}");
    }

    #[test]
    fn lists_follow_the_contract() {
        check("", "eth0 eth1 eth10");
        check("eth1,eth0", "eth0 eth1");
        check("eth10; eth1  eth10", "eth1 eth10");
        check("!eth1", "eth0 eth10");
        check("!", "eth0 eth1 eth10");
        check("eth0 !eth0", "");
        check("!10.0.0.201 eth0 eth1", "eth1");
        check("!eth0/10.0.0.9", "eth1 eth10");
        check("eth0/10.0.0.9@53", "eth0/10.0.0.9@53");
        check("eth0@53 eth0", "eth0@53 eth0");
        check("eth10 192.168.1.1 eth0", "eth0 eth1/192.168.1.1 eth10");
        check("10.0.0.1@53", "eth0/10.0.0.1@53");
        check("10.0.0.201", "eth0/10.0.0.201");
        check("/10.0.0.1", "eth0/10.0.0.1");
        check("eth2 172.20.0.1", "");
        check("eth0/ eth1@", "eth0 eth1");
    }

    #[test]
    fn what_is_unknown_selects_nothing() {
        check("ETH0", "ETH0?");
        check("bond0,eth0.100,eth01", "bond0? eth0.100? eth01?");
        check("eth5 eth1 !eth7", "eth1 eth5 eth5! !eth7!");
        check("10.0.0.1/24 10.9.9.9", "10.0.0.1/24? 10.9.9.9?");
        check("eth0@0 eth1@x !bond0", "eth0@0? eth1@x? !bond0?");
    }
}
