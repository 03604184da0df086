//! Many workers join one master, all in this process, and what that costs the master's API.
//!
//! Real: the agents' loop, deciders and clients; OneGate's simulator behind HTTP; RKE2's stand-in behind TLS, on an
//! address of the loopback interface for each node, with its join protocol, its kubelets' registration and heartbeats.
//! Not real: there is no vnf (workers join through the master's own address), nothing pulls an image, units and kernel
//! parameters are in memory. All of them share one thread, so a real service is quicker in what costs work.

#![expect(clippy::disallowed_methods, reason = "it makes directories and opens ports")]

mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oneke_agent::driver::Driver;
use oneke_agent::service::VmId;
use oneke_cloud::server::Server;
use oneke_cloud::{Cloud, Event, Faults, Instantiate, Kind, Options, Templates};
use oneke_rke2::inside::{Ports, be_silent};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::Instant;

use world::{Life, Lives, Node};

/// The service.
#[derive(Clone, Debug)]
pub struct Service {
    /// How many workers; there is one master.
    pub workers: u32,
    /// `ONEAPP_K8S_JOIN_BATCH`.
    pub batch: u32,
    /// From a kubelet's registration until its Node is Ready.
    pub node_ready: Duration,
    /// OneGate is as slow as a real one: `/service` and `/vms/ID` take a third of a second (onegate.md, "Cost").
    pub slow_onegate: bool,
    /// How long it may take.
    pub patience: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Joined {
    /// What was asked for.
    pub service: Service,
    /// Workers whose Node became Ready and who told OneGate so.
    pub joined: usize,
    /// The most workers at one time between the start of RKE2 and their Node's Ready.
    pub at_once: usize,
    /// From the first worker's agent to the last one's Ready.
    pub lasted: Duration,
    /// From a worker's agent to the start of RKE2, and from there to Ready, sorted.
    pub waits: [Vec<Duration>; 2],
    /// Requests in each second of that time: the Kubernetes API's, the supervisor's.
    pub requests: [Vec<u64>; 2],
    /// The most connections at one time: of the API, of the supervisor.
    pub connections: [usize; 2],
    /// Requests to OneGate by kind.
    pub onegate: BTreeMap<Kind, u64>,
}

/// Brings the service up and counts.
///
/// # Errors
/// If it cannot begin, or the machine does not let it open its ports.
pub fn run(service: &Service) -> Result<Joined> {
    be_silent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let joined = LocalSet::new().block_on(&runtime, live(service));
    runtime.shutdown_background();
    joined
}

async fn live(service: &Service) -> Result<Joined> {
    let memory = Path::new("/dev/shm");
    // A hundred nodes sync many small files; in memory that costs nobody anything.
    let disks = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
    let cloud = begin(service).await?;
    let (ports, lives) = (Ports::default(), Lives::default());
    let mut agents: Vec<AbortHandle> = Vec::new();
    let mut seconds: Vec<[u64; 2]> = Vec::new();
    let (began, mut seen, mut second) = (Instant::now(), 0, Instant::now());
    while began.elapsed() < service.patience && ready(&cloud) < service.workers as usize + 1 {
        for event in cloud.events(seen, Duration::from_millis(50)).await {
            seen = event.number;
            let Event::PowerOn(start) = event.event else { continue };
            let root = disks.path().join(start.vm.0.to_string());
            world::tune(&root, service.node_ready).context("could not make a node's directory")?;
            let mut node = Node::new(*start, root, ports.clone(), Rc::clone(&lives));
            let agent = async move { Driver::default().run(&mut node).await };
            agents.push(spawn_local(agent).abort_handle());
        }
        if second.elapsed() >= Duration::from_secs(1) {
            second += Duration::from_secs(1);
            seconds.push([ports.api.requests(), ports.supervisor.requests()]);
        }
    }
    agents.iter().for_each(AbortHandle::abort);
    let lives = lives.borrow();
    let mut joined = figures(service, &lives, &seconds, began);
    joined.joined = joined.joined.min(ready(&cloud).saturating_sub(1));
    joined.connections = [&ports.api, &ports.supervisor].map(|port| port.connections().1);
    joined.onegate = cloud.with(|cloud, _| {
        let mut kinds = BTreeMap::new();
        for (_, kind, count) in cloud.ledger().counts() {
            *kinds.entry(kind).or_default() += count;
        }
        kinds
    });
    Ok(joined)
}

/// OneGate on a port, and a service that is being deployed.
async fn begin(service: &Service) -> Result<Server> {
    let onegate = TcpListener::bind("127.0.0.1:0").await?;
    let operator = TcpListener::bind("127.0.0.1:0").await?;
    let mut options = Options { endpoint: format!("http://{}", onegate.local_addr()?), ..Options::default() };
    // Other runs on this machine have other addresses; the tests of the stand-in stay below 127.192.
    let block = u8::try_from(192 + std::process::id() % 60)?;
    let private = options.networks.last_mut().context("the default cloud has a private network")?;
    (private.first, private.address) = ([127, block, 0, 10].into(), [127, block, 0, 0].into());
    (private.size, private.mask) = (service.workers + 10, [255, 255, 0, 0].into());
    let mut templates = Templates::oneke();
    templates.service.user_inputs.insert("ONEAPP_K8S_JOIN_BATCH".into(), "O|text|||".into());
    for role in templates.service.roles.iter_mut().filter(|role| role.name == "vnf") {
        role.min_vms = Some(0);
    }
    let mut request = Instantiate::oneke();
    request.cardinality = [("vnf", 0), ("master", 1), ("worker", service.workers), ("storage", 0)]
        .map(|(role, count)| (role.to_owned(), count))
        .into();
    request.inputs = [
        ("ONEAPP_RKE2_SUPERVISOR_EP", format!("127.{block}.0.10:9345")),
        ("ONEAPP_K8S_CONTROL_PLANE_EP", format!("127.{block}.0.10:6443")),
        ("ONEAPP_K8S_JOIN_BATCH", service.batch.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut cloud = Cloud::new(options);
    if service.slow_onegate {
        let dear = [Kind::Service, Kind::ServiceExtended, Kind::OtherRead, Kind::OtherWrite];
        let latency = dear.map(|kind| (kind, 0.34)).into();
        cloud.set_faults(Duration::ZERO, Faults { latency, ..Faults::default() });
    }
    let server = Server::new(cloud, templates.clone(), 1.0);
    server
        .with(|cloud, now| cloud.instantiate(now, &templates, &request))
        .map_err(|refused| anyhow::anyhow!("the service was not instantiated: {refused}"))?;
    tokio::spawn(server.clone().run(onegate, operator));
    Ok(server)
}

/// How many VMs told that they are READY.
fn ready(cloud: &Server) -> usize {
    cloud.with(|cloud, _| cloud.vms().filter(|vm| vm.user_template.text("READY") == Some("YES")).count())
}

fn figures(service: &Service, lives: &BTreeMap<VmId, Life>, seconds: &[[u64; 2]], began: Instant) -> Joined {
    // The first VM of the service is its master.
    let workers: Vec<&Life> = lives.values().skip(1).collect();
    let begin = workers.iter().map(|life| life.began).min().unwrap_or(began);
    let end = workers.iter().filter_map(|life| life.ready).max().unwrap_or(begin);
    let mut moves: Vec<(Instant, bool)> = Vec::new();
    for life in &workers {
        moves.extend(life.started.map(|at| (at, true)));
        moves.extend(life.ready.map(|at| (at, false)));
    }
    moves.sort();
    let (mut now, mut at_once) = (0_usize, 0);
    for (_, starts) in moves {
        now = if starts { now + 1 } else { now.saturating_sub(1) };
        at_once = at_once.max(now);
    }
    let sorted = |mut waits: Vec<Duration>| {
        waits.sort();
        waits
    };
    let queued = workers.iter().filter_map(|life| Some(life.started? - life.began)).collect();
    let joining: Vec<Duration> =
        workers.iter().filter_map(|life| Some(life.ready? - life.started?)).collect();
    let [from, to] = [begin, end].map(|at| usize::try_from((at - began).as_secs()).unwrap_or(usize::MAX));
    let requests = [0, 1].map(|port: usize| {
        let counted = seconds.windows(2).map(|pair| pair[1][port] - pair[0][port]);
        counted.skip(from).take(to + 1 - from.min(to)).collect()
    });
    Joined {
        service: service.clone(),
        joined: joining.len(),
        at_once,
        lasted: end - begin,
        waits: [sorted(queued), sorted(joining)],
        requests,
        connections: [0; 2],
        onegate: BTreeMap::new(),
    }
}

impl Joined {
    /// # Errors
    /// If not everybody joined, or more at once than the batch allows.
    pub fn check(&self) -> Result<()> {
        let Service { workers, batch, patience, .. } = self.service;
        ensure!(self.joined == workers as usize, "{} of {workers} joined within {patience:?}", self.joined);
        ensure!(self.at_once <= batch as usize, "{} joined at once, allowed are {batch}", self.at_once);
        Ok(())
    }
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Service { workers, batch, .. } = self.service;
        let lasted = self.lasted.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some hundred nodes")]
        let rate = self.joined as f64 / lasted;
        writeln!(f, "\n{} of {workers} workers joined in {lasted:.1} s: {rate:.1} a second", self.joined)?;
        writeln!(f, "at once, at most                              {:>8}  (batch {batch})", self.at_once)?;
        let names = ["seconds until RKE2 was started", "seconds from there to Ready"];
        for (name, waits) in names.into_iter().zip(&self.waits) {
            let at = |percent: usize| {
                let index = waits.len().saturating_sub(1) * percent / 100;
                waits.get(index).map_or(0.0, Duration::as_secs_f64)
            };
            writeln!(f, "{name:<45} {:>8.1}  median, {:.1} slowest", at(50), at(100))?;
        }
        for (port, name) in ["Kubernetes API", "supervisor"].into_iter().enumerate() {
            let counts = &self.requests[port];
            #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
            let mean = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
            let most = counts.iter().max().copied().unwrap_or_default();
            let name = format!("{name}: requests a second");
            writeln!(f, "{name:<45} {mean:>8.1}  mean, {most} peak, {} connections", self.connections[port])?;
        }
        let total = |kinds: &[Kind]| kinds.iter().filter_map(|kind| self.onegate.get(kind)).sum::<u64>();
        writeln!(
            f,
            "OneGate, all in all: GET /vm {}, PUT /vm {}, GET /service {}, PUT /vms/ID {}",
            total(&[Kind::OwnRead]),
            total(&[Kind::OwnWrite]),
            total(&[Kind::Service, Kind::ServiceExtended]),
            total(&[Kind::OtherWrite])
        )
    }
}
