//! `oneke-bench`: how long the agent's own work takes: parsing, reading, deciding, rendering. Prints a table and asserts
//! nothing; the wanted figures stand in `docs/measurements.md`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and the cases")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use oneke_agent::context::{Config, Vars};
use oneke_agent::decide::decide;
use oneke_agent::driver::Driver;
use oneke_agent::facts::{Facts, Link, Observed, Reading};
use oneke_agent::node;
use oneke_agent::plan::Secret;
use oneke_agent::service::digest::Digest;
use oneke_agent::service::{Role, Service, Vm, names};
use oneke_cloud::{Cloud, Event, Instantiate, Options, PowerOn, Request, Templates};
use oneke_suite::memory::Memory;

/// So long is each thing measured at most.
const BUDGET: Duration = Duration::from_millis(1_500);
/// And so often.
const MOST: usize = 2_000;
/// The age of the machine in all measurements.
const NOW: Duration = Duration::from_secs(5_000);

fn main() -> Result<()> {
    println!("{:<44} {:>9} {:>9} {:>9} {:>7}", "milliseconds", "min", "median", "p99", "times");
    contexts()?;
    for vms in [3, 100, 1_000] {
        service_of(vms)?;
    }
    Ok(())
}

/// Runs it again and again and prints a row.
fn measure<T>(name: &str, mut work: impl FnMut() -> T) {
    let began = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || (times.len() < MOST && began.elapsed() < BUDGET) {
        let start = Instant::now();
        black_box(work());
        times.push(start.elapsed());
    }
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    println!("{name:<44} {:>9.3} {:>9.3} {:>9.3} {:>7}", at(0), at(50), at(99), times.len());
}

/// The largest recorded context.
fn contexts() -> Result<()> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/context/captures");
    let mut largest = String::new();
    for entry in std::fs::read_dir(directory).context("could not list the recorded contexts")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            let text = std::fs::read_to_string(path)?;
            largest = if text.len() > largest.len() { text } else { largest };
        }
    }
    measure(&format!("context of {} bytes: parse and read", largest.len()), || {
        Vars::parse(&largest).map(|vars| Config::read(&vars, None).is_ok())
    });
    Ok(())
}

