//! How often a service asks OneGate, and how long its nodes wait for their agents: measured, never asserted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use oneke_agent::service::VmId;
use oneke_cloud::Kind;

use crate::scenario::{STEP, Scenario, Size, in_simulated_time, step};
use crate::universe::{Shared, Universe};

/// Deploying a large service takes hours of OneFlow's time; this is when patience ends.
const PATIENCE: Duration = Duration::from_secs(6 * 3_600);
/// From the last READY until steady state is counted.
const SETTLE: Duration = Duration::from_secs(120);
/// What the old scripts' vnf nodes did: one `/service` and one `/vms/ID` per VM, every 30 s (onegate.md).
const OLD_ROUNDS: f64 = 2.0;

const DEAR: &[Kind] = &[Kind::Service, Kind::ServiceExtended, Kind::OtherRead, Kind::OtherWrite];

/// Requests of one VM by kind.
type Counts = BTreeMap<(VmId, Kind), u64>;

/// One service's figures.
#[derive(Debug)]
pub struct Load {
    vms: u32,
    running: Option<Duration>,
    deployment: Part,
    steady: Part,
    waits: Vec<Wait>,
    joining: Option<Joining>,
    /// From the moment when OneGate had a VM's offer until its server ran in a vnf's HAProxy, sorted.
    convergence: Vec<Duration>,
    real: Duration,
}

/// How the workers and storage nodes came into the cluster.
#[derive(Debug)]
struct Joining {
    nodes: usize,
    /// From the first start of RKE2 to the last Ready.
    lasted: Duration,
    /// Started and not Ready yet: the most at one time.
    at_once: usize,
    /// In a second of that time, on average and at most: looks of all agents at the Kubernetes API, and at a supervisor.
    looks: [(f64, u32); 2],
}

/// What was asked in a part of the run.
#[derive(Debug)]
struct Part {
    lasted: Duration,
    counts: Counts,
}

/// What a node waited for its agent.
#[derive(Debug)]
struct Wait {
    vm: VmId,
    role: String,
    /// From when it could go on (its agent runs, its parent is ready, etcd takes a learner) until RKE2 was started.
    until_started: Option<Duration>,
    /// From when it worked until OneGate had READY=YES.
    until_told: Option<Duration>,
}

/// Brings up a service of so many VMs and counts `steady` of its steady state.
pub fn measure(vms: u32, steady: Duration) -> Load {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long the simulation itself takes is one of the figures"
    )]
    let began = std::time::Instant::now();
    let scenario = Scenario::calm(Size { vms: [2, 3, vms.saturating_sub(6).max(1), 1], plain: false });
    let mut load = in_simulated_time(live(&scenario, steady));
    load.real = began.elapsed();
    load
}

async fn live(scenario: &Scenario, steady: Duration) -> Load {
    let shared: Shared = Rc::new(RefCell::new(scenario.begin()));
    let up = |u: &Universe, now: Duration| u.is_running() && u.not_right(now).is_none();
    let running = pass_until(&shared, PATIENCE, up).await;
    let end = running.unwrap_or(PATIENCE);
    let deployment = Part { lasted: end, counts: counts(&shared.borrow()) };
    pass_until(&shared, end + SETTLE, |_, _| false).await;
    let before = counts(&shared.borrow());
    pass_until(&shared, end + SETTLE + steady, |_, _| false).await;
    let mut after = counts(&shared.borrow());
    for (key, count) in &mut after {
        *count -= before.get(key).copied().unwrap_or_default();
    }
    let mut universe = shared.borrow_mut();
    let agents = std::mem::take(&mut universe.agents);
    agents.into_values().for_each(|agent| agent.abort());
    Load {
        vms: scenario.size.vms.iter().sum(),
        running,
        deployment,
        steady: Part { lasted: steady, counts: after },
        waits: waits(&universe),
        joining: joining(&universe),
        convergence: convergence(&universe),
        real: Duration::ZERO,
    }
}

/// Lets time pass until something is so; `None` if it was not so by `end`.
async fn pass_until(
    shared: &Shared,
    end: Duration,
    so: impl Fn(&Universe, Duration) -> bool,
) -> Option<Duration> {
    loop {
        let now = shared.borrow().now();
        if so(&shared.borrow(), now) {
            return Some(now);
        }
        if now >= end {
            return None;
        }
        step(shared, now);
        tokio::time::sleep(STEP).await;
    }
}

fn counts(universe: &Universe) -> Counts {
    let counts = universe.cloud.ledger().counts();
    counts.filter_map(|(vm, kind, count)| Some(((VmId(vm?.0), kind), count))).collect()
}

