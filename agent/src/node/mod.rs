//! Decides for RKE2 nodes: found, join, run.
//!
//! ```text
//!            no config.yaml             config.yaml, no trace of RKE2      etcd data or a kubelet's credentials
//!  boot ──▶ Outside ──found or join──▶ Entering ──RKE2 has joined────────▶ Member ──▶ stays one, OneGate or not
//!             │ founder: claim first      │ a founder is checked again        │ its unit is enabled and running
//!             │ joiner: key, ticket       │ a joiner waits for its supervisor │ the leader answers joiners
//! ```
//!
//! Where a node stands is read off its disk at each pass; nothing else is remembered.

pub mod address;
mod certificates;
mod clock;
mod entry;
pub mod files;
mod follow;
mod health;
mod host;
pub mod kubeconfig;
mod lead;
mod member;
mod outside;
mod swap;
mod ticket;

use std::net::IpAddr;
use std::time::Duration;

use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Active, Facts, Observed};
use crate::identity::Identity;
use crate::plan::{Condition, Decision, Effect, FileSpec, Secret};
use crate::service::{AttributeName, AttributeValue, Role, VmId, names};

pub use files::OnDisk;

/// RKE2's configuration.
pub const CONFIG: &str = "/etc/rancher/rke2/config.yaml";
/// The full server token, on servers.
pub const SERVER_TOKEN: &str = "/var/lib/rancher/rke2/server/token";
/// The full agent token, on servers.
pub const AGENT_TOKEN: &str = "/var/lib/rancher/rke2/server/agent-token";
/// Its presence says that this server was an etcd member (rke2.md).
pub const ETCD: &str = "/var/lib/rancher/rke2/server/db/etcd";
/// Its presence says that this agent was accepted.
pub const KUBELET: &str = "/var/lib/rancher/rke2/agent/kubelet.kubeconfig";
/// The seed of this VM's join key.
pub const JOIN_SEED: &str = "/var/lib/oneke-agent/join.key";

/// A machine that goes down does so within this.
const LAST_SEEN: Duration = Duration::from_secs(60);

/// What a node looks at.
pub fn interests(config: &Config, role: &Role, facts: &Facts, interests: &mut Interests) {
    let files = [CONFIG, JOIN_SEED].into_iter().map(str::to_owned);
    interests.files.extend(files.chain(paths(config, role)));
    host::interests(config, role, interests);
    health::interests(config, role, interests);
    swap::interests(facts, interests);
    follow::interests(config, role, interests);
    interests.clock = !matches!(facts.exists.get(trace(role)), Some(Observed::Known(())));
    interests.units.push(unit(role).to_owned());
    interests.exists.push(trace(role).to_owned());
    if *role == Role::Master {
        interests.files.extend([SERVER_TOKEN, AGENT_TOKEN].map(str::to_owned));
        kubeconfig::interests(config, interests);
    }
    interests.supervisor = config.node.supervisor.as_ref().map(|(host, port)| host_port(host, *port));
}

/// What a node does.
pub fn decide(config: &Config, facts: &Facts, role: &Role, decision: &mut Decision) {
    host::prepare(config, facts, role, decision);
    host::tune(config, facts, decision);
    host::devices(config, facts, role, decision);
    swap::decide(facts, decision);
    match Node::of(config, facts, role) {
        Ok(node) => by_standing(&node, decision),
        Err(condition) => {
            decision.conditions.push(condition);
            decision.look_again_within(Duration::from_secs(5));
        }
    }
}

/// What a node that goes down still tells: its servers take no new connections from now on.
pub fn farewell(config: &Config, facts: &Facts, role: &Role, decision: &mut Decision) {
    let Ok(node) = Node::of(config, facts, role) else { return };
    member::rest(&node, decision);
    // Whatever is known of the Node suffices: RKE2 is about to stop.
    decision.reads.kubernetes = Some(LAST_SEEN);
    lead::announce(&node, decision);
}

fn by_standing(node: &Node<'_>, decision: &mut Decision) {
    match node.standing() {
        Standing::Outside => outside::decide(node, decision),
        Standing::Entering(disk) => outside::enter(node, &disk, decision),
        Standing::Member(disk) => member::decide(node, &disk, decision),
        Standing::Unclear(why) => {
            decision.conditions.push(Condition::unknown("ClusterEntered", "DiskUnreadable", why));
            decision.look_again_within(Duration::from_secs(5));
        }
    }
}

/// A node in its pass: everything that its deciders need, found once.
struct Node<'a> {
    config: &'a Config,
    facts: &'a Facts,
    role: &'a Role,
    vm: VmId,
    service: u32,
    name: String,
    ip: IpAddr,
    second_ip: Option<IpAddr>,
}

/// Where a node stands, read off its disk.
enum Standing {
    /// Never configured.
    Outside,
    /// Configured; RKE2 has not joined yet.
    Entering(OnDisk),
    /// RKE2 has joined: it starts by itself from now on.
    Member(OnDisk),
    /// The disk does not tell.
    Unclear(String),
}

