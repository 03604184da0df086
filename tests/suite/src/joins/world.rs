//! One VM of the service: real clients of OneGate, of the supervisor and of Kubernetes, RKE2's stand-in inside of this
//! process, files below a directory of its own; units, links and kernel parameters are in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use oneke_agent::driver::{Event, Interests, Report, World};
use oneke_agent::facts::{Active, Disks, Facts, Link, Observed, Routes, Unit};
use oneke_agent::identity::Identity;
use oneke_agent::plan::{Attributes, Effect, FileSpec, Reads, Secret};
use oneke_agent::service::VmId;
use oneke_agent::world::cloud::Cloud;
use oneke_agent::world::kubernetes::Cluster;
use oneke_agent::world::supervisor::Supervisor;
use oneke_agent::world::{clock, files};
use oneke_cloud::PowerOn;
use oneke_rke2::inside::{self, Ports};
use tokio::sync::Notify;
use tokio::time::Instant;

/// systemd starts RKE2 again after this (`RestartSec=5s` in its units).
const RESTART: Duration = Duration::from_secs(5);

/// When things happened to a node.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Its agent began.
    pub began: Instant,
    /// RKE2 was started.
    pub started: Option<Instant>,
    /// Its agent saw its Node Ready.
    pub ready: Option<Instant>,
}

/// The lives of all nodes.
pub type Lives = Rc<RefCell<BTreeMap<VmId, Life>>>;

/// A VM that was powered on.
pub struct Node {
    start: PowerOn,
    root: PathBuf,
    ports: Ports,
    lives: Lives,
    moved: Arc<Notify>,
    cloud: Cloud,
    cluster: Cluster,
    supervisor: Supervisor,
    began: Instant,
    /// By unit: runs, starts at boot, what it loaded.
    units: BTreeMap<String, (bool, bool, Option<String>)>,
    sysctls: BTreeMap<String, String>,
    symlinks: BTreeMap<String, String>,
    routes: Routes,
}

