//! A simulated VM: a disk that survives, everything else that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oneke_agent::facts::{Active, HaproxyStats, Routes};
use oneke_agent::service::VmId;
use oneke_agent::vnf::haproxy;

/// What survives a power loss. Recreation empties it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Files with mode and content.
    pub files: BTreeMap<String, (u32, String)>,
    /// Symbolic links and where they lead.
    pub symlinks: BTreeMap<String, String>,
    /// Units that start at boot.
    pub enabled: BTreeSet<String>,
    /// Index of the cluster whose etcd data lies here.
    pub etcd: Option<usize>,
    /// Index of the cluster whose kubelet credentials lie here.
    pub kubelet: Option<usize>,
}

/// A unit of a running machine.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its state.
    pub active: Active,
    /// Since when it is so.
    pub since: Duration,
    /// Restarts by systemd.
    pub restarts: u32,
    /// Digest of the configuration that the agent loaded into it in this boot.
    pub loaded: Option<String>,
}

/// When things happened to a VM for the first time.
#[derive(Clone, Copy, Debug, Default)]
pub struct First {
    /// The agent started.
    pub agent: Option<Duration>,
    /// RKE2's unit was started.
    pub rke2: Option<Duration>,
}

/// What comes after a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays off.
    Off,
    /// It boots again.
    Boot,
}

/// A VM that exists in the cloud.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its ID.
    pub vm: VmId,
    /// OneFlow's role of it.
    pub role: String,
    /// Its disk.
    pub disk: Disk,
    /// Powered.
    pub up: bool,
    /// Since when it goes down, and what for.
    pub goes_down: Option<(Duration, Then)>,
    /// When it went down last, so that its servers may rest.
    pub rested: Option<Duration>,
    /// When it was powered on.
    pub booted: Duration,
    /// Its units while it is up.
    pub units: BTreeMap<String, Unit>,
    /// What the running HAProxy shows: what was in its file when it was loaded, and what was changed since.
    pub haproxy: HaproxyStats,
    /// When a server of each VM was first among them.
    pub served: BTreeMap<VmId, Duration>,
    /// Kernel parameters while it is up.
    pub sysctls: BTreeMap<String, String>,
    /// Its ways out while it is up.
    pub routes: Routes,
    /// `context.sh` as its CD-ROM has it.
    pub context: String,
    /// OneGate's token.
    pub token: String,
    /// It was recreated with an empty disk at least once.
    pub recreated: bool,
    /// Its agent told READY=YES since its disk was last empty: from then on it starts by itself (invariant 2).
    pub told_ready: bool,
    /// When its agent first started, and when RKE2 was first started: what a measurement needs.
    pub first: First,
    /// Passes of its agent in the current simulated minute: a spinning agent is caught by this.
    pub passes: (u64, u32),
}

impl Machine {
    /// A VM that was never powered on.
    pub fn new(vm: VmId) -> Self {
        Self {
            vm,
            role: String::new(),
            disk: Disk::default(),
            up: false,
            goes_down: None,
            rested: None,
            booted: Duration::ZERO,
            units: BTreeMap::new(),
            haproxy: HaproxyStats::default(),
            served: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            routes: Routes::default(),
            context: String::new(),
            token: String::new(),
            recreated: false,
            told_ready: false,
            first: First::default(),
            passes: (0, 0),
        }
    }

    /// Powers it on: enabled units start by themselves, with or without an agent or a cloud (invariant 2).
    pub fn power_on(&mut self, now: Duration) {
        self.up = true;
        self.booted = now;
        self.units.clear();
        self.sysctls.clear();
        self.routes.defaults.clear();
        for unit in self.disk.enabled.clone() {
            self.start(&unit, now);
        }
    }

    /// Everything that is not on disk is gone.
    pub fn power_off(&mut self) {
        self.up = false;
        self.goes_down = None;
        self.units.clear();
        self.sysctls.clear();
    }

    /// Queues a start. RKE2's units take time; the others are up at once.
    pub fn start(&mut self, name: &str, now: Duration) {
        let running =
            self.units.get(name).is_some_and(|u| matches!(u.active, Active::Active | Active::Activating));
        if running {
            return;
        }
        let slow = name.starts_with("rke2-");
        if slow {
            self.first.rke2.get_or_insert(now);
        }
        let active = if slow { Active::Activating } else { Active::Active };
        self.take_config(name);
        self.note_servers(now);
        let restarts = self.units.get(name).map_or(0, |unit| unit.restarts);
        self.units.insert(name.into(), Unit { active, since: now, restarts, loaded: None });
    }

    /// Makes a running unit take the file on disk.
    pub fn load(&mut self, name: &str, digest: &str, now: Duration) {
        self.start(name, now);
        self.take_config(name);
        self.note_servers(now);
        if let Some(unit) = self.units.get_mut(name) {
            unit.loaded = Some(digest.into());
        }
    }

    /// Remembers when each VM's server was first in the running HAProxy.
    pub fn note_servers(&mut self, now: Duration) {
        let vm = |name: &String| name.split_once("/vm")?.1.split_once('_')?.0.parse().ok();
        for vm in self.haproxy.servers.keys().filter_map(vm) {
            self.served.entry(VmId(vm)).or_insert(now);
        }
    }

    /// What HAProxy reads when it starts or reloads: what was changed at run time is gone.
    fn take_config(&mut self, unit: &str) {
        if unit == haproxy::UNIT {
            let file = self.disk.files.get(haproxy::PATH).map_or("", |(_, text)| text.as_str());
            self.haproxy = haproxy::running(file);
        }
    }

    /// The unit runs, or is on its way.
    pub fn runs(&self, unit: &str) -> bool {
        self.up
            && self.units.get(unit).is_some_and(|u| matches!(u.active, Active::Active | Active::Activating))
    }

    /// Its RKE2 unit.
    pub fn rke2_unit(&self) -> &'static str {
        if self.role == "master" { "rke2-server.service" } else { "rke2-agent.service" }
    }
}