fn waits(universe: &Universe) -> Vec<Wait> {
    let Some(cluster) = universe.clusters.first() else { return Vec::new() };
    let received = universe.cloud.ledger().received();
    let told = |vm: VmId| {
        let own = received.iter().filter(|r| r.kind == Kind::OwnWrite && r.vm.is_some_and(|id| id.0 == vm.0));
        own.filter(|r| r.body.lines().any(|line| line == "READY=YES")).map(|r| r.at).next()
    };
    let ready = |vm: VmId| cluster.nodes.values().find(|node| node.vm == vm).map(|node| node.ready_at);
    let parent = ready(cluster.founded.1).map(|at| at.saturating_sub(universe.pace.node_ready));
    let mut votes: Vec<Duration> = cluster.members.values().copied().collect();
    votes.sort();
    let wait = |machine: &crate::machine::Machine| {
        let vm = machine.vm;
        let began = machine.first.agent?;
        let mut free = began;
        if machine.role != "vnf" && vm != cluster.founded.1 {
            free = free.max(parent?);
        }
        if let Some(mine) = cluster.members.get(&vm) {
            // etcd takes one learner at a time: its own vote tells which one it had to wait for.
            free = free.max(votes.iter().rev().find(|at| *at < mine).copied().unwrap_or_default());
        }
        let works = ready(vm).unwrap_or(began);
        Some(Wait {
            vm,
            role: machine.role.clone(),
            until_started: machine.first.rke2.map(|at| at.saturating_sub(free)),
            until_told: told(vm).map(|at| at.saturating_sub(works)),
        })
    };
    universe.machines.values().filter_map(wait).collect()
}

fn convergence(universe: &Universe) -> Vec<Duration> {
    let mut offered: BTreeMap<VmId, Duration> = BTreeMap::new();
    for request in universe.cloud.ledger().received().iter().filter(|r| r.kind == Kind::OwnWrite) {
        if let Some(vm) = request.vm.filter(|_| request.body.contains("_SERVER_HOST=")) {
            offered.entry(VmId(vm.0)).or_insert(request.at);
        }
    }
    let served = universe.machines.values().flat_map(|machine| &machine.served);
    let mut times: Vec<Duration> =
        served.filter_map(|(vm, at)| Some(at.saturating_sub(*offered.get(vm)?))).collect();
    times.sort();
    times
}

fn joining(universe: &Universe) -> Option<Joining> {
    let cluster = universe.clusters.first()?;
    let ready = |vm: VmId| cluster.nodes.values().find(|node| node.vm == vm).map(|node| node.ready_at);
    let agents = universe.machines.values().filter(|m| !matches!(m.role.as_str(), "vnf" | "master"));
    let spans: Vec<(Duration, Duration)> =
        agents.filter_map(|m| Some((m.first.rke2?, ready(m.vm)?))).collect();
    let begin = spans.iter().map(|(start, _)| *start).min()?;
    let end = spans.iter().map(|(_, ready)| *ready).max()?;
    let mut moves: Vec<(Duration, bool)> =
        spans.iter().flat_map(|(start, ready)| [(*start, true), (*ready, false)]).collect();
    moves.sort();
    let (mut now, mut at_once) = (0_usize, 0);
    for (_, starts) in moves {
        now = if starts { now + 1 } else { now - 1 };
        at_once = at_once.max(now);
    }
    let lasted = end.saturating_sub(begin);
    let looks = [0, 1].map(|of: usize| {
        let seconds = universe.looks.range(begin.as_secs()..=end.as_secs()).map(|(_, looks)| looks[of]);
        let most = seconds.clone().max().unwrap_or_default();
        (f64::from(seconds.sum::<u32>()) / lasted.as_secs_f64(), most)
    });
    Some(Joining { nodes: spans.len(), lasted, at_once, looks })
}

/// Steady state beside the old scripts, a column for each service.
pub fn summary(loads: &[Load]) -> String {
    let row = |name: &str, of: &dyn Fn(&Load) -> f64| {
        let cells: String = loads.iter().map(|load| format!(" {:>12.2}", of(load))).collect();
        format!("{name:<48}{cells}\n")
    };
    let heads: String = loads.iter().map(|load| format!(" {:>8} VMs", load.vms)).collect();
    let steady = |kinds: &'static [Kind]| move |load: &Load| load.steady.rates(kinds).0;
    [
        format!("\n{:<48}{heads}\n", "requests a minute in steady state, whole service"),
        row("GET /vm (cheap)", &steady(&[Kind::OwnRead])),
        row("PUT /vm (cheap)", &steady(&[Kind::OwnWrite])),
        row("GET /service (dear)", &steady(&[Kind::Service, Kind::ServiceExtended])),
        row("GET and PUT /vms/ID (dear)", &steady(&[Kind::OtherRead, Kind::OtherWrite])),
        row("dear ones in all", &steady(DEAR)),
        row("dear ones of the old scripts (2 vnf VMs)", &Load::old),
    ]
    .concat()
}

