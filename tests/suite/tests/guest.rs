//! The guest of a node: golden cases of its way out and its name servers, and what happens when the world moves.
//!
//! A case is a directory of `tests/cases/guest`: `context.sh`, `machine.toml` (how the machine stands), perhaps
//! `later.sh` (a second context), and `expected`: every effect and condition, and the machine at the end.
//! `UPDATE_EXPECT=1` rewrites the expectations; review the diff.
#![expect(clippy::disallowed_methods, reason = "reads its cases from files")]
#![expect(clippy::unwrap_used, reason = "a test; clippy sees only functions with #[test] as such")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use oneke_agent::context::{Config, Vars};
use oneke_agent::driver::Interests;
use oneke_agent::facts::{Active, Facts, File, Link, Observed, Routes, Unit};
use oneke_agent::guest::{self, RESOLV_CONF, RESOLVED, STATIC};
use oneke_agent::plan::{Decision, Effect, Secret, Status};
use oneke_agent::service::Role;
use serde::Deserialize;

const UNIT: &str = "systemd-resolved.service";

/// How a machine stands before the agent's first pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// Not known yet without.
    role: Option<Role>,
    /// `ADDRESS/LENGTH` by interface; an empty text is an interface without one.
    links: BTreeMap<String, String>,
    /// `GATEWAY INTERFACE`, the first in use first; set by an administrator.
    #[serde(default)]
    defaults: Vec<String>,
    #[serde(default)]
    networkd: BTreeMap<String, String>,
    /// Text of /etc/resolv.conf, where it is a file.
    resolv_conf: Option<String>,
    /// Its target, where it is a link.
    resolv_link: Option<String>,
}

/// A machine of facts alone: effects change what the next look sees.
struct Machine {
    role: Option<Role>,
    config: Config,
    facts: Facts,
}

fn config(context: &str, role: Option<&Role>) -> Config {
    Config::read(&Vars::parse(context).unwrap(), role.cloned()).unwrap()
}

impl Machine {
    fn new(start: Start, context: &str) -> Self {
        let config = config(context, start.role.as_ref());
        let link = |(name, address): (String, String)| {
            let index = name.strip_prefix("eth").and_then(|index| index.parse().ok());
            let nic = config.nics.iter().find(|nic| Some(nic.index) == index);
            let address =
                address.split_once('/').map(|(ip, len)| (ip.parse().unwrap(), len.parse().unwrap()));
            Link {
                mac: nic.map(|nic| nic.mac.clone()).unwrap_or_default(),
                name,
                running: true,
                addresses: address.into_iter().collect(),
            }
        };
        let mut routes = Routes { networkd: start.networkd, ..Routes::default() };
        for (via, device) in start.defaults.iter().map(|route| route.split_once(' ').unwrap()) {
            routes.defaults.push(oneke_agent::facts::DefaultRoute {
                via: via.parse().ok(),
                device: device.into(),
                protocol: STATIC,
            });
        }
        let mut facts = Facts {
            links: Observed::Known(start.links.into_iter().map(link).collect()),
            routes: Observed::Known(routes),
            ..Facts::default()
        };
        if let Some(target) = start.resolv_link {
            facts.symlinks.insert(RESOLV_CONF.into(), Observed::Known(target));
        }
        if let Some(text) = start.resolv_conf {
            let file = File { mode: 0o644, content: Secret::new(text) };
            facts.files.insert(RESOLV_CONF.into(), Observed::Known(file));
        }
        Self { role: start.role, config, facts }
    }

    fn decide(&mut self) -> Decision {
        let mut wanted = Interests::default();
        guest::interests(&self.config, self.role.as_ref(), &self.facts, &mut wanted);
        for path in wanted.files {
            self.facts.files.entry(path).or_insert(Observed::Absent);
        }
        for path in wanted.symlinks {
            self.facts.symlinks.entry(path).or_insert(Observed::Absent);
        }
        for unit in wanted.units {
            let running = Unit {
                active: Active::Active,
                enabled: true,
                restarts: 0,
                status: String::new(),
                loaded: None,
            };
            self.facts.units.entry(unit).or_insert(Observed::Known(running));
        }
        let mut decision = Decision::default();
        guest::decide(&self.config, self.role.as_ref(), &self.facts, &mut decision);
        assert!(decision.effects.is_empty(), "the guest's effects are asides");
        decision
    }

    /// Applies and decides until nothing is left to do: what was done, and the last decision.
    fn settle(&mut self) -> (Vec<Effect>, Decision) {
        let mut done = Vec::new();
        for _ in 0..4 {
            let decision = self.decide();
            if decision.asides.is_empty() {
                return (done, decision);
            }
            decision.asides.iter().for_each(|effect| self.apply(effect));
            done.extend(decision.asides);
        }
        panic!("still deciding: {:?}", self.decide().asides);
    }

