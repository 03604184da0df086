//! What `oneke-agent status` shows of a vnf VM beside its conditions: its VRRP instances, who holds which address, and
//! every server with its health and where it is known from.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::links::Names;
use super::neighbours::{Speaker, has_address, heard_by, speaker};
use super::{balancing, haproxy, lvs};
use crate::context::Config;
use crate::context::vnf::{Host, Instance, Server, Source};
use crate::facts::{Facts, Link, Observed, ServerState, VrrpState};
use crate::plan::{Decision, Table};
use crate::service::VmId;
use crate::service::offers::Offer;

/// Adds the tables that have rows.
pub fn decide(config: &Config, facts: &Facts, names: &Names, decision: &mut Decision) {
    let instances = config.vnf.vrrp.instances.iter().map(|instance| {
        vec![
            instance.name(),
            names.of(instance.nic),
            instance.vrid.to_string(),
            state(instance, facts).to_owned(),
        ]
    });
    let addresses = config.vnf.vrrp.instances.iter().flat_map(|instance| {
        let holder = move |ip| holder(config, facts, names, instance, ip);
        instance.vips.iter().map(move |vip| {
            vec![format!("{}/{}", vip.ip, vip.prefix), names.of(vip.nic), instance.name(), holder(vip.ip)]
        })
    });
    let tables = [
        Table::new("Virtual routers", &["instance", "interface", "VRID", "state"], instances.collect()),
        Table::new(
            "Virtual addresses",
            &["address", "interface", "instance", "held by"],
            addresses.collect(),
        ),
        Table::new(
            "Servers",
            &["listener", "server", "health", "source"],
            [servers(config, facts), virtual_servers(config, facts)].concat(),
        ),
    ];
    decision.tables.extend(tables.into_iter().filter(|table| !table.rows.is_empty()));
}

fn state(instance: &Instance, facts: &Facts) -> &'static str {
    match &facts.vrrp {
        Observed::Absent => "stopped",
        Observed::Unknown(_) => "unknown",
        Observed::Known(states) => match states.get(&instance.name()) {
            Some(VrrpState::Master) => "MASTER",
            Some(VrrpState::Backup) => "BACKUP",
            Some(VrrpState::Fault) => "FAULT",
            Some(VrrpState::Init) => "INIT",
            // Keepalived has not got the instance yet.
            None => "unknown",
        },
    }
}

fn holder(config: &Config, facts: &Facts, names: &Names, instance: &Instance, ip: Ipv4Addr) -> String {
    let links: &[Link] = match &facts.links {
        Observed::Known(links) => links,
        Observed::Absent | Observed::Unknown(_) => return "unknown".into(),
    };
    if has_address(links, ip) {
        return "this VM".into();
    }
    if facts.heard.known().is_none() {
        return "unknown".into();
    }
    let masters = heard_by(instance, names, facts).into_iter().filter(|heard| heard.is_master(facts.now));
    let said: Vec<String> = masters
        .map(|heard| {
            let source = heard.advert.source;
            match speaker(config, facts, heard) {
                Speaker::Fellow(vm, "") => format!("VM {vm} ({source})"),
                Speaker::Fellow(vm, name) => format!("VM {vm} ({name}, {source})"),
                Speaker::Foreign => format!("a foreign router ({source})"),
                Speaker::Unknown => source.to_string(),
            }
        })
        .collect();
    if said.is_empty() { "nobody that is heard".into() } else { said.join("; ") }
}

