//! The one loop: observe, decide, apply, report, wait. And the one seam, [`World`].
//!
//! A pass is whole and idempotent; what a crash interrupts, the next pass finishes. The driver remembers nothing that
//! matters: the parsed context (so that it is parsed once), the effects of the last passes (so that repeating ones slow
//! down instead of spinning, invariant 12), and since when each condition stands (restored from the last report).

mod apply;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::context::{Config, Problem, Vars, Warning};
use crate::decide::{decide, interests, role_of};
use crate::facts::{Facts, Observed, Workload};
use crate::plan::{Attributes, Condition, Decision, Effect, Reads, Status, Table};
use crate::service::{Role, VmId};

/// What the deciders want to see of the machine, beside the context, the links, OneGate and the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Interests {
    /// Files by absolute path, with their content.
    pub files: Vec<String>,
    /// Paths whose existence alone counts.
    pub exists: Vec<String>,
    /// Symbolic links by absolute path, with where they lead.
    pub symlinks: Vec<String>,
    /// Units with `.service`.
    pub units: Vec<String>,
    /// Kernel parameters, dotted.
    pub sysctls: Vec<String>,
    /// Interfaces for which [`Facts::routes`] shall be looked at; none: not at all.
    pub routes: Vec<String>,
    /// Interfaces on which to listen for other virtual routers.
    pub routers: Vec<String>,
    /// Mountpoints; while there are any, [`Facts::disks`] is looked at.
    pub mountpoints: Vec<String>,
    /// Workloads of the cluster, asked as often as [`Reads::addons`] says.
    pub workloads: Vec<Workload>,
    /// Whether this machine has an etcd member to ask, likewise.
    pub etcd: bool,
    /// Whether the clock matters.
    pub clock: bool,
    /// `host:port` of the supervisor that this node will join through; asked for its CA bundle while it matters.
    pub supervisor: Option<String>,
}

/// Why the loop goes round again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time is up.
    Timer,
    /// Something that was waited for moved: a unit, VRRP, the context.
    Changed,
    /// The agent is asked to stop: it changes nothing, and goes on where it was once it is started again.
    Stop,
    /// The same, because the machine goes down.
    GoesDown,
}

/// The machine, the cloud and the cluster, as the driver meets them. Real in `world`, simulated in the suites.
pub trait World {
    /// Looks. Dear parts are read again only if they are older than `reads` allows. Never fails: what could not be
    /// seen is `Unknown`.
    fn observe(&mut self, interests: &Interests, reads: &Reads) -> impl Future<Output = Facts>;

    /// Applies one effect. The error is for the operator: what was tried, on what, and why it failed.
    fn apply(&mut self, effect: &Effect) -> impl Future<Output = Result<(), String>>;

    /// Writes onto several other VMs, as [`World::apply`] writes onto one; they may be told at the same time. One
    /// outcome for each, in their order.
    fn publish_on(
        &mut self,
        others: &[(VmId, &Attributes)],
    ) -> impl Future<Output = Vec<Result<(), String>>> {
        async move {
            let mut outcomes = Vec::with_capacity(others.len());
            for (vm, attributes) in others {
                let effect = Effect::Publish { vm: Some(*vm), attributes: (*attributes).clone() };
                outcomes.push(self.apply(&effect).await);
            }
            outcomes
        }
    }

    /// Shows the state to whoever looks: the status file, systemd, the log.
    fn report(&mut self, report: &Report) -> impl Future<Output = ()>;

    /// Waits for something to happen, `at_most` so long.
    fn wait(&mut self, at_most: Duration) -> impl Future<Output = Event>;
}

