//! Who this VM is, pinned on its own disk: the role and, once it joins, its node name and node IP (invariant 9).
//!
//! Lives in one file of ours, so that a joined node needs OneGate no more to know itself (invariant 2). A recreated VM
//! has an empty disk and no such file, whatever OneGate remembers of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::context::Config;
use crate::facts::{Facts, Observed};
use crate::plan::{Content, Effect, FileSpec};
use crate::service::{Role, VmId};

/// Where it is pinned.
pub const PATH: &str = "/var/lib/oneke-agent/identity.toml";

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The VM that wrote it: a disk copied to another VM is noticed by this.
    pub vm: VmId,
    /// The service it belongs to; `None` outside of OneFlow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<u32>,
    /// Its role.
    pub role: Role,
    /// Its name in Kubernetes; nodes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Its address in the cluster; nodes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_ip: Option<IpAddr>,
    /// The old appliance configured it: it keeps its name, and its files are left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

impl Identity {
    /// What is on disk; `Err` if the file does not read as one.
    pub fn observed(facts: &Facts) -> Observed<Result<Self, String>> {
        facts.file(PATH).map(|file| {
            toml::from_str(file.content.expose()).map_err(|error| {
                format!("{PATH} is damaged ({}): restore it or rebuild this VM", error.message())
            })
        })
    }

    /// The effect that pins it.
    pub fn pin(&self) -> Effect {
        let content = toml::to_string(self).expect("an identity is a flat table of strings and numbers");
        Effect::WriteFile(FileSpec {
            path: PATH.into(),
            mode: 0o644,
            content: Content::Public(content),
            checker: None,
        })
    }
}

/// How the context contradicts what is pinned, if it does.
pub fn contradiction(config: &Config, facts: &Facts) -> Option<String> {
    let Observed::Known(Ok(identity)) = Identity::observed(facts) else { return None };
    if let Some(vm) = config.vm.filter(|vm| *vm != identity.vm) {
        return Some(format!(
            "this disk was pinned by VM {}, but the context is of VM {vm}: a copied disk cannot be a second node; deploy a new VM from the image",
            identity.vm
        ));
    }
    let node_ip = identity.node_ip?;
    let there = config.nics.iter().any(|nic| nic.ip.is_some_and(|ip| IpAddr::V4(ip) == node_ip));
    (!there && !config.nics.is_empty()).then(|| {
        format!("this node joined with the address {node_ip}, but no ETHx_IP of the context has it: give the address back, or remove the node and deploy a new VM")
    })
}
