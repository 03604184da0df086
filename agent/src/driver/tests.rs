//! The loop against worlds in memory.

use super::apply::IN_FLIGHT;
use super::*;
use crate::facts::{Link, Reading, Routes};
use crate::plan::Secret;
use crate::service::Vm;

const CONTEXT: &str = "VMID='7'\nSERVICE_ID='4'\nONEGATE_ENDPOINT='http://10.0.0.1:5030'\nETH0_IP='172.20.0.5'\n\
    ETH0_MASK='255.255.255.0'\nFALLBACK_GW='172.20.0.2'\n";
const VM: &str = r#"{"VM":{"ID":"7","NAME":"worker_7","STATE":"3","LCM_STATE":"3",
    "USER_TEMPLATE":{"ROLE_NAME":"worker","SERVICE_ID":"4"},"TEMPLATE":{"NIC":[]}}}"#;

/// A worker whose kernel takes no routes.
#[derive(Default)]
struct Stubborn {
    applied: Vec<Effect>,
    report: Report,
}

impl World for Stubborn {
    async fn observe(&mut self, interests: &Interests, _reads: &Reads) -> Facts {
        let link = Link {
            name: "eth0".into(),
            mac: String::new(),
            running: true,
            addresses: vec![("172.20.0.5".parse().unwrap(), 24)],
        };
        let mut facts = Facts {
            context: Observed::Known(Secret::new(CONTEXT)),
            files: interests.files.iter().map(|path| (path.clone(), Observed::Absent)).collect(),
            links: Observed::Known(vec![link]),
            routes: Observed::Known(Routes::default()),
            ..Facts::default()
        };
        facts.me = Reading::of(Vm::from_json(VM).unwrap(), Duration::ZERO);
        facts
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        if matches!(effect, Effect::SetDefaultRoute { .. }) {
            return Err("network is down".into());
        }
        self.applied.push(effect.clone());
        Ok(())
    }

    async fn report(&mut self, report: &Report) {
        self.report = report.clone();
    }

    async fn wait(&mut self, _at_most: Duration) -> Event {
        Event::Stop
    }
}

/// Takes writes onto other VMs together, and fails those onto VM 3.
#[derive(Default)]
struct Together {
    groups: Vec<Vec<String>>,
}

impl World for Together {
    async fn observe(&mut self, _: &Interests, _: &Reads) -> Facts {
        Facts::default()
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        self.groups.push(vec![effect.to_string()]);
        Ok(())
    }

    async fn publish_on(&mut self, others: &[(VmId, &Attributes)]) -> Vec<Result<(), String>> {
        self.groups.push(others.iter().map(|(vm, _)| vm.to_string()).collect());
        others.iter().map(|(vm, _)| if vm.0 == 3 { Err("late".into()) } else { Ok(()) }).collect()
    }

    async fn report(&mut self, _: &Report) {}

    async fn wait(&mut self, _: Duration) -> Event {
        Event::Stop
    }
}

#[tokio::test]
async fn writes_onto_others_go_together_and_each_failure_is_told() {
    let publish = |vm| Effect::Publish { vm: Some(VmId(vm)), attributes: Attributes::new() };
    let start = || Effect::StartUnit("a.service".into());
    let effects: Vec<Effect> =
        std::iter::once(start()).chain((1..=10).map(publish)).chain([start(), publish(11)]).collect();
    let (mut world, mut driver, mut report) = (Together::default(), Driver::default(), Report::default());
    let failed = driver.apply(&mut world, &effects, &mut report).await;
    let sizes: Vec<usize> = world.groups.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, IN_FLIGHT, 2, 1, 1], "{:?}", world.groups);
    assert!(failed.is_some_and(|condition| condition.message.contains("VM 3")));
    assert_eq!(report.effects.iter().filter(|told| told.starts_with("failed: publish on VM 3")).count(), 1);
    assert_eq!(report.effects.len(), effects.len(), "nobody is held up");
    assert_eq!(driver.untold, BTreeSet::from([Some(VmId(3))]));
}

#[tokio::test]
async fn a_failed_aside_is_told_and_stops_nothing_else() {
    let mut world = Stubborn::default();
    Driver::default().run(&mut world).await;
    let told: Vec<&str> = world.report.effects.iter().map(String::as_str).collect();
    assert_eq!(told.first(), Some(&"failed: set the default route via 172.20.0.2 dev eth0: network is down"));
    assert!(world.applied.iter().any(|effect| matches!(effect, Effect::Publish { .. })), "{told:?}");
    let reasons: Vec<&str> =
        world.report.conditions.iter().map(|standing| standing.condition.reason.as_str()).collect();
    assert!(reasons.contains(&APPLY_FAILED), "{reasons:?}");
    assert!(!world.report.ready);
}

