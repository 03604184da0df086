//! One observation of the world: what a decider may know. Values only; the shell fills them in.

mod disks;
mod haproxy;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

pub use self::disks::{Contents, Disk, Disks, Place, Signature, Use};
pub use self::haproxy::{HaproxyServer, HaproxyStats, ServerState};
use crate::plan::Secret;
use crate::service::told::Told;
use crate::service::{Networks, Service, Vm, VmId};
use crate::vrrp::Heard;

/// One part of an observation. A decider must say what it does with each of the three: unknown is never no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed<T> {
    /// It was seen.
    Known(T),
    /// It was looked for, and it is not there.
    Absent,
    /// It could not be looked at, and why.
    Unknown(String),
}

impl<T> Default for Observed<T> {
    fn default() -> Self {
        Self::Unknown("not looked at yet".into())
    }
}

impl<T> Observed<T> {
    /// The value, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// True only on a sure "not there".
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The same for a borrowed value.
    pub fn as_ref(&self) -> Observed<&T> {
        match self {
            Self::Known(value) => Observed::Known(value),
            Self::Absent => Observed::Absent,
            Self::Unknown(why) => Observed::Unknown(why.clone()),
        }
    }

    /// Maps the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Self::Known(value) => Observed::Known(f(value)),
            Self::Absent => Observed::Absent,
            Self::Unknown(why) => Observed::Unknown(why),
        }
    }
}

/// Time since this machine booted, suspend included (CLOCK_BOOTTIME). Ages are differences of these.
pub type Moment = Duration;

/// Why OneGate gave no answer; the shell tells them apart, the operator reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The endpoint is not in the context.
    NoEndpoint,
    /// The name does not resolve.
    Dns,
    /// No TCP connection, or it broke.
    Tcp,
    /// The certificate is not trusted, or TLS failed.
    Tls,
    /// No answer in time.
    Timeout,
    /// 401: can be passing (onegate.md).
    NotAuthorized,
    /// 403.
    Forbidden,
    /// 404: any fault of OneFlow looks like this (onegate.md).
    NotFound,
    /// 400 and other 4xx.
    BadRequest,
    /// 5xx.
    Server,
    /// An answer that is no answer: half a body, not JSON, wrong shape, too large.
    Nonsense,
}

/// The latest failure to read something from OneGate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// What was tried and what came back, in the operator's words.
    pub message: String,
    /// Since when without a break.
    pub since: Moment,
}

/// The last good answer of OneGate to one question, and the fault since then, if any.
/// A copy shares the answer: a pass of a service of a thousand VMs copies none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T> {
    /// The last whole answer. It stays when later attempts fail.
    pub last: Observed<Arc<T>>,
    /// When it came.
    pub at: Option<Moment>,
    /// Set while the latest attempt failed.
    pub fault: Option<Fault>,
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self { last: Observed::default(), at: None, fault: None }
    }
}

impl<T> Reading<T> {
    /// An answer that came at `at`; no fault since.
    pub fn of(value: T, at: Moment) -> Self {
        Self { last: Observed::Known(Arc::new(value)), at: Some(at), fault: None }
    }

    /// The last answer's age.
    pub fn age(&self, now: Moment) -> Option<Duration> {
        self.at.map(|at| now.saturating_sub(at))
    }

    /// The last answer if it is not older than `limit`.
    pub fn fresh(&self, now: Moment, limit: Duration) -> Option<&T> {
        self.age(now).filter(|age| *age <= limit).and_then(|_| self.last.known().map(Arc::as_ref))
    }
}

/// A file as it is on disk. Its content may be secret: no `Debug` of it.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Secret,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File {{ mode: {:04o}, .. }}", self.mode)
    }
}

/// `ActiveState` of systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// Runs (for Type=notify: said READY=1).
    Active,
    /// Is reloading its configuration.
    Reloading,
    /// Does not run.
    Inactive,
    /// Ended badly and will not be restarted.
    Failed,
    /// On its way up, or between automatic restarts.
    Activating,
    /// On its way down.
    Deactivating,
}

