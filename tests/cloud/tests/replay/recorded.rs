//! Reading recordings, and the cloud that they were recorded on.
#![expect(clippy::disallowed_methods, reason = "recordings are files")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use oneke_cloud::{
    Adjustment, Attributes, Cloud, ElasticityPolicy, Event, Instantiate, Ipv6Prefixes, NetworkSpec, Options,
    Owner, Request, Response, RoleTemplate, ServiceId, ServiceTemplate, Templates, Timing, VmId, VmTemplate,
};
use serde::Deserialize;

/// What is random or tells the time in the long form of a VM; compared only for being there.
pub const MASKED: [&str; 20] = [
    "LAST_POLL",
    "STIME",
    "ETIME",
    "DEPLOY_ID",
    "UUID",
    "HOSTNAME",
    "HID",
    "PSTIME",
    "PETIME",
    "RSTIME",
    "RETIME",
    "ESTIME",
    "EETIME",
    "ACTION_ID",
    "REQUEST_ID",
    "ERROR",
    "TIMESTAMP",
    "MEMORY",
    "NETRX",
    "NETTX",
];

/// Two keys of two people, as the templates of the recorded services had them.
pub const KEYS: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAR5lewF9ny1vcWt96kQ/x9h5BTrUdHsFb+QzudWTW0y alice@example
ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC+tcO9z5L7pYE4Dy5NUHKuN4gt77qJ/PN9lH6tKMAB4eJ5Fp/fHuAvzCZjvRRafxRIbIhpfWxa3H/TA2Pwg21O3DAVzhuihm5sfM/wpO7uyQukC2ykGvrMcTwqGViP2+oHqvB/sk2swXZ8S20SpB3wX3s3dhdO1+SUhM7Zftn2DMQA1si12W28Ce8DuidazrUD+0sWglBna+ghPulMiuyE6JcUsvdZlVKrWnG4e9HTVzAMekdOoLDNY6sVZ6cYmEbPFBbx0ZkTaSwgccutsT2YPZ44Km8/Skr6no2ufiSXkNc+jczmRMJMafkfip0Jn0aqYVD/tKZdVf7d4CS9xozP bob's laptop";

#[derive(Deserialize)]
pub struct Recording {
    pub request: RecordedRequest,
    pub response: RecordedResponse,
    #[serde(default)]
    pub user_template_after_via_onegate: serde_json::Value,
}

#[derive(Deserialize)]
pub struct RecordedRequest {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

#[derive(Deserialize)]
pub struct RecordedResponse {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

pub fn text(name: &str) -> String {
    let path = directory().join(name);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}

pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).expect("the captures are part of this package");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("it was listed").file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| name != "README.md");
    names.sort();
    names
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures")
}

pub fn recording(name: &str) -> Recording {
    serde_json::from_str(&text(&format!("{name}.json"))).expect("a recording has a request and a response")
}

/// A cloud under test, and its time.
pub struct World {
    pub cloud: Cloud,
    pub now: Duration,
}

impl World {
    pub fn new() -> Self {
        Self { cloud: Cloud::new(options()), now: Duration::ZERO }
    }

