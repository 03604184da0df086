//! `driver::World` for one simulated machine: every look and every effect takes time, may fail, and may be the last
//! thing that this incarnation of the agent does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use oneke_agent::driver::{Event, Interests, Report, World};
use oneke_agent::facts::{
    Active, Disks, Facts, Fault, FaultKind, File, Kubernetes, KubernetesNode, Lease, Link, Observed, Reading,
    Unit, VrrpState,
};
use oneke_agent::plan::{Attributes, Effect, Reads, Secret};
use oneke_agent::service::told::Told;
use oneke_agent::service::{Service, Vm, VmId};
use tokio::task::JoinSet;

use crate::gate::Gate;
use crate::universe::{Shared, Universe, context_value};

/// What wakes a waiting agent is looked for so often.
const LISTENS: Duration = Duration::from_millis(500);

/// One machine as its agent meets it.
pub struct SimWorld {
    shared: Shared,
    vm: VmId,
    gate: Gate,
    me: Reading<Vm>,
    service: Reading<Service>,
    kubernetes: Kubernetes,
    kubernetes_at: Option<Duration>,
    lease_seen: BTreeMap<String, Duration>,
    /// The NICs, and the context that they were read of.
    links: (String, Vec<Link>),
    /// When OneGate last told of the service, and how old that was when this pass began to decide.
    service_told: Option<Duration>,
    service_age: Option<Duration>,
    /// What the nodes told, and when this was heard first; empty while nobody listens.
    heard: BTreeMap<VmId, (Told, Duration)>,
    /// The last report, for whoever asks.
    pub report: Report,
}