impl Load {
    /// Dear requests a minute of the old scripts, whose nodes ask nothing once they have joined.
    fn old(&self) -> f64 {
        2.0 * OLD_ROUNDS * f64::from(self.vms + 1)
    }
}

impl Part {
    /// Requests of these kinds a minute: of the whole service, and of the VM that asks most.
    fn rates(&self, kinds: &[Kind]) -> (f64, f64) {
        let minutes = self.lasted.as_secs_f64() / 60.0;
        let mut by_vm: BTreeMap<VmId, u64> = BTreeMap::new();
        for ((vm, kind), count) in &self.counts {
            if kinds.contains(kind) {
                *by_vm.entry(*vm).or_default() += count;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of some minutes")]
        let rate = |count: u64| count as f64 / minutes;
        (rate(by_vm.values().sum()), rate(by_vm.values().copied().max().unwrap_or_default()))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running.map_or_else(
            || "never RUNNING".to_owned(),
            |at| format!("RUNNING and READY after {:.0} s", at.as_secs_f64()),
        );
        writeln!(f, "\n{} VMs: {running}; simulated in {:.1} s", self.vms, self.real.as_secs_f64())?;
        writeln!(
            f,
            "{:<44} {:>21} {:>21}",
            "requests a minute: service, busiest VM", "deployment", "steady"
        )?;
        let rows: [(&str, &[Kind]); 6] = [
            ("GET /vm", &[Kind::OwnRead]),
            ("PUT /vm", &[Kind::OwnWrite]),
            ("GET /service", &[Kind::Service, Kind::ServiceExtended]),
            ("GET /vms/ID", &[Kind::OtherRead]),
            ("PUT /vms/ID", &[Kind::OtherWrite]),
            ("dear ones in all", DEAR),
        ];
        for (name, kinds) in rows {
            let [deployment, steady] = [&self.deployment, &self.steady].map(|part| part.rates(kinds));
            writeln!(
                f,
                "{name:<44} {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
                deployment.0, deployment.1, steady.0, steady.1
            )?;
        }
        let old = self.old();
        writeln!(f, "{:<44} {old:>32.2} {:>10.2}", "dear ones of the old scripts (2 vnf)", old / 2.0)?;
        if let Some(joining) = &self.joining {
            let Joining { nodes, lasted, at_once, looks: [api, supervisor] } = joining;
            #[expect(clippy::cast_precision_loss, reason = "some thousand nodes")]
            let rate = *nodes as f64 / lasted.as_secs_f64();
            writeln!(
                f,
                "{nodes} agents joined in {:.0} s: {rate:.1} a second, {at_once} at once",
                lasted.as_secs_f64()
            )?;
            writeln!(
                f,
                "meanwhile looks a second, on average and at most: Kubernetes API {:.1} {}, supervisor {:.1} {}",
                api.0, api.1, supervisor.0, supervisor.1
            )?;
        }
        if let [.., last] = self.convergence.as_slice() {
            let at = |part: usize| self.convergence[(self.convergence.len() - 1) * part / 100].as_secs_f64();
            writeln!(
                f,
                "seconds from an offer in OneGate to its server in HAProxy: median {:.2}, p99 {:.2}, max {:.2} of {}",
                at(50),
                at(99),
                last.as_secs_f64(),
                self.convergence.len()
            )?;
        }
        writeln!(f, "{:<44} {:>10} {:>10}", "seconds waited for the agent", "to start", "to tell")?;
        let shown = |wait: Option<Duration>| {
            wait.map_or_else(|| "-".to_owned(), |wait| format!("{:.2}", wait.as_secs_f64()))
        };
        for wait in self.waits.iter().take(8) {
            let name = format!("VM {} ({})", wait.vm, wait.role);
            writeln!(f, "{name:<44} {:>10} {:>10}", shown(wait.until_started), shown(wait.until_told))?;
        }
        let slowest = |of: fn(&Wait) -> Option<Duration>| shown(self.waits.iter().filter_map(of).max());
        let (start, tell) = (slowest(|w| w.until_started), slowest(|w| w.until_told));
        writeln!(f, "{:<44} {start:>10} {tell:>10}", "the slowest of all")
    }
}