impl<'a> Node<'a> {
    fn of(config: &'a Config, facts: &'a Facts, role: &'a Role) -> Result<Self, Condition> {
        let missing = |what: &str| {
            Condition::unmet(
                "IdentityKnown",
                "ContextIncomplete",
                format!("the context lacks {what}: deploy this VM as a role of a OneFlow service"),
            )
        };
        let vm = config.vm.ok_or_else(|| missing("VMID"))?;
        let pinned = match Identity::observed(facts) {
            Observed::Known(Ok(identity)) => Some(identity),
            Observed::Known(Err(why)) | Observed::Unknown(why) => {
                return Err(Condition::unknown("IdentityKnown", "DiskUnreadable", why));
            }
            Observed::Absent => None,
        };
        let told =
            || facts.me.last.known().and_then(|vm| vm.attribute("SERVICE_ID")).and_then(|id| id.parse().ok());
        let listed = || facts.service.last.known().map(|service| service.id);
        let service =
            config.service.or(pinned.as_ref().and_then(|p| p.service)).or_else(told).or_else(listed);
        let service = service.ok_or_else(|| missing("SERVICE_ID"))?;
        let nics = facts.me.last.known().map(|vm| vm.nics.as_slice());
        let ip = match pinned.as_ref().and_then(|p| p.node_ip) {
            Some(ip) => ip,
            None => address::nic(config, nics)?.ip.map(IpAddr::V4).ok_or_else(|| missing("an ETHx_IP"))?,
        };
        let second_ip = address::second_ip(config, ip, nics);
        // What another agent configured keeps its name: a Node cannot be renamed.
        let named = || files::on_disk(facts.file(CONFIG).known()?.content.expose()).ok()?.node_name;
        let name = pinned.and_then(|p| p.node_name).or_else(named);
        let name = name.unwrap_or_else(|| node_name(service, role, vm));
        Ok(Self { config, facts, role, vm, service, name, ip, second_ip })
    }

    fn standing(&self) -> Standing {
        let disk = match self.facts.file(CONFIG) {
            Observed::Known(file) => match files::on_disk(file.content.expose()) {
                Ok(disk) => disk,
                Err(why) => return Standing::Unclear(format!("{CONFIG} is damaged: {why}")),
            },
            Observed::Absent => OnDisk::default(),
            Observed::Unknown(why) => return Standing::Unclear(why),
        };
        let configured = self.facts.file(CONFIG).known().is_some();
        match self.facts.exists.get(trace(self.role)) {
            Some(Observed::Known(())) => Standing::Member(disk),
            Some(Observed::Absent) if configured => Standing::Entering(disk),
            Some(Observed::Absent) => Standing::Outside,
            Some(Observed::Unknown(why)) => Standing::Unclear(why.clone()),
            None => Standing::Unclear(format!("{} was not looked at", trace(self.role))),
        }
    }

    /// What RKE2 reads, for this way in.
    fn files(&self, entry: &files::Entry) -> Vec<FileSpec> {
        files::rke2(self.config, self.role, &self.pinned(), entry, &self.shape())
    }

    /// Who it is, as its files say.
    fn pinned(&self) -> files::Pinned {
        let nics = self.facts.me.last.known().map_or(&[][..], |vm| &vm.nics);
        let external = nics.iter().filter(|nic| nic.external).filter_map(|nic| nic.ip).collect();
        let (ip, second_ip) = (self.ip, self.second_ip);
        files::Pinned { name: self.name.clone(), vm: self.vm, ip, second_ip, external }
    }

    /// How many VMs the service has of each kind, as far as OneGate told.
    fn shape(&self) -> files::Shape {
        let mut shape = files::Shape::default();
        for role in self.facts.service.last.known().map_or(&[][..], |service| &service.roles) {
            // A DONE VM is history; one without data counts until its own say otherwise.
            let there = role.nodes.iter().filter(|node| node.vm.as_ref().is_none_or(|vm| !vm.is_done()));
            let count = u32::try_from(there.count()).unwrap_or(u32::MAX).max(role.cardinality);
            match Role::from(role.name.clone()) {
                Role::Vnf => shape.vnf += count,
                Role::Master => shape.masters += count,
                Role::Storage => shape.storage += count,
                Role::Worker(_) => shape.workers += count,
            }
        }
        shape
    }

    fn unit(&self) -> &'static str {
        unit(self.role)
    }

    /// Starts the unit unless it runs or is on its way; says in a condition how it stands.
    fn keep_running(&self, decision: &mut Decision) {
        let unit = self.unit();
        let condition = match self.facts.unit(unit) {
            Observed::Known(state) => match state.active {
                Active::Active | Active::Reloading => {
                    Condition::met("Rke2Running", "Active", format!("{unit} runs"))
                }
                Active::Activating if state.restarts > 0 => Condition::unmet(
                    "Rke2Running",
                    "Restarting",
                    format!(
                        "{unit} was restarted {} times{}; see: journalctl -u {unit}",
                        state.restarts,
                        said(&state.status)
                    ),
                ),
                Active::Activating => Condition::unmet(
                    "Rke2Running",
                    "Starting",
                    format!("{unit} is starting{}", said(&state.status)),
                ),
                Active::Deactivating => {
                    Condition::unmet("Rke2Running", "Stopping", format!("{unit} is stopping"))
                }
                Active::Inactive | Active::Failed => {
                    decision.effects.push(Effect::StartUnit(unit.into()));
                    Condition::unmet("Rke2Running", "Stopped", format!("{unit} does not run: starting it"))
                }
            },
            Observed::Absent => Condition::unmet(
                "Rke2Running",
                "NotInstalled",
                format!("there is no {unit}: this image carries no RKE2"),
            ),
            Observed::Unknown(why) => Condition::unknown("Rke2Running", "SystemdSilent", why),
        };
        decision.conditions.push(condition);
    }
}