/// The context's own servers first, as in the file.
fn servers(config: &Config, facts: &Facts) -> Vec<Vec<String>> {
    let Some(haproxy) = &config.vnf.haproxy else { return Vec::new() };
    let file = facts.file(haproxy::PATH).known().map_or("", |file| file.content.expose());
    let backends = haproxy::in_force(file).backends;
    let sources = Sources::of(config, facts);
    let mut rows = Vec::new();
    for balancer in &haproxy.balancers {
        let place = format!("lb{} {}:{}", balancer.index, balancer.address, balancer.port);
        let mut row = |owner: &str, server: &Server, source: String| {
            let port = server.port.unwrap_or_default();
            let name = format!("lb{}/{owner}_{}_{port}", balancer.index, server.host);
            rows.push(vec![place.clone(), shown(server), health(facts, &name).to_owned(), source]);
        };
        balancer.servers.iter().for_each(|server| row("static", server, "context".into()));
        let offered = backends.iter().filter(|(listener, _)| listener.slot.1 == balancer.index);
        for backend in offered.flat_map(|(_, servers)| servers.values()) {
            let source = format!("VM {} ({})", backend.vm, sources.known_from(backend.vm, &backend.server));
            row(&format!("vm{}", backend.vm), &backend.server, source);
        }
    }
    rows
}

/// Those of IPVS. Which of them the kernel uses is Keepalived's to decide, and `ipvsadm -Ln`'s to show.
fn virtual_servers(config: &Config, facts: &Facts) -> Vec<Vec<String>> {
    let Some(lvs) = &config.vnf.lvs else { return Vec::new() };
    let (in_force, _) = balancing::ipvs(config, facts);
    let sources = Sources::of(config, facts);
    let mut rows = Vec::new();
    for service in &lvs.services {
        let port = service.port.map_or_else(String::new, |port| format!(":{port}"));
        let listener = format!("lb{} {}{port} (IPVS)", service.index, service.address);
        let mut row = |server: &Server, source: String| {
            rows.push(vec![listener.clone(), shown(server), "checked by Keepalived".into(), source]);
        };
        service.servers.iter().for_each(|server| row(server, "context".into()));
        let offered = in_force.backends.get(&lvs::listener(service)).into_iter().flat_map(|all| all.values());
        for backend in offered {
            let known_from = sources.known_from(backend.vm, &backend.server);
            row(&backend.server, format!("VM {} ({known_from})", backend.vm));
        }
    }
    rows
}

/// `10.0.0.1:6443`, and the address alone where the port is the client's.
fn shown(server: &Server) -> String {
    match (&server.host, server.port) {
        (host, None) => host.to_string(),
        (Host::Address(IpAddr::V6(ip)), Some(port)) => format!("[{ip}]:{port}"),
        (host, Some(port)) => format!("{host}:{port}"),
    }
}

fn health(facts: &Facts, name: &str) -> &'static str {
    let Some(server) = facts.haproxy.known().and_then(|stats| stats.servers.get(name)) else {
        return "unknown";
    };
    match server.state {
        ServerState::Up if server.weight == 0 => "drains",
        ServerState::Up => "up",
        ServerState::Down => "down",
        ServerState::Maintenance => "taken out",
    }
}

/// Where an offered server can be known from.
struct Sources {
    digest: BTreeSet<Place>,
    asked: BTreeSet<Place>,
    asked_what: &'static str,
}

type Place = (VmId, Host, Option<u16>);

fn place(offer: &Offer) -> Place {
    (offer.vm, offer.server.host.clone(), offer.server.port)
}

impl Sources {
    fn of(config: &Config, facts: &Facts) -> Self {
        let testimony = balancing::testimony(config, facts);
        Self {
            digest: balancing::digest_on(facts).iter().flat_map(|digest| &digest.offers).map(place).collect(),
            asked: testimony.iter().flat_map(|(testimony, _)| testimony.offers()).map(place).collect(),
            asked_what: match config.vnf.source {
                Source::Service => "service",
                Source::Networks => "networks",
            },
        }
    }

    /// The best source that stands by the server.
    fn known_from(&self, vm: VmId, server: &Server) -> &'static str {
        let place = (vm, server.host.clone(), server.port);
        if self.digest.contains(&place) {
            "digest"
        } else if self.asked.contains(&place) {
            self.asked_what
        } else {
            "kept from before"
        }
    }
}