    fn routes(&mut self) -> &mut Routes {
        let Observed::Known(routes) = &mut self.facts.routes else { panic!("the routes are not known") };
        routes
    }

    fn unit(&mut self) -> &mut Unit {
        let Some(Observed::Known(unit)) = self.facts.units.get_mut(UNIT) else {
            panic!("{UNIT} is not known")
        };
        unit
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::WriteFile(file) => {
                assert!(file.path != RESOLV_CONF || self.link().is_none(), "a link is never written over");
                let written = File { mode: file.mode, content: Secret::new(file.content.as_str()) };
                self.facts.files.insert(file.path.clone(), Observed::Known(written));
            }
            Effect::RemoveFile { path } => drop(self.facts.files.insert(path.clone(), Observed::Absent)),
            Effect::SetDefaultRoute { via, device, protocol } => self.routes().set(*via, device, *protocol),
            Effect::RemoveDefaultRoute { via, device, protocol } => {
                self.routes().remove(*via, device, *protocol);
            }
            Effect::StartUnit(_) => self.unit().active = Active::Active,
            Effect::LoadConfig { digest, .. } => {
                self.unit().active = Active::Active;
                self.unit().loaded = Some(digest.clone());
            }
            other => panic!("a guest is not asked to {other}"),
        }
    }

    fn link(&self) -> Option<&str> {
        self.facts.symlinks.get(RESOLV_CONF).and_then(Observed::known).map(String::as_str)
    }

    fn file(&self, path: &str) -> Option<&str> {
        self.facts.file(path).known().map(|file| file.content.expose())
    }

    /// Off and on again: what networkd makes of our drop-in is there before the agent.
    fn reboot(&mut self) {
        let drop_in = self
            .facts
            .files
            .iter()
            .find(|(path, file)| path.starts_with("/etc/systemd/network/") && file.known().is_some());
        let gateway = drop_in.and_then(|(_, file)| {
            let text = file.known()?.content.expose();
            text.lines().find_map(|line| line.strip_prefix("Gateway="))?.parse().ok()
        });
        self.routes().defaults.clear();
        if let Some(gateway) = gateway {
            self.routes().set(gateway, "eth0", guest::OURS);
        }
        self.unit().loaded = None;
    }

    /// Everything that a reader of the case may want to see.
    fn describe(&self, text: &mut String) {
        let routes = self.facts.routes.known().unwrap();
        for route in &routes.defaults {
            let via = route.via.map(|via| via.to_string()).unwrap_or_default();
            writeln!(text, "route      default via {via} dev {} proto {}", route.device, route.protocol)
                .unwrap();
        }
        for (path, file) in &self.facts.files {
            let Observed::Known(file) = file else { continue };
            writeln!(text, "file       {path} {:04o}", file.mode).unwrap();
            file.content.expose().lines().for_each(|line| writeln!(text, "           | {line}").unwrap());
        }
    }
}

fn step(machine: &mut Machine, text: &mut String) {
    let (done, decision) = machine.settle();
    done.iter().for_each(|effect| writeln!(text, "effect     {effect}").unwrap());
    decision.conditions.iter().for_each(|condition| writeln!(text, "condition  {condition}").unwrap());
    decision.told.iter().for_each(|condition| writeln!(text, "told       {condition}").unwrap());
    machine.describe(text);
}

fn check(case: &Path) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(case.join(name));
    let start: Start = toml::from_str(&read("machine.toml").unwrap()).unwrap();
    let mut machine = Machine::new(start, &read("context.sh").unwrap());
    let mut text = String::new();
    step(&mut machine, &mut text);
    if let Ok(later) = read("later.sh") {
        machine.config = config(&later, machine.role.as_ref());
        text.push_str("-- with later.sh\n");
        step(&mut machine, &mut text);
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(case.join("expected"), &text).unwrap();
    }
    let expected = read("expected").unwrap_or_default();
    (expected != text).then(|| format!("== {}\n-- expected:\n{expected}-- made:\n{text}", case.display()))
}

#[test]
fn every_case_is_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases/guest");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 12, "{} cases", cases.len());
    let faults: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

const NODE: &str = "VMID='7'\nSERVICE_ID='4'\nONEGATE_ENDPOINT='http://10.0.0.1:5030'\n\
    ETH0_MAC='02:00:ac:14:00:05'\nETH0_IP='172.20.0.5'\nETH0_MASK='255.255.255.0'\nETH0_GATEWAY=''\n";

