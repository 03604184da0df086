//! The machine, the cloud and the cluster, as they are: the only code that touches them.
//!
//! One part per file. Every look is bounded in time: what hangs becomes `Unknown` with its reason, never a stuck loop.
//! There is no policy here; what to do about what is seen is decided in the core.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the shell: it reads clocks and files and starts processes"
)]

mod age;
mod background;
mod checker;
pub mod clock;
pub mod cloud;
mod command;
mod context_disk;
mod context_reader;
pub mod context_source;
mod disk_jobs;
pub mod disks;
mod ears;
mod etcd;
mod events;
pub mod files;
pub mod haproxy;
mod iso9660;
pub mod journal;
pub mod kubernetes;
mod links;
pub mod notify;
pub mod onegate;
pub mod ports;
mod routes;
pub mod status_file;
pub mod supervisor;
mod symlinks;
mod sysctls;
mod timedate;
mod unit_events;
mod units;
mod vrrp;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::cloud::Cloud;
pub use self::context_reader::ContextReader;
pub use self::disk_jobs::{format, grow};
use self::disks::BlockDevices;
use self::ears::Ears;
use self::events::{Events, Woken};
use self::journal::Journal;
use self::kubernetes::Cluster;
use self::notify::Notifier;
use self::status_file::StatusFile;
use self::supervisor::Supervisor;
use self::unit_events::Watches;
use self::units::{Job, Systemd, Units};
use crate::driver::{Event, Interests, Report, World};
use crate::facts::{Active, Facts, HaproxyStats, Link, Observed, VrrpState};
use crate::identity::Identity;
use crate::plan::{Attributes, Effect, Load, Reads, Sealing, ServerChange};
use crate::service::{AttributeValue, VmId};
use crate::vnf::haproxy::{PATH as CONFIGURATION, UNIT as HAPROXY, description};

/// How often a new context is looked for between two passes; also how often the watchdog is fed while nothing happens.
const LOOK_AT_CONTEXT: Duration = Duration::from_secs(10);
const KEEPALIVED: &str = "keepalived.service";

/// This machine.
pub struct Machine {
    context: ContextReader,
    cloud: Cloud,
    systemd: Systemd,
    cluster: Cluster,
    supervisor: Supervisor,
    disks: BlockDevices,
    etcd: etcd::Member,
    /// Only the loop takes over the process's signals.
    events: Option<Events>,
    moved: Arc<Notify>,
    watches_addresses: bool,
    /// systemd said so when it stopped this agent.
    goes_down: bool,
    ears: Ears,
    status: StatusFile,
    notifier: Notifier,
    journal: Journal,
}

impl Machine {
    /// The machine that this process runs on, with this context. It can be looked at and changed, not waited for.
    pub fn new(context: ContextReader) -> Self {
        let moved = Arc::new(Notify::new());
        Self {
            context,
            cloud: Cloud::default(),
            systemd: Systemd::new(Watches::new(Arc::clone(&moved))),
            cluster: Cluster::new(Path::new("/"), Arc::clone(&moved)),
            supervisor: Supervisor::new(Arc::clone(&moved)),
            disks: BlockDevices::new(Arc::clone(&moved)),
            etcd: etcd::Member::new(Arc::clone(&moved)),
            events: None,
            ears: Ears::new(Arc::clone(&moved)),
            moved,
            watches_addresses: false,
            goes_down: false,
            status: StatusFile::new(Path::new(status_file::DIRECTORY)),
            notifier: Notifier::default(),
            journal: Journal::default(),
        }
    }

    /// Takes over the process's signals, for a loop that waits.
    ///
    /// # Errors
    /// If they cannot be taken over.
    pub fn listen(&mut self) -> std::io::Result<()> {
        self.events = Some(Events::new(Arc::clone(&self.moved))?);
        Ok(())
    }

    /// Where VRRP runs, an address that comes or goes wakes the loop; on Kubernetes nodes every pod moves some.
    fn watch_addresses(&mut self, interests: &Interests) {
        if self.watches_addresses || !interests.units.iter().any(|unit| unit == KEEPALIVED) {
            return;
        }
        if let Err(error) = links::watch_addresses(Arc::clone(&self.moved)) {
            tracing::warn!("{error:#}: a VRRP transition is seen at the next look only");
        }
        // Tried once: what the kernel refuses now it refuses later.
        self.watches_addresses = true;
    }

