//! A vnf VM made of facts alone: effects change what the next look sees, as a kind machine would.

use std::net::IpAddr;
use std::time::Duration;

use oneke_agent::context::{Config, Problem, Vars};
use oneke_agent::driver::Interests;
use oneke_agent::facts::{Active, Facts, File, HaproxyStats, Link, Observed, Reading, Unit};
use oneke_agent::plan::{Decision, Effect, Secret, Status};
use oneke_agent::service::{Networks, Role, Service, Vm};
use oneke_agent::vnf::{self, haproxy};

/// Passes after which a decision that does not come to rest is a fault.
const MOST_PASSES: u32 = 8;

/// The machine, its context, and what it was told to do so far.
pub struct Machine {
    pub config: Config,
    pub facts: Facts,
    pub done: Vec<Effect>,
}

impl Machine {
    /// A machine fresh from the image: packages installed and enabled as Debian does, nothing configured.
    pub fn new(context: &str) -> Result<Self, Vec<Problem>> {
        let vars = Vars::parse(context).expect("the case's context is a list of NAME='value'");
        let config = Config::read(&vars, Some(Role::Vnf))?;
        let mut facts = Facts {
            now: Duration::from_secs(100),
            wall: 1_763_715_600,
            heard: Observed::Absent,
            ..Facts::default()
        };
        let mut links: Vec<Link> = config
            .nics
            .iter()
            .map(|nic| Link {
                name: nic.name(),
                mac: nic.mac.clone(),
                running: nic.ip.is_some(),
                addresses: nic.ip.iter().map(|ip| (IpAddr::V4(*ip), nic.prefix)).collect(),
            })
            .collect();
        links.insert(0, Link { name: "lo".into(), mac: String::new(), running: true, addresses: vec![] });
        facts.links = Observed::Known(links);
        facts.me = Reading::of(vm_of_role("vnf", config.vm.map_or(0, |vm| vm.0)), facts.now);
        facts.haproxy = Observed::Absent;
        Ok(Self { config, facts, done: Vec::new() })
    }

    /// What OneGate told of the service, just now.
    pub fn told(&mut self, service: Service) {
        self.facts.service = Reading::of(service, self.facts.now);
    }

    /// What OneGate told of this virtual router's networks, just now.
    pub fn told_networks(&mut self, networks: Networks) {
        self.facts.networks = Reading::of(networks, self.facts.now);
    }

    /// What OneGate told of this VM, just now.
    pub fn told_me(&mut self, vm: Vm) {
        self.facts.me = Reading::of(vm, self.facts.now);
    }

    /// Time passes.
    pub fn later(&mut self, seconds: u64) {
        self.facts.now += Duration::from_secs(seconds);
        self.facts.wall += seconds;
    }

    /// One look and one decision; nothing is applied.
    pub fn decide(&mut self) -> Decision {
        let mut wanted = Interests::default();
        vnf::interests(&self.config, &self.facts.links, &mut wanted);
        for path in wanted.files {
            self.facts.files.entry(path).or_insert(Observed::Absent);
        }
        for unit in wanted.units {
            let fresh = Unit {
                active: Active::Inactive,
                enabled: false,
                restarts: 0,
                status: String::new(),
                loaded: None,
            };
            self.facts.units.entry(unit).or_insert(Observed::Known(fresh));
        }
        for key in wanted.sysctls {
            self.facts.sysctls.entry(key).or_insert(Observed::Known("0".into()));
        }
        let mut decision = Decision::default();
        vnf::decide(&self.config, &self.facts, &mut decision);
        decision
    }

