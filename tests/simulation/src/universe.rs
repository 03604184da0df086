//! The cloud, the machines and the clusters, for which time passes together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use oneke_agent::service::VmId;
use oneke_cloud::{Cloud, Event, PowerOn, ServiceId, VmState};
use tokio::task::AbortHandle;

use crate::machine::{Disk, Machine, Then};
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

/// From the power button to the end: the agent's farewell is in it.
const SHUTDOWN_LASTS: Duration = Duration::from_secs(6);

/// Everything there is.
pub struct Universe {
    /// OneGate, OneFlow and oned.
    pub cloud: Cloud,
    /// The service under test.
    pub service: Option<ServiceId>,
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
    /// Good contexts of VMs whose context is broken at the moment, and since when it is.
    pub spoilt: BTreeMap<VmId, (Duration, String)>,
    /// VMs whose agent has seen a broken context, since it was seen.
    pub refused: BTreeSet<VmId>,
    /// By second: looks at the Kubernetes API, and at a supervisor by who is not in the cluster yet.
    pub looks: BTreeMap<u64, [u32; 2]>,
    /// When the run began.
    pub origin: tokio::time::Instant,
}

/// Repeatable chance: one seed, one run.
pub struct Chance(fastrand::Rng);

impl Chance {
    /// Begins a sequence.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True once in `n`; never for 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        n != 0 && self.0.u32(0..n) == 0
    }

    /// A number below `n`; 0 for 0.
    pub fn below(&mut self, n: u32) -> u32 {
        self.0.u32(0..n.max(1))
    }

    /// A time between two, both included.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.0.u64(millis(from)..=millis(to)))
    }

    /// 64 hexadecimal digits.
    pub fn hex(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.0.u64(..))).collect()
    }
}

impl Universe {
    /// A world with nothing in it but a cloud.
    pub fn new(cloud: Cloud, seed: u64, pace: Pace) -> Self {
        Self {
            cloud,
            service: None,
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
            spoilt: BTreeMap::new(),
            refused: BTreeSet::new(),
            looks: BTreeMap::new(),
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
        self.end_shutdowns(now);
        self.bury_the_done();
    }

    /// systemd begins to stop everything: the agent may say farewell, the units end with the machine.
    pub fn shut_down(&mut self, vm: VmId, then: Then, now: Duration) {
        self.note(now, format!("VM {vm} is shut down"));
        match self.machines.get_mut(&vm) {
            Some(machine) if machine.up => {
                (machine.goes_down, machine.rested) = (Some((now, then)), Some(now));
            }
            _ => self.end_shutdown(vm, then, now),
        }
    }

    fn end_shutdowns(&mut self, now: Duration) {
        let over = |machine: &Machine| {
            let (since, then) = machine.goes_down?;
            (now.saturating_sub(since) >= SHUTDOWN_LASTS).then_some((machine.vm, then))
        };
        for (vm, then) in self.machines.values().filter_map(over).collect::<Vec<_>>() {
            self.end_shutdown(vm, then, now);
        }
    }

    fn end_shutdown(&mut self, vm: VmId, then: Then, now: Duration) {
        self.power_off(vm);
        match then {
            Then::Off => self.cloud.guest_stopped(now, oneke_cloud::VmId(vm.0)),
            Then::Boot => self.power_on(vm, now),
        }
    }

    fn on_event(&mut self, event: Event, now: Duration) {
        match event {
            Event::PowerOn(start) => self.on_power_on(*start, now),
            Event::AcpiShutdown { vm } => self.shut_down(VmId(vm.0), Then::Off, now),
            Event::AcpiReboot { vm } => self.shut_down(VmId(vm.0), Then::Boot, now),
            Event::Destroy { vm } => {
                self.note(now, format!("VM {} is destroyed", vm.0));
                self.power_off(VmId(vm.0));
            }
            Event::Reset { vm } => {
                self.power_off(VmId(vm.0));
                self.power_on(VmId(vm.0), now);
            }
            Event::ContextChanged { vm, context_sh } => {
                if let Some(machine) = self.machines.get_mut(&VmId(vm.0)) {
                    machine.context = context_sh;
                }
            }
        }
    }

    fn on_power_on(&mut self, start: PowerOn, now: Duration) {
        let vm = VmId(start.vm.0);
        let machine = self.machines.entry(vm).or_insert_with(|| Machine::new(vm));
        machine.role = start.role.unwrap_or_default();
        machine.context = start.context_sh;
        machine.token = start.token;
        if start.fresh_disk {
            machine.recreated |= !machine.disk.files.is_empty();
            machine.disk = Disk::default();
            machine.told_ready = false;
        }
        self.power_on(vm, now);
    }

    fn bury_the_done(&mut self) {
        let done: Vec<VmId> =
            self.cloud.vms().filter(|vm| vm.state == VmState::Done).map(|vm| VmId(vm.id.0)).collect();
        for vm in done {
            self.power_off(vm);
            self.machines.remove(&vm);
            self.reports.remove(&vm);
        }
    }

    /// Powers a machine on; its agent starts once systemd gets to it.
    pub fn power_on(&mut self, vm: VmId, now: Duration) {
        let delay = self.chance.between(Duration::from_secs(1), Duration::from_secs(8));
        let Some(machine) = self.machines.get_mut(&vm) else { return };
        machine.power_on(now);
        self.check_boot(vm, now);
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
        if let Some((_, then)) = self.machines.get(&vm).and_then(|machine| machine.goes_down) {
            return self.end_shutdown(vm, then, now);
        }
        self.power_off(vm);
        if self.machines.contains_key(&vm) {
            self.power_on(vm, now);
        }
    }
}

/// A value in a context file, for the simulated machine's own needs.
pub fn context_value(context: &str, name: &str) -> Option<String> {
    let value =
        context.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''))?;
    (!value.is_empty()).then(|| value.to_owned())
}