impl SimWorld {
    /// The world of a VM's agent that has just started.
    pub fn new(shared: Shared, vm: VmId) -> Self {
        Self {
            gate: Gate { shared: shared.clone(), vm },
            shared,
            vm,
            me: Reading::default(),
            service: Reading::default(),
            kubernetes: Kubernetes::default(),
            kubernetes_at: None,
            lease_seen: BTreeMap::new(),
            links: Default::default(),
            service_told: None,
            service_age: None,
            heard: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn now(&self) -> Duration {
        self.shared.borrow().now()
    }

    /// Takes in what the nodes told.
    fn hear(&mut self, u: &Universe) {
        let now = u.now();
        for told in u.words(self.vm, now) {
            match self.heard.get(&told.vm) {
                Some((known, _)) if *known == told => {}
                _ => drop(self.heard.insert(told.vm, (told, now))),
            }
        }
    }

    fn has_news(&self, u: &Universe) -> bool {
        // A watch wakes its listener; one that has heard nothing yet hears at its next pass.
        let is_new = |told: &Told| self.heard.get(&told.vm).is_none_or(|(known, _)| known != told);
        !self.heard.is_empty() && u.words(self.vm, u.now()).any(|told| is_new(&told))
    }

    async fn read<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, (FaultKind, String)> {
        match self.gate.ask("GET", path, b"").await? {
            (200, body) => parse(&body).map_err(|why| (FaultKind::Nonsense, format!("GET {path}: {why}"))),
            (401, _) => Err((FaultKind::NotAuthorized, format!("GET {path}: 401"))),
            (404, _) => Err((FaultKind::NotFound, format!("GET {path}: 404"))),
            (status, body) if status < 500 => {
                Err((FaultKind::BadRequest, format!("GET {path}: {status} {body}")))
            }
            (status, _) => Err((FaultKind::Server, format!("GET {path}: {status}"))),
        }
    }

    async fn look_at_onegate(&mut self, reads: &Reads) {
        if self.me.age(self.now()).is_none_or(|age| age >= reads.me) {
            let began = self.now();
            let answer = self.read("/vm", |text| Vm::from_json(text).map_err(|e| e.to_string())).await;
            settle(&mut self.me, answer, began);
        }
        if reads.service.is_some_and(|limit| self.service.age(self.now()).is_none_or(|age| age >= limit)) {
            let began = self.now();
            let answer = self
                .read("/service?extended=true", |text| Service::from_json(text).map_err(|e| e.to_string()))
                .await;
            if answer.is_ok() {
                self.service_told = Some(began);
            }
            settle(&mut self.service, answer, began);
        }
    }

    async fn look_at_kubernetes(&mut self, reads: &Reads) {
        let Some(limit) = reads.kubernetes else { return };
        if self.kubernetes_at.is_some_and(|at| self.now().saturating_sub(at) < limit) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
        self.kubernetes_at = Some(self.now());
        let shared = self.shared.clone();
        let u = &mut *shared.borrow_mut();
        u.looks.entry(u.now().as_secs()).or_default()[0] += 1;
        if u.chance.one_in(u.rough.lose_kubernetes) {
            let why = || Observed::Unknown("no answer within 5 s".into());
            self.kubernetes = Kubernetes {
                readyz: why().map(|(): ()| ()),
                node: Observed::Unknown("no answer within 5 s".into()),
                lease: Observed::Unknown("no answer within 5 s".into()),
            };
            return;
        }
        self.kubernetes = kubernetes(u, self.vm, &mut self.lease_seen);
    }
}

impl World for SimWorld {
    async fn observe(&mut self, interests: &Interests, reads: &Reads) -> Facts {
        self.shared.borrow_mut().count_pass(self.vm);
        self.look_at_onegate(reads).await;
        self.look_at_kubernetes(reads).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        let shared = self.shared.clone();
        let u = &mut *shared.borrow_mut();
        let now = u.now();
        self.service_age = self.service_told.map(|told| now.saturating_sub(told));
        let entropy = Secret::new(u.chance.hex());
        if interests.supervisor.is_some() {
            u.looks.entry(now.as_secs()).or_default()[1] += 1;
        }
        if reads.told {
            self.hear(u);
        } else {
            self.heard.clear();
        }
        let Some(machine) = u.machines.get(&self.vm) else { return Facts::default() };
        let since_boot = |at: Duration| at.saturating_sub(machine.booted);
        let told = self.heard.iter().map(|(vm, (told, at))| (*vm, (told.clone(), since_boot(*at)))).collect();
        let exists = interests.exists.iter().map(|path| {
            (path.clone(), if u.exists(self.vm, path) { Observed::Known(()) } else { Observed::Absent })
        });
        let supervisor = interests.supervisor.as_ref().map_or(Observed::Absent, |server| {
            match u.supervisor(server, now) {
                Ok(cluster) => Observed::Known(u.clusters[cluster].ca.clone()),
                Err(why) => Observed::Unknown(why),
            }
        });
        if self.links.0 != machine.context {
            self.links = (machine.context.clone(), links(&machine.context));
        }
        let units = ["keepalived.service", "haproxy.service"].map(|unit| machine.runs(unit));
        Facts {
            now: now.saturating_sub(machine.booted),
            wall: 1_790_000_000 + now.as_secs(),
            wall_fraction: Duration::from_nanos(now.subsec_nanos().into()),
            context: Observed::Known(Secret::new(machine.context.clone())),
            entropy,
            me: rebase(&self.me, machine.booted),
            service: rebase(&self.service, machine.booted),
            networks: Default::default(),
            workloads: Default::default(),
            etcd: Observed::default(),
            clock: Observed::default(),
            files: interests.files.iter().map(|path| (path.clone(), file(machine, path))).collect(),
            units: interests.units.iter().map(|name| (name.clone(), unit(machine, name))).collect(),
            exists: exists.collect(),
            routes: Observed::Known(machine.routes.clone()),
            disks: Observed::Known(Disks::mounted(&interests.mountpoints)),
            symlinks: interests
                .symlinks
                .iter()
                .map(|path| {
                    let target = machine.disk.symlinks.get(path).cloned();
                    (path.clone(), target.map_or(Observed::Absent, Observed::Known))
                })
                .collect(),
            sysctls: interests
                .sysctls
                .iter()
                .map(|key| {
                    (
                        key.clone(),
                        machine
                            .sysctls
                            .get(key)
                            .map_or(Observed::Known("0".into()), |v| Observed::Known(v.clone())),
                    )
                })
                .collect(),
            links: Observed::Known(self.links.1.clone()),
            kubernetes: rebase_lease(&self.kubernetes, machine.booted),
            supervisor,
            told,
            goes_down: machine.goes_down.is_some(),
            haproxy: if units[1] { Observed::Known(machine.haproxy.clone()) } else { Observed::Absent },
            vrrp: if units[0] {
                Observed::Known(BTreeMap::from([("oneke".to_owned(), VrrpState::Master)]))
            } else {
                Observed::Absent
            },
            heard: Observed::Absent,
        }
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        before(&self.gate, effect, self.service_age).await;
        let result = match effect {
            Effect::Publish { vm: None, attributes } => {
                let result = self.gate.put("/vm", attributes).await;
                self.me.at = None;
                result
            }
            Effect::Publish { vm: Some(vm), attributes } => {
                let result = self.gate.put(&format!("/vms/{vm}"), attributes).await;
                self.service.at = None;
                result
            }
            Effect::AnnotateNode { node, told } => {
                self.kubernetes_at = None;
                self.shared.borrow_mut().annotate(self.vm, node, told)
            }
            Effect::HoldLease { holder, version } => {
                self.kubernetes_at = None;
                self.shared.borrow_mut().hold_lease(self.vm, holder, version.as_deref())
            }
            local => self.shared.borrow_mut().apply_local(self.vm, local),
        };
        after(&self.gate, effect, &result).await;
        result
    }

    async fn publish_on(&mut self, others: &[(VmId, &Attributes)]) -> Vec<Result<(), String>> {
        let mut going = JoinSet::new();
        for (at, (vm, attributes)) in others.iter().enumerate() {
            let effect = Effect::Publish { vm: Some(*vm), attributes: (*attributes).clone() };
            let (gate, vm, attributes, age) =
                (self.gate.clone(), *vm, (*attributes).clone(), self.service_age);
            going.spawn_local(async move {
                before(&gate, &effect, age).await;
                let result = gate.put(&format!("/vms/{vm}"), &attributes).await;
                after(&gate, &effect, &result).await;
                (at, result)
            });
        }
        let mut outcomes = going.join_all().await;
        self.service.at = None;
        outcomes.sort_by_key(|(at, _)| *at);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    async fn report(&mut self, report: &Report) {
        if report.problems.is_empty() {
            self.shared.borrow_mut().refused.remove(&self.vm);
        } else {
            self.shared.borrow_mut().refused.insert(self.vm);
        }
        if report.conditions != self.report.conditions {
            let u = &mut *self.shared.borrow_mut();
            let now = u.now();
            let unmet =
                report.conditions.iter().find(|s| s.condition.status != oneke_agent::plan::Status::True);
            let line = unmet.map_or_else(|| "ready".to_owned(), |s| s.condition.to_string());
            u.note(now, format!("VM {} ({}): {line}", self.vm, report.role.as_deref().unwrap_or("?")));
            u.reports.insert(self.vm, report.clone());
        }
        self.report = report.clone();
    }

    async fn wait(&mut self, at_most: Duration) -> Event {
        let end = self.now() + at_most.max(Duration::from_millis(1));
        loop {
            {
                let shared = self.shared.clone();
                let u = &*shared.borrow();
                if u.machines.get(&self.vm).is_some_and(|machine| machine.goes_down.is_some()) {
                    return Event::GoesDown;
                }
                if self.has_news(u) {
                    return Event::Changed;
                }
            }
            let now = self.now();
            if now >= end {
                return Event::Timer;
            }
            tokio::time::sleep((end - now).min(LISTENS)).await;
        }
    }
}

/// What befalls an effect before it is done.
async fn before(gate: &Gate, effect: &Effect, answer: Option<Duration>) {
    perhaps_die(gate).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let u = &mut *gate.shared.borrow_mut();
    let now = u.now();
    u.check_effect(gate.vm, effect, now);
    if matches!(effect, Effect::Publish { vm: Some(_), .. }) {
        u.check_acting(gate.vm, answer, now);
    }
}

/// And afterwards.
async fn after(gate: &Gate, effect: &Effect, result: &Result<(), String>) {
    {
        let u = &mut *gate.shared.borrow_mut();
        let now = u.now();
        let failed = result.as_ref().err().map(|e| format!(" FAILED: {e}")).unwrap_or_default();
        u.note(now, format!("VM {}: {effect}{failed}", gate.vm));
    }
    perhaps_die(gate).await;
}

/// Before and after each effect something may happen to the agent or to its machine; then this incarnation of the agent
/// goes no further.
async fn perhaps_die(gate: &Gate) {
    let dead = {
        let u = &mut *gate.shared.borrow_mut();
        let now = u.now();
        if u.chance.one_in(u.rough.power) {
            u.power_cycle(gate.vm, now);
            true
        } else if u.chance.one_in(u.rough.crash) {
            u.crash_agent(gate.vm, now);
            true
        } else {
            false
        }
    };
    if dead {
        std::future::pending::<()>().await;
    }
}

fn settle<T>(reading: &mut Reading<T>, answer: Result<T, (FaultKind, String)>, began: Duration) {
    match answer {
        Ok(value) => *reading = Reading::of(value, began),
        Err((kind, message)) => {
            let since = reading.fault.as_ref().map_or(began, |fault| fault.since);
            reading.fault = Some(Fault { kind, message, since });
        }
    }
}

/// The agent's clock starts at boot.
fn rebase<T: Clone>(reading: &Reading<T>, booted: Duration) -> Reading<T> {
    let mut reading = reading.clone();
    reading.at = reading.at.map(|at| at.saturating_sub(booted));
    if let Some(fault) = &mut reading.fault {
        fault.since = fault.since.saturating_sub(booted);
    }
    reading
}

fn rebase_lease(kubernetes: &Kubernetes, booted: Duration) -> Kubernetes {
    let mut kubernetes = kubernetes.clone();
    if let Observed::Known(lease) = &mut kubernetes.lease {
        lease.seen = lease.seen.saturating_sub(booted);
    }
    kubernetes
}

fn file(machine: &crate::machine::Machine, path: &str) -> Observed<File> {
    machine.disk.files.get(path).map_or(Observed::Absent, |(mode, content)| {
        Observed::Known(File { mode: *mode, content: Secret::new(content.clone()) })
    })
}

fn unit(machine: &crate::machine::Machine, name: &str) -> Observed<Unit> {
    let running = machine.units.get(name);
    Observed::Known(Unit {
        active: running.map_or(Active::Inactive, |unit| unit.active),
        enabled: machine.disk.enabled.contains(name),
        restarts: running.map_or(0, |unit| unit.restarts),
        status: String::new(),
        loaded: running.and_then(|unit| unit.loaded.clone()),
    })
}

fn links(context: &str) -> Vec<Link> {
    (0..8)
        .filter_map(|index| {
            let mac = context_value(context, &format!("ETH{index}_MAC"))?;
            let ip: Option<IpAddr> =
                context_value(context, &format!("ETH{index}_IP")).and_then(|ip| ip.parse().ok());
            let mask: Option<Ipv4Addr> =
                context_value(context, &format!("ETH{index}_MASK")).and_then(|mask| mask.parse().ok());
            let prefix = mask.map_or(24, |mask| mask.to_bits().leading_ones() as u8);
            Some(Link {
                name: format!("eth{index}"),
                mac,
                running: true,
                addresses: ip.map(|ip| (ip, prefix)).into_iter().collect(),
            })
        })
        .collect()
}

/// What the API tells this node with its own credentials.
fn kubernetes(u: &Universe, vm: VmId, lease_seen: &mut BTreeMap<String, Duration>) -> Kubernetes {
    let now = u.now();
    let Some(machine) = u.machines.get(&vm) else { return Kubernetes::default() };
    let Some(cluster) = machine.disk.kubelet else {
        return Kubernetes { readyz: Observed::Absent, node: Observed::Absent, lease: Observed::Absent };
    };
    if !u.asks_api(machine, cluster, now) {
        let why = "connection refused".to_owned();
        return Kubernetes {
            readyz: Observed::Unknown(why.clone()),
            node: Observed::Unknown(why.clone()),
            lease: Observed::Unknown(why),
        };
    }
    let config = machine.disk.files.get(oneke_agent::node::CONFIG).map_or("", |file| file.1.as_str());
    let name = crate::rke2::setting(config, "node-name").unwrap_or_default();
    let told = u.clusters[cluster].nodes.get(&name).and_then(|node| node.told.clone());
    let node = u.node_ready(cluster, &name, now).map_or(Observed::Absent, |ready| {
        let (message, told) = ("KubeletNotReady".into(), told.map(|told| told.to_string()));
        Observed::Known(KubernetesNode { name, ready, message, told, ..KubernetesNode::default() })
    });
    let lease = u.clusters[cluster].lease.as_ref().map_or(Observed::Absent, |(holder, version)| {
        let seen = *lease_seen.entry(version.to_string()).or_insert(now);
        Observed::Known(Lease { holder: holder.clone(), version: version.to_string(), seen })
    });
    Kubernetes { readyz: Observed::Known(()), node, lease }
}
