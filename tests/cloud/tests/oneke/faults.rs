//! What goes wrong on request.

use std::time::Duration;

use oneke_cloud::{Fate, Faults, Kind, Options, Response, VmId};
use serde_json::json;

use crate::world::{SERVICE, World};

fn with(faults: Faults) -> World {
    let mut world = World::running();
    world.cloud.set_faults(world.now, faults);
    world
}

#[test]
fn each_kind_of_request_has_its_own_latency() {
    let mut world = with(Faults { latency: [(Kind::Service, 0.34)].into(), ..Faults::default() });
    assert_eq!(world.ask(1, "GET", "/service", "").delivery.delay, Duration::from_millis(340));
    assert_eq!(world.ask(1, "GET", "/service?extended", "").delivery.delay, Duration::ZERO);
    assert_eq!(world.ask(1, "GET", "/vm", "").delivery.delay, Duration::ZERO);
}

#[test]
fn errors_come_as_often_as_asked_for_and_where_asked_for() {
    let mut world = with(Faults { unauthorized_one_in: 10, ..Faults::default() });
    let refused = (0..1000).filter(|_| world.ask(1, "GET", "/vm", "").status == 401).count();
    assert!((50..200).contains(&refused), "{refused} of 1000");

    let kinds = [Kind::Service].into();
    let mut world =
        with(Faults { error_one_in: 1, error_status: Some(503), error_kinds: kinds, ..Faults::default() });
    assert_eq!(world.ask(1, "GET", "/service", "").status, 503);
    assert_eq!(world.ask(1, "GET", "/vm", "").status, 200);
}

#[test]
fn answers_are_cut_or_never_come() {
    let mut world = with(Faults { cut_one_in: 1, ..Faults::default() });
    let Response { body, delivery, .. } = world.ask(1, "GET", "/service", "");
    let Fate::CutAfter(bytes) = delivery.fate else { panic!("it was to be cut: {delivery:?}") };
    assert!(bytes < body.len());
    let until = (world.now + Duration::from_secs(60)).as_secs_f64();
    world.cloud.set_faults(world.now, Faults { refuse_until: until, ..Faults::default() });
    assert_eq!(world.ask(1, "GET", "/vm", "").delivery.fate, Fate::Refused);
    world.pass(60);
    assert_eq!(world.ask(1, "GET", "/vm", "").delivery.fate, Fate::Whole);
}

#[test]
fn a_refused_request_changes_nothing() {
    let mut world = with(Faults { refuse_until: 1e9, ..Faults::default() });
    world.ask(1, "PUT", "/vm", "A=1");
    assert_eq!(world.cloud.vm(VmId(1)).expect("a master").user_template.text("A"), None);
}

#[test]
fn the_service_is_told_as_it_was() {
    let mut world = with(Faults { stale_service: 60.0, ..Faults::default() });
    world.pass(30);
    world.cloud.terminate(world.now, VmId(2), true).expect("it runs");
    world.pass(10);
    let workers = |world: &mut World| world.get(1, "/service")["SERVICE"]["roles"][2]["nodes"].clone();
    let nodes = |world: &mut World| workers(world).as_array().map(Vec::len);
    assert_eq!(nodes(&mut world), Some(1), "it left 10 s ago");
    world.ask(1, "PUT", "/vm", "A=1");
    let extended = world.get(1, "/service?extended");
    let attributes = &extended["SERVICE"]["roles"][1]["nodes"][0]["vm_info"]["VM"]["USER_TEMPLATE"];
    assert_eq!((&attributes["READY"], &attributes["A"]), (&json!("YES"), &json!(null)));
    assert_eq!(world.get(1, "/vm")["VM"]["USER_TEMPLATE"]["A"], "1", "one's own is fresh");
    world.pass(60);
    assert_eq!(nodes(&mut world), Some(0));
}

#[test]
fn nodes_lose_their_information_or_go_missing() {
    let mut world = with(Faults {
        null_vm_info: [VmId(1)].into(),
        missing_nodes: [VmId(2)].into(),
        missing_user_template: [VmId(0)].into(),
        ..Faults::default()
    });
    let service = world.get(1, "/service?extended")["SERVICE"].clone();
    assert_eq!(service["roles"][1]["nodes"], json!([{"deploy_id": 1, "running": null, "vm_info": null}]));
    assert_eq!((&service["roles"][2]["cardinality"], &service["roles"][2]["nodes"]), (&json!(1), &json!([])));
    let shown = |vm: &serde_json::Value| vm["VM"].get("USER_TEMPLATE").is_some();
    assert!(!shown(&service["roles"][0]["nodes"][0]["vm_info"]));
    assert!(!shown(&world.get(1, "/vms/0")));
    assert!(shown(&world.get(1, "/vm")));
}

#[test]
fn everything_is_counted_and_kept() {
    let mut world = World::running();
    world.ask(1, "GET", "/vm", "");
    world.ask(1, "GET", "/service", "");
    world.ask(1, "GET", "/service?extended=false", "");
    world.ask(1, "PUT", "/vms/2", "TOKEN=oops");
    let ledger = world.cloud.ledger();
    let count = |kind| ledger.count(VmId(1), kind);
    assert_eq!([Kind::OwnRead, Kind::Service, Kind::ServiceExtended, Kind::OtherWrite].map(count), [1; 4]);
    assert_eq!((ledger.total(Kind::OwnWrite), count(Kind::OwnWrite)), (3, 1), "three said READY");
    let last = ledger.received().last().expect("four had a body");
    assert_eq!((last.vm, last.kind, last.body.as_str()), (Some(VmId(1)), Kind::OtherWrite, "TOKEN=oops"));
}

/// Bodies, paths and types made of what is special somewhere, strung together by a small generator.
#[test]
fn nothing_that_is_sent_brings_it_down() {
    const PIECES: [&str; 26] = [
        "A", "READY", "=", "\"", "\\", "\n", "\\n", ",", "[", "]", "%", "%4", "&", "type=2", "data=", "$",
        "{", "}", " ", "#", "č", "\0", "/", "?", "vms", "1",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut text = |length: usize| (0..next(length)).map(|_| PIECES[next(PIECES.len())]).collect::<String>();
    let mut world = World::running();
    for round in 0..5_000 {
        let (body, path) =
            (text(12), if round % 3 == 0 { format!("/{}", text(5)) } else { "/vm".to_owned() });
        let method = ["PUT", "PUT", "GET", "POST", "BREW"][round % 5];
        let status = world.ask(1, method, &path, &body).status;
        assert!([200, 204, 400, 403, 404, 500].contains(&status), "{status} for {method} {path} {body:?}");
    }
    assert_eq!(world.ask(1, "GET", "/service", "").status, 200);
}

#[test]
fn what_happens_while_oneflow_is_down_is_found_out_afterwards() {
    let mut world = World::new(Options::default(), 1);
    world.pass(10);
    world.cloud.set_faults(world.now, Faults { oneflow_down: true, ..Faults::default() });
    world.ready(0);
    world.cloud.scale(world.now, SERVICE, "worker", 2).expect_err("nobody is there to do it");
    world.pass(300);
    assert!(world.shape().starts_with("Deploying vnf:Deploying[0] master:Pending[]"), "{}", world.shape());
    world.cloud.set_faults(world.now, Faults::default());
    world.pass(32);
    assert!(world.shape().starts_with("Deploying vnf:Running[0] master:Deploying[1]"), "{}", world.shape());
}