/// What the operator sees: `oneke-agent status`, and `/run/oneke-agent/status.json` as its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Wall clock of the pass, seconds since 1970.
    pub at: u64,
    /// This VM, once the context told it.
    pub vm: Option<u32>,
    /// The role, once it is known.
    pub role: Option<String>,
    /// One word: `waiting`, `joining`, `ready`, ... ; the same that OneGate is told.
    pub phase: String,
    /// All conditions hold.
    pub ready: bool,
    /// Every condition with the time since when it stands so.
    pub conditions: Vec<Standing>,
    /// What the role shows beside them.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Problems of the context; while there are any nothing is changed.
    pub problems: Vec<String>,
    /// What is odd in the context.
    pub warnings: Vec<String>,
    /// What the last pass did, or tried, in order.
    pub effects: Vec<String>,
}

/// A condition and since when it stands as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The condition.
    #[serde(flatten)]
    pub condition: Condition,
    /// Wall clock, seconds since 1970, of its last change of status or reason.
    pub since: u64,
}

/// The longest time between two looks, so that a lost event costs at most this.
const LOOK_AT_LEAST: Duration = Duration::from_secs(30);
/// The shortest time between two passes that had effects: enough for systemd to move.
const SETTLE: Duration = Duration::from_millis(100);
/// So many passes with effects are compared: two that undo each other's work take turns.
const REMEMBERED: usize = 4;
/// Where repeating effects and failures end up.
const SLOWEST: Duration = Duration::from_secs(60);
/// One tells OneGate, one the leader, one sees that all is told; others for what fails in passing.
const FAREWELL_PASSES: usize = 6;
/// The longest that a shutdown waits for the farewell.
pub const FAREWELL_LASTS: Duration = Duration::from_secs(4);
/// How often this VM is looked up while its context is refused.
const REFUSED_ASKS: Duration = Duration::from_secs(10);

/// The loop's memory; losing it costs a pass, never a wrong decision.
#[derive(Debug, Default)]
pub struct Driver {
    parsed: Option<Parsed>,
    interests: Interests,
    reads: Reads,
    /// What the last passes did, the newest first; empty once one had nothing to do.
    recent: VecDeque<Vec<Effect>>,
    repeats: u32,
    /// Whose attributes could not be written in the last pass; `None` is this VM.
    untold: BTreeSet<Option<VmId>>,
    standing: BTreeMap<String, Standing>,
}

#[derive(Debug)]
struct Parsed {
    text: crate::plan::Secret,
    role: Option<Role>,
    config: Result<Config, Vec<Problem>>,
}

impl Driver {
    /// A driver that continues the times of an earlier report of the same boot.
    pub fn resume(report: Option<Report>) -> Self {
        let standing =
            report.into_iter().flat_map(|r| r.conditions).map(|s| (s.condition.kind.clone(), s)).collect();
        Self { standing, ..Self::default() }
    }

    /// Runs passes until the agent is asked to stop; afterwards the caller may let it say [`Driver::farewell`] if that
    /// is because the machine goes down: then it returns [`Event::GoesDown`].
    pub async fn run(&mut self, world: &mut impl World) -> Event {
        loop {
            let delay = self.pass(world).await;
            match world.wait(delay).await {
                Event::Timer | Event::Changed => {}
                last @ (Event::Stop | Event::GoesDown) => return last,
            }
        }
    }

    /// The last passes of a machine that goes down, until nothing is left to tell. Whoever calls it bounds its time: a
    /// silent OneGate may hold a pass for long, and nothing is lost with one that is given up.
    pub async fn farewell(&mut self, world: &mut impl World) {
        for _ in 0..FAREWELL_PASSES {
            self.pass(world).await;
            if self.recent.is_empty() {
                return;
            }
        }
    }

    /// One pass; returns how long to wait at most before the next.
    pub async fn pass(&mut self, world: &mut impl World) -> Duration {
        let facts = self.look(world).await;
        let (decision, mut report) = self.decide(&facts);
        let aside = self.apply(world, &decision.asides, &mut report).await;
        let failed = self.apply(world, &decision.effects, &mut report).await;
        if let Some(condition) = failed.or(aside) {
            report.conditions.push(Standing { condition, since: facts.wall });
            report.ready = false;
        }
        self.stand(&mut report, facts.wall);
        self.reads = decision.reads.clone();
        let delay =
            self.pace(&decision, report.conditions.iter().any(|s| s.condition.reason == APPLY_FAILED));
        world.report(&report).await;
        delay
    }

