//! Decides for vnf nodes: addresses, balancing, routing, NAT, names.
//!
//! Everything runs warm on every vnf VM, configured alike; only the virtual addresses move, by VRRP. What is applied
//! first serves what comes later: kernel parameters, then the daemons, then Keepalived, which calls traffic here. HAProxy
//! comes last: a port that somebody else has taken is seen only when it binds, and takes nothing but the balancers away.

pub mod backends;
mod balancing;
pub mod conntrackd;
mod daemons;
pub mod haproxy;
pub mod keepalived;
mod links;
mod live;
pub mod lvs;
pub mod nat;
mod neighbours;
mod peers;
mod reads;
pub mod router;
pub mod unbound;
mod view;

pub use links::{Names, held};

use backends::InForce;
use daemons::Standing;

use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Facts, Link, Observed};
use crate::plan::{Checker, Condition, Content, Decision, Effect, FileSpec, Load, digest as digest_of};

/// What a vnf node looks at. Kernel parameters are named by interface, so they are known once the links are.
pub fn interests(config: &Config, links: &Observed<Vec<Link>>, interests: &mut Interests) {
    let files = [
        keepalived::PATH,
        keepalived::CHECK_PATH,
        haproxy::PATH,
        nat::PATH,
        router::PATH,
        unbound::PATH,
        conntrackd::PATH,
    ];
    interests.files.extend(files.map(String::from));
    interests.units.extend(
        [keepalived::UNIT, haproxy::UNIT, nat::UNIT, unbound::UNIT, conntrackd::UNIT].map(String::from),
    );
    if let Some(links) = links.known() {
        let names = Names::find(&config.nics, links);
        let parameters = router::parameters(&config.vnf.router, &config.nics, &names);
        interests.sysctls.extend(parameters.into_iter().map(|(key, _)| key));
        interests.sysctls.extend(config.vnf.lvs.iter().map(|_| lvs::PARAMETER.to_owned()));
        let speaking = config.vnf.vrrp.instances.iter().filter(|i| names.link(i.nic, links).is_some());
        interests.routers.extend(speaking.map(|instance| names.of(instance.nic)));
    }
}

/// What a vnf node does.
pub fn decide(config: &Config, facts: &Facts, decision: &mut Decision) {
    let names = facts.links.known().map(|links| Names::find(&config.nics, links));
    if let Some(names) = &names {
        routing(config, facts, names, decision);
    }
    let before = decision.effects.len();
    let balanced = balancing::decide(config, facts, decision);
    let balancing = decision.effects.split_off(before);
    let (real_servers, real) = balancing::ipvs(config, facts);
    name_service(config, facts, decision);
    match &names {
        Some(names) => {
            let links = facts.links.known().map_or(&[][..], Vec::as_slice);
            let astray = links::astray(&config.nics, names, links);
            // Said while it is so; what can be served is served meanwhile.
            if !astray.is_empty() {
                decision.conditions.push(Condition::unmet(
                    "AddressesPresent",
                    "AddressMissing",
                    astray.join("; "),
                ));
            }
            translation(config, facts, names, decision);
            addresses(config, facts, names, &real_servers, decision);
        }
        None => {
            let why = match &facts.links {
                Observed::Unknown(why) => why.as_str(),
                Observed::Known(_) | Observed::Absent => "the kernel shows none",
            };
            let message = format!("could not look at the network interfaces: {why}");
            decision.conditions.push(Condition::unknown("AddressesConfigured", "LinksUnseen", message));
        }
    }
    decision.effects.extend(balancing);
    reads::decide(config, facts, &balanced.and(real), decision);
    if let Some(names) = &names {
        neighbours::decide(config, facts, names, decision);
        view::decide(config, facts, names, decision);
    }
}

fn public(path: &str, mode: u32, text: String, checker: Option<Checker>) -> FileSpec {
    FileSpec { path: path.into(), mode, content: Content::Public(text), checker }
}

