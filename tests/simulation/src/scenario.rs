//! What befalls a service: its size, its timing, the weather, and blows that fall on it, all by one seed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use oneke_agent::driver::{Driver, Event, FAREWELL_LASTS};
use oneke_agent::facts::Active;
use oneke_agent::service::VmId;
use oneke_cloud::{Cloud, Faults, Instantiate, Options, Templates};

use crate::machine::Then;
use crate::rke2::Pace;
use crate::universe::{Chance, Rough, Shared, Universe};
use crate::world::SimWorld;

/// One step of simulated time.
pub(crate) const STEP: Duration = Duration::from_millis(500);
/// After the last blow the world is kind, and everything must come right within this.
const RECOVERY: Duration = Duration::from_secs(45 * 60);
/// And stay right so long, without an effect.
const REST: Duration = Duration::from_secs(90);

/// The service to bring up.
#[derive(Clone, Debug)]
pub struct Size {
    /// VMs of each role: vnf, master, worker, storage.
    pub vms: [u32; 4],
    /// `ONEAPP_K8S_TOKEN_MODE=plain`.
    pub plain: bool,
}

/// A blow.
#[derive(Clone, Debug)]
pub enum Blow {
    /// A VM loses power and boots again.
    PowerLoss(VmId),
    /// A VM's agent crashes.
    AgentCrash(VmId),
    /// `onevm reboot`.
    Reboot(VmId),
    /// All VMs lose power at once; OneGate stays away for so long.
    FullPowerCycle(Duration),
    /// All VMs are asked to reboot at once.
    FullReboot,
    /// OneGate answers nobody for so long.
    OneGateDown(Duration),
    /// OneGate lies for so long: null VMs, half lists, stale or cut answers, passing errors.
    OneGateLies(Duration, Box<Faults>),
    /// `oneflow scale` of the workers.
    ScaleWorkers(u32),
    /// `oneflow scale` of the masters, upwards.
    ScaleMasters(u32),
    /// `onevm recover --recreate`: same VM, empty disk.
    Recreate(VmId),
    /// `onevm updateconf` with a value that no agent can take, for so long.
    BadContext(VmId, Duration),
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Replays the run.
    pub seed: u64,
    /// The service.
    pub size: Size,
    /// RKE2's delays.
    pub pace: Pace,
    /// The weather until the last blow.
    pub rough: Rough,
    /// Blows by time.
    pub blows: Vec<(Duration, Blow)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Broken laws; empty is success.
    pub violations: Vec<String>,
    /// The story.
    pub log: Vec<String>,
    /// When the service was RUNNING first.
    pub running: Option<Duration>,
    /// Simulated time that passed.
    pub lasted: Duration,
    /// Passes of all agents.
    pub passes: u64,
}

impl Scenario {
    /// Everything follows from the seed.
    pub fn from_seed(seed: u64) -> Self {
        let chance = &mut Chance::new(seed);
        let masters = [1, 3, 3, 3, 5][chance.below(5) as usize];
        let vms = [1 + chance.below(2), masters, chance.below(4), chance.below(2)];
        let seconds = Duration::from_secs;
        let pace = Pace {
            start: chance.between(seconds(1), seconds(20)),
            promotion: chance.between(seconds(2), seconds(30)),
            node_ready: chance.between(seconds(1), seconds(40)),
            restart: seconds(5),
        };
        let rough = match chance.below(4) {
            0 => Rough::default(),
            1 => Rough { lose_request: 20, lose_answer: 20, lose_kubernetes: 10, ..Rough::default() },
            2 => Rough { crash: 8, lose_answer: 10, ..Rough::default() },
            _ => Rough {
                power: 20,
                crash: 20,
                lose_request: 30,
                lose_answer: 30,
                lose_kubernetes: 20,
                onegate_down: false,
            },
        };
        let size = Size { vms, plain: chance.one_in(8) };
        let blows = blows(chance, &size);
        Self { seed, size, pace, rough, blows }
    }

