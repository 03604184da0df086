//! The default gateway of a node: `ONEAPP_VROUTER_ETH1_VIP0`, else `FALLBACK_GW` (contract.md 1.1).
//!
//! - As ever in this appliance the address wins over the gateway that the context gives the NIC: the old one ran `ip
//!   route replace default` at every boot. It is set only where it can work: in the network of one of the NICs.
//! - The route carries a mark, [`OURS`]: only what carries it is ever removed. When the context drops the address, the
//!   gateway that the context gives a NIC comes back.
//! - At boot systemd-networkd sets it by a drop-in beside the file that configures the NIC, without this agent. Where
//!   the context gives a NIC a gateway as well (the two would have the same metric, and either might win), or networkd
//!   is not in use, the agent sets it at its first pass, whether OneGate answers or not.
//! - It counts for Ready only on a machine that has no default route at all: RKE2 does not start on one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::{keep, link_of, unfulfilled};
use crate::context::{Config, Nic};
use crate::driver::Interests;
use crate::facts::{DefaultRoute, Facts, Link, Observed, Routes};
use crate::plan::{Condition, Decision, Effect};

/// The mark of our routes. 199 is nobody's (rtnetlink.h, and iproute2's rt_protos).
pub const OURS: u8 = 199;
/// RTPROT_STATIC: set by an administrator; so are the gateways of the context.
pub const STATIC: u8 = 4;

const KIND: &str = "GatewaySet";

/// The interfaces of the NICs, and our drop-ins beside the files that configure them.
pub fn interests(config: &Config, facts: &Facts, interests: &mut Interests) {
    let links = facts.links.known().map_or(&[][..], Vec::as_slice);
    interests.routes.extend(config.nics.iter().filter_map(|nic| Some(link_of(nic, links)?.name.clone())));
    if let Observed::Known(routes) = &facts.routes {
        interests.files.extend(routes.networkd.values().filter_map(|file| drop_in(file)));
    }
}

/// Sets it, keeps it, or withdraws it.
pub fn decide(config: &Config, facts: &Facts, decision: &mut Decision) {
    let wish = wish(config);
    let (routes, links) = match (&facts.routes, &facts.links) {
        (Observed::Known(routes), Observed::Known(links)) => (routes, links),
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => return unseen(wish, why, decision),
        (Observed::Absent, _) | (_, Observed::Absent) => return unseen(wish, "nothing was seen", decision),
    };
    let Some(wish) = wish else { return withdraw(config, facts, routes, links, decision) };
    match wish.place(&config.nics, links) {
        Place::On(link) => set(&wish, link, config, facts, routes, decision),
        Place::Without(why) => {
            // What was set before stays: the last good way out is better than none.
            let message = format!("{wish} is not the way out: {why}{}", instead(routes));
            let needed = routes.defaults.is_empty();
            decision.conditions.push(unfulfilled(KIND, needed, "NotReachable", message));
            decision.look_again_within(Duration::from_secs(5));
        }
    }
}

/// The address that the context wants, and the variable that says so.
struct Wish {
    variable: &'static str,
    via: Ipv4Addr,
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.variable, self.via)
    }
}

fn wish(config: &Config) -> Option<Wish> {
    let vip = config.node.eth1_vip0.map(|via| Wish { variable: "ONEAPP_VROUTER_ETH1_VIP0", via });
    vip.or(config.node.fallback_gw.map(|via| Wish { variable: "FALLBACK_GW", via }))
}

/// Where the address can be reached.
enum Place<'a> {
    On(&'a Link),
    Without(String),
}

impl Wish {
    fn place<'a>(&self, nics: &'a [Nic], links: &'a [Link]) -> Place<'a> {
        if links.iter().any(|link| link.addresses.iter().any(|(ip, _)| *ip == IpAddr::V4(self.via))) {
            return Place::Without("it is this VM's own address".into());
        }
        let on_link = |link: &Link| link.addresses.iter().any(|address| contains(address, self.via));
        if let Some(link) = nics.iter().filter_map(|nic| link_of(nic, links)).find(|link| on_link(link)) {
            return Place::On(link);
        }
        let told = |nic: &&Nic| {
            nic.ip.is_some_and(|ip| contains(&(IpAddr::V4(ip), nic.prefix), self.via))
                && link_of(nic, links).is_none_or(|link| !link.addresses.iter().any(|(ip, _)| ip.is_ipv4()))
        };
        Place::Without(match nics.iter().find(told) {
            Some(nic) => format!("waiting for {} to get its address", nic.name()),
            None => "it lies in none of this VM's networks; correct it in the context, or empty it".into(),
        })
    }
}

