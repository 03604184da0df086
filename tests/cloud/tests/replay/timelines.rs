//! Timelines: which states follow one another. VMs are counted anew from 0 in each.

use std::time::Duration;

use oneke_cloud::{Cloud, Instantiate, Options, ServiceId, Timing, VmId, VmState};
use serde_json::Value;

use crate::recorded::{World, instantiate, options, templates, text};

const SERVICE: ServiceId = ServiceId(1);

/// The states of a recorded timeline, VMs numbered by their first appearance.
fn recorded(name: &str) -> Vec<String> {
    let view = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("each line is JSON");
        entry["view"].as_str().expect("a view").to_owned()
    };
    renumbered(&text(&format!("{name}.jsonl")).lines().map(view).collect::<Vec<_>>())
}

fn renumbered(views: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut renumber = |list: &str| {
        let ids = list.split(", ").filter(|id| !id.is_empty());
        let ids: Vec<_> = ids
            .map(|id| match seen.iter().position(|known| known == id) {
                Some(index) => format!("vm{index}"),
                None => {
                    seen.push(id.to_owned());
                    format!("vm{}", seen.len() - 1)
                }
            })
            .collect();
        ids.join(", ")
    };
    let mut out = Vec::new();
    for view in views {
        let mut parts = view.split("n=[");
        let mut line = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (list, rest) = part.split_once(']').expect("a list ends");
            line.push_str(&format!("n=[{}]{rest}", renumber(list)));
        }
        out.push(line);
    }
    out
}

/// A world that notes each new state of its service, and how the service looks to one VM.
struct Watched {
    world: World,
    views: Vec<String>,
    seen_by: u32,
}

impl Watched {
    fn new(options: Options) -> Self {
        let world = World { cloud: Cloud::new(options), now: Duration::ZERO };
        Self { world, views: Vec::new(), seen_by: 0 }
    }

    fn running(options: Options) -> Self {
        let mut watched = Self::new(options);
        instantiate(&mut watched.world);
        watched.world.pass(10.0);
        watched.ready(0);
        watched.world.pass(10.0);
        (1..=3).for_each(|vm| watched.ready(vm));
        watched.world.pass(3.0);
        watched.note();
        watched
    }

    fn ready(&mut self, vm: u32) {
        assert_eq!(self.world.send(vm, "PUT", "/vm", "READY=YES").status, 200);
    }

    fn note(&mut self) {
        let response = self.world.send(self.seen_by, "GET", "/service", "");
        let view = match response.status {
            200 => self.world.shape(1),
            status => format!("HTTP {status} {}", response.text()),
        };
        if self.views.last() != Some(&view) {
            self.views.push(view);
        }
    }

    /// Lets time pass, noting four times a second.
    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds * 4 {
            self.world.pass(0.25);
            self.note();
        }
    }

    fn views(&self) -> Vec<String> {
        renumbered(&self.views)
    }
}

fn slow_autoscaler() -> Options {
    Options { timing: Timing::default(), ..options() }
}

#[test]
fn up_and_down() {
    let mut watched = Watched::running(options());
    watched.world.cloud.scale(watched.world.now, SERVICE, "worker", 2).expect("it runs");
    watched.pass(5);
    watched.ready(4);
    watched.pass(40);
    let before_going = watched.views.len() - 1;
    watched.world.cloud.scale(watched.world.now, SERVICE, "worker", 1).expect("it runs");
    watched.note();
    watched.pass(10);
    watched.world.cloud.guest_stopped(watched.world.now, VmId(2));
    watched.pass(40);
    let all = recorded("timeline-scale");
    // Its last entry is from another time: the service had been deleted.
    assert_eq!(watched.views(), all[..all.len() - 1]);
    assert_eq!(renumbered(&watched.views[before_going..]), recorded("timeline-scaledown"));
}