    async fn try_apply(&mut self, effect: &Effect) -> anyhow::Result<()> {
        match effect {
            Effect::WriteFile(file) => files::write(file).await,
            Effect::RemoveFile { path } => files::remove(Path::new(path)),
            Effect::Link { path, target } => symlinks::make(Path::new(path), Path::new(target)),
            Effect::EnableUnit(unit) => self.systemd.enable(unit, true).await,
            Effect::DisableUnit(unit) => self.systemd.enable(unit, false).await,
            Effect::StartUnit(unit) => self.systemd.queue(Job::Start, unit).await,
            Effect::StopUnit(unit) => self.systemd.queue(Job::Stop, unit).await,
            Effect::RestartUnit(unit) => self.systemd.queue(Job::Restart, unit).await,
            Effect::LoadConfig { unit, how, digest } => self.load(unit, *how, digest).await,
            Effect::SetServers { changes, digest } => self.set_servers(changes, digest).await,
            Effect::SetSysctl { key, value } => sysctls::write(key, value),
            Effect::LinkUp { name } => links::set_up(name).await,
            Effect::SetDefaultRoute { via, device, protocol } => routes::set(*via, device, *protocol).await,
            Effect::RemoveDefaultRoute { via, device, protocol } => {
                routes::remove(*via, device, *protocol).await
            }
            Effect::Publish { vm, attributes } => self.cloud.publish(*vm, attributes).await,
            Effect::PublishSealed(sealing) => self.publish_sealed(sealing).await,
            Effect::HoldLease { holder, version } => {
                self.cluster.hold_lease(holder, version.as_deref()).await
            }
            Effect::AnnotateNode { node, told } => self.cluster.annotate(node, told).await,
        }
    }