/// A unit that systemd knows. A unit without a file is `Absent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its state.
    pub active: Active,
    /// `UnitFileState` is enabled.
    pub enabled: bool,
    /// How often systemd restarted it by itself (`NRestarts`).
    pub restarts: u32,
    /// `StatusText` that the service sent.
    pub status: String,
    /// [`crate::plan::digest`] of the configuration that it loaded, if this agent loaded it in this boot.
    pub loaded: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Lower-case hex with colons.
    pub mac: String,
    /// Administratively up and with carrier.
    pub running: bool,
    /// Addresses with their prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A default route of IPv4, in the kernel's main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The gateway; none on a point-to-point link, or where there are several at once.
    pub via: Option<Ipv4Addr>,
    /// The interface.
    pub device: String,
    /// Who set it, by the kernel's number (rtnetlink.h, RTPROT_*).
    pub protocol: u8,
}

/// The ways out of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Routes {
    /// In the kernel's order, the lowest metric first: the first one is used.
    pub defaults: Vec<DefaultRoute>,
    /// By interface, the `.network` file by which systemd-networkd configured it. Empty where it does not run.
    pub networkd: BTreeMap<String, String>,
}

impl Routes {
    /// What the kernel makes of `ip route replace default via VIA dev DEVICE` where no route has a metric: for the
    /// worlds in memory.
    pub fn set(&mut self, via: Ipv4Addr, device: &str, protocol: u8) {
        let route = DefaultRoute { via: Some(via), device: device.to_owned(), protocol };
        match self.defaults.first_mut() {
            Some(first) => *first = route,
            None => self.defaults.push(route),
        }
    }

    /// The same for `ip route del`.
    pub fn remove(&mut self, via: Option<Ipv4Addr>, device: &str, protocol: u8) {
        let gone = DefaultRoute { via, device: device.to_owned(), protocol };
        self.defaults.retain(|route| *route != gone);
    }
}

/// What Kubernetes says of a node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KubernetesNode {
    /// `metadata.name`.
    pub name: String,
    /// The `Ready` condition's status is `True`.
    pub ready: bool,
    /// That condition's reason and message.
    pub message: String,
    /// The kubelet has stopped reporting: `Ready` is `Unknown`.
    pub silent: bool,
    /// Why the node's network is not there, if it is not: no CNI, or a `NetworkUnavailable` condition that is `True`.
    pub no_network: Option<String>,
    /// RKE2's own condition `EtcdIsVoter`, on servers: `false` is a learner.
    pub voter: Option<bool>,
    /// What its agent has told the leader ([`crate::service::told`]).
    pub told: Option<String>,
}

/// A workload of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Deployment, DaemonSet or StatefulSet.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// How many Pods of a workload there shall be, and how many are available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// A DaemonSet wants one for each node that it may run on, which may be none.
    pub wanted: u32,
    /// Ready for its `minReadySeconds`.
    pub available: u32,
}

/// What the etcd member of this machine says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its cluster has a leader, as far as it sees.
    pub has_leader: bool,
    /// It is the leader.
    pub is_leader: bool,
    /// It has no vote yet.
    pub is_learner: bool,
}

/// Whether the clock is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// Somebody keeps it right.
    Synchronised,
    /// A time service runs and has not reached a server yet.
    Waiting,
    /// Nobody keeps it: it is as right as the host's.
    NoService,
}

/// The service's Lease `kube-system/oneke-agent`, by which one master is the reader of `/service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Node name of the holder.
    pub holder: String,
    /// `resourceVersion`.
    pub version: String,
    /// When this agent first saw this version: leases are aged by their watcher's own clock, never by the holder's.
    pub seen: Moment,
}

/// What the cluster's API tells, asked with this node's own credentials.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Kubernetes {
    /// `/readyz` of the API: Known(()) is ok; Unknown says why not.
    pub readyz: Observed<()>,
    /// This node's object.
    pub node: Observed<KubernetesNode>,
    /// The Lease; only servers ask.
    pub lease: Observed<Lease>,
}

/// State of a VRRP instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VrrpState {
    /// Holds its addresses.
    Master,
    /// Waits for the master to fall silent.
    Backup,
    /// Its interface or a check failed.
    Fault,
    /// Not started yet.
    Init,
}

