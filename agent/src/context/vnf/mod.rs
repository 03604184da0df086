//! The vnf role's variables: addresses, balancing, routing, NAT, names. What stands here cannot be wrong any more, so
//! that rendering cannot fail.
//!
//! The meaning is the old appliance's wherever its daemons accepted the result. Where it went on without something
//! (a balancer on an interface that is left out), so do we, with a warning; where it crashed or produced a file that
//! its daemon refuses, the problem is told and the last good configuration stays.

mod family;
mod haproxy;
mod lvs;
mod names;
mod routing;
mod servers;
mod vips;
mod vrrp;

pub use haproxy::{Balancer, Check, HaproxyConfig, ProxyProtocol};
pub use lvs::{LvsConfig, LvsMethod, Protocol, VirtualServer};
pub use names::{DnsConfig, Forwarder, Listen};
pub use routing::{Forward, NatConfig, RouterConfig};
pub use servers::{Host, Server};
pub(crate) use servers::{ipvs_weight, limit, weight};
pub use vrrp::{Instance, Interval, Vip, Vrid, VrrpConfig};

use super::Nic;
use super::reader::Reader;

/// What a vnf VM shall do.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VnfConfig {
    /// Virtual addresses and who carries them.
    pub vrrp: VrrpConfig,
    /// TCP balancing; `None`: switched off.
    pub haproxy: Option<HaproxyConfig>,
    /// IPVS balancing; `None`: switched off.
    pub lvs: Option<LvsConfig>,
    /// Which NICs forward.
    pub router: RouterConfig,
    /// Masquerading and port forwards; `None`: switched off.
    pub nat: Option<NatConfig>,
    /// Names; `None`: switched off.
    pub dns: Option<DnsConfig>,
    /// Where servers that VMs offer are learnt.
    pub source: Source,
}

/// Where servers that VMs offer are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Source {
    /// `/service`: the VMs of this OneFlow service.
    #[default]
    Service,
    /// `/vnet/ID`: the leases of this virtual router's networks.
    Networks,
}

/// A virtual router looks at its networks; inside of a service it does so only if `ONEAPP_VNF_LB_ONEGATE_API` says so.
/// Theirs takes the list by one rule and reads it by another, and finds nothing where the two disagree.
fn source(reader: &mut Reader<'_>) -> Source {
    let name = "ONEAPP_VNF_LB_ONEGATE_API";
    let wanted = reader.parse_leniently(name, "expected auto or vrouter", |text| {
        let vrouter = text.eq_ignore_ascii_case("vrouter");
        (vrouter || ["auto", "service"].iter().any(|word| text.eq_ignore_ascii_case(word))).then_some(vrouter)
    });
    match (reader.text("VROUTER_ID"), reader.text("SERVICE_ID"), wanted.unwrap_or_default()) {
        (Some(_), None, _) | (Some(_), Some(_), true) => Source::Networks,
        (None, _, true) => {
            reader.warn(
                name,
                "this VM is no virtual router (no VROUTER_ID): servers are learnt from its service",
            );
            Source::Service
        }
        (_, _, false) => Source::Service,
    }
}

impl VnfConfig {
    /// Reads all of it; problems and warnings go to the reader.
    pub fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Self {
        let vrrp = vrrp::read(reader, nics);
        let config = Self {
            haproxy: haproxy::read(reader, nics),
            lvs: lvs::read(reader, nics),
            router: routing::read_router(reader, nics),
            nat: routing::read_nat(reader, nics, &vrrp),
            vrrp,
            dns: names::read(reader, nics),
            source: source(reader),
        };
        if let (Some(haproxy), Some(dns)) = (&config.haproxy, config.dns.as_ref().filter(|dns| dns.tcp)) {
            tell_both(reader, haproxy, dns);
        }
        if let (Some(haproxy), Some(nat)) = (&config.haproxy, &config.nat) {
            tell_forwarded(reader, haproxy, nat);
        }
        config
    }
}

/// The name server and a balancer cannot listen on one port of one address.
fn tell_both(reader: &mut Reader<'_>, haproxy: &HaproxyConfig, dns: &DnsConfig) {
    for Balancer { index, address, port, .. } in &haproxy.balancers {
        let is_there = |listen: &Listen| listen.address == *address && listen.port.unwrap_or(53) == *port;
        if dns.listen.iter().any(is_there) {
            let name = format!("ONEAPP_VNF_HAPROXY_LB{index}_PORT");
            let expected =
                format!("expected a port that is free on {address}: the name server listens there");
            reader.problem(&name, &port.to_string(), expected);
        }
    }
}

/// What is forwarded never arrives at a balancer. As in the old appliance; it can be meant, but hardly.
fn tell_forwarded(reader: &mut Reader<'_>, haproxy: &HaproxyConfig, nat: &NatConfig) {
    for Balancer { index, address, port, .. } in &haproxy.balancers {
        let catches =
            |forward: &&Forward| forward.port == *port && forward.to.is_none_or(|to| to.contains(address));
        if let Some(Forward { target, .. }) = nat.forwards.iter().find(catches) {
            let message = format!(
                "never reached from outside: an ONEAPP_VNF_NAT4_PORT_FWDn sends {address}:{port} to {target}"
            );
            reader.warn(&format!("ONEAPP_VNF_HAPROXY_LB{index}_PORT"), message);
        }
    }
}

/// A port that somebody else published; 1 to 65535.
pub(crate) fn port(text: &str) -> Option<u16> {
    super::forms::port(text)
}

/// The words of a list: apart by blanks, commas or semicolons.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', ';']).map(str::trim).filter(|word| !word.is_empty())
}

/// The `n` of `PREFIXnSUFFIX`, written without leading zeros, as in the variables' names.
fn index_in(name: &str, prefix: &str, suffix: &str) -> Option<u16> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let index: u16 = digits.parse().ok()?;
    (index.to_string() == digits).then_some(index)
}