    pub fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.cloud.tick(self.now);
    }

    /// Lets time pass until something is so; a real service that takes a quarter of an hour is lost.
    pub fn until(&mut self, what: &str, so: impl Fn(&Cloud) -> bool) {
        for _ in 0..900 {
            if so(&self.cloud) {
                return;
            }
            self.pass(1.0);
        }
        panic!("it never came to pass that {what}: {:?}", self.shapes());
    }

    pub fn send(&mut self, vm: u32, method: &str, path: &str, body: &str) -> Response {
        let headers =
            vec![("X-ONEGATE-VMID".into(), vm.to_string()), ("X-ONEGATE-TOKEN".into(), self.token(vm))];
        let request = Request {
            method: method.into(),
            path_and_query: path.into(),
            headers,
            body: body.as_bytes().to_vec(),
        };
        self.cloud.handle(self.now, &request)
    }

    /// Sends recorded requests and compares every answer with the recorded one.
    pub fn replay(&mut self, names: &[&str]) {
        for name in names {
            let recording = recording(name);
            let response = self.answer(&recording.request);
            let recorded = &recording.response;
            assert_eq!(
                (response.status, response.reason),
                (recorded.status, recorded.reason.as_str()),
                "{name}"
            );
            let (got, expected) =
                (mask(&response.text()), mask(recorded.body.as_deref().unwrap_or_default()));
            assert_eq!(got, expected, "{name}");
            let masked = response.text().contains("\"LAST_POLL\"");
            // The length of what is masked differs.
            let compared = |name: &str| !masked || name != "Content-Length";
            let got: Vec<_> = (response.headers.iter())
                .filter(|(name, _)| compared(name))
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let expected: Vec<_> = (recorded.headers.iter())
                .filter(|(name, _)| compared(name))
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!(got, expected, "{name}");
        }
    }

    pub fn answer(&mut self, request: &RecordedRequest) -> Response {
        let vmid = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-onegate-vmid"));
        let of = vmid.and_then(|(_, vmid)| vmid.parse().ok());
        let token = |value: &str| match value {
            "<token>" => self.token(of.unwrap_or_default()),
            // Tokens were blotted out by the VMID they came with; these came with none, or a wrong one.
            "<token of another VM>" => match (of, request.path.split_once("?id=")) {
                (None, Some((_, id))) => self.token(id.parse().expect("ids were recorded as numbers")),
                (Some(0), _) => self.token(1),
                _ => self.token(0),
            },
            other => other.to_owned(),
        };
        let headers = request.headers.iter().map(|(name, value)| (name.clone(), token(value))).collect();
        let request = Request {
            method: request.method.clone(),
            path_and_query: request.path.clone(),
            headers,
            body: request.body.clone().unwrap_or_default().into_bytes(),
        };
        self.cloud.handle(self.now, &request)
    }

    fn token(&self, vm: u32) -> String {
        self.cloud.vm(VmId(vm)).unwrap_or_else(|| panic!("there is no VM {vm} yet")).token.clone()
    }

    /// All services in the words of the recorded timelines.
    pub fn shapes(&self) -> Vec<String> {
        self.cloud.services().map(shape).collect()
    }

    pub fn shape(&self, id: u32) -> String {
        self.cloud.service(ServiceId(id)).map_or_else(|| "gone".to_owned(), shape)
    }

    /// Makes VMs without a NIC that are gone at once.
    pub fn use_up_numbers(&mut self, count: u32) {
        for _ in 0..count {
            let vm = self.cloud.create_vm(self.now, "gone", &VmTemplate::default(), Vec::new());
            let vm = vm.expect("it needs no address");
            self.cloud.terminate(self.now, vm, true).expect("it waits for a host");
        }
    }

    /// Leases private addresses for a VM that cannot be made.
    pub fn use_up_addresses(&mut self, count: u32) {
        let mut nics: Vec<_> = (0..count).map(|_| nic("private")).collect();
        nics.push(nic("no such network"));
        self.cloud
            .create_vm(self.now, "never", &VmTemplate::default(), nics)
            .expect_err("a network is missing");
    }

    /// Every guest that was asked to stop does.
    pub fn obey(&mut self) {
        for event in self.cloud.take_events() {
            if let Event::AcpiShutdown { vm } = event {
                self.cloud.guest_stopped(self.now, vm);
            }
        }
    }
}

fn shape(service: &oneke_cloud::Service) -> String {
    let role = |role: &oneke_cloud::Role| {
        let nodes: Vec<_> = role.nodes.iter().map(|node| node.vm.0).collect();
        format!("{}:{}/c={}/n={nodes:?}", role.name, role.state as u8, role.cardinality)
    };
    let roles: Vec<_> = service.roles.iter().map(role).collect();
    format!("svc={} {}", words(service.state), roles.join(" "))
}

fn words(state: oneke_cloud::FlowState) -> String {
    let mut words = String::new();
    for character in format!("{state:?}").chars() {
        if character.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(character.to_ascii_uppercase());
    }
    words
}

pub fn nic(network: &str) -> oneke_cloud::NicRequest {
    oneke_cloud::NicRequest { network: network.into(), ..Default::default() }
}

/// Puts `*` in place of what differs by nature, in bodies that hold whole VMs.
pub fn mask(body: &str) -> String {
    if !body.contains("\"LAST_POLL\"") {
        return body.to_owned();
    }
    let mut masked = body.to_owned();
    for key in MASKED.into_iter().chain(["DISKRDBYTES", "DISKRDIOPS", "DISKWRBYTES", "DISKWRIOPS"]) {
        let opening = format!("\"{key}\":\"");
        let mut parts = masked.split(&opening);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find('"').expect("a value ends");
            // 0 means not yet, and that is compared.
            out.push_str(&opening);
            out.push_str(if &part[..end] == "0" && key.ends_with("TIME") { "0" } else { "*" });
            out.push_str(&part[end..]);
        }
        masked = out;
    }
    masked
}