    /// The default service on a kind day.
    pub fn calm(size: Size) -> Self {
        let seconds = Duration::from_secs;
        let pace =
            Pace { start: seconds(10), promotion: seconds(5), node_ready: seconds(10), restart: seconds(5) };
        Self { seed: 0, size, pace, rough: Rough::default(), blows: Vec::new() }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Outcome {
        in_simulated_time(self.live())
    }

    async fn live(&self) -> Outcome {
        let shared: Shared = Rc::new(RefCell::new(self.begin()));
        let mut blows = self.blows.iter().peekable();
        let mut ends: Vec<(Duration, End)> = Vec::new();
        let last_blow = self.blows.last().map_or(Duration::ZERO, |(at, _)| *at).max(self.weather());
        let mut running = None;
        loop {
            let now = shared.borrow().now();
            step(&shared, now);
            running = running.or_else(|| shared.borrow().is_running().then_some(now));
            while let Some((_, blow)) = blows.next_if(|(at, _)| *at <= now) {
                ends.extend(shared.borrow_mut().strike(blow, now));
            }
            for (_, end) in ends.extract_if(.., |(at, _)| *at <= now) {
                shared.borrow_mut().relent(&end, now);
            }
            if now >= last_blow
                && blows.peek().is_none()
                && ends.is_empty()
                && shared.borrow_mut().comes_to_rest(now, last_blow)
            {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        let mut universe = shared.borrow_mut();
        for (_, agent) in std::mem::take(&mut universe.agents) {
            agent.abort();
        }
        Outcome {
            violations: std::mem::take(&mut universe.violations),
            log: std::mem::take(&mut universe.log),
            running,
            lasted: universe.now(),
            passes: universe.passes,
        }
    }

    /// How long the weather lasts, blows or not.
    fn weather(&self) -> Duration {
        if self.rough.lose_answer == 0 { Duration::ZERO } else { Duration::from_secs(8 * 60) }
    }

    pub(crate) fn begin(&self) -> Universe {
        let mut options = Options { seed: self.seed, ..Options::default() };
        let vms: u32 = self.size.vms.iter().sum();
        for network in options.networks.iter_mut().filter(|network| vms + 50 > network.size) {
            (network.size, network.mask) = (vms + 50, [255, 255, 0, 0].into());
        }
        let cloud = Cloud::new(options);
        let mut universe = Universe::new(cloud, self.seed, self.pace);
        universe.rough = self.rough;
        let mut request = Instantiate::oneke();
        request.cardinality = ["vnf", "master", "worker", "storage"]
            .map(str::to_owned)
            .into_iter()
            .zip(self.size.vms)
            .collect();
        let mut templates = Templates::oneke();
        if self.size.plain {
            for vm in templates.vms.values_mut() {
                vm.context.insert("ONEAPP_K8S_TOKEN_MODE".into(), "plain".into());
            }
        }
        for vm in templates.vms.values_mut() {
            vm.context.remove("ONEAPP_STORAGE_DEVICE");
        }
        let service = universe.cloud.instantiate(Duration::ZERO, &templates, &request);
        universe.service = Some(service.expect("the marketplace's own templates instantiate"));
        universe
    }
}

/// Runs a world to its end; its clock jumps to whatever is waited for.
pub(crate) fn in_simulated_time<T>(world: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing from the machine");
    tokio::task::LocalSet::new().block_on(&runtime, world)
}

/// Lets half a second of the world pass.
pub(crate) fn step(shared: &Shared, now: Duration) {
    let due: Vec<VmId> = {
        let mut universe = shared.borrow_mut();
        universe.step_cloud(now);
        universe.step_rke2(now);
        universe.watch_readiness(now);
        let due: Vec<VmId> =
            universe.starts.iter().filter(|(_, at)| **at <= now).map(|(vm, _)| *vm).collect();
        for vm in &due {
            universe.starts.remove(vm);
        }
        due
    };
    for vm in due {
        if let Some(machine) = shared.borrow_mut().machines.get_mut(&vm) {
            machine.first.agent.get_or_insert(now);
        }
        let world = SimWorld::new(shared.clone(), vm);
        let agent = tokio::task::spawn_local(live_on(world));
        shared.borrow_mut().agents.insert(vm, agent.abort_handle());
    }
}

async fn live_on(mut world: SimWorld) {
    let mut driver = Driver::default();
    if driver.run(&mut world).await == Event::GoesDown {
        // What is not told by then is not told: the machine goes on without it.
        let _ = tokio::time::timeout(FAREWELL_LASTS, driver.farewell(&mut world)).await;
    }
}

/// What ends a blow that lasts.
#[derive(Clone, Debug)]
pub enum End {
    /// OneGate answers again.
    OneGateBack,
    /// OneGate tells the truth again.
    Truth,
    /// The context is good again.
    GoodContext(VmId),
}

fn blows(chance: &mut Chance, size: &Size) -> Vec<(Duration, Blow)> {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let all: u32 = size.vms.iter().sum();
    let mut blows: Vec<(Duration, Blow)> = (0..chance.below(8))
        .map(|_| {
            // Half of them fall while the cluster is founded and joined, and many on the VM that is to found it.
            let last = if chance.one_in(2) { minutes(2) } else { minutes(25) };
            let at = chance.between(Duration::from_secs(5), last);
            let founder = VmId(size.vms[0]);
            // The first VM has ID 0; a VM that is not there is missed by the blow.
            let vm = if chance.one_in(3) { founder } else { VmId(chance.below(all)) };
            let lasts = chance.between(Duration::from_secs(10), minutes(5));
            let blow = match chance.below(12) {
                0 => Blow::PowerLoss(vm),
                1 => Blow::AgentCrash(vm),
                2 => Blow::Reboot(vm),
                3 => Blow::FullPowerCycle(lasts),
                4 if chance.one_in(2) => Blow::FullReboot,
                4 => Blow::FullPowerCycle(Duration::ZERO),
                5 => Blow::OneGateDown(lasts),
                6..=8 => Blow::OneGateLies(lasts, Box::new(lies(chance, founder))),
                9 => Blow::ScaleWorkers(chance.below(6)),
                10 => Blow::ScaleMasters(size.vms[1] + 1 + chance.below(2)),
                _ if chance.one_in(2) => Blow::Recreate(vm),
                _ => Blow::BadContext(vm, lasts),
            };
            (at, blow)
        })
        .collect();
    blows.sort_by_key(|(at, _)| *at);
    blows
}

fn lies(chance: &mut Chance, founder: VmId) -> Faults {
    let mut faults = Faults::default();
    match chance.below(10) {
        0 => faults.null_vm_info_one_in = 3,
        1 => faults.missing_node_one_in = 3,
        2 => faults.missing_user_template.extend((0..4).map(|_| oneke_cloud::VmId(chance.below(8)))),
        3 => faults.cut_one_in = 3,
        4 => faults.stale_service = 60.0,
        5 => faults.oneflow_down = true,
        6 => drop(faults.null_vm_info.insert(cloud_id(founder))),
        7 => drop(faults.missing_nodes.insert(cloud_id(founder))),
        8 => drop(faults.missing_user_template.insert(cloud_id(founder))),
        _ => {
            faults.unauthorized_one_in = 3;
            faults.error_one_in = 4;
        }
    }
    faults
}

impl Universe {
    /// OneFlow says RUNNING.
    pub fn is_running(&self) -> bool {
        let service = self.service.and_then(|id| self.cloud.service(id));
        service.is_some_and(|service| service.state == oneke_cloud::FlowState::Running)
    }

    fn strike(&mut self, blow: &Blow, now: Duration) -> Option<(Duration, End)> {
        self.note(now, format!("BLOW {blow:?}"));
        let there = |u: &Self, vm: &VmId| u.machines.contains_key(vm);
        match blow {
            Blow::PowerLoss(vm) if there(self, vm) => self.power_cycle(*vm, now),
            Blow::AgentCrash(vm) if there(self, vm) => self.crash_agent(*vm, now),
            Blow::Reboot(vm) if there(self, vm) => {
                self.ask_cloud(now, |cloud| cloud.reboot(now, cloud_id(*vm), false))
            }
            Blow::Recreate(vm) if there(self, vm) => {
                self.ask_cloud(now, |cloud| cloud.recreate(now, cloud_id(*vm)))
            }
            Blow::FullPowerCycle(away) => {
                for vm in self.machines.keys().copied().collect::<Vec<_>>() {
                    self.power_cycle(vm, now);
                }
                if !away.is_zero() {
                    self.rough.onegate_down = true;
                    self.give_up_one(now);
                    return Some((now + *away, End::OneGateBack));
                }
            }
            Blow::FullReboot => {
                for vm in self.machines.keys().copied().collect::<Vec<_>>() {
                    self.shut_down(vm, Then::Boot, now);
                }
            }
            Blow::OneGateDown(lasts) => {
                self.rough.onegate_down = true;
                return Some((now + *lasts, End::OneGateBack));
            }
            Blow::OneGateLies(lasts, faults) => {
                self.cloud.set_faults(now, (**faults).clone());
                return Some((now + *lasts, End::Truth));
            }
            Blow::ScaleWorkers(n) => self.scale("worker", *n, now),
            Blow::ScaleMasters(n) => self.scale("master", *n, now),
            Blow::BadContext(vm, lasts) if there(self, vm) => {
                self.spoil_context(*vm, "ETH0_IP", "300.1.2.3", now);
                return Some((now + *lasts, End::GoodContext(*vm)));
            }
            _ => {}
        }
        None
    }

    fn relent(&mut self, end: &End, now: Duration) {
        self.note(now, format!("END {end:?}"));
        match end {
            End::OneGateBack => {
                self.rough.onegate_down = false;
                self.check_alone(now);
            }
            End::Truth => self.cloud.set_faults(now, Faults::default()),
            End::GoodContext(vm) => self.mend_context(*vm, now),
        }
    }

    /// systemd gives up one node's RKE2 for good (its start limit): only the agent starts it again.
    fn give_up_one(&mut self, now: Duration) {
        let mut starting = Vec::new();
        for machine in self.machines.values_mut() {
            let (vm, unit) = (machine.vm, machine.rke2_unit());
            starting.extend(machine.units.get_mut(unit).map(|unit| (vm, unit)));
        }
        let chosen = self.chance.below(u32::try_from(starting.len()).unwrap_or(u32::MAX)) as usize;
        if let Some((vm, unit)) = starting.into_iter().nth(chosen) {
            unit.active = Active::Failed;
            self.note(now, format!("systemd gives up RKE2 on VM {vm}"));
        }
    }

    fn scale(&mut self, role: &str, n: u32, now: Duration) {
        let Some(service) = self.service else { return };
        self.ask_cloud(now, |cloud| cloud.scale(now, service, role, n));
    }

    /// A refusal is the cloud's right and part of the story.
    fn ask_cloud(&mut self, now: Duration, ask: impl FnOnce(&mut Cloud) -> Result<(), oneke_cloud::Refused>) {
        if let Err(refused) = ask(&mut self.cloud) {
            self.note(now, format!("the cloud refuses: {refused}"));
        }
    }

    fn spoil_context(&mut self, vm: VmId, variable: &str, value: &str, now: Duration) {
        let Some(machine) = self.machines.get_mut(&vm) else { return };
        self.spoilt.entry(vm).or_insert_with(|| (now, machine.context.clone()));
        machine.context.push_str(&format!("{variable}='{value}'\n"));
        self.note(now, format!("VM {vm} gets {variable}={value}"));
    }

    fn mend_context(&mut self, vm: VmId, now: Duration) {
        let good = self.spoilt.remove(&vm);
        if let (Some(machine), Some(good)) = (self.machines.get_mut(&vm), good) {
            machine.context = good.1;
            self.note(now, format!("VM {vm} gets its good context back"));
        }
    }

    /// True when the run is over: everything is right and at rest, or the time for it is up, which breaks a law.
    fn comes_to_rest(&mut self, now: Duration, last_blow: Duration) -> bool {
        self.rough = Rough::default();
        let waiting = self.not_right(now);
        let calm = self.last_effect.as_ref().map_or(now, |(at, _)| now.saturating_sub(*at));
        if waiting.is_none() && calm > REST && now > last_blow + REST {
            return true;
        }
        if now.saturating_sub(last_blow) < RECOVERY {
            return false;
        }
        match waiting {
            Some(why) if self.may_wait_for_ever() => self.note(now, format!("rightly waits: {why}")),
            Some(why) => self.violate(now, format!("recovery: {why}")),
            None => {
                let last = self.last_effect.clone();
                self.violate(now, format!("12: effects do not cease; the last one: {last:?}"));
            }
        }
        true
    }

    /// What is not as it should be, if anything.
    pub(crate) fn not_right(&self, now: Duration) -> Option<String> {
        let machines = self.machines.values().filter(|m| m.up);
        for machine in machines {
            let vm = machine.vm;
            let report = self.reports.get(&vm);
            if !self.works(vm, now) {
                let why = report.and_then(|r| {
                    r.conditions.iter().find(|s| s.condition.status != oneke_agent::plan::Status::True)
                });
                return Some(format!(
                    "VM {vm} ({}) does not work: {}",
                    machine.role,
                    why.map_or_else(|| "no report".into(), |s| s.condition.to_string())
                ));
            }
            if let Some(name) = self.resting_server(vm) {
                return Some(format!("HAProxy of VM {vm} sends no new connections to {name}"));
            }
            if !self.serves_its_file(vm) {
                return Some(format!("HAProxy of VM {vm} runs with other servers than its file has"));
            }
            let told =
                self.cloud.vm(cloud_id(vm)).and_then(|vm| vm.user_template.text("READY")) == Some("YES");
            if !told {
                return Some(format!("VM {vm} ({}) works, but READY was not told", machine.role));
            }
        }
        (self.machines.is_empty()).then(|| "there is no VM".into())
    }

    /// Where the laws forbid to go on: a recreated VM whose cluster was lost with its disk, or whose old member and
    /// node still stand in its way.
    pub(crate) fn may_wait_for_ever(&self) -> bool {
        self.machines.values().any(|m| m.recreated)
    }
}

fn cloud_id(vm: VmId) -> oneke_cloud::VmId {
    oneke_cloud::VmId(vm.0)
}