fn contains((ip, prefix): &(IpAddr, u8), address: Ipv4Addr) -> bool {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::new(*ip, *prefix).is_ok_and(|net| net.contains(&address)),
        IpAddr::V6(_) => false,
    }
}

fn set(wish: &Wish, link: &Link, config: &Config, facts: &Facts, routes: &Routes, decision: &mut Decision) {
    let is_alone = config.nics.iter().all(|nic| nic.gateway.is_none());
    let file = routes.networkd.get(&link.name).filter(|_| is_alone);
    keep_drop_ins(file.map(|file| (file.as_str(), wish.via)), facts, routes, decision);
    let target = DefaultRoute { via: Some(wish.via), device: link.name.clone(), protocol: OURS };
    let is_set = keep_route(Some((wish.via, &target)), routes, decision);
    let condition = if is_set {
        let message = format!("the way out is {} ({}) on {}", wish.via, wish.variable, link.name);
        Condition::met(KIND, "Set", message)
    } else {
        decision.look_again_within(Duration::from_secs(5));
        let message = format!("setting {wish} as the default gateway on {}{}", link.name, instead(routes));
        unfulfilled(KIND, routes.defaults.is_empty(), "Setting", message)
    };
    decision.conditions.push(condition);
}

/// The context wants nothing: what is ours goes, and the gateway whose place it took comes back.
fn withdraw(config: &Config, facts: &Facts, routes: &Routes, links: &[Link], decision: &mut Decision) {
    keep_drop_ins(None, facts, routes, decision);
    let took_it = !routes.defaults.is_empty() && routes.defaults.iter().all(|route| route.protocol == OURS);
    let own = config.nics.iter().filter(|_| took_it).find_map(|nic| {
        let (via, device) = (nic.gateway?, link_of(nic, links)?.name.clone());
        Some((via, DefaultRoute { via: Some(via), device, protocol: STATIC }))
    });
    keep_route(own.as_ref().map(|(via, route)| (*via, route)), routes, decision);
}

/// Makes `target` the route that is used, and leaves no other route of ours. True if it is so already.
fn keep_route(target: Option<(Ipv4Addr, &DefaultRoute)>, routes: &Routes, decision: &mut Decision) -> bool {
    // Setting a route replaces the one of ours that stands first; the kernel refuses to replace one by a route that
    // it has already further behind (EEXIST), so those go before.
    for route in routes.defaults.iter().skip(usize::from(target.is_some())) {
        if route.protocol == OURS {
            decision.asides.push(Effect::RemoveDefaultRoute {
                via: route.via,
                device: route.device.clone(),
                protocol: OURS,
            });
        }
    }
    let Some((via, target)) = target else { return true };
    let used = routes.defaults.first();
    if used.is_some_and(|used| used.via == target.via && used.device == target.device) {
        return true;
    }
    let (device, protocol) = (target.device.clone(), target.protocol);
    decision.asides.push(Effect::SetDefaultRoute { via, device, protocol });
    false
}

/// Keeps our drop-in beside the one file that shall have it, and beside no other.
fn keep_drop_ins(wanted: Option<(&str, Ipv4Addr)>, facts: &Facts, routes: &Routes, decision: &mut Decision) {
    let mut files: Vec<&String> = routes.networkd.values().collect();
    files.sort();
    files.dedup();
    for file in files {
        let Some(path) = drop_in(file) else { continue };
        let via = wanted.filter(|(wanted, _)| wanted == file).map(|(_, via)| via);
        keep(&path, via.map(drop_in_text), facts, decision);
    }
}

/// Where networkd looks for drop-ins of a file, wherever that itself lies (systemd.network(5)): netplan's are in /run.
fn drop_in(file: &str) -> Option<String> {
    let (_, name) = file.rsplit_once('/')?;
    Some(format!("/etc/systemd/network/{name}.d/oneke.conf"))
}

fn drop_in_text(via: Ipv4Addr) -> String {
    format!(
        "# The default gateway that the context names; kept by oneke-agent, who knows its route by the protocol.\n\
         [Route]\nDestination=0.0.0.0/0\nGateway={via}\nProtocol={OURS}\n"
    )
}

fn instead(routes: &Routes) -> String {
    match routes.defaults.first() {
        Some(DefaultRoute { via: Some(via), device, .. }) => format!("; {via} on {device} is used"),
        Some(DefaultRoute { device, .. }) => format!("; {device} is used"),
        None => "; there is no default route, and RKE2 does not start without one".into(),
    }
}

fn unseen(wish: Option<Wish>, why: &str, decision: &mut Decision) {
    if let Some(wish) = wish {
        let message = format!("whether {wish} is the way out could not be seen: {why}");
        decision.conditions.push(Condition::unknown(KIND, "NotSeen", message));
        decision.look_again_within(Duration::from_secs(5));
    }
}