#[test]
fn warning_failure_and_recovery() {
    let mut watched = Watched::running(slow_autoscaler());
    // Just after a round, so that the next one comes when it came.
    watched.pass(90 - 23 + 20);
    let vm = VmId(3);
    watched.world.cloud.poweroff(watched.world.now, vm, true).expect("it runs");
    watched.pass(8);
    watched.world.cloud.resume(watched.world.now, vm).expect("it is off");
    watched.pass(8);
    watched.world.cloud.terminate(watched.world.now, vm, true).expect("it runs");
    watched.pass(8);
    watched.world.cloud.scale(watched.world.now, SERVICE, "worker", 2).expect("it runs");
    watched.world.until("it boots", |cloud| cloud.vm(VmId(4)).is_some_and(|vm| vm.state == VmState::Boot));
    watched.world.cloud.boot_failed(watched.world.now, VmId(4)).expect("it boots");
    watched.pass(60);
    watched.world.cloud.recover_service(watched.world.now, SERVICE).expect("it failed");
    watched.world.cloud.boot_failed(watched.world.now, VmId(4)).expect("it boots again");
    watched.pass(40);
    let first = recorded("timeline-warning-and-external-terminate");
    assert_eq!(watched.views(), first);

    watched.world.cloud.retry(watched.world.now, VmId(4)).expect("it failed");
    watched.ready(4);
    watched.pass(100);
    watched.ready(5);
    watched.pass(5);
    let second = recorded("timeline-recover-min-vms");
    let tail = watched.views.len() - second.len();
    assert_eq!(renumbered(&watched.views[tail..]), second);
}

#[test]
fn children_go_first() {
    for (name, seen_by) in [("timeline-undeploy-seen-by-vnf", 0), ("timeline-undeploy-seen-by-master", 1)] {
        let mut watched = Watched::running(options());
        watched.views.clear();
        watched.seen_by = seen_by;
        watched.note();
        watched.world.cloud.delete_service(watched.world.now, SERVICE).expect("it runs");
        for vm in [1, 2, 3, 0] {
            watched.pass(5);
            watched.world.cloud.guest_stopped(watched.world.now, VmId(vm));
        }
        watched.pass(10);
        let expected: Vec<_> = (recorded(name).into_iter())
            .map(|view| view.replace("Service 16", "Service 1").replace("VM 189", "VM 1"))
            .collect();
        assert_eq!(watched.views(), expected, "{name}");
    }
}

/// The recorder looked every few seconds: what it saw must come in this order here, among more.
#[test]
fn elasticity() {
    let recording = text("timeline-elasticity.txt");
    let documents =
        recording.lines().filter_map(|line| line.split_once(" DOC ").map(|(_, document)| document));
    let mut world = World::new();
    world.use_up_numbers(6);
    world.cloud.instantiate(world.now, &templates(), &Instantiate::oneke()).expect("all is given");
    let mut seen: Vec<String> = Vec::new();
    for (until, vms, body) in [
        (10, 6..=6, "READY=YES"),
        (12, 7..=9, "READY=YES"),
        (30, 8..=8, "ATT=90"),
        (60, 10..=10, "ATT=50\nREADY=YES"),
        (110, 8..=10, "ATT=5"),
        (240, 10..=10, "ATT=high"),
        (300, 0..=0, ""),
    ] {
        while world.now < Duration::from_secs(until) {
            world.pass(0.5);
            world.obey();
            seen.push(document(&world));
        }
        if !body.is_empty() {
            vms.for_each(|vm| assert_eq!(world.send(vm, "PUT", "/vm", body).status, 200));
        }
    }
    seen.dedup();
    let mut rest = seen.iter();
    for document in documents {
        assert!(
            rest.any(|seen| seen == document),
            "{document}\nis not, or not in this order, in\n{}",
            seen.join("\n")
        );
    }
}

/// The worker role as the recorder wrote it down.
fn document(world: &World) -> String {
    let service = world.cloud.service(SERVICE).expect("it is there");
    let worker = service.role("worker").expect("it has one");
    let nodes: Vec<_> = worker.nodes.iter().map(|node| node.vm.0).collect();
    let text = |words: Option<&str>| words.map_or("None".to_owned(), |words| format!("'{words}'"));
    let policies: Vec<_> = worker
        .evaluations()
        .map(|(expression, count, words)| {
            let count = count.map_or("None".to_owned(), |count| count.to_string());
            format!("('{expression}', {count}, {})", text(words))
        })
        .collect();
    format!(
        "svc={} worker={} card={} nodes={nodes:?} cooldown={} pol=[{}]",
        service.state as u8,
        worker.state as u8,
        worker.cardinality,
        worker.cooldown().as_secs(),
        policies.join(", ")
    )
}
