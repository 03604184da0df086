//! The cloud, the machines and the clusters, for which time passes together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use oneke_agent::service::VmId;
use oneke_cloud::{Cloud, Event};
use tokio::task::AbortHandle;

use crate::machine::Machine;
use crate::rke2::{Cluster, Pace};

/// Shared by every task of one run. Never borrowed across an await.
pub type Shared = Rc<RefCell<Universe>>;

/// How unkind the world is at the moment; each number means "once in n", 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rough {
    /// A request to OneGate never arrives.
    pub lose_request: u32,
    /// It arrives and acts, but its answer is lost.
    pub lose_answer: u32,
    /// The agent dies before or after an effect; systemd starts it again.
    pub crash: u32,
    /// The whole machine loses power before or after an effect, and boots again.
    pub power: u32,
    /// The Kubernetes API does not answer in time.
    pub lose_kubernetes: u32,
    /// OneGate answers nobody.
    pub onegate_down: bool,
}

/// Everything there is.
pub struct Universe {
    /// OneGate, OneFlow and oned.
    pub cloud: Cloud,
    /// The service under test.
    pub service: u32,
    /// VMs by ID; a DONE one is removed.
    pub machines: BTreeMap<VmId, Machine>,
    /// Every cluster that was ever founded.
    pub clusters: Vec<Cluster>,
    /// The one source of chance.
    pub chance: Chance,
    /// RKE2's delays.
    pub pace: Pace,
    /// Unkindness.
    pub rough: Rough,
    /// What happened, for a replay's reader.
    pub log: Vec<String>,
    /// Broken laws. A run that ends with any has failed.
    pub violations: Vec<String>,
    /// Running agents by VM, to kill them.
    pub agents: BTreeMap<VmId, AbortHandle>,
    /// Agents to start, with the time.
    pub starts: BTreeMap<VmId, Duration>,
    /// Total passes of all agents.
    pub passes: u64,
    /// The last report of each agent.
    pub reports: BTreeMap<VmId, oneke_agent::driver::Report>,
    /// When each VM was last seen to work, by the world's own standard.
    pub last_ready: BTreeMap<VmId, Duration>,
    /// The last effect, Lease renewals aside, and when.
    pub last_effect: Option<(Duration, String)>,
    /// VMs whose context is broken at the moment.
    pub refused: BTreeSet<VmId>,
    /// When the run began.
    pub origin: tokio::time::Instant,
}

/// Repeatable chance.
pub struct Chance(oneke_cloud::Chance);

impl Chance {
    /// Begins a sequence.
    pub fn new(seed: u64) -> Self {
        Self(oneke_cloud::Chance::new(seed))
    }

    /// True once in `n`; never for 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.0.one_in(n)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.bits() % n.max(1)
    }

    /// A time between two.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_millis(self.below(u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
    }

    /// 64 hex digits.
    pub fn hex(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.0.bits())).collect()
    }
}

impl Universe {
    /// A world with nothing in it but a cloud.
    pub fn new(cloud: Cloud, seed: u64, pace: Pace) -> Self {
        Self {
            cloud,
            service: 0,
            machines: BTreeMap::new(),
            clusters: Vec::new(),
            chance: Chance::new(seed),
            pace,
            rough: Rough::default(),
            log: Vec::new(),
            violations: Vec::new(),
            agents: BTreeMap::new(),
            starts: BTreeMap::new(),
            passes: 0,
            reports: BTreeMap::new(),
            last_ready: BTreeMap::new(),
            last_effect: None,
            refused: BTreeSet::new(),
            origin: tokio::time::Instant::now(),
        }
    }

    /// Simulated time since the run began.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Writes a line of the run's story.
    pub fn note(&mut self, now: Duration, line: impl AsRef<str>) {
        self.log.push(format!("{:>9.3} {}", now.as_secs_f64(), line.as_ref()));
    }