/// A service of so many VMs, all of them READY and registered: what its master, a worker and a vnf VM have to do.
fn service_of(vms: u32) -> Result<()> {
    let mut cloud = Deployed::new(vms)?;
    let text = cloud.ask("GET", "/service?extended=true", 0, "")?;
    measure(&format!("{vms} VMs: Service::from_json, {} KiB", text.len() / 1024), || {
        Service::from_json(&text).map(|service| service.size())
    });
    let service = Service::from_json(&text)?;
    let digest = Digest::next(None, &service, None, 1_790_000_000);
    let value = digest.value();
    measure(&format!("{vms} VMs: digest from the service, encode"), || {
        Digest::next(Some(&digest), &service, None, 1_790_000_100).value()
    });
    measure(&format!("{vms} VMs: digest decode, {} bytes", value.as_str().len()), || {
        Digest::decode(value.as_str())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for role in ["master", "worker", "vnf"] {
        let Some(index) = cloud.starts.iter().position(|start| start.role.as_deref() == Some(role)) else {
            continue;
        };
        let mut world = cloud.world(index, role, &service, value.as_str())?;
        let mut driver = Driver::default();
        for _ in 0..6 {
            runtime.block_on(driver.pass(&mut world));
        }
        let facts = world.seen.clone();
        let context = Vars::parse(&cloud.starts[index].context_sh)?;
        let config = Config::read(&context, Some(Role::from(role.to_owned())))
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let decision = decide(&config, &facts);
        let ready = if decision.is_ready() { "READY" } else { "waiting" };
        let effects = decision.effects.len();
        measure(&format!("{vms} VMs: decide of a {role}, {ready}, {effects} effects"), || {
            decide(&config, &facts)
        });
        measure(&format!("{vms} VMs: whole pass of a {role} in memory"), || {
            runtime.block_on(driver.pass(&mut world))
        });
        if role == "vnf" {
            let mut anew = facts.clone();
            anew.files.values_mut().for_each(|file| *file = Observed::Absent);
            measure(&format!("{vms} VMs: decide and render of a new vnf"), || decide(&config, &anew));
        }
    }
    Ok(())
}

/// A simulated cloud with a service in it.
struct Deployed {
    cloud: Cloud,
    starts: Vec<PowerOn>,
    now: Duration,
}

impl Deployed {
    fn new(vms: u32) -> Result<Self> {
        let mut options = Options::default();
        for network in &mut options.networks {
            (network.size, network.mask) = (vms + 50, [255, 255, 0, 0].into());
        }
        let vnf = if vms > 3 { 2 } else { 1 };
        let masters = if vms > 8 { 3 } else { 1 };
        let all = [("vnf", vnf), ("master", masters), ("worker", vms - vnf - masters), ("storage", 0)];
        let request = Instantiate {
            cardinality: all.map(|(role, count)| (role.to_owned(), count)).into(),
            ..Instantiate::oneke()
        };
        let mut this = Self { cloud: Cloud::new(options), starts: Vec::new(), now: Duration::ZERO };
        this.cloud.instantiate(Duration::ZERO, &Templates::oneke(), &request)?;
        for second in 0..900 {
            this.now = Duration::from_secs(second);
            this.cloud.tick(this.now);
            for event in this.cloud.take_events() {
                if let Event::PowerOn(start) = event {
                    this.starts.push(*start);
                    let body = registration(&this.starts[this.starts.len() - 1]);
                    this.ask("PUT", "/vm", this.starts.len() - 1, &body)?;
                }
            }
        }
        Ok(this)
    }

    /// Asks as the VM that was started so many others later than the first.
    fn ask(&mut self, method: &str, path: &str, index: usize, body: &str) -> Result<String> {
        let start = &self.starts[index];
        let headers = vec![
            ("X-ONEGATE-VMID".to_owned(), start.vm.0.to_string()),
            ("X-ONEGATE-TOKEN".to_owned(), start.token.clone()),
        ];
        let request = Request {
            method: method.into(),
            path_and_query: path.into(),
            headers,
            body: body.as_bytes().to_vec(),
        };
        let response = self.cloud.handle(self.now, &request);
        anyhow::ensure!(response.status == 200, "{method} {path}: {} {}", response.status, response.text());
        Ok(response.text())
    }

    fn world(&mut self, index: usize, role: &str, service: &Service, digest: &str) -> Result<Memory> {
        let mut me = Vm::from_json(&self.ask("GET", "/vm", index, "")?)?;
        if role == "vnf" {
            me.attributes.get_or_insert_default().insert(names::BACKENDS.into(), digest.into());
        }
        let start = &self.starts[index];
        let name = format!("oneke-1-{role}-{}", start.vm.0);
        let links = Vars::parse(&start.context_sh)?;
        let link = |n: usize| {
            let mac = links.get(&format!("ETH{n}_MAC"))?.to_owned();
            let ip = links.get(&format!("ETH{n}_IP")).and_then(|ip| ip.parse().ok());
            let addresses = ip.map(|ip| (ip, 16)).into_iter().collect();
            Some(Link { name: format!("eth{n}"), mac, running: true, addresses })
        };
        let facts = Facts {
            now: NOW,
            wall: 1_790_000_001,
            context: Observed::Known(Secret::new(start.context_sh.clone())),
            entropy: Secret::new("5".repeat(64)),
            me: Reading::of(me, NOW),
            service: if role == "master" { Reading::of(service.clone(), NOW) } else { Reading::default() },
            links: Observed::Known((0..4).filter_map(link).collect()),
            kubernetes: Memory::member(&name, NOW),
            ..Facts::default()
        };
        let token = format!("K10{}::server:secret\n", "a".repeat(64));
        let files =
            [node::SERVER_TOKEN, node::AGENT_TOKEN].map(|path| (path.to_owned(), (0o600, token.clone())));
        let there = [node::ETCD, node::KUBELET].map(str::to_owned).into();
        Ok(Memory::new(facts, files.into(), there))
    }
}

/// What a working node publishes.
fn registration(start: &PowerOn) -> String {
    let listeners: &[(u16, u16, u16)] = match start.role.as_deref() {
        Some("master") => &[(0, 9345, 9345), (1, 6443, 6443)],
        Some("worker") => &[(2, 443, 32443), (3, 80, 32080)],
        _ => &[],
    };
    let vm = start.vm.0;
    let host = format!("172.20.{}.{}", vm / 200, vm % 200 + 20);
    let mut lines = vec!["READY=YES".to_owned()];
    for (n, port, server) in listeners {
        lines.push(format!("ONEGATE_HAPROXY_LB{n}_IP=<ETH0_EP0>"));
        lines.push(format!("ONEGATE_HAPROXY_LB{n}_PORT={port}"));
        lines.push(format!("ONEGATE_HAPROXY_LB{n}_SERVER_HOST={host}"));
        lines.push(format!("ONEGATE_HAPROXY_LB{n}_SERVER_PORT={server}"));
    }
    lines.join("\n")
}