fn routing(config: &Config, facts: &Facts, names: &Names, decision: &mut Decision) {
    let kind = "RoutingConfigured";
    let parameters = router::parameters(&config.vnf.router, &config.nics, names);
    let file = public(router::PATH, 0o644, router::render(&parameters), None);
    if let Err(why) = daemons::keep_file(file, facts, decision) {
        decision.conditions.push(Condition::unknown(kind, "FileUnseen", why));
        return;
    }
    let (mut unseen, mut reset, mut changes) = (None, false, 0);
    for (key, wanted) in &parameters {
        let is_so = match facts.sysctls.get(key) {
            Some(Observed::Known(value)) => value.trim() == *wanted,
            // An interface that is not there forwards nothing; it is told with the addresses.
            Some(Observed::Absent) => continue,
            Some(Observed::Unknown(why)) => {
                unseen = Some(format!("could not read {key}: {why}"));
                continue;
            }
            None => continue,
        };
        if !is_so || (reset && *wanted == "1") {
            changes += 1;
            reset |= key == router::ALL_FORWARDING;
            decision.effects.push(Effect::SetSysctl { key: key.clone(), value: (*wanted).to_owned() });
        }
    }
    let forwarding: Vec<String> = config.vnf.router.forwarding.iter().map(|nic| names.of(*nic)).collect();
    decision.conditions.push(match unseen {
        Some(why) => Condition::unknown(kind, "ParametersUnseen", why),
        None if changes > 0 => {
            Condition::unmet(kind, "Setting", format!("setting {changes} kernel parameter(s)"))
        }
        None if forwarding.is_empty() => Condition::met(kind, "Off", "this VM forwards nothing"),
        None => Condition::met(kind, "Forwarding", format!("forwarding between {}", forwarding.join(", "))),
    });
}

fn translation(config: &Config, facts: &Facts, names: &Names, decision: &mut Decision) {
    let kind = "NatConfigured";
    if config.vnf.nat.is_none() && facts.file(nat::PATH).is_absent() {
        return;
    }
    let text = nat::render(config.vnf.nat.as_ref(), names);
    let file = public(nat::PATH, 0o644, text, Some(Checker::Nftables));
    let content = file.content.clone();
    if let Err(why) = daemons::keep_file(file, facts, decision) {
        decision.conditions.push(Condition::unknown(kind, "FileUnseen", why));
        return;
    }
    let standing = daemons::keep_running(nat::UNIT, &content, Load::Reload, facts, decision);
    let serving = config.vnf.nat.as_ref().map_or_else(
        || "nothing is translated".to_owned(),
        |nat| {
            let outward: Vec<String> = nat.outward.iter().map(|nic| names.of(*nic)).collect();
            let nics = if outward.is_empty() { "no interface".to_owned() } else { outward.join(", ") };
            format!("masquerading out of {nics}; {} port forward(s)", nat.forwards.len())
        },
    );
    decision.conditions.push(standing.condition(kind, nat::UNIT, serving));
}

fn name_service(config: &Config, facts: &Facts, decision: &mut Decision) {
    let kind = "NamesServed";
    let Some(dns) = &config.vnf.dns else {
        daemons::retire(unbound::UNIT, facts, decision);
        return;
    };
    let file = public(unbound::PATH, 0o644, unbound::render(dns), Some(Checker::Unbound));
    let content = file.content.clone();
    if let Err(why) = daemons::keep_file(file, facts, decision) {
        decision.conditions.push(Condition::unknown(kind, "FileUnseen", why));
        return;
    }
    // A reload does not make unbound listen elsewhere.
    let standing = daemons::keep_running(unbound::UNIT, &content, Load::Restart, facts, decision);
    let serving = format!("{} names of the zone {}", dns.records.len(), dns.domain);
    decision.conditions.push(standing.condition(kind, unbound::UNIT, serving));
}

fn addresses(config: &Config, facts: &Facts, names: &Names, real_servers: &InForce, decision: &mut Decision) {
    let kind = "AddressesConfigured";
    let vrrp = &config.vnf.vrrp;
    if vrrp.instances.is_empty() && config.vnf.lvs.is_none() {
        daemons::retire(keepalived::UNIT, facts, decision);
        daemons::retire(conntrackd::UNIT, facts, decision);
        return;
    }
    let links = facts.links.known().map_or(&[][..], Vec::as_slice);
    if let Some(missing) = missing(config, names, links) {
        decision.conditions.push(Condition::unmet(kind, "InterfaceMissing", missing));
        return;
    }
    peers::publish(config, facts, decision);
    let peers = match peers::of(config, facts, names) {
        Ok(peers) => peers,
        Err(why) => {
            decision.conditions.push(Condition::unmet(kind, "PeersUnknown", why));
            return;
        }
    };
    sessions(config, facts, names, &peers, decision);
    let balances = config.vnf.haproxy.is_some();
    let check = public(keepalived::CHECK_PATH, 0o755, keepalived::CHECK.into(), None);
    let virtual_servers =
        config.vnf.lvs.as_ref().map_or_else(String::new, |lvs| lvs::render(lvs, real_servers));
    let content = keepalived::render(vrrp, names, &peers, balances, &virtual_servers);
    let main = FileSpec {
        path: keepalived::PATH.into(),
        mode: 0o600,
        content: content.clone(),
        checker: Some(Checker::Keepalived),
    };
    let kept = if balances { daemons::keep_file(check, facts, decision) } else { Ok(()) };
    if let Err(why) = kept.and_then(|()| daemons::keep_file(main, facts, decision)) {
        decision.conditions.push(Condition::unknown(kind, "FileUnseen", why));
        return;
    }
    raise_floating(config, facts, names, links, &content, decision);
    let standing = daemons::keep_running(keepalived::UNIT, &content, Load::Reload, facts, decision);
    decision.conditions.push(served(config, facts, links, &content, &standing));
}