/// The networks, the owner and the autoscaler's pace of the recorded cloud.
pub fn options() -> Options {
    let network = |name: &str, first: [u8; 4], size, mask: [u8; 4], dns: &str| {
        let [a, b, c, _] = first;
        let third = if mask[2] == 0 { 0 } else { c };
        NetworkSpec {
            name: name.into(),
            first: first.into(),
            size,
            address: [a, b, third, 0].into(),
            mask: mask.into(),
            gateway: Some([a, b, third, 1].into()),
            dns: dns.into(),
            bridge: if name == "private" { "br0".into() } else { "br1".into() },
            external: name == "ext",
            ipv6: None,
        }
    };
    let near = [255, 255, 255, 0];
    let mut v6 = network("v6", [192, 0, 2, 10], 50, near, "");
    v6.ipv6 = Some(Ipv6Prefixes {
        global: "2001:db8:1::".parse().expect("an address"),
        local: "fd00:1::".parse().expect("an address"),
        gateway: "2001:db8:1::1".parse().expect("an address"),
    });
    let networks = vec![
        network("private", [172, 20, 0, 100], 250, [255, 255, 0, 0], "172.20.0.1 9.9.9.9"),
        network("public", [10, 0, 0, 100], 50, near, "10.0.0.1"),
        network("ext", [198, 51, 100, 10], 50, near, ""),
        v6,
    ];
    let owner = Owner {
        id: 2,
        group_id: 1,
        name: "tenant".into(),
        group: "users".into(),
        attributes: BTreeMap::new(),
    };
    let timing = Timing { autoscaler: Duration::from_secs(12), ..Timing::default() };
    Options { networks, owner, timing, ..Options::default() }
}

pub fn context(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The VM template of the recorded services.
pub fn vm_template() -> VmTemplate {
    let mut attributes = Attributes::default();
    attributes.set("HYPERVISOR", "dummy");
    VmTemplate {
        id: 0,
        context: context(&[
            ("NETWORK", "YES"),
            ("TOKEN", "YES"),
            ("REPORT_READY", "YES"),
            ("SSH_PUBLIC_KEY", KEYS),
            ("START_SCRIPT_BASE64", "ZWNobyBoZWxsbwo="),
        ]),
        attributes,
        cpu: "0.1".into(),
        memory: "128".into(),
        disks: 0,
    }
}

/// The template of the recorded services: OneKE's roles, smaller.
pub fn templates() -> Templates {
    let role = |name: &str, nics: &[&str]| {
        let nics: Vec<_> = (nics.iter().enumerate())
            .map(|(index, network)| format!("NIC = [ NAME = \"NIC{index}\", NETWORK_ID = \"${network}\" ]\n"))
            .collect();
        RoleTemplate {
            name: name.into(),
            parents: if name == "vnf" { vec![] } else { vec!["vnf".into()] },
            cardinality: 1,
            min_vms: Some(1),
            max_vms: Some(4),
            cooldown: Some(30),
            vm_template_contents: nics.concat(),
            vm_template: "node".into(),
            ..RoleTemplate::default()
        }
    };
    let policy = |expression: &str, adjust| ElasticityPolicy {
        expression: expression.into(),
        kind: Adjustment::Change,
        adjust,
        min_adjust_step: None,
        period_number: 2,
        period: 5,
        cooldown: Some(20),
    };
    let mut worker = role("worker", &["Private"]);
    worker.elasticity_policies = vec![policy("ATT > 80", 1), policy("ATT < 10", -1)];
    let service = ServiceTemplate {
        name: "OneKE-like".into(),
        roles: vec![
            role("vnf", &["Public", "Private"]),
            role("master", &["Private"]),
            worker,
            role("storage", &["Private"]),
        ],
        networks: [("Public", ""), ("Private", "")].map(|(name, form)| (name.into(), form.into())).into(),
        user_inputs: BTreeMap::new(),
        ready_status_gate: true,
        shutdown_action: None,
    };
    Templates { service, vms: BTreeMap::from([("node".to_owned(), vm_template())]) }
}

/// A new service; its first VM takes the next number.
pub fn instantiate(world: &mut World) -> ServiceId {
    world.cloud.instantiate(world.now, &templates(), &Instantiate::oneke()).expect("all is given")
}