    /// Records a broken law.
    pub fn violate(&mut self, now: Duration, law: impl AsRef<str>) {
        let line = format!("{:>9.3} BROKEN: {}", now.as_secs_f64(), law.as_ref());
        self.log.push(line.clone());
        self.violations.push(line);
    }

    /// The first address of a VM in its context.
    pub fn address(&self, vm: VmId) -> String {
        let context = self.machines.get(&vm).map_or("", |m| m.context.as_str());
        context_value(context, "ETH0_IP").unwrap_or_default()
    }

    /// Lets the cloud go on, and its decisions reach the machines.
    pub fn step_cloud(&mut self, now: Duration) {
        self.cloud.tick(now);
        for event in self.cloud.take_events() {
            self.on_event(event, now);
        }
    }

    fn on_event(&mut self, event: Event, now: Duration) {
        match event {
            Event::PowerOn { vm, context_sh, token, fresh_disk, role, .. } => {
                let vm = VmId(vm.0);
                let machine = self.machines.entry(vm).or_insert_with(|| Machine::new(vm));
                machine.role = role.unwrap_or_default();
                machine.context = context_sh;
                machine.token = token;
                if fresh_disk {
                    machine.recreated |= !machine.disk.files.is_empty();
                    machine.disk = crate::machine::Disk::default();
                }
                self.power_on(vm, now);
            }
            Event::AcpiShutdown { vm } => {
                let id = VmId(vm.0);
                self.note(now, format!("VM {id} is shut down"));
                self.power_off(id);
                self.cloud.guest_stopped(now, vm);
            }
            Event::Destroy { vm } => {
                self.note(now, format!("VM {} is destroyed", vm.0));
                self.power_off(VmId(vm.0));
            }
            Event::Reset { vm } => {
                self.power_off(VmId(vm.0));
                self.power_on(VmId(vm.0), now);
            }
            Event::ContextChanged { vm, context_sh, .. } => {
                if let Some(machine) = self.machines.get_mut(&VmId(vm.0)) {
                    machine.context = context_sh;
                }
            }
            Event::Gone { vm } => {
                self.power_off(VmId(vm.0));
                self.machines.remove(&VmId(vm.0));
            }
        }
    }

    /// Powers a machine on; its agent starts once systemd gets to it.
    pub fn power_on(&mut self, vm: VmId, now: Duration) {
        let delay = self.chance.between(Duration::from_secs(1), Duration::from_secs(8));
        let Some(machine) = self.machines.get_mut(&vm) else { return };
        machine.power_on(now);
        self.starts.insert(vm, now + delay);
        self.note(now, format!("VM {vm} powers on"));
    }

    /// The plug is pulled.
    pub fn power_off(&mut self, vm: VmId) {
        self.kill_agent(vm);
        self.starts.remove(&vm);
        if let Some(machine) = self.machines.get_mut(&vm) {
            machine.power_off();
        }
    }

    /// The agent's process ends here and now.
    pub fn kill_agent(&mut self, vm: VmId) {
        if let Some(agent) = self.agents.remove(&vm) {
            agent.abort();
        }
    }

    /// The agent crashes; systemd starts it again.
    pub fn crash_agent(&mut self, vm: VmId, now: Duration) {
        self.note(now, format!("the agent of VM {vm} crashes"));
        self.kill_agent(vm);
        self.starts.insert(vm, now + Duration::from_secs(1));
    }

    /// Power fails under the machine, and returns a while later.
    pub fn power_cycle(&mut self, vm: VmId, now: Duration) {
        self.note(now, format!("VM {vm} loses power"));
        self.power_off(vm);
        if self.machines.contains_key(&vm) {
            self.power_on(vm, now);
        }
    }
}

/// A value in a context file, for the simulated machine's own needs.
pub fn context_value(context: &str, name: &str) -> Option<String> {
    let value = context.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''))?;
    (!value.is_empty()).then(|| value.to_owned())
}