    /// Decides without applying: what `oneke-agent plan` prints. Looks again while a decision asks for dear parts that
    /// were not read for it.
    pub async fn plan(&mut self, world: &mut impl World) -> (Decision, Report) {
        loop {
            let facts = self.look(world).await;
            let (decision, mut report) = self.decide(&facts);
            let reads = std::mem::replace(&mut self.reads, decision.reads.clone());
            let service = decision.reads.service.is_some() && reads.service.is_none();
            let networks = decision.reads.networks.is_some() && reads.networks.is_none();
            let kubernetes = decision.reads.kubernetes.is_some() && reads.kubernetes.is_none();
            if !service && !networks && !kubernetes {
                self.stand(&mut report, facts.wall);
                return (decision, report);
            }
            // Once read, a part stays read: this ends after four rounds at the latest.
            self.reads.service = self.reads.service.or(reads.service);
            self.reads.networks = self.reads.networks.or(reads.networks);
            self.reads.kubernetes = self.reads.kubernetes.or(reads.kubernetes);
        }
    }

    /// Observes; again at once if what was learnt (the context, the role) widens what must be looked at.
    async fn look(&mut self, world: &mut impl World) -> Facts {
        loop {
            let facts = world.observe(&self.interests, &self.reads).await;
            self.parse(&facts);
            let config = self.parsed.as_ref().and_then(|parsed| parsed.config.as_ref().ok());
            let wanted = interests(config, role_of(&facts).known(), &facts);
            if wanted == self.interests {
                return facts;
            }
            self.interests = wanted;
        }
    }

    fn parse(&mut self, facts: &Facts) {
        let Observed::Known(text) = &facts.context else { return };
        let role = role_of(facts).known().cloned();
        if self.parsed.as_ref().is_some_and(|parsed| parsed.text == *text && parsed.role == role) {
            return;
        }
        let config = match Vars::parse(text.expose()) {
            Ok(vars) => match (Config::read(&vars, role.clone()), &role) {
                (Err(problems), None) => provisional(&vars, problems),
                (config, _) => config,
            },
            Err(error) => Err(vec![Problem {
                variable: "context.sh".into(),
                value: String::new(),
                expected: error.to_string(),
            }]),
        };
        self.parsed = Some(Parsed { text: text.clone(), role, config });
    }

    fn decide(&self, facts: &Facts) -> (Decision, Report) {
        let mut report = Report { at: facts.wall, ..Report::default() };
        let mut decision = match self.parsed.as_ref().map(|parsed| &parsed.config) {
            None => waiting_for_context(&facts.context),
            Some(Err(problems)) => {
                report.problems = problems.iter().map(Problem::to_string).collect();
                refused(problems.len())
            }
            Some(Ok(config)) => {
                report.vm = config.vm.map(|vm| vm.0);
                report.warnings = config.warnings.iter().map(ToString::to_string).collect();
                decide(config, facts)
            }
        };
        if self.parsed.is_some() {
            decision.told.extend(unread(&facts.context));
        }
        report.role = role_of(facts).known().map(|role| role.name().to_owned());
        report.phase = crate::signals::phase(&decision).to_owned();
        report.ready = decision.is_ready();
        report.tables = decision.tables.clone();
        report.conditions = decision
            .conditions
            .iter()
            .chain(&decision.told)
            .map(|c| Standing { condition: c.clone(), since: facts.wall })
            .collect();
        (decision, report)
    }

