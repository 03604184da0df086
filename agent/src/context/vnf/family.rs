//! What HAProxy's and IPVS's variables have in common: how they are named, and where a balancer may listen.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::Nic;
use super::super::forms::number;
use super::super::nics::is_ipv6;
use super::super::placeholder;
use super::super::reader::Reader;
use super::index_in;

pub(super) const PORT_FORM: &str = "expected a port from 1 to 65535";

/// How the variables of a family are called.
pub(super) struct Names {
    pub(super) current: &'static str,
    /// Also accepted, where the current name is not set.
    pub(super) former: Option<&'static str>,
}

impl Names {
    /// The balancers that have any variable of their own.
    pub(super) fn indices(&self, reader: &Reader<'_>) -> BTreeSet<u16> {
        let of = |prefix: &str, name: &str| {
            let rest = name.strip_prefix(prefix)?;
            let (digits, setting) = rest.split_once('_')?;
            let listens = matches!(setting, "IP" | "PORT") || setting.starts_with("SERVER");
            index_in(digits, "", "").filter(|_| listens)
        };
        let prefixes = [Some(self.current), self.former];
        let set = reader.vars().iter().filter(|(_, value)| !value.is_empty());
        set.flat_map(|(name, _)| prefixes.iter().flatten().filter_map(move |prefix| of(prefix, name)))
            .collect()
    }

    /// The name under which a setting is given; the current one if it is not.
    pub(super) fn of(&self, reader: &mut Reader<'_>, index: u16, setting: &str) -> String {
        let current = format!("{}{index}_{setting}", self.current);
        let Some(former) = self.former.map(|prefix| format!("{prefix}{index}_{setting}")) else {
            return current;
        };
        if reader.text(&current).is_some() || reader.text(&former).is_none() {
            return current;
        }
        reader.warn(&former, format!("an old name: call it {current}"));
        former
    }
}

/// Where a family may listen: own addresses of its interfaces, and every virtual address of this VM.
pub(super) struct Allowed {
    pub(super) variable: &'static str,
    pub(super) addresses: BTreeSet<Ipv4Addr>,
}

pub(super) fn allowed(reader: &mut Reader<'_>, variable: &'static str, nics: &[Nic]) -> Allowed {
    let chosen: Vec<u8> =
        reader.interfaces(variable, true, nics).into_iter().map(|selected| selected.nic).collect();
    let own = nics.iter().filter(|nic| chosen.contains(&nic.index)).filter_map(|nic| nic.ip);
    let virtual_ones = nics.iter().flat_map(|nic| nic.vips.iter().map(|(_, vip, _)| *vip));
    Allowed { variable, addresses: own.chain(virtual_ones).collect() }
}

/// The address that a balancer shall listen on; `None` if it cannot, which is told.
pub(super) fn listener(
    reader: &mut Reader<'_>,
    names: &Names,
    index: u16,
    nics: &[Nic],
    allowed: &Allowed,
) -> Option<Ipv4Addr> {
    let name = names.of(reader, index, "IP");
    let Some(text) = reader.text(&name) else {
        // Set but empty, as by a template's input that nobody gave: theirs goes on without the balancer.
        if reader.vars().raw(&name).is_some() {
            reader.warn(&name, format!("is empty: balancer {index} does not listen"));
            return None;
        }
        let form = "expected an address of this VM or a placeholder such as <ETH0_EP0>, as other variables of this balancer are set";
        reader.problem(&name, "", form);
        return None;
    };
    if is_of_ipv6(reader, nics, text) {
        reader.warn(
            &name,
            format!("{text} is an IPv6 address: balancers listen on IPv4's, so {index} does not listen"),
        );
        return None;
    }
    let ours = |address: Ipv4Addr| nics.iter().any(|nic| nic.ip == Some(address));
    match placeholder::resolve(nics, text) {
        Some(address) if allowed.addresses.contains(&address) => Some(address),
        Some(address) if ours(address) => {
            reader.warn(
                &name,
                format!(
                    "{address} is on an interface that {} leaves out: nothing listens there",
                    allowed.variable
                ),
            );
            None
        }
        found => {
            let known =
                nics.iter().flat_map(|nic| nic.ip.into_iter().chain(nic.vips.iter().map(|(_, vip, _)| *vip)));
            let known: BTreeSet<Ipv4Addr> = known.collect();
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            let meant = found.filter(|_| placeholder::is_placeholder(text));
            let meant = meant.map_or_else(String::new, |address| format!(" (it means {address})"));
            let form = format!(
                "expected an address of this VM or a placeholder of one{meant}: {}",
                known.join(", ")
            );
            reader.problem(&name, text, form);
            None
        }
    }
}

/// An IPv6 address, or a placeholder of a virtual one.
fn is_of_ipv6(reader: &Reader<'_>, nics: &[Nic], text: &str) -> bool {
    let variable = |(nic, n)| {
        let own = reader.text(&format!("ONEAPP_VROUTER_ETH{nic}_VIP{n}"));
        own.or_else(|| reader.text(&format!("ETH{nic}_VROUTER_IP")).filter(|_| n == 0))
    };
    let meant = placeholder::virtual_address(text).and_then(variable);
    is_ipv6(meant.filter(|_| placeholder::resolve(nics, text).is_none()).unwrap_or(text))
}

pub(super) fn refresh(reader: &mut Reader<'_>, name: &str) -> Duration {
    let form = "expected seconds from 1 to 86400";
    let seconds = reader.parse_leniently(name, form, |text| number(text, 1, 86_400));
    Duration::from_secs(u64::from(seconds.unwrap_or(30)))
}