    /// HAProxy is asked what it has loaded: systemd does not see that it refuses a reload.
    async fn load(&mut self, unit: &str, how: Load, digest: &str) -> anyhow::Result<()> {
        let loaded = self.systemd.load(unit, how, digest).await;
        if unit != HAPROXY {
            return loaded;
        }
        if let Err(error) = loaded {
            return Err(error.context(haproxy::complaints(unit).await));
        }
        match files::read(Path::new(CONFIGURATION)).known() {
            Some(file) => match description(file.content.expose()) {
                Some(description) => haproxy::took(Path::new(haproxy::SOCKET), unit, description).await,
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    async fn set_servers(&mut self, changes: &[ServerChange], digest: &str) -> anyhow::Result<()> {
        if let Err(error) = haproxy::change(Path::new(haproxy::SOCKET), changes).await {
            tracing::warn!("{error:#}: reloading {HAPROXY} instead");
            self.load(HAPROXY, Load::Reload, digest).await?;
        }
        Ok(())
    }

    async fn publish_sealed(&mut self, sealing: &Sealing) -> anyhow::Result<()> {
        let sealed = age::seal(&sealing.program, &sealing.recipients, &sealing.text).await?;
        let value = AttributeValue::base64(&sealed)?;
        self.cloud.publish(None, &[(sealing.name.clone(), value), sealing.mark.clone()].into()).await
    }
}

impl World for Machine {
    async fn observe(&mut self, interests: &Interests, reads: &Reads) -> Facts {
        self.watch_addresses(interests);
        let now = clock::now();
        let context = self.context.read();
        let token = self.context.token();
        let wall = clock::since_1970();
        let mut facts = Facts {
            now,
            wall: wall.as_secs(),
            wall_fraction: Duration::from_nanos(wall.subsec_nanos().into()),
            entropy: clock::entropy(),
            ..Facts::default()
        };
        facts.files = looked(&interests.files, |path| files::read(Path::new(path)));
        facts.exists = looked(&interests.exists, |path| files::exists(Path::new(path)));
        facts.symlinks = looked(&interests.symlinks, |path| symlinks::read(Path::new(path)));
        facts.sysctls = looked(&interests.sysctls, sysctls::read);
        facts.links = links::read();
        facts.goes_down = self.goes_down;
        facts.told = self.cluster.told(reads.told);
        facts.heard = self.ears.hear(&interests.routers, now);
        let node = Identity::observed(&facts)
            .known()
            .and_then(|read| read.as_ref().ok())
            .and_then(|i| i.node_name.clone());
        let ((me, service, networks), units, kubernetes, supervisor, haproxy, routes, disks) = tokio::join!(
            self.cloud.observe(&context, token, reads, now),
            self.systemd.observe(&interests.units),
            self.cluster.observe(node.as_deref(), reads, now),
            self.supervisor.observe(interests.supervisor.as_deref()),
            haproxy_stats(interests),
            routes::read(&interests.routes),
            self.disks.observe(&interests.mountpoints),
        );
        let asked = reads.addons.filter(|_| interests.etcd);
        (facts.workloads, facts.etcd, facts.clock) = tokio::join!(
            self.cluster.workloads(&interests.workloads, reads, now),
            self.etcd.observe(asked, now),
            timedate::read(interests.clock),
        );
        facts.context = context;
        facts.vrrp = vrrp_states(&units, &facts.links);
        Facts { me, service, networks, units, kubernetes, supervisor, haproxy, routes, disks, ..facts }
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        notify::watchdog();
        let outcome = self.try_apply(effect).await.map_err(|error| format!("{error:#}"));
        self.journal.effect(effect, &outcome, clock::now());
        outcome
    }

    async fn publish_on(&mut self, others: &[(VmId, &Attributes)]) -> Vec<Result<(), String>> {
        notify::watchdog();
        let outcomes = self.cloud.publish_on(others).await;
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map_err(|error| format!("{error:#}")));
        let outcomes: Vec<_> = outcomes.collect();
        for ((vm, attributes), outcome) in others.iter().zip(&outcomes) {
            let effect = Effect::Publish { vm: Some(*vm), attributes: (*attributes).clone() };
            self.journal.effect(&effect, outcome, clock::now());
        }
        outcomes
    }

    async fn report(&mut self, report: &Report) {
        self.journal.report(report);
        self.notifier.pass(report);
        notify::watchdog();
        let written = self.status.update(report).await.map_err(|error| format!("{error:#}"));
        self.journal.status_file(written);
    }

    async fn wait(&mut self, at_most: Duration) -> Event {
        let Some(events) = &mut self.events else {
            tokio::time::sleep(at_most).await;
            return Event::Timer;
        };
        let end = Instant::now() + at_most;
        loop {
            notify::watchdog();
            let slice = end.min(Instant::now() + LOOK_AT_CONTEXT);
            match events.wait_until(slice).await {
                Woken::Stop => {
                    notify::stopping();
                    self.goes_down = self.systemd.goes_down().await;
                    return if self.goes_down { Event::GoesDown } else { Event::Stop };
                }
                Woken::Reload => {
                    self.context.forget();
                    return Event::Changed;
                }
                Woken::Moved => return Event::Changed,
                Woken::Time if slice == end => return Event::Timer,
                Woken::Time if self.context.has_changed() => return Event::Changed,
                Woken::Time => {}
            }
        }
    }
}

fn looked<T>(names: &[String], look: fn(&str) -> Observed<T>) -> BTreeMap<String, Observed<T>> {
    names.iter().map(|name| (name.clone(), look(name))).collect()
}

async fn haproxy_stats(interests: &Interests) -> Observed<HaproxyStats> {
    if !interests.units.iter().any(|unit| unit == HAPROXY) {
        return Observed::default();
    }
    haproxy::read(Path::new(haproxy::SOCKET)).await
}

/// Absent while Keepalived does not run, whatever is left of its addresses.
fn vrrp_states(units: &Units, links: &Observed<Vec<Link>>) -> Observed<BTreeMap<String, VrrpState>> {
    let runs = match units.get(KEEPALIVED) {
        None => return Observed::default(),
        Some(Observed::Unknown(why)) => return Observed::Unknown(why.clone()),
        Some(Observed::Absent) => false,
        Some(Observed::Known(unit)) => matches!(unit.active, Active::Active | Active::Reloading),
    };
    if !runs {
        return Observed::Absent;
    }
    match (files::read(Path::new(vrrp::CONFIGURATION)), links) {
        (Observed::Known(file), Observed::Known(links)) => {
            Observed::Known(vrrp::states(file.content.expose(), links))
        }
        (Observed::Absent, _) => Observed::Absent,
        (Observed::Unknown(why), _) => Observed::Unknown(why),
        (_, Observed::Unknown(why)) => Observed::Unknown(why.clone()),
        (_, Observed::Absent) => Observed::Unknown("the network interfaces were not seen".into()),
    }
}
