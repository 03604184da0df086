//! What a pass decides: effects to apply, conditions to report, and when to look again.
//!
//! Nothing in this module touches the machine. An [`Effect`] is data that can be printed without its secrets;
//! the shell (`world`) applies it. `Display` of an effect or a condition is what the operator reads.

mod servers;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

pub use self::servers::{ServerChange, To};
use crate::service::told::Told;
use crate::service::{AttributeName, AttributeValue, VmId, names};

/// A text that must never reach a log, an argument list or a `Debug` print. Wiped when dropped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }

    /// The text itself: for a file of mode 0600, standard input, or a sealed envelope.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a file shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// May be printed, diffed and logged.
    Public(String),
    /// May not.
    Secret(Secret),
}

impl Content {
    /// The bytes to write.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Public(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// The owner's own checker that a candidate must pass before it replaces the last good file (invariant 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checker {
    /// `haproxy -c -f FILE`.
    Haproxy,
    /// `keepalived -t -f FILE`; its status 5 with warnings only is acceptance.
    Keepalived,
    /// `nft -c -f FILE`.
    Nftables,
    /// `unbound-checkconf FILE`.
    Unbound,
}

impl Checker {
    /// The daemon that reads the file; no other one does.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy.service",
            Self::Keepalived => "keepalived.service",
            Self::Nftables => "oneke-nft.service",
            Self::Unbound => "unbound.service",
        }
    }
}

/// A file of ours, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path.
    pub path: String,
    /// Permission bits; set before the file becomes visible.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
    /// Who must accept it first.
    pub checker: Option<Checker>,
}

/// One idempotent, short change of the machine, the cloud or the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the file atomically and durably.
    WriteFile(FileSpec),
    /// Remove the file; absent already is success.
    RemoveFile {
        /// Absolute path.
        path: String,
    },
    /// Make `path` a symbolic link to `target`, whatever file or link was there.
    Link {
        /// Absolute path.
        path: String,
        /// Where it leads, absolute; it need not exist.
        target: String,
    },
    /// Make systemd start the unit at boot.
    EnableUnit(String),
    /// The opposite.
    DisableUnit(String),
    /// Queue a start and return: what becomes of it is observed.
    StartUnit(String),
    /// Queue a stop and return.
    StopUnit(String),
    /// Queue a restart and return.
    RestartUnit(String),
    /// Make the unit take its configuration; afterwards `digest` is remembered in `/run` as the loaded one.
    LoadConfig {
        /// The unit, with `.service`.
        unit: String,
        /// Reload if the unit can and runs; else (re)start it.
        how: Load,
        /// Names the configuration that is loaded by this, mostly its [`digest`].
        digest: String,
    },
    /// Change the servers of the running HAProxy, in order, without a reload. If it refuses one, or does not answer, its
    /// unit is reloaded instead: the file says the same.
    SetServers {
        /// What changes.
        changes: Vec<ServerChange>,
        /// Names the configuration, remembered if the unit is reloaded.
        digest: String,
    },
    /// Set a kernel parameter, `net.ipv4.ip_forward` form.
    SetSysctl {
        /// Dotted name.
        key: String,
        /// Value as the kernel prints it.
        value: String,
    },
    /// `ip link set NAME up`.
    LinkUp {
        /// Interface name.
        name: String,
    },
    /// `ip route replace default`: takes the place of the default route of metric 0, whoever set that.
    SetDefaultRoute {
        /// The gateway.
        via: Ipv4Addr,
        /// The interface.
        device: String,
        /// The mark that the route carries (rtnetlink.h, RTPROT_*).
        protocol: u8,
    },
    /// Remove this very default route; absent already is success.
    RemoveDefaultRoute {
        /// The gateway; `None` if the route names none.
        via: Option<Ipv4Addr>,
        /// The interface.
        device: String,
        /// Its mark.
        protocol: u8,
    },
    /// Put attributes into OneGate.
    Publish {
        /// Whose: `None` is this VM (cheap); another VM of the service is a hundred times dearer.
        vm: Option<VmId>,
        /// All of them in one request.
        attributes: Attributes,
    },
    /// Seal a text to a user's SSH keys and put it, in base64, into this VM's own attributes.
    PublishSealed(Box<Sealing>),
    /// Create or renew the service's Lease in Kubernetes, if it is still at the version that was observed.
    HoldLease {
        /// This node's name.
        holder: String,
        /// `resourceVersion` seen; `None` creates it.
        version: Option<String>,
    },
    /// Annotate this machine's own Node with what it told OneGate ([`crate::service::told`]), for the leader to see.
    AnnotateNode {
        /// The Node's name.
        node: String,
        /// The annotation's value.
        told: Told,
    },
}