fn said(status: &str) -> String {
    if status.is_empty() { String::new() } else { format!(" ({status})") }
}

/// `oneke-SERVICE-ROLE-VMID`: from what does not change, never from an address that OpenNebula leases again. Lower case
/// and digits, as Kubernetes wants (RFC 1123).
fn node_name(service: u32, role: &Role, vm: VmId) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let group: String = role.name().chars().map(safe).take(40).collect();
    format!("oneke-{service}-{}-{vm}", group.trim_matches('-'))
}

/// `host:port`, with brackets around an IPv6 address.
fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Every file that a node of this role may get, whichever way it enters.
fn paths(config: &Config, role: &Role) -> Vec<String> {
    let entry = files::Entry::Found { agent_token: None };
    let files = files::rke2(config, role, &files::Pinned::nobody(), &entry, &files::Shape::default());
    files.into_iter().map(|file| file.path).filter(|path| path != CONFIG).collect()
}

/// The unit of a role.
fn unit(role: &Role) -> &'static str {
    if *role == Role::Master { "rke2-server.service" } else { "rke2-agent.service" }
}

/// What RKE2 leaves on disk once it has joined.
fn trace(role: &Role) -> &'static str {
    if *role == Role::Master { ETCD } else { KUBELET }
}

/// Writes the file unless it is so already. An unreadable one is left alone and told.
fn write_if_different(facts: &Facts, file: FileSpec, decision: &mut Decision) {
    match facts.file(&file.path) {
        Observed::Known(there)
            if there.mode == file.mode && there.content.expose() == file.content.as_str() => {}
        Observed::Known(_) | Observed::Absent => decision.effects.push(Effect::WriteFile(file)),
        Observed::Unknown(why) => {
            let message = format!("{} is left alone: {why}", file.path);
            decision.conditions.push(Condition::unknown("FilesWritten", "DiskUnreadable", message));
        }
    }
}

/// Wishes an attribute on this VM. The value is ours and known to survive OneGate.
fn publish(decision: &mut Decision, name: &str, value: impl Into<String>) {
    let name = AttributeName::new(name).expect("our own names are well formed");
    if let Ok(value) = AttributeValue::new(value) {
        decision.publish.insert(name, value);
    }
}

/// The cluster's ID: the hash in a full token (rke2.md).
fn cluster_of(token: &Secret) -> Option<String> {
    crate::token::Token::parse(token).ok()?.ca_hash
}

/// The cluster's ID as this node's disk tells it.
fn cluster_id(facts: &Facts, disk: &OnDisk) -> Option<String> {
    let server = facts.file(SERVER_TOKEN).known().and_then(|file| cluster_of(&file.content));
    server.or_else(|| disk.token.as_ref().and_then(cluster_of))
}

/// Withdraws the attributes of joining once they did their work.
fn forget_joining(facts: &Facts, decision: &mut Decision) {
    let Some(me) = facts.me.last.known() else { return };
    for name in [names::JOIN_KEY, names::JOIN_TICKET] {
        if me.attribute(name).is_some_and(|value| value != names::NONE) {
            publish(decision, name, names::NONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::files::fixture;
    use super::*;

    /// What a worker waits for that has just booted; OneGate has not answered.
    fn waits(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = fixture::config();
        change(&mut config);
        let mut facts = Facts::default();
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.files.insert(CONFIG.into(), Observed::Absent);
        facts.exists.insert(KUBELET.into(), Observed::Absent);
        let mut decision = Decision::default();
        decide(&config, &facts, &fixture::worker(), &mut decision);
        let own = decision.conditions.iter().filter(|condition| condition.kind != "FilesWritten");
        own.map(|condition| condition.reason.clone()).collect()
    }

    #[test]
    fn a_node_does_not_join_before_its_addresses_are_known() {
        assert_eq!(waits(|_| {}), ["MakingKey"]);
        let dual_stack = |config: &mut Config| config.node.cluster_cidr.push("fd42::/56".parse().unwrap());
        assert_eq!(waits(dual_stack), ["NoSecondAddress"]);
        assert_eq!(
            waits(|config| {
                dual_stack(config);
                config.nics[0].ip6 = Some("fd00::64".parse().unwrap());
            }),
            ["MakingKey"]
        );
        let network = Some(crate::context::NodeNic::Network("private".into()));
        assert_eq!(waits(|config| config.node.node_nic = network), ["OneGateSilent"]);
    }
}