impl Node {
    /// A VM with an empty disk below `root`. `ports`: where traffic is counted if it is a master.
    pub fn new(start: PowerOn, root: PathBuf, ports: Ports, lives: Lives) -> Self {
        let (moved, began) = (Arc::new(Notify::new()), Instant::now());
        lives.borrow_mut().insert(VmId(start.vm.0), Life { began, started: None, ready: None });
        Self {
            cluster: Cluster::new(&root, Arc::clone(&moved)),
            supervisor: Supervisor::new(Arc::clone(&moved)),
            cloud: Cloud::default(),
            start,
            root,
            ports,
            lives,
            moved,
            began,
            units: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            symlinks: BTreeMap::new(),
            routes: Routes::default(),
        }
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn live(&self, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.lives.borrow_mut().get_mut(&VmId(self.start.vm.0)) {
            change(life);
        }
    }

    fn links(&self) -> Vec<Link> {
        let plugs = self.start.nics.iter().enumerate();
        plugs
            .map(|(index, plug)| Link {
                name: format!("eth{index}"),
                mac: plug.mac.clone(),
                running: true,
                addresses: vec![(plug.ip.into(), 16)],
            })
            .collect()
    }

    fn unit(&self, name: &str) -> Observed<Unit> {
        let (runs, enabled, loaded) = self.units.get(name).cloned().unwrap_or_default();
        let active = if runs { Active::Active } else { Active::Inactive };
        Observed::Known(Unit { active, enabled, restarts: 0, status: String::new(), loaded })
    }

    fn start_unit(&mut self, name: &str) {
        let unit = self.units.entry(name.to_owned()).or_default();
        if std::mem::replace(&mut unit.0, true) {
            return;
        }
        match name {
            "rke2-server.service" => drop(tokio::spawn(server(self.root.clone(), self.ports.clone()))),
            "rke2-agent.service" => drop(tokio::spawn(agent(self.root.clone()))),
            _ => return,
        }
        self.live(|life| life.started = life.started.or(Some(Instant::now())));
    }

    async fn try_apply(&mut self, effect: &Effect) -> anyhow::Result<()> {
        match effect {
            Effect::WriteFile(file) => {
                let path = self.below(&file.path).display().to_string();
                files::write(&FileSpec { path, checker: None, ..file.clone() }).await?;
            }
            Effect::RemoveFile { path } => files::remove(&self.below(path))?,
            Effect::Link { path, target } => drop(self.symlinks.insert(path.clone(), target.clone())),
            Effect::EnableUnit(unit) => self.units.entry(unit.clone()).or_default().1 = true,
            Effect::DisableUnit(unit) => self.units.entry(unit.clone()).or_default().1 = false,
            Effect::StartUnit(unit) => self.start_unit(unit),
            Effect::LoadConfig { unit, digest, .. } => {
                self.start_unit(unit);
                self.units.entry(unit.clone()).or_default().2 = Some(digest.clone());
            }
            Effect::SetSysctl { key, value } => drop(self.sysctls.insert(key.clone(), value.clone())),
            Effect::SetDefaultRoute { via, device, protocol } => self.routes.set(*via, device, *protocol),
            Effect::RemoveDefaultRoute { via, device, protocol } => {
                self.routes.remove(*via, device, *protocol);
            }
            Effect::Publish { vm, attributes } => self.cloud.publish(*vm, attributes).await?,
            Effect::HoldLease { holder, version } => {
                self.cluster.hold_lease(holder, version.as_deref()).await?;
            }
            Effect::AnnotateNode { node, told } => self.cluster.annotate(node, told).await?,
            Effect::LinkUp { .. } => {}
            Effect::StopUnit(_)
            | Effect::RestartUnit(_)
            | Effect::SetServers { .. }
            | Effect::PublishSealed(_) => bail!("no node does this while it joins"),
        }
        Ok(())
    }
}

impl World for Node {
    async fn observe(&mut self, interests: &Interests, reads: &Reads) -> Facts {
        let now = self.began.elapsed();
        let mut facts = Facts { now, wall: clock::wall(), entropy: clock::entropy(), ..Facts::default() };
        facts.context = Observed::Known(Secret::new(self.start.context_sh.clone()));
        facts.files = looked(&interests.files, |path| files::read(&self.below(path)));
        facts.exists = looked(&interests.exists, |path| files::exists(&self.below(path)));
        facts.symlinks = looked(&interests.symlinks, |path| {
            self.symlinks.get(path).cloned().map_or(Observed::Absent, Observed::Known)
        });
        facts.units = looked(&interests.units, |name| self.unit(name));
        let zero = || "0".to_owned();
        facts.sysctls = looked(&interests.sysctls, |key| {
            Observed::Known(self.sysctls.get(key).cloned().unwrap_or_else(zero))
        });
        facts.links = Observed::Known(self.links());
        facts.routes = Observed::Known(self.routes.clone());
        facts.disks = Observed::Known(Disks::mounted(&interests.mountpoints));
        let pinned = Identity::observed(&facts);
        let name =
            pinned.known().and_then(|read| read.as_ref().ok()).and_then(|pinned| pinned.node_name.clone());
        let token = Some(Secret::new(self.start.token.clone()));
        let ((me, service, networks), kubernetes, supervisor) = tokio::join!(
            self.cloud.observe(&facts.context, token, reads, now),
            self.cluster.observe(name.as_deref(), reads, now),
            self.supervisor.observe(interests.supervisor.as_deref()),
        );
        if kubernetes.node.known().is_some_and(|node| node.ready) {
            self.live(|life| life.ready = life.ready.or(Some(Instant::now())));
        }
        Facts { me, service, networks, kubernetes, supervisor, ..facts }
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        self.try_apply(effect).await.map_err(|error| format!("{error:#}"))
    }

    async fn publish_on(&mut self, others: &[(VmId, &Attributes)]) -> Vec<Result<(), String>> {
        let outcomes = self.cloud.publish_on(others).await;
        outcomes.into_iter().map(|outcome| outcome.map_err(|error| format!("{error:#}"))).collect()
    }

    async fn report(&mut self, _: &Report) {}

    async fn wait(&mut self, at_most: Duration) -> Event {
        match tokio::time::timeout(at_most, self.moved.notified()).await {
            Ok(()) => Event::Changed,
            Err(_) => Event::Timer,
        }
    }
}

fn looked<T>(names: &[String], look: impl Fn(&str) -> Observed<T>) -> BTreeMap<String, Observed<T>> {
    names.iter().map(|name| (name.clone(), look(name))).collect()
}

async fn server(root: PathBuf, ports: Ports) {
    // What made it exit, an operator would find in its log; here as there it is tried again.
    while inside::server(&root, ports.clone()).await.is_err() {
        tokio::time::sleep(RESTART).await;
    }
}

async fn agent(root: PathBuf) {
    while inside::agent(&root).await.is_err() {
        tokio::time::sleep(RESTART).await;
    }
}

/// How the stand-in is tuned on each node: only its address, and how long pulling images and starting the CNI take.
pub fn tune(root: &Path, node_ready: Duration) -> std::io::Result<()> {
    let directory = root.join("etc/rancher/rke2");
    std::fs::create_dir_all(&directory)?;
    let milliseconds = node_ready.as_millis();
    let text = format!("bind = \"node-ip\"\nnode-ready-delay-ms = {milliseconds}\n");
    std::fs::write(directory.join("standin.toml"), text)
}