/// What is sealed, to whom, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// `age`, by its absolute path.
    pub program: String,
    /// Public keys that `age` takes.
    pub recipients: Vec<String>,
    /// What is sealed.
    pub text: Secret,
    /// The attribute that holds it.
    pub name: AttributeName,
    /// Published with it, in the same request: no two seals are alike, so this says what is inside.
    pub mark: (AttributeName, AttributeValue),
}

/// How a unit takes a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// `systemctl reload`: connections and addresses survive.
    Reload,
    /// `systemctl restart`.
    Restart,
}

/// Attributes to publish, by name.
pub type Attributes = BTreeMap<AttributeName, AttributeValue>;

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteFile(file) => write!(f, "write {} (mode {:04o})", file.path, file.mode),
            Self::RemoveFile { path } => write!(f, "remove {path}"),
            Self::Link { path, target } => write!(f, "link {path} to {target}"),
            Self::EnableUnit(unit) => write!(f, "enable {unit}"),
            Self::DisableUnit(unit) => write!(f, "disable {unit}"),
            Self::StartUnit(unit) => write!(f, "start {unit}"),
            Self::StopUnit(unit) => write!(f, "stop {unit}"),
            Self::RestartUnit(unit) => write!(f, "restart {unit}"),
            Self::LoadConfig { unit, how: Load::Reload, .. } => write!(f, "reload {unit}"),
            Self::LoadConfig { unit, how: Load::Restart, .. } => {
                write!(f, "restart {unit} with its new configuration")
            }
            Self::SetServers { changes, .. } => servers::told(changes, f),
            Self::SetSysctl { key, value } => write!(f, "set {key} = {value}"),
            Self::LinkUp { name } => write!(f, "set link {name} up"),
            Self::SetDefaultRoute { via, device, .. } => {
                write!(f, "set the default route via {via} dev {device}")
            }
            Self::RemoveDefaultRoute { via, device, .. } => {
                write!(f, "remove the default route")?;
                via.iter().try_for_each(|via| write!(f, " via {via}"))?;
                write!(f, " dev {device}")
            }
            Self::Publish { vm, attributes } => {
                match vm {
                    None => write!(f, "publish")?,
                    Some(vm) => write!(f, "publish on VM {vm}")?,
                }
                attributes.iter().try_for_each(|(name, value)| match name.as_str() {
                    // In clear in OneGate, as the old appliance wants it; that is no reason to log it as well.
                    names::TOKEN | names::KUBECONFIG => write!(f, " {name}=(secret)"),
                    _ => write!(f, " {name}={value}"),
                })
            }
            Self::PublishSealed(sealing) => {
                let Sealing { name, recipients, .. } = &**sealing;
                write!(f, "publish {} sealed to {} SSH key(s)", name.as_str(), recipients.len())
            }
            Self::HoldLease { holder, .. } => write!(f, "hold the service's Lease as {holder}"),
            Self::AnnotateNode { node, told } => write!(f, "tell the leader by the Node {node}: {told}"),
        }
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Status {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It could not be seen. Never taken for False.
    Unknown,
}

/// One thing that must hold, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    /// CamelCase name, e.g. `ClusterJoined`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: Status,
    /// Stable CamelCase word for programs.
    pub reason: String,
    /// For the operator: what is waited for and what to do about it. Lower case, no final dot.
    pub message: String,
}

impl Condition {
    /// It holds.
    pub fn met(kind: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::with(kind, Status::True, reason, message)
    }

    /// It does not hold yet, or no longer.
    pub fn unmet(kind: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::with(kind, Status::False, reason, message)
    }

    /// It could not be seen.
    pub fn unknown(kind: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::with(kind, Status::Unknown, reason, message)
    }

