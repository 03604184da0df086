//! Virtual addresses and the VRRP instances that carry them: `ONEAPP_VROUTER_ETHx_VIPn`, `ONEAPP_VNF_KEEPALIVED_*`.
//!
//! As in the old appliance, instances are made by VRID, not by NIC: the first NIC of a VRID that is neither skipped nor
//! without an address runs the instance, and carries the virtual addresses of all NICs of that VRID. So OneKE's
//! template skips eth0, and its addresses move with the instance on eth1.

use std::fmt;
use std::net::Ipv4Addr;

use super::super::Nic;
use super::super::forms::number;
use super::super::reader::Reader;
use super::vips::{self, variable};
use crate::plan::Secret;

/// What Keepalived shall do.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VrrpConfig {
    /// In the order of their NICs; each has a VRID of its own.
    pub instances: Vec<Instance>,
    /// NICs without an address of their own, by index: nobody else sets them up.
    pub floating: Vec<u8>,
    /// `ONEAPP_VNF_KEEPALIVED_UNICAST`: adverts go to the peers that OneGate knows, one by one.
    pub unicast: bool,
}

/// One VRRP instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The NIC that speaks VRRP.
    pub nic: u8,
    /// That NIC's address and prefix length: peers are on its network.
    pub network: (Ipv4Addr, u8),
    /// Its virtual router ID.
    pub vrid: Vrid,
    /// 1 to 255 (RFC 5798); the same on all VMs of the role, as they share one template.
    pub priority: u8,
    /// Between adverts.
    pub interval: Interval,
    /// VRRP version 2 only; at most 8 bytes.
    pub password: Option<Secret>,
    /// All addresses that it carries.
    pub vips: Vec<Vip>,
    /// A default route that moves with the addresses: of the first NIC that has a gateway but no address.
    pub gateway: Option<(u8, Ipv4Addr)>,
}

impl Instance {
    /// `ETH1`: what the old appliance calls it, too.
    pub fn name(&self) -> String {
        format!("ETH{}", self.nic)
    }
}

/// A virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The NIC that it is on, by index.
    pub nic: u8,
    /// The address.
    pub ip: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

/// A virtual router ID, 1 to 255 (RFC 5798, 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vrid(u8);

impl Vrid {
    /// Reads 1 to 255.
    pub fn parse(text: &str) -> Option<Self> {
        number(text, 1, 255).and_then(|id| u8::try_from(id).ok()).map(Self)
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }

    /// The old appliance's way from a service's or VM's ID to a VRID.
    pub fn derived(id: u32) -> Self {
        Self(u8::try_from(id % 255 + 1).expect("a remainder of 255 plus one fits a byte"))
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time between adverts. Whole seconds are VRRP version 2; fractions need version 3, which counts hundredths in 12
/// bits (RFC 5798, 5.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    centiseconds: u16,
}

impl Interval {
    /// Reads `1` or `0.25`: 1 to 255 whole seconds, or 0.01 to 40.95.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text, "0"));
        let hundredths = match fraction.len() {
            1 => number(fraction, 0, 9)? * 10,
            2 => number(fraction, 0, 99)?,
            _ => return None,
        };
        let interval = Self { centiseconds: u16::try_from(number(whole, 0, 255)? * 100 + hundredths).ok()? };
        let fits =
            if interval.is_whole() { interval.centiseconds >= 100 } else { interval.centiseconds <= 4095 };
        fits.then_some(interval)
    }

    /// VRRP version 2 can express it.
    pub fn is_whole(self) -> bool {
        self.centiseconds.is_multiple_of(100)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.centiseconds / 100, self.centiseconds % 100);
        if rest == 0 { write!(f, "{whole}") } else { write!(f, "{whole}.{rest:02}") }
    }
}

/// A NIC that may take part, with the settings that count if it runs an instance.
struct Candidate<'a> {
    nic: &'a Nic,
    vrid: Vrid,
    priority: u8,
    interval: Interval,
    password: Option<Secret>,
    skip: bool,
}

impl Candidate<'_> {
    fn may_lead(&self) -> bool {
        !self.skip && self.nic.ip.is_some()
    }
}

pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> VrrpConfig {
    let mut chosen: Vec<&Nic> = Vec::new();
    for selected in reader.interfaces("ONEAPP_VNF_KEEPALIVED_INTERFACES", true, nics) {
        let fresh = nics.iter().find(|nic| nic.index == selected.nic && !chosen.contains(nic));
        chosen.extend(fresh);
    }
    let default = default_vrid(reader);
    let candidates: Vec<Candidate<'_>> =
        chosen.into_iter().map(|nic| candidate(reader, nic, default)).collect();
    let instances = instances(reader, &candidates);
    vips::tell(reader, nics, &instances);
    tell_uncarried(reader, nics, &candidates);
    let unicast = unicast(reader);
    let floating = candidates.iter().filter(|c| c.nic.ip.is_none()).map(|c| c.nic.index).collect();
    VrrpConfig { instances, floating, unicast }
}

