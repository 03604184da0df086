//! A cloud with OneKE on it, and its time.

use std::time::Duration;

use oneke_cloud::{Cloud, Event, Instantiate, Options, Request, Response, ServiceId, Templates, VmId};
use serde_json::Value;

/// The first service of every world.
pub const SERVICE: ServiceId = ServiceId(1);

pub struct World {
    pub cloud: Cloud,
    pub now: Duration,
}

impl World {
    /// OneKE just instantiated with so many masters.
    pub fn new(options: Options, masters: u32) -> Self {
        let mut request = Instantiate::oneke();
        request.cardinality.insert("master".into(), masters);
        Self::with(options, &Templates::oneke(), &request)
    }

    pub fn with(options: Options, templates: &Templates, request: &Instantiate) -> Self {
        let mut world = Self { cloud: Cloud::new(options), now: Duration::ZERO };
        let id =
            world.cloud.instantiate(world.now, templates, request).expect("all that is asked for is there");
        assert_eq!(id, SERVICE);
        world
    }

    /// vnf 0, master 1, worker 2: all running.
    pub fn running() -> Self {
        let mut world = Self::new(Options::default(), 1);
        world.pass(10);
        world.ready(0);
        world.pass(10);
        world.ready(1);
        world.ready(2);
        world.pass(2);
        world.cloud.take_events();
        world
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cloud.tick(self.now);
    }

    pub fn ask(&mut self, vm: u32, method: &str, path: &str, body: &str) -> Response {
        let token = self.cloud.vm(VmId(vm)).expect("it was created").token.clone();
        let request = Request {
            method: method.into(),
            path_and_query: path.into(),
            headers: vec![("X-ONEGATE-VMID".into(), vm.to_string()), ("X-ONEGATE-TOKEN".into(), token)],
            body: body.into(),
        };
        self.cloud.handle(self.now, &request)
    }

    pub fn get(&mut self, vm: u32, path: &str) -> Value {
        let response = self.ask(vm, "GET", path, "");
        serde_json::from_slice(&response.body).unwrap_or_else(|_| Value::String(response.text()))
    }

    pub fn ready(&mut self, vm: u32) {
        assert_eq!(self.ask(vm, "PUT", "/vm", "READY=YES").status, 200);
    }

    /// STATE and LCM_STATE as a VM sees its own.
    pub fn states(&mut self, vm: u32) -> String {
        let vm = self.get(vm, "/vm");
        format!("{}/{}", vm["VM"]["STATE"], vm["VM"]["LCM_STATE"]).replace('"', "")
    }

    pub fn shape(&self) -> String {
        let Some(service) = self.cloud.service(SERVICE) else { return "gone".into() };
        let role = |role: &oneke_cloud::Role| {
            let nodes: Vec<_> = role.nodes.iter().map(|node| node.vm.0).collect();
            format!("{}:{:?}{nodes:?}", role.name, role.state)
        };
        let roles: Vec<_> = service.roles.iter().map(role).collect();
        format!("{:?} {}", service.state, roles.join(" "))
    }

    /// What happened to guests since the last call, in a word each.
    pub fn happened(&mut self) -> Vec<String> {
        let word = |event| match event {
            Event::PowerOn(power_on) => {
                let disk = if power_on.fresh_disk { "fresh" } else { "kept" };
                format!("{}{} on, {disk}", power_on.role.unwrap_or_default(), power_on.vm)
            }
            Event::AcpiShutdown { vm } => format!("{vm} asked"),
            Event::AcpiReboot { vm } => format!("{vm} asked to reboot"),
            Event::Reset { vm } => format!("{vm} reset"),
            Event::Destroy { vm } => format!("{vm} off"),
            Event::ContextChanged { vm, .. } => format!("{vm} context"),
        };
        self.cloud.take_events().into_iter().map(word).collect()
    }
}