/// Everything a pass knows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Monotonic.
    pub now: Moment,
    /// Wall clock, seconds since 1970; for people and certificates only.
    pub wall: u64,
    /// What the wall clock shows beyond whole seconds.
    pub wall_fraction: Duration,
    /// `context.sh`, verbatim.
    pub context: Observed<Secret>,
    /// 32 random bytes in hex, new at each pass.
    pub entropy: Secret,
    /// `GET /vm`.
    pub me: Reading<Vm>,
    /// `GET /service?extended`.
    pub service: Reading<Service>,
    /// `GET /vrouter`, and `/vnet/ID?extended` for each of its networks; only virtual routers may ask.
    pub networks: Reading<Networks>,
    /// The files that deciders named, by absolute path.
    pub files: BTreeMap<String, Observed<File>>,
    /// The units that deciders named, with `.service`.
    pub units: BTreeMap<String, Observed<Unit>>,
    /// Directories and files whose existence alone counts.
    pub exists: BTreeMap<String, Observed<()>>,
    /// Where the symbolic links that deciders named lead, by absolute path; `Absent`: there is none.
    pub symlinks: BTreeMap<String, Observed<String>>,
    /// Kernel parameters that deciders named.
    pub sysctls: BTreeMap<String, Observed<String>>,
    /// Network interfaces.
    pub links: Observed<Vec<Link>>,
    /// The ways out, where a decider named the interfaces.
    pub routes: Observed<Routes>,
    /// Disks, where a decider named mountpoints.
    pub disks: Observed<Disks>,
    /// The cluster.
    pub kubernetes: Kubernetes,
    /// What the nodes of the cluster told, as their Nodes say it, and when this agent first saw that; nothing where
    /// nobody listens ([`crate::plan::Reads::told`]).
    pub told: BTreeMap<VmId, (Told, Moment)>,
    /// The machine goes down: systemd is on its way to power off or to reboot. `false` is also "nobody could tell".
    pub goes_down: bool,
    /// The workloads that deciders named; only servers may ask. One that is missing here was not looked at yet.
    pub workloads: BTreeMap<Workload, Observed<Replicas>>,
    /// The etcd member of this machine; `Absent` if nobody answers.
    pub etcd: Observed<Etcd>,
    /// The clock, where it matters; `Absent`: there is no systemd-timedated to tell.
    pub clock: Observed<ClockState>,
    /// The supervisor named in the interests: hash of the CA bundle at its `/cacerts` (`K10` form's hash). Absent if
    /// none was named; Unknown says why it does not answer.
    pub supervisor: Observed<String>,
    /// HAProxy; Absent where it does not run.
    pub haproxy: Observed<HaproxyStats>,
    /// VRRP instances by name; Absent where Keepalived does not run.
    pub vrrp: Observed<BTreeMap<String, VrrpState>>,
    /// Other virtual routers on the interfaces that a decider named; Absent where nobody listens.
    pub heard: Observed<Vec<Heard>>,
}

impl Facts {
    /// The wall clock of a moment that has been, in whole seconds since 1970: the same at every pass, unless the clock was
    /// corrected in between.
    pub fn wall_at(&self, moment: Moment) -> u64 {
        let now = Duration::from_secs(self.wall) + self.wall_fraction;
        now.saturating_sub(self.now.saturating_sub(moment)).as_secs()
    }

    /// The file's content, or why it is not known.
    pub fn file(&self, path: &str) -> Observed<&File> {
        self.files
            .get(path)
            .map_or_else(|| Observed::Unknown(format!("{path} was not looked at")), Observed::as_ref)
    }

    /// The unit, or why it is not known.
    pub fn unit(&self, name: &str) -> Observed<&Unit> {
        self.units
            .get(name)
            .map_or_else(|| Observed::Unknown(format!("{name} was not looked at")), Observed::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_same_time_at_every_pass() {
        let asked = Duration::from_millis(1_700);
        // The monotonic clock began at 400.0 by the wall clock.
        let at = |now: u64| {
            let (now, wall) = (Duration::from_millis(now), Duration::from_millis(400_000 + now));
            let wall_fraction = Duration::from_nanos(wall.subsec_nanos().into());
            Facts { now, wall: wall.as_secs(), wall_fraction, ..Facts::default() }.wall_at(asked)
        };
        assert_eq!([1_700, 2_000, 2_600, 2_900, 22_050].map(at), [401; 5]);
    }
}