    /// Applies and decides until nothing is left to do, and returns the last decision.
    pub fn settle(&mut self) -> Decision {
        for _ in 0..MOST_PASSES {
            let decision = self.decide();
            if decision.effects.is_empty() {
                return decision;
            }
            for effect in decision.effects {
                self.apply(&effect);
                self.done.push(effect);
            }
        }
        panic!("still deciding after {MOST_PASSES} passes: {:?}", self.decide().effects);
    }

    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::WriteFile(file) => {
                let written = File { mode: file.mode, content: Secret::new(file.content.as_str()) };
                self.facts.files.insert(file.path.clone(), Observed::Known(written));
            }
            Effect::RemoveFile { path } => drop(self.facts.files.insert(path.clone(), Observed::Absent)),
            Effect::EnableUnit(unit) => self.unit(unit).enabled = true,
            Effect::DisableUnit(unit) => self.unit(unit).enabled = false,
            Effect::StartUnit(unit) | Effect::RestartUnit(unit) => {
                self.unit(unit).active = Active::Active;
                self.run_haproxy(unit);
            }
            Effect::StopUnit(unit) => {
                self.unit(unit).active = Active::Inactive;
                if unit == haproxy::UNIT {
                    self.facts.haproxy = Observed::Absent;
                }
            }
            Effect::LoadConfig { unit: name, digest, .. } => {
                let unit = self.unit(name);
                unit.active = Active::Active;
                unit.loaded = Some(digest.clone());
                self.run_haproxy(name);
            }
            Effect::SetServers { changes, .. } => {
                let running = self.running();
                changes.iter().for_each(|change| running.change(change));
            }
            Effect::SetSysctl { key, value } => {
                if key == "net.ipv4.conf.all.forwarding" {
                    // As the kernel does: it overwrites every interface's own.
                    for (other, seen) in &mut self.facts.sysctls {
                        if other.starts_with("net.ipv4.conf.") && other.ends_with(".forwarding") {
                            *seen = Observed::Known(value.clone());
                        }
                    }
                }
                self.facts.sysctls.insert(key.clone(), Observed::Known(value.clone()));
            }
            Effect::LinkUp { name } => {
                let Observed::Known(links) = &mut self.facts.links else { return };
                links.iter_mut().filter(|link| link.name == *name).for_each(|link| link.running = true);
            }
            other => panic!("a vnf VM is not asked to {other}"),
        }
    }

    /// HAProxy has started with its file, if it is HAProxy that has.
    fn run_haproxy(&mut self, unit: &str) {
        if unit == haproxy::UNIT {
            self.facts.haproxy = Observed::Known(haproxy::running(self.file(haproxy::PATH)));
        }
    }

    /// The HAProxy that runs.
    pub fn running(&mut self) -> &mut HaproxyStats {
        match &mut self.facts.haproxy {
            Observed::Known(running) => running,
            other => panic!("HAProxy does not run: {other:?}"),
        }
    }

    pub fn unit(&mut self, name: &str) -> &mut Unit {
        match self.facts.units.get_mut(name) {
            Some(Observed::Known(unit)) => unit,
            _ => panic!("{name} was never looked at"),
        }
    }

    /// A file's text.
    pub fn file(&self, path: &str) -> &str {
        self.facts.file(path).known().map_or("", |file| file.content.expose())
    }

    /// `vm7_...`: the servers in HAProxy's file that VMs offered.
    pub fn servers(&self) -> Vec<&str> {
        let file = self.file("/etc/haproxy/haproxy.cfg");
        file.lines().filter_map(|line| line.trim().strip_prefix("server ")?.split(' ').next()).collect()
    }
}

/// The status of a condition.
pub fn status(decision: &Decision, kind: &str) -> Option<Status> {
    decision.conditions.iter().find(|condition| condition.kind == kind).map(|condition| condition.status)
}

/// A VM as OneGate shows it soon after its start.
pub fn vm_of_role(role: &str, id: u32) -> Vm {
    let text = format!(
        r#"{{"VM":{{"ID":"{id}","NAME":"{role}_{id}","STATE":"3","LCM_STATE":"3",
            "USER_TEMPLATE":{{"ROLE_NAME":"{role}","SERVICE_ID":"4"}},"TEMPLATE":{{"NIC":[]}}}}}}"#
    );
    Vm::from_json(&text).expect("the test's VM reads")
}
