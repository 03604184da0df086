//! A machine of paper: an image that has just booted. What is decided becomes true at once, in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::recorded::Recorded;
use crate::context::{Config, Nic};
use crate::driver::{Event, Interests, Report, World};
use crate::facts::{Active, Disks, Facts, File, Kubernetes, Link, Moment, Observed, Reading, Routes, Unit};
use crate::guest;
use crate::plan::{Attributes, Content, Effect, Reads, Secret};
use crate::service::{Networks, Role, Service, ServiceNode, ServiceRole, Vm, VmId, VmNic, state};
use crate::world::clock;

/// The paper machine booted a minute ago.
const BOOTED: Duration = Duration::from_secs(60);
/// ACTIVE and RUNNING (see [`Vm`]).
const RUNNING: (i32, i32) = (3, 3);

/// The machine.
pub struct Paper {
    now: Moment,
    context: Secret,
    me: Vm,
    service: Service,
    networks: Networks,
    files: BTreeMap<String, File>,
    units: BTreeMap<String, Unit>,
    sysctls: BTreeMap<String, String>,
    symlinks: BTreeMap<String, String>,
    links: Vec<Link>,
    routes: Routes,
    effects: Vec<Effect>,
    report: Report,
}

impl Paper {
    /// A machine with this context, in this role. What was not recorded is made up: this VM alone in its service.
    pub fn new(context: Secret, config: &Config, role: &Role, recorded: Recorded) -> Self {
        let mut me = recorded.me.unwrap_or_else(|| vm_of(config));
        me.attributes.get_or_insert_default().insert("ROLE_NAME".into(), role.name().to_owned());
        let service = recorded.service.unwrap_or_else(|| alone(config, role, &me));
        Self {
            now: BOOTED,
            context,
            me,
            service,
            networks: recorded.networks,
            files: BTreeMap::new(),
            units: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            symlinks: BTreeMap::new(),
            links: config.nics.iter().map(link_of).collect(),
            routes: routes_of(config),
            effects: Vec::new(),
            report: Report::default(),
        }
    }

    /// The files that were written, by absolute path.
    pub fn files(&self) -> &BTreeMap<String, File> {
        &self.files
    }

    /// Everything that was done, in order.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// What was reported last.
    pub fn last_report(&self) -> Report {
        self.report.clone()
    }

    /// Time passes.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// On the image every unit that is asked for is installed, and none is enabled.
    fn unit(&mut self, name: &str) -> &mut Unit {
        self.units.entry(name.to_owned()).or_insert_with(|| Unit {
            active: Active::Inactive,
            enabled: false,
            restarts: 0,
            status: String::new(),
            loaded: None,
        })
    }

    fn publish(&mut self, vm: Option<VmId>, attributes: &Attributes) {
        let id = vm.unwrap_or(self.me.id);
        let nodes = self.service.roles.iter_mut().flat_map(|role| &mut role.nodes);
        let listed = nodes.filter_map(|node| node.vm.as_mut()).filter(|vm| vm.id == id);
        let own = Some(&mut self.me).filter(|me| me.id == id);
        for vm in listed.chain(own) {
            let pairs =
                attributes.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()));
            vm.attributes.get_or_insert_default().extend(pairs);
        }
    }
}

