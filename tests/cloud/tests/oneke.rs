//! OneKE from its marketplace templates: deployed, scaled, deleted.

use std::time::Duration;

use oneke_cloud::{Cloud, Event, Instantiate, Options, Request, Response, ServiceId, Templates, VmId};

struct World {
    cloud: Cloud,
    now: Duration,
}

impl World {
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cloud.tick(self.now);
    }

    fn ask(&mut self, vm: u32, method: &str, path: &str, body: &str) -> Response {
        let token = self.cloud.vm(VmId(vm)).expect("it was created").token.clone();
        let request = Request {
            method: method.into(),
            path_and_query: path.into(),
            headers: vec![("X-ONEGATE-VMID".into(), vm.to_string()), ("X-ONEGATE-TOKEN".into(), token)],
            body: body.into(),
        };
        self.cloud.handle(self.now, &request)
    }

    fn shape(&self, service: ServiceId) -> String {
        let service = self.cloud.service(service).expect("it is there");
        let role = |role: &oneke_cloud::Role| {
            let nodes: Vec<_> = role.nodes.iter().map(|node| node.vm.0).collect();
            format!("{}:{:?}{nodes:?}", role.name, role.state)
        };
        let roles: Vec<_> = service.roles.iter().map(role).collect();
        format!("{:?} {}", service.state, roles.join(" "))
    }

    fn started(&mut self) -> Vec<String> {
        let name = |event| match event {
            Event::PowerOn(power_on) => {
                format!("{}{}", power_on.role.expect("all are of a service"), power_on.vm)
            }
            other => format!("{other:?}"),
        };
        self.cloud.take_events().into_iter().map(name).collect()
    }
}

#[test]
fn a_service_from_cradle_to_grave() {
    let mut world = World { cloud: Cloud::new(Options::default()), now: Duration::ZERO };
    let mut request = Instantiate::oneke();
    request.cardinality.insert("master".into(), 3);
    let id = world.cloud.instantiate(world.now, &Templates::oneke(), &request).unwrap();
    world.pass(10);
    assert_eq!(world.started(), ["vnf0"]);
    assert_eq!(
        world.shape(id),
        "Deploying vnf:Deploying[0] master:Pending[] worker:Pending[] storage:Pending[]"
    );

    assert_eq!(world.ask(0, "PUT", "/vm", "READY=YES").status, 200);
    world.pass(10);
    assert_eq!(world.started(), ["master1", "master2", "master3", "worker4"]);
    assert_eq!(
        world.shape(id),
        "Deploying vnf:Running[0] master:Deploying[1, 2, 3] worker:Deploying[4] storage:Running[]"
    );
    for vm in 1..=4 {
        world.ask(vm, "PUT", "/vm", "READY=YES");
    }
    world.pass(2);
    assert_eq!(
        world.shape(id),
        "Running vnf:Running[0] master:Running[1, 2, 3] worker:Running[4] storage:Running[]"
    );

    world.cloud.scale(world.now, id, "worker", 2).unwrap();
    world.pass(10);
    assert_eq!(world.started(), ["worker5"]);
    world.ask(5, "PUT", "/vm", "READY=YES");
    world.pass(2);
    assert!(
        world.shape(id).starts_with("Cooldown vnf:Running[0] master:Running[1, 2, 3] worker:Cooldown[4, 5]")
    );
    world.pass(120);
    world.cloud.scale(world.now, id, "worker", 1).unwrap();
    assert_eq!(world.started(), ["AcpiShutdown { vm: VmId(4) }"]);
    world.cloud.guest_stopped(world.now, VmId(4));
    world.pass(125);
    assert_eq!(
        world.shape(id),
        "Running vnf:Running[0] master:Running[1, 2, 3] worker:Running[5] storage:Running[]"
    );

    world.cloud.delete_service(world.now, id).unwrap();
    assert_eq!(world.started().len(), 4);
    world.pass(190);
    assert_eq!(world.started().len(), 5, "four ignored ACPI, and the vnf is asked last");
    world.pass(190);
    assert!(world.cloud.service(id).is_none());
    assert_eq!(world.ask(1, "GET", "/service", "").text(), "Service 1 not found");
}