    /// Gives each condition the time since when it stands.
    fn stand(&mut self, report: &mut Report, wall: u64) {
        for standing in &mut report.conditions {
            let same = self.standing.get(&standing.condition.kind).filter(|old| {
                old.condition.status == standing.condition.status
                    && old.condition.reason == standing.condition.reason
            });
            standing.since = same.map_or(wall, |old| old.since);
        }
        self.standing = report.conditions.iter().map(|s| (s.condition.kind.clone(), s.clone())).collect();
    }

    /// Effects that are decided again although they were applied mean that the world does not follow, or that somebody
    /// undoes them: slow down.
    fn pace(&mut self, decision: &Decision, failed: bool) -> Duration {
        let calm = decision.look_again.unwrap_or(LOOK_AT_LEAST).min(LOOK_AT_LEAST);
        let effects = [&decision.asides[..], &decision.effects].concat();
        if effects.is_empty() && !failed {
            self.repeats = 0;
            self.recent.clear();
            return calm;
        }
        let again = self.recent.contains(&effects);
        self.recent.push_front(effects);
        self.recent.truncate(REMEMBERED);
        self.repeats = if again || failed { self.repeats.saturating_add(1) } else { 0 };
        let slowed = SETTLE.saturating_mul(1 << self.repeats.min(16)).min(SLOWEST);
        if self.repeats == 0 { SETTLE.min(calm) } else { slowed }
    }
}

/// Before the role is known a context is held against every role's rules, and what is wrong by them may be another role's
/// affair: a worker need not have what masters read. If nothing is wrong for a worker, it serves to reach OneGate, which
/// may lie behind the gateway that it names (see [`crate::guest`]); nothing else is decided without a role.
fn provisional(vars: &Vars, problems: Vec<Problem>) -> Result<Config, Vec<Problem>> {
    let Ok(mut config) = Config::read(vars, Some(Role::from("worker".to_owned()))) else {
        return Err(problems);
    };
    config.warnings.extend(problems.into_iter().map(|problem| Warning {
        message: format!("will be refused if it counts for this VM's role, not known yet: {problem}"),
        variable: problem.variable,
    }));
    Ok(config)
}

const APPLY_FAILED: &str = "ApplyFailed";

/// What is told of a context that could be read once, and cannot now.
fn unread(context: &Observed<crate::plan::Secret>) -> Option<Condition> {
    let last = |why: &str| format!("{why}; what it said last stays in force until this agent ends");
    match context {
        Observed::Known(_) => None,
        Observed::Absent => Some(Condition::unmet("ContextRead", "ContextGone", last(NO_CONTEXT))),
        Observed::Unknown(why) => Some(Condition::unknown("ContextRead", "ContextUnread", last(why))),
    }
}

const NO_CONTEXT: &str =
    "no CONTEXT CD-ROM (a block device labelled CONTEXT) and no /context directory: attach one in OpenNebula";

fn waiting_for_context(context: &Observed<crate::plan::Secret>) -> Decision {
    let message = match context {
        Observed::Unknown(why) => why.as_str(),
        Observed::Absent | Observed::Known(_) => NO_CONTEXT,
    };
    let condition =
        Condition { status: Status::False, ..Condition::unmet("ContextRead", "NoContext", message) };
    Decision { conditions: vec![condition], look_again: Some(Duration::from_secs(1)), ..Decision::default() }
}

fn refused(problems: usize) -> Decision {
    let message = format!(
        "{problems} problem(s) in the context; correct them there (onevm updateconf): until then nothing is changed, and what runs goes on by the last good one"
    );
    let condition = Condition::unmet("ContextRead", "ContextRefused", message);
    // The role, once OneGate tells it, may make the problems somebody else's: this VM is read on meanwhile.
    let reads = Reads { me: REFUSED_ASKS, ..Reads::default() };
    Decision { conditions: vec![condition], reads, look_again: Some(REFUSED_ASKS), ..Decision::default() }
}

#[cfg(test)]
mod tests;