impl World for Paper {
    async fn observe(&mut self, interests: &Interests, _reads: &Reads) -> Facts {
        let files = interests.files.iter().map(|path| (path.clone(), present(self.files.get(path).cloned())));
        let exists = interests.exists.iter().map(|path| {
            let below = format!("{}/", path.trim_end_matches('/'));
            let found = self.files.keys().any(|file| file == path || file.starts_with(&below));
            (path.clone(), present(found.then_some(())))
        });
        let sysctls = interests.sysctls.iter().map(|key| {
            let value = self.sysctls.get(key).cloned().unwrap_or_else(|| "0".into());
            (key.clone(), Observed::Known(value))
        });
        let target = |path: &String| (path.clone(), present(self.symlinks.get(path).cloned()));
        let symlinks = interests.symlinks.iter().map(target).collect();
        let (files, exists, sysctls) = (files.collect(), exists.collect(), sysctls.collect());
        let units = interests
            .units
            .iter()
            .map(|name| (name.clone(), Observed::Known(self.unit(name).clone())))
            .collect();
        Facts {
            now: self.now,
            // Fixed: what is rendered today is rendered tomorrow.
            wall: 0,
            wall_fraction: Duration::ZERO,
            context: Observed::Known(self.context.clone()),
            entropy: clock::entropy(),
            me: Reading::of(self.me.clone(), self.now),
            service: Reading::of(self.service.clone(), self.now),
            networks: Reading::of(self.networks.clone(), self.now),
            files,
            units,
            exists,
            symlinks,
            sysctls,
            // Which file configures a NIC is not known offline, nor that /etc/resolv.conf is a link.
            routes: Observed::Known(self.routes.clone()),
            links: Observed::Known(self.links.clone()),
            disks: Observed::Known(Disks::mounted(&interests.mountpoints)),
            kubernetes: Kubernetes {
                readyz: Observed::Absent,
                node: Observed::Absent,
                lease: Observed::Absent,
            },
            told: BTreeMap::new(),
            goes_down: false,
            workloads: BTreeMap::new(),
            etcd: Observed::Absent,
            clock: Observed::Absent,
            // Nobody can be asked offline, so nobody is held against his token.
            supervisor: Observed::Absent,
            haproxy: Observed::Absent,
            vrrp: Observed::Absent,
            heard: Observed::Absent,
        }
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::WriteFile(spec) => {
                let content = match &spec.content {
                    Content::Public(text) => Secret::new(text.clone()),
                    Content::Secret(secret) => secret.clone(),
                };
                self.files.insert(spec.path.clone(), File { mode: spec.mode, content });
            }
            Effect::RemoveFile { path } => drop(self.files.remove(path)),
            Effect::Link { path, target } => drop(self.symlinks.insert(path.clone(), target.clone())),
            Effect::EnableUnit(unit) => self.unit(unit).enabled = true,
            Effect::DisableUnit(unit) => self.unit(unit).enabled = false,
            Effect::StartUnit(unit) | Effect::RestartUnit(unit) => self.unit(unit).active = Active::Active,
            Effect::StopUnit(unit) => self.unit(unit).active = Active::Inactive,
            Effect::LoadConfig { unit, digest, .. } => {
                let unit = self.unit(unit);
                unit.active = Active::Active;
                unit.loaded = Some(digest.clone());
            }
            // No HAProxy runs on paper: it is loaded instead.
            Effect::SetServers { digest, .. } => {
                self.unit("haproxy.service").loaded = Some(digest.clone());
            }
            Effect::SetSysctl { key, value } => drop(self.sysctls.insert(key.clone(), value.clone())),
            Effect::LinkUp { name } => {
                self.links.iter_mut().filter(|link| link.name == *name).for_each(|link| link.running = true);
            }
            Effect::SetDefaultRoute { via, device, protocol } => self.routes.set(*via, device, *protocol),
            Effect::RemoveDefaultRoute { via, device, protocol } => {
                self.routes.remove(*via, device, *protocol);
            }
            Effect::Publish { vm, attributes } => self.publish(*vm, attributes),
            // There is no cluster on paper, and no kubeconfig.
            Effect::HoldLease { .. } | Effect::AnnotateNode { .. } | Effect::PublishSealed(_) => {}
        }
        self.effects.push(effect.clone());
        Ok(())
    }

    async fn report(&mut self, report: &Report) {
        self.report = report.clone();
    }

    async fn wait(&mut self, at_most: Duration) -> Event {
        self.advance(at_most);
        Event::Timer
    }
}

fn present<T>(value: Option<T>) -> Observed<T> {
    value.map_or(Observed::Absent, Observed::Known)
}

fn link_of(nic: &Nic) -> Link {
    let addresses = nic.ip.map(|ip| (IpAddr::V4(ip), nic.prefix)).into_iter().collect();
    Link { name: nic.name(), mac: nic.mac.clone(), running: true, addresses }
}

/// The ways out that the context gives the NICs.
fn routes_of(config: &Config) -> Routes {
    let mut routes = Routes::default();
    for nic in config.nics.iter().rev() {
        nic.gateway.into_iter().for_each(|gateway| routes.set(gateway, &nic.name(), guest::STATIC));
    }
    routes
}

/// This VM as OneGate would show it, from its context alone.
fn vm_of(config: &Config) -> Vm {
    let nic = |nic: &Nic| VmNic { mac: nic.mac.clone(), ip: nic.ip.map(IpAddr::V4), ..VmNic::default() };
    Vm {
        id: config.vm.unwrap_or(VmId(0)),
        name: String::new(),
        state: RUNNING.0,
        lcm_state: RUNNING.1,
        attributes: None,
        nics: config.nics.iter().map(nic).collect(),
    }
}

/// A running service of this VM alone.
fn alone(config: &Config, role: &Role, me: &Vm) -> Service {
    let node = ServiceNode { id: me.id, vm: Some(me.clone()) };
    let role = ServiceRole {
        name: role.name().to_owned(),
        cardinality: 1,
        state: state::RUNNING,
        nodes: vec![node],
    };
    Service { id: config.service.unwrap_or_default(), state: state::RUNNING, roles: vec![role] }
}
