//! What the files of an RKE2 node hold: pure functions from configuration, role and place in the cluster to files.
//!
//! Nothing here knows what is on disk, who founds, or when a file may change: the caller writes what differs.

mod addons;
mod catalogue;
mod changes;
mod cni;
mod config;
mod conflicts;
mod critical;
mod env;
mod extra;
#[cfg(test)]
pub(super) mod fixture;
pub mod flags;
pub(super) mod host;
mod links;
mod template;
pub mod yaml;

use std::net::{IpAddr, Ipv4Addr};

pub use addons::{Leftover, devices, leftovers, workloads};
pub use catalogue::{Addon, Device, Variable, VariableKind, Workload, catalogue};
pub use changes::{Changes, changes};
pub use config::ROLE_LABEL;
pub use config::{OnDisk, on_disk};
pub use conflicts::{conflicts, overlaps};
pub use critical::{Critical, contradictions, critical};
pub use extra::{EXTRA_CONFIG, merge_extra, refused, registries};
pub use host::{host, parameters};
pub use links::{Link, links};

use crate::context::Config;
use crate::plan::{Content, FileSpec, Secret};
use crate::service::{Role, VmId};

/// Where RKE2 reads its settings.
pub const CONFIG: &str = "/etc/rancher/rke2/config.yaml";
/// RKE2 applies every file that a server finds here.
pub const MANIFESTS: &str = "/var/lib/rancher/rke2/server/manifests";

/// The first line of a file that stands only while the context asks for it: one without it is somebody else's.
const MARK: &str = "# Written by oneke-agent.\n";

/// How a node enters its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The first server: no `server:`, and RKE2 makes the server token itself.
    Found {
        /// The token by which agents join; a critical value, alike on all servers for ever.
        agent_token: Option<Secret>,
    },
    /// Every other node.
    Join {
        /// `https://HOST:PORT` of a supervisor.
        server: String,
        /// A server token for masters, an agent or bootstrap token for all others.
        token: Secret,
        /// The founder's agent token; masters only.
        agent_token: Option<Secret>,
    },
}

/// How many VMs of each role the service has; one's own is counted, so all zero means that it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shape {
    /// Masters.
    pub masters: u32,
    /// Workers of all groups.
    pub workers: u32,
    /// Storage nodes.
    pub storage: u32,
    /// Vnf nodes.
    pub vnf: u32,
}

impl Shape {
    /// Without workers the masters must take the users' Pods. Not so if nothing is known: a taint can be taken off, a
    /// Pod that came once stays.
    pub fn masters_work(&self) -> bool {
        self.masters > 0 && self.workers == 0
    }

    /// The whole cluster is one master.
    pub fn is_single_node(&self) -> bool {
        (self.masters, self.workers, self.storage) == (1, 0, 0)
    }

    /// Nodes on which an ordinary Pod may run: storage nodes are tainted for Longhorn alone. `None`: not known.
    pub fn schedulable(&self) -> Option<u32> {
        let count = if self.masters_work() { self.masters } else { self.workers };
        Some(count).filter(|count| *count > 0)
    }

    /// Nodes with a disk for Longhorn. `None`: none is known.
    pub fn with_disks(&self) -> Option<u32> {
        let count = if self.is_single_node() { 1 } else { self.storage };
        Some(count).filter(|count| *count > 0)
    }
}

/// Who the node is in its cluster; does not change after the join (invariant 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// `metadata.name` of its Node.
    pub name: String,
    /// The VM: the node's provider ID is `one://VM`.
    pub vm: VmId,
    /// Its address in the cluster.
    pub ip: IpAddr,
    /// Its address of the other family: a dual-stack cluster needs both.
    pub second_ip: Option<IpAddr>,
    /// Addresses outside of the guest that lead to it (NIC aliases with EXTERNAL=YES).
    pub external: Vec<IpAddr>,
}

impl Pinned {
    /// A stand-in, where only what does not depend on the node counts.
    pub fn nobody() -> Self {
        let ip = Ipv4Addr::UNSPECIFIED.into();
        Self { name: String::new(), vm: VmId(0), ip, second_ip: None, external: Vec::new() }
    }
}

/// The files that RKE2 reads on this node.
pub fn rke2(config: &Config, role: &Role, pinned: &Pinned, entry: &Entry, shape: &Shape) -> Vec<FileSpec> {
    let mut files = vec![secret(CONFIG, config::render(config, role, pinned, entry, shape))];
    if let Some(text) = &config.node.registries {
        files.push(secret(extra::REGISTRIES, format!("{MARK}{}", text.expose())));
    }
    files.extend(env::proxy(config, role, pinned, entry));
    if *role == Role::Master {
        files.extend(cni::manifests(config, pinned, shape));
        files.extend(addons::manifests(config, shape));
    }
    files
}

/// Where files would stand that the context does not ask for; those that [`is_ours`] tells go.
pub fn withdrawn(config: &Config, role: &Role) -> Vec<&'static str> {
    let node = &config.node;
    let registries = node.registries.is_none().then_some(extra::REGISTRIES);
    let proxy = (node.http_proxy.is_none() && node.https_proxy.is_none()).then(|| env::path(role));
    registries.into_iter().chain(proxy).collect()
}

/// True if the agent wrote the file, and not a script of the user's.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// A file that only root reads, and that may not be printed.
fn secret(path: impl Into<String>, text: String) -> FileSpec {
    FileSpec { path: path.into(), mode: 0o600, content: Content::Secret(Secret::new(text)), checker: None }
}

/// A file that only root reads (RKE2's own manifests have this mode), without secrets.
fn private(path: impl Into<String>, text: String) -> FileSpec {
    FileSpec { path: path.into(), mode: 0o600, content: Content::Public(text), checker: None }
}

/// `NAME.yaml` among the manifests.
fn manifest(name: &str, text: String) -> FileSpec {
    private(format!("{MANIFESTS}/{name}.yaml"), text)
}

/// The same with a secret in it.
fn secret_manifest(name: &str, text: String) -> FileSpec {
    secret(format!("{MANIFESTS}/{name}.yaml"), text)
}

/// Values laid over those of a chart that RKE2 or this appliance installs.
fn chart_config(chart: &str, values: &yaml::Map) -> yaml::Map {
    yaml::map([
        ("apiVersion", "helm.cattle.io/v1".into()),
        ("kind", "HelmChartConfig".into()),
        ("metadata", [("name", chart.into()), ("namespace", "kube-system".into())].into()),
        ("spec", [("valuesContent", yaml::document(values).into())].into()),
    ])
}