/// OneGate names fellows to the VMs of a service only. To those of a virtual router it does too, but it does not show
/// them whom the others know, and a VM that speaks before it is known takes the addresses.
fn unicast(reader: &mut Reader<'_>) -> bool {
    let name = "ONEAPP_VNF_KEEPALIVED_UNICAST";
    let is_wished = reader.flag(name, false);
    let why = if reader.vars().is_virtual_router() {
        "the VMs of a virtual router cannot tell each other whom they know: multicast is used"
    } else if reader.text("SERVICE_ID").is_none() {
        "this VM is in no service (no SERVICE_ID), so nobody names its peers: multicast is used"
    } else {
        return is_wished;
    };
    if is_wished {
        reader.warn(name, why);
    }
    false
}

/// `SERVICE_ID % 255 + 1`, else `VMID % 255 + 1`, else 1, unless a VRID is given.
fn default_vrid(reader: &mut Reader<'_>) -> Vrid {
    let given = ["ONEAPP_VNF_KEEPALIVED_VRID", "VROUTER_KEEPALIVED_ID"]
        .into_iter()
        .find(|name| reader.text(name).is_some());
    if let Some(vrid) = given.and_then(|name| reader.parse(name, VRID_FORM, Vrid::parse)) {
        return vrid;
    }
    let id = ["SERVICE_ID", "VMID"].into_iter().find_map(|name| reader.text(name)?.parse().ok());
    Vrid::derived(id.unwrap_or(0))
}

const VRID_FORM: &str = "expected a number from 1 to 255";
const PRIORITY_FORM: &str = "expected a number from 1 to 255";
const INTERVAL_FORM: &str = "expected seconds: 1 to 255, or with a fraction 0.01 to 40.95";

fn candidate<'a>(reader: &mut Reader<'_>, nic: &'a Nic, default: Vrid) -> Candidate<'a> {
    let own = |setting: &str| format!("ONEAPP_VNF_KEEPALIVED_ETH{}_{setting}", nic.index);
    let password = password(reader, &own("PASSWORD"));
    let interval = setting(reader, nic, "INTERVAL", INTERVAL_FORM, Interval::parse);
    let interval = interval.unwrap_or(Interval { centiseconds: 100 });
    Candidate {
        nic,
        vrid: reader.parse(&own("VRID"), VRID_FORM, Vrid::parse).unwrap_or(default),
        priority: setting(reader, nic, "PRIORITY", PRIORITY_FORM, |text| {
            u8::try_from(number(text, 1, 255)?).ok()
        })
        .unwrap_or(100),
        interval,
        password,
        skip: reader.flag(&own("SKIP"), false),
    }
}

/// A NIC's own setting, else the global one. Keepalived takes its default in place of a wrong one.
fn setting<T>(
    reader: &mut Reader<'_>,
    nic: &Nic,
    setting: &str,
    form: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    reader.parse_leniently(&given(reader, nic, setting), form, parse)
}

/// The variable that gives a NIC's setting.
fn given(reader: &Reader<'_>, nic: &Nic, setting: &str) -> String {
    let own = format!("ONEAPP_VNF_KEEPALIVED_ETH{}_{setting}", nic.index);
    if reader.text(&own).is_some() { own } else { format!("ONEAPP_VNF_KEEPALIVED_{setting}") }
}

/// Keepalived takes 8 bytes and cuts off the rest, on every VM alike; so do we.
fn password(reader: &mut Reader<'_>, own: &str) -> Option<Secret> {
    let names = [own, "ONEAPP_VNF_KEEPALIVED_PASSWORD", "VROUTER_KEEPALIVED_PASSWORD"];
    let name = names.into_iter().find(|name| reader.text(name).is_some())?;
    let text = reader.text(name)?;
    // Keepalived reads one word, and takes the rest of the line after # or ! for a comment.
    let word = text.trim_start().split([' ', '\t', '#', '!']).next().unwrap_or_default();
    // What its file format would read as a block, a quotation or an expansion.
    let safe = |byte: u8| byte.is_ascii_graphic() && !b"{}\"\\~".contains(&byte);
    if word.is_empty() || !text.bytes().all(|byte| byte == b' ' || safe(byte)) {
        reader.problem(
            name,
            "***",
            "expected 1 to 8 printable ASCII characters, none of { } \" \\ ~, the first neither # nor !",
        );
        return None;
    }
    if word != text.trim() {
        reader.warn(
            name,
            "only what stands before the first blank, # or ! counts: Keepalived reads no further",
        );
    }
    let text = word;
    if text.len() > 8 {
        reader.warn(name, "only the first 8 characters count: VRRP has room for no more");
    }
    Some(Secret::new(&text[..text.len().min(8)]))
}