/// Who was set up by a good context, and finds another one.
#[tokio::test]
async fn a_context_that_becomes_bad_or_unreadable_is_told_and_changes_nothing() {
    let mut driver = Driver::default();
    let mut seen = Stubborn::default().observe(&Interests::default(), &Reads::default()).await;
    seen.files.insert(crate::identity::PATH.into(), Observed::Absent);
    let mut told = |context: Observed<Secret>| {
        seen.context = context;
        driver.parse(&seen);
        let (decision, report) = driver.decide(&seen);
        let read = report.conditions.iter().map(|s| &s.condition).find(|c| c.kind == "ContextRead");
        (decision.effects.len() + decision.asides.len(), report.problems, read.map(ToString::to_string))
    };
    let (effects, problems, read) = told(Observed::Known(Secret::new(CONTEXT)));
    assert!(effects > 0 && problems.is_empty() && read.is_none(), "{problems:?} {read:?}");
    for gone in [Observed::Absent, Observed::Unknown("could not read /dev/sr0: I/O error".into())] {
        let (same, _, read) = told(gone);
        assert_eq!(same, effects, "the last one stays in force");
        assert!(
            read.is_some_and(|told| told.ends_with("what it said last stays in force until this agent ends"))
        );
    }
    let bad = format!("{CONTEXT}ONEAPP_RKE2_SUPERVISOR_EP='x:y'\nONEAPP_VNF_HAPROXY_LB0_PORT='0'\n");
    let (effects, problems, read) = told(Observed::Known(Secret::new(bad)));
    assert_eq!((effects, problems.len()), (0, 2), "{problems:?}");
    assert!(read.is_some_and(|told| told.ends_with("what runs goes on by the last good one")));
    assert_eq!(told(Observed::Known(Secret::new(CONTEXT))).1.len(), 0, "a correction is taken");
}

/// OneGate tells the role, and may lie behind the gateway that the context names.
#[tokio::test]
async fn what_is_wrong_for_another_role_does_not_keep_a_node_from_its_gateway() {
    let mut seen = Stubborn::default().observe(&Interests::default(), &Reads::default()).await;
    seen.me = Reading::default();
    seen.files.insert(crate::identity::PATH.into(), Observed::Absent);
    let mut decided = |added: &str| {
        seen.context = Observed::Known(Secret::new(format!("{CONTEXT}{added}")));
        let mut driver = Driver::default();
        driver.parse(&seen);
        let (decision, report) = driver.decide(&seen);
        let sets = decision.asides.iter().any(|effect| matches!(effect, Effect::SetDefaultRoute { .. }));
        (sets, decision.effects.len(), report.problems.len(), report.warnings.len() > 1)
    };
    let masters_need_its_credentials = "ONEAPP_K8S_CCM_ENABLED='YES'\n";
    assert_eq!(decided(masters_need_its_credentials), (true, 0, 0, true));
    assert_eq!(decided("ONEAPP_RKE2_SUPERVISOR_EP='x:y'\n"), (false, 0, 1, false), "wrong for every node");
}

/// Invariant 12, also where two who undo each other's work take turns.
#[test]
fn effects_that_come_again_slow_down() {
    let pace = |driver: &mut Driver, unit: &str| {
        let effects = vec![Effect::StartUnit(unit.into())];
        driver.pace(&Decision { effects, ..Decision::default() }, false)
    };
    for (turns, others) in [(&["a"][..], "b"), (&["a", "b"], "c"), (&["a", "b", "c"], "d")] {
        let mut driver = Driver::default();
        let delays: Vec<Duration> =
            turns.iter().cycle().take(40).map(|unit| pace(&mut driver, unit)).collect();
        assert!(delays[..turns.len()].iter().all(|delay| *delay == SETTLE), "{delays:?}");
        assert_eq!(delays.last(), Some(&SLOWEST), "{delays:?}");
        assert_eq!(pace(&mut driver, others), SETTLE, "what is new is quick");
    }
}

/// Refuses whatever is about the name server.
#[derive(Default)]
struct WithoutNames(Vec<String>);

impl World for WithoutNames {
    async fn observe(&mut self, _: &Interests, _: &Reads) -> Facts {
        Facts::default()
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        self.0.push(effect.to_string());
        if self.0.last().is_some_and(|told| told.contains("unbound")) { Err("taken".into()) } else { Ok(()) }
    }

    async fn report(&mut self, _: &Report) {}

    async fn wait(&mut self, _: Duration) -> Event {
        Event::Stop
    }
}

#[tokio::test]
async fn a_daemon_that_refuses_its_file_holds_up_itself_alone() {
    let file = |path: &str, checker| {
        let content = crate::plan::Content::Public(String::new());
        Effect::WriteFile(crate::plan::FileSpec { path: path.into(), mode: 0o644, content, checker })
    };
    let load = |unit: &str| Effect::LoadConfig {
        unit: unit.into(),
        how: crate::plan::Load::Reload,
        digest: String::new(),
    };
    let checked = |checker: crate::plan::Checker| [file("/etc/x", Some(checker)), load(checker.unit())];
    let [keepalived, haproxy] =
        [crate::plan::Checker::Keepalived, crate::plan::Checker::Haproxy].map(checked);
    let unbound = [file("/etc/unbound", Some(crate::plan::Checker::Unbound)), load("unbound.service")];
    let effects = [&unbound[..], &[load("unbound.service")], &keepalived, &haproxy].concat();
    let (mut world, mut report) = (WithoutNames::default(), Report::default());
    let failed = Driver::default().apply(&mut world, &effects, &mut report).await;
    assert!(failed.is_some_and(|condition| condition.message.contains("unbound")));
    assert_eq!(world.0.len(), 5, "{:?}", world.0);
    let mut world = WithoutNames::default();
    let effects = [file("/etc/unbound-like", None), load("keepalived.service")];
    Driver::default().apply(&mut world, &effects, &mut report).await;
    assert_eq!(world.0.len(), 1, "what is nobody's alone ends the pass: {:?}", world.0);
}