/// What Keepalived does with its file.
fn served(
    config: &Config,
    facts: &Facts,
    links: &[Link],
    content: &Content,
    standing: &Standing,
) -> Condition {
    let (kind, vrrp) = ("AddressesConfigured", &config.vnf.vrrp);
    let is_started = matches!(standing, Standing::Serving | Standing::Failed);
    let lacks_ipvs = facts.sysctls.get(lvs::PARAMETER).is_some_and(Observed::is_absent);
    if is_started && lacks_ipvs && content.as_str().contains("\nvirtual_server ") {
        return Condition::unmet(kind, "KernelLacksIpvs", lvs::KERNEL_LACKS_IT);
    }
    let held = held(vrrp, links);
    let serving = match (held.is_empty(), vrrp.instances.iter().all(|instance| instance.vips.is_empty())) {
        (_, true) => "VRRP runs; no virtual address is given".to_owned(),
        (true, false) => "standing by: another vnf VM holds the virtual addresses".to_owned(),
        (false, _) => format!("this VM holds {}", held.join(", ")),
    };
    standing.condition(kind, keepalived::UNIT, serving)
}

/// Its unit asks for no more than the file: what was switched off is retired with the translation.
fn sessions(config: &Config, facts: &Facts, names: &Names, peers: &peers::Peers, decision: &mut Decision) {
    let kind = "SessionsSynced";
    let synced = config.vnf.nat.as_ref().is_some_and(|nat| nat.synced.is_some());
    let Some(instance) = config.vnf.vrrp.instances.first().filter(|_| synced) else {
        daemons::retire(conntrackd::UNIT, facts, decision);
        return;
    };
    let text = conntrackd::render(instance, &config.nics, names, peers);
    let file = public(conntrackd::PATH, 0o644, text, None);
    let content = file.content.clone();
    if let Err(why) = daemons::keep_file(file, facts, decision) {
        decision.conditions.push(Condition::unknown(kind, "FileUnseen", why));
        return;
    }
    let standing = daemons::keep_running(conntrackd::UNIT, &content, Load::Restart, facts, decision);
    let serving = format!("translated sessions are told to the other vnf VMs on {}", names.of(instance.nic));
    decision.conditions.push(standing.condition(kind, conntrackd::UNIT, serving));
}

/// Keepalived refuses a file that names interfaces that are not there.
fn missing(config: &Config, names: &Names, links: &[Link]) -> Option<String> {
    let vrrp = &config.vnf.vrrp;
    let speak = vrrp.instances.iter().map(|instance| instance.nic);
    let carry = vrrp.instances.iter().flat_map(|instance| &instance.vips).map(|vip| vip.nic);
    let lost = speak.chain(carry).find(|nic| names.link(*nic, links).is_none())?;
    let mac = config.nics.iter().find(|nic| nic.index == lost).map_or("", |nic| nic.mac.as_str());
    Some(format!(
        "there is no interface eth{lost} (MAC {mac:?}): attach the NIC, or drop it from the context"
    ))
}

/// Nobody sets up a NIC without an address. Done once with each configuration: a NIC without carrier stays down.
fn raise_floating(
    config: &Config,
    facts: &Facts,
    names: &Names,
    links: &[Link],
    content: &Content,
    decision: &mut Decision,
) {
    let loaded = facts.unit(keepalived::UNIT).known().and_then(|unit| unit.loaded.clone());
    if loaded == Some(digest_of(content.as_str())) {
        return;
    }
    for nic in &config.vnf.vrrp.floating {
        if let Some(link) = names.link(*nic, links).filter(|link| !link.running) {
            decision.effects.push(Effect::LinkUp { name: link.name.clone() });
        }
    }
}