fn instances(reader: &mut Reader<'_>, candidates: &[Candidate<'_>]) -> Vec<Instance> {
    let routed = candidates.iter().find(|c| c.nic.ip.is_none() && c.nic.gateway.is_some());
    let mut instances: Vec<Instance> = Vec::new();
    for leader in candidates.iter().filter(|candidate| candidate.may_lead()) {
        if instances.iter().any(|instance| instance.vrid == leader.vrid) {
            continue;
        }
        let Some(ip) = leader.nic.ip else { continue };
        if leader.password.is_some() && !leader.interval.is_whole() {
            let name = given(reader, leader.nic, "INTERVAL");
            reader.problem(
                &name,
                reader.text(&name).unwrap_or_default(),
                "expected whole seconds beside a password: fractions need VRRP version 3, which has no passwords",
            );
        }
        let group = candidates.iter().filter(|candidate| candidate.vrid == leader.vrid);
        instances.push(Instance {
            nic: leader.nic.index,
            network: (ip, leader.nic.prefix),
            vrid: leader.vrid,
            priority: leader.priority,
            interval: leader.interval,
            password: leader.password.clone(),
            vips: group.flat_map(|candidate| vips(candidate.nic)).collect(),
            gateway: routed
                .filter(|routed| routed.vrid == leader.vrid)
                .and_then(|routed| Some((routed.nic.index, routed.nic.gateway?))),
        });
    }
    instances
}

/// Each address once.
fn vips(nic: &Nic) -> Vec<Vip> {
    let mut vips: Vec<Vip> = Vec::new();
    for (_, ip, prefix) in &nic.vips {
        if !vips.iter().any(|vip| vip.ip == *ip) {
            vips.push(Vip { nic: nic.index, ip: *ip, prefix: *prefix });
        }
    }
    vips
}

/// The old appliance goes on without an address that nobody carries; so do we, but not in silence.
fn tell_uncarried(reader: &mut Reader<'_>, nics: &[Nic], candidates: &[Candidate<'_>]) {
    for nic in nics {
        let candidate = candidates.iter().find(|candidate| candidate.nic.index == nic.index);
        let why = match candidate {
            Some(own) if candidates.iter().any(|other| other.vrid == own.vrid && other.may_lead()) => {
                continue;
            }
            Some(own) => format!("no interface with VRID {} has an address and is not skipped", own.vrid),
            // Without a role the context may be a node's, which knows the addresses of networks that it is not in.
            None if !nic.is_attached && reader.role().is_none() => continue,
            None if !nic.is_attached => {
                format!(
                    "the context knows no {0}; attach a NIC, or name {0} in ONEAPP_VNF_KEEPALIVED_INTERFACES",
                    nic.name()
                )
            }
            None if nic.management => format!("{} is for management", nic.name()),
            None => format!("ONEAPP_VNF_KEEPALIVED_INTERFACES leaves {} out", nic.name()),
        };
        for (n, ip, _) in &nic.vips {
            reader
                .warn(&variable(reader, nic, *n), format!("{ip} is not carried by any VRRP instance: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds_with_hundredths() {
        let shown = |text| Interval::parse(text).map(|interval| interval.to_string());
        assert_eq!(shown("1").as_deref(), Some("1"));
        assert_eq!(shown("1.0").as_deref(), Some("1"));
        assert_eq!(shown("0.1").as_deref(), Some("0.10"));
        assert_eq!(shown("40.95").as_deref(), Some("40.95"));
        assert_eq!(shown("255").as_deref(), Some("255"));
        for refused in ["0", "0.0", "0.00", "256", "41.01", "1.", ".5", "-1", "+1", "1e1", "0.125", ""] {
            assert_eq!(shown(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn vrids_are_bytes_without_zero() {
        assert_eq!(Vrid::parse("255"), Some(Vrid(255)));
        for refused in ["0", "256", "-1", "0x10", "1_0", "", "+7"] {
            assert_eq!(Vrid::parse(refused), None, "{refused:?}");
        }
        assert_eq!(Vrid::derived(254), Vrid(255));
        assert_eq!(Vrid::derived(255), Vrid(1));
    }
}