    fn with(kind: &str, status: Status, reason: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), status, reason: reason.into(), message: message.into() }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} {}: {}", self.kind, self.status, self.reason, self.message)
    }
}

/// What an operator wants to see at a glance, beside the conditions.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// What it lists.
    pub name: String,
    /// Heads.
    pub columns: Vec<String>,
    /// As many cells each as there are heads. Nothing that changes while nothing happens: no ages, no counters.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table.
    pub fn new(name: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self { name: name.to_owned(), columns: columns.iter().map(|head| (*head).to_owned()).collect(), rows }
    }
}

/// How fresh the dear parts of the next observation must be. The shell reads a part when its last reading is older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// `/vm`: cheap.
    pub me: Duration,
    /// `/service?extended`: dear. `None`: do not read it at all.
    pub service: Option<Duration>,
    /// `/vrouter` and its networks, `/vnet/ID?extended`: dear. `None`: this VM is no virtual router, or needs them not.
    pub networks: Option<Duration>,
    /// The Kubernetes API; `None`: there is nothing to ask yet.
    pub kubernetes: Option<Duration>,
    /// The add-ons' workloads, and etcd's own word; `None`: nobody wants to know.
    pub addons: Option<Duration>,
    /// Listen for what the cluster's nodes tell; costs one watch of their metadata, and wakes the loop.
    pub told: bool,
}

impl Default for Reads {
    fn default() -> Self {
        let (me, told) = (Duration::ZERO, false);
        Self { me, service: None, networks: None, kubernetes: None, addons: None, told }
    }
}

/// What one pass decided.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Decision {
    /// Applied first, in order. One that the machine refuses ends these alone: nothing else of the pass builds on them.
    pub asides: Vec<Effect>,
    /// In order. One that the machine refuses ends the pass; a request that fails does not, and what a daemon with a
    /// checker of its own refuses holds up that daemon alone.
    pub effects: Vec<Effect>,
    /// All that must hold; Ready is their conjunction.
    pub conditions: Vec<Condition>,
    /// What is shown beside the conditions.
    pub tables: Vec<Table>,
    /// What an operator wants to know of this node or its cluster, without Ready waiting for it.
    pub told: Vec<Condition>,
    /// What this VM's own attributes shall say; `signals` publishes in one request what differs.
    pub publish: Attributes,
    /// What to read next time.
    pub reads: Reads,
    /// Look again after this at the latest.
    pub look_again: Option<Duration>,
}

impl Decision {
    /// Looks again after `delay` at the latest; the shortest wish of all deciders counts.
    pub fn look_again_within(&mut self, delay: Duration) {
        self.look_again = Some(self.look_again.map_or(delay, |old| old.min(delay)));
    }

    /// True if every condition holds and there is at least one.
    pub fn is_ready(&self) -> bool {
        !self.conditions.is_empty() && self.conditions.iter().all(|c| c.status == Status::True)
    }
}

/// SHA-256 of a configuration in hex: names what a daemon has loaded.
pub fn digest(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let file = FileSpec {
            path: "/etc/x".into(),
            mode: 0o600,
            content: Content::Secret(Secret::new("K10token")),
            checker: None,
        };
        let effect = Effect::WriteFile(file);
        assert!(!format!("{effect:?} {effect}").contains("K10token"));
        let name = AttributeName::new(names::TOKEN).unwrap();
        let attributes = Attributes::from([(name, AttributeValue::new("K10token").unwrap())]);
        let told = Effect::Publish { vm: None, attributes }.to_string();
        assert_eq!(told, "publish ONEGATE_K8S_TOKEN=(secret)");
    }

    #[test]
    fn ready_needs_every_condition_and_one_at_least() {
        let mut decision = Decision::default();
        assert!(!decision.is_ready());
        decision.conditions.push(Condition::met("A", "Yes", ""));
        assert!(decision.is_ready());
        decision.told.push(Condition::unmet("AddonsHealthy", "Missing", ""));
        assert!(decision.is_ready(), "what is only told holds up nothing");
        decision.conditions.push(Condition::unknown("B", "CouldNotLook", ""));
        assert!(!decision.is_ready());
    }
}
