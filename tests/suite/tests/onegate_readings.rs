//! When OneGate is asked, and what stands meanwhile.

use std::sync::Arc;
use std::time::Duration;

use oneke_agent::context::OneGateConfig;
use oneke_agent::facts::{FaultKind, Reading};
use oneke_agent::plan::{Attributes, Reads, Secret};
use oneke_agent::service::{AttributeName, AttributeValue, VmId};
use oneke_agent::world::onegate::{Client, Limits, Readings};
use oneke_suite::captures::load;
use oneke_suite::replay::{Reply, Server};
use tokio::sync::Notify;

/// Long enough for any answer on loopback, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(60);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn recorded(name: &str) -> Reply {
    Reply::recorded(&load(name).response)
}

/// Both questions, `/vm` at most `me` seconds old and `/service` at most `service`.
fn reads(me: u64, service: Option<u64>) -> Reads {
    Reads { me: seconds(me), service: service.map(seconds), ..Reads::default() }
}

struct Scene {
    client: Client,
    server: Server,
    readings: Readings,
}

impl Scene {
    async fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let server = Server::start(script).await;
        let endpoint = Some(format!("http://{}", server.address()));
        let config = OneGateConfig { endpoint, ca: None, verify: true };
        let limits = Limits { attempts: 1, ..Limits::default() };
        let client = Client::new(&config, VmId(0), &Secret::new("t"), limits).expect("a plain endpoint");
        Self { client, server, readings: Readings::default() }
    }

    /// Refreshes at this second and tells which requests that took.
    async fn refresh(&mut self, now: u64, reads: Reads) -> Vec<String> {
        let before = self.server.asked().len();
        self.readings.refresh(Ok(&self.client), &reads, seconds(now), PATIENT).await;
        let mut paths: Vec<_> = self.server.asked()[before..]
            .iter()
            .map(|asked| asked.line.trim_end_matches(" HTTP/1.1").to_owned())
            .collect();
        paths.sort();
        paths
    }

    async fn publish(&mut self, vm: Option<VmId>) -> bool {
        let pair = (AttributeName::new("A").expect("a name"), AttributeValue::number(1));
        self.readings.publish(Ok(&self.client), vm, &Attributes::from([pair])).await.is_ok()
    }
}

/// The reading in a line: its age's moment and its fault.
fn state<T>(reading: &Reading<T>) -> (Option<u64>, Option<FaultKind>) {
    (reading.at.map(|at| at.as_secs()), reading.fault.as_ref().map(|fault| fault.kind))
}

#[tokio::test]
async fn a_part_is_read_only_when_older_than_allowed() {
    let mut scene =
        Scene::new(["get-vm", "get-vm", "get-service-extended-true", "get-vm"].map(recorded)).await;
    assert_eq!(scene.refresh(100, reads(10, None)).await, ["GET /vm"]);
    assert_eq!(scene.refresh(110, reads(10, None)).await, [""; 0]);
    assert_eq!(scene.refresh(111, reads(10, None)).await, ["GET /vm"]);
    assert_eq!(scene.refresh(112, reads(10, Some(30))).await, ["GET /service?extended=true"]);
    assert_eq!(scene.refresh(142, reads(60, Some(30))).await, [""; 0]);
    assert_eq!(scene.refresh(142, reads(0, None)).await, ["GET /vm"]);
    assert_eq!(state(scene.readings.me()), (Some(142), None));
    assert_eq!(state(scene.readings.service()), (Some(112), None));
}

#[tokio::test]
async fn after_publishing_this_vm_is_read_anew() {
    let mut scene =
        Scene::new(["get-vm", "put-vm-several-lines", "get-vm", "put-vms-id-same-service"].map(recorded))
            .await;
    scene.refresh(100, reads(60, None)).await;
    assert!(scene.publish(None).await);
    assert_eq!(scene.refresh(100, reads(60, None)).await, ["GET /vm"]);
    assert_eq!(scene.refresh(100, reads(60, None)).await, [""; 0]);
    assert!(scene.publish(Some(VmId(2))).await);
    assert_eq!(scene.refresh(100, reads(60, None)).await, [""; 0]);
}

#[tokio::test]
async fn several_vms_are_told_at_once_and_the_service_is_read_anew() {
    let script = ["get-vm", "get-service-extended-true"].map(recorded);
    let mut scene = Scene::new(script).await;
    scene.refresh(100, reads(60, Some(60))).await;
    scene.server.then(["put-vms-id-same-service", "put-vms-id-outside-service"].map(recorded));
    let attributes =
        Attributes::from([(AttributeName::new("A").expect("a name"), AttributeValue::number(1))]);
    let others = [(VmId(2), &attributes), (VmId(5), &attributes)];
    let outcomes = scene.readings.publish_on(Ok(&scene.client), &others).await;
    // Which of the two is answered first is open; that one of them fails is not.
    assert_eq!((outcomes.len(), outcomes.iter().filter(|outcome| outcome.is_err()).count()), (2, 1));
    scene.server.then(["get-service-extended-true"].map(recorded));
    assert_eq!(scene.refresh(101, reads(60, Some(60))).await, ["GET /service?extended=true"]);
}

#[tokio::test]
async fn a_lost_reading_after_publishing_is_still_wanted() {
    let script = ["get-vm", "put-vm-several-lines", "oned-down-get-vm", "get-vm"].map(recorded);
    let mut scene = Scene::new(script).await;
    scene.refresh(100, reads(60, None)).await;
    assert!(scene.publish(None).await);
    assert_eq!(scene.refresh(100, reads(60, None)).await, ["GET /vm"]);
    assert_eq!(scene.refresh(110, reads(60, None)).await, ["GET /vm"]);
    assert_eq!(state(scene.readings.me()), (Some(110), None));
}