/// A worker behind a vnf, systemd-networkd and systemd-resolved in use.
fn node(variables: &str) -> Machine {
    let start = Start {
        role: Some(Role::from("worker".to_owned())),
        links: BTreeMap::from([("eth0".into(), "172.20.0.5/24".into())]),
        defaults: Vec::new(),
        networkd: BTreeMap::from([("eth0".into(), "/run/systemd/network/10-netplan-eth0.network".into())]),
        resolv_conf: None,
        resolv_link: Some("../run/systemd/resolve/stub-resolv.conf".into()),
    };
    Machine::new(start, &format!("{NODE}{variables}"))
}

const BOTH: &str = "FALLBACK_GW='172.20.0.2'\nFALLBACK_DNS='172.20.0.2'\n";

fn status(decision: &Decision, kind: &str) -> Option<(Status, String)> {
    let found = decision.conditions.iter().find(|condition| condition.kind == kind)?;
    Some((found.status, found.reason.clone()))
}

#[test]
fn after_a_reboot_the_route_is_there_before_the_agent() {
    let mut machine = node(BOTH);
    machine.settle();
    machine.reboot();
    let (done, _) = machine.settle();
    // Only what systemd-resolved has read is not remembered across boots.
    assert!(matches!(done.as_slice(), [Effect::LoadConfig { .. }]), "{done:?}");
}

#[test]
fn the_route_that_somebody_flushed_comes_back() {
    let mut machine = node(BOTH);
    machine.settle();
    machine.routes().defaults.clear();
    assert_eq!(status(&machine.decide(), "GatewaySet"), Some((Status::False, "Setting".into())));
    let (done, decision) = machine.settle();
    assert!(matches!(done.as_slice(), [Effect::SetDefaultRoute { .. }]), "{done:?}");
    assert_eq!(status(&decision, "GatewaySet"), Some((Status::True, "Set".into())));
}

#[test]
fn a_route_of_ours_behind_another_goes_before_it_is_set_again() {
    let mut machine = node(BOTH);
    machine.settle();
    let ours = machine.routes().defaults[0].clone();
    machine.routes().defaults[0].protocol = STATIC;
    machine.routes().defaults[0].via = "172.20.0.9".parse().ok();
    machine.routes().defaults.push(ours);
    let decision = machine.decide();
    let said: Vec<String> = decision.asides.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["remove the default route via 172.20.0.2 dev eth0", "set the default route via 172.20.0.2 dev eth0"]
    );
    machine.settle();
}

#[test]
fn routes_of_others_are_never_removed() {
    let mut machine = node("");
    machine.routes().set("172.20.0.9".parse().unwrap(), "eth0", STATIC);
    let (done, decision) = machine.settle();
    assert!(done.is_empty() && decision.conditions.is_empty(), "{done:?}");
}

#[test]
fn what_could_not_be_seen_is_left_alone() {
    let mut machine = node(BOTH);
    machine.decide();
    machine.facts.routes = Observed::Unknown("ip did not end within 5 s".into());
    machine.facts.files.insert(RESOLVED.into(), Observed::Unknown("input/output error".into()));
    let decision = machine.decide();
    assert!(decision.asides.is_empty(), "{:?}", decision.asides);
    for kind in ["GatewaySet", "NamesResolved"] {
        assert_eq!(status(&decision, kind), Some((Status::Unknown, "NotSeen".into())), "{kind}");
    }
}

#[test]
fn a_plain_file_of_which_the_copy_cannot_be_seen_is_left_alone() {
    let mut machine = node(BOTH);
    machine.facts.symlinks.insert(RESOLV_CONF.into(), Observed::Absent);
    machine.settle();
    machine.config = config(NODE, machine.role.as_ref());
    machine.facts.files.insert(guest::BEFORE.into(), Observed::Unknown("input/output error".into()));
    let decision = machine.decide();
    assert!(!decision.asides.iter().any(|effect| effect.to_string().contains("resolv.conf")));
}

#[test]
fn a_resolv_conf_that_one_context_wrote_anew_is_the_new_before() {
    let mut machine = node(BOTH);
    machine.facts.symlinks.insert(RESOLV_CONF.into(), Observed::Absent);
    machine.settle();
    let theirs = "nameserver 9.9.9.9\nsearch example.org\n";
    let file = File { mode: 0o644, content: Secret::new(theirs) };
    machine.facts.files.insert(RESOLV_CONF.into(), Observed::Known(file));
    machine.settle();
    assert!(machine.file(RESOLV_CONF).unwrap().ends_with("nameserver 172.20.0.2\nsearch example.org\n"));
    machine.config = config(NODE, machine.role.as_ref());
    machine.settle();
    assert_eq!((machine.file(RESOLV_CONF), machine.file(guest::BEFORE)), (Some(theirs), None));
}

#[test]
fn a_resolver_that_failed_is_started() {
    let mut machine = node(BOTH);
    machine.settle();
    machine.unit().active = Active::Failed;
    let decision = machine.decide();
    assert_eq!(decision.asides, [Effect::StartUnit(UNIT.into())]);
    machine.settle();
}