#[tokio::test]
async fn a_fault_leaves_the_last_answer_and_tells_since_when() {
    let script = ["get-vm", "oned-down-get-vm", "oned-down-get-vm", "get-vm"].map(recorded);
    let mut scene = Scene::new(script).await;
    scene.refresh(100, reads(0, None)).await;
    scene.refresh(200, reads(0, None)).await;
    scene.refresh(300, reads(0, None)).await;
    let me = scene.readings.me();
    assert_eq!(state(me), (Some(100), Some(FaultKind::NotAuthorized)));
    assert_eq!(me.fault.as_ref().map(|fault| fault.since), Some(seconds(200)));
    assert!(me.last.known().is_some());
    scene.refresh(400, reads(0, None)).await;
    assert_eq!(state(scene.readings.me()), (Some(400), None));
}

#[tokio::test]
async fn a_failing_question_slows_down() {
    let mut scene = Scene::new((0..100).map(|_| recorded("oned-down-get-vm"))).await;
    let mut asked = 0;
    for tenth in 0..600 {
        let now = Duration::from_millis(100 * tenth);
        scene.readings.refresh(Ok(&scene.client), &reads(0, None), now, PATIENT).await;
        asked = scene.server.asked().len();
    }
    // In a minute: about 0, 0.5, 1.5, 3.5, 7.5, then every 5 s, each give or take a half.
    assert!((9..=30).contains(&asked), "{asked}");
}

#[tokio::test]
async fn while_this_vm_is_not_told_the_service_is_not_asked() {
    let script = [
        "oned-down-get-vm",
        "oned-down-get-service",
        "oned-down-get-vm",
        "get-vm",
        "get-service-extended-true",
    ];
    let mut scene = Scene::new(script.map(recorded)).await;
    assert_eq!(scene.refresh(100, reads(0, Some(0))).await.len(), 2);
    assert_eq!(scene.refresh(110, reads(0, Some(0))).await, ["GET /vm"]);
    assert_eq!(scene.refresh(120, reads(0, Some(0))).await, ["GET /service?extended=true", "GET /vm"]);
    assert_eq!(state(scene.readings.service()), (Some(120), None));
}

#[tokio::test]
async fn once_onegate_is_back_the_service_is_asked_without_its_pause() {
    let mut scene = Scene::new([]).await;
    // Eight faults in a row: the pause is now 30 s at least.
    for now in (0..8).map(|round| 1000 * round) {
        scene.server.then(["get-vm"].map(recorded));
        scene.refresh(now, reads(0, None)).await;
        scene.server.then([recorded("oneflow-down-get-service")]);
        assert_eq!(scene.refresh(now, reads(0, Some(0))).await, ["GET /service?extended=true"]);
    }
    scene.server.then(["get-vm", "oned-down-get-vm", "get-vm", "get-service-extended-true"].map(recorded));
    assert_eq!(scene.refresh(7005, reads(0, Some(0))).await, ["GET /vm"]);
    assert_eq!(scene.refresh(7010, reads(0, Some(0))).await, ["GET /vm"]);
    assert_eq!(scene.refresh(7015, reads(0, Some(0))).await, ["GET /service?extended=true", "GET /vm"]);
}

#[tokio::test]
async fn a_way_that_is_broken_is_told_for_both_until_it_is_back() {
    let mut scene = Scene::new([]).await;
    scene.refresh(100, reads(0, None)).await;
    assert_eq!(state(scene.readings.service()), (None, Some(FaultKind::Tcp)));
    scene.server.then([recorded("get-vm")]);
    scene.refresh(200, reads(0, None)).await;
    assert_eq!(state(scene.readings.service()), (None, None));
}

#[tokio::test]
async fn without_a_client_the_reason_is_told() {
    let config = OneGateConfig { endpoint: None, ca: None, verify: true };
    let error = Client::new(&config, VmId(0), &Secret::new("t"), Limits::default()).unwrap_err();
    let mut readings = Readings::default();
    readings.refresh(Err(&error), &reads(0, Some(0)), seconds(1), PATIENT).await;
    assert_eq!(state(readings.me()), (None, Some(FaultKind::NoEndpoint)));
    assert_eq!(state(readings.service()), (None, Some(FaultKind::NoEndpoint)));
    assert!(readings.publish(Err(&error), None, &Attributes::new()).await.is_err());
}

#[tokio::test]
async fn a_slow_answer_holds_nobody_and_is_taken_later() {
    let sign = Arc::new(Notify::new());
    let mut scene = Scene::new([Reply::After(Arc::clone(&sign), Box::new(recorded("get-vm")))]).await;
    let shortly = Duration::from_millis(10);
    scene.readings.refresh(Ok(&scene.client), &reads(0, None), seconds(100), shortly).await;
    // It is on its way, and not asked a second time.
    scene.readings.refresh(Ok(&scene.client), &reads(0, None), seconds(101), shortly).await;
    assert_eq!((state(scene.readings.me()), scene.readings.is_waiting()), ((None, None), true));
    assert_eq!(scene.client.counts().own, 1);
    sign.notify_one();
    // It is as old as its question.
    scene.refresh(105, reads(60, None)).await;
    assert_eq!((state(scene.readings.me()), scene.readings.is_waiting()), ((Some(100), None), false));
}
