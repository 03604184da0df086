//! The join ticket: what a leader gives a joiner so that it can enter the cluster.
//!
//! ```text
//!  joiner: key pair ──JOIN_KEY on its own VM──▶ leader reads the service
//!  joiner ◀──JOIN_TICKET on the joiner's VM──── leader seals { token, agent token, address } to that key
//! ```
//!
//! Both attributes are overwritten once the node has joined. The leader's half is in [`super::lead`].

use crate::facts::Observed;
use crate::plan::{Content, Effect, FileSpec, Secret};
use crate::seal::{self, KeyPair};
use crate::service::{Role, VmId, names};

use super::{JOIN_SEED, Node};

/// What is sealed to a joiner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Full server token for masters, full agent token for the others.
    pub token: Secret,
    /// For masters: `agent-token`, a critical value that must be equal on all servers (rke2.md).
    pub agent_token: Option<Secret>,
    /// `host:port` of a supervisor that answers; used where the context names no endpoint.
    pub server: Option<String>,
}

impl Ticket {
    /// The text that is sealed: one `name=value` a line.
    pub fn to_text(&self) -> Secret {
        let mut text = format!("token={}\n", self.token.expose());
        if let Some(agent) = &self.agent_token {
            text.push_str(&format!("agent-token={}\n", agent.expose()));
        }
        if let Some(server) = &self.server {
            text.push_str(&format!("server={server}\n"));
        }
        Secret::new(text)
    }

    /// Reads it back. Unknown names are passed over, so that a later agent may say more.
    pub fn parse(text: &Secret) -> Option<Self> {
        let get = |name: &str| {
            let value = text.expose().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.filter(|value| !value.is_empty())
        };
        Some(Self {
            token: Secret::new(get("token")?),
            agent_token: get("agent-token").map(Secret::new),
            server: get("server").map(str::to_owned),
        })
    }
}

/// This VM's join key; the effect makes one if there is none yet.
pub fn key(node: &Node<'_>) -> Result<KeyPair, Effect> {
    let seed = match node.facts.file(JOIN_SEED) {
        Observed::Known(file) => seal::bytes_of_hex(&file.content),
        Observed::Absent | Observed::Unknown(_) => None,
    };
    seed.map(|seed| KeyPair::from_seed(&seed)).ok_or_else(|| {
        Effect::WriteFile(FileSpec {
            path: JOIN_SEED.into(),
            mode: 0o600,
            content: Content::Secret(node.facts.entropy.clone()),
            checker: None,
        })
    })
}

/// To whom a ticket is bound: it cannot be moved to another VM, role, service or cluster.
pub fn binding(service: u32, vm: VmId, role: &Role, cluster: &str) -> seal::Context {
    seal::Context { service, vm, role: role.clone(), cluster: cluster.to_owned() }
}

/// The ticket for this VM: sealed on its own attributes, or an old appliance's token in clear on a master.
pub fn received(node: &Node<'_>, key: &KeyPair) -> Observed<Ticket> {
    let sealed = node
        .facts
        .me
        .last
        .known()
        .and_then(|vm| vm.attribute(names::JOIN_TICKET))
        .filter(|v| *v != names::NONE);
    if let Some((cluster, sealed)) = sealed.and_then(parts) {
        let opened = seal::open(key, &binding(node.service, node.vm, node.role, cluster), sealed);
        match opened.map(|text| Ticket::parse(&text)) {
            Ok(Some(ticket)) => return Observed::Known(ticket),
            Ok(None) => {
                return Observed::Unknown(
                    "the leader's answer makes no sense to this version of the agent".into(),
                );
            }
            Err(_) => {} // Sealed to an earlier key of this VM (it was recreated): the leader will answer the new one.
        }
    }
    in_clear(node)
}

fn in_clear(node: &Node<'_>) -> Observed<Ticket> {
    let Some(service) = node.facts.service.last.known() else { return Observed::Absent };
    let masters = service.vms().filter(|(role, vm)| *role == "master" && !vm.is_done());
    masters
        .filter_map(|(_, vm)| Some((vm, vm.attribute(names::TOKEN).filter(|token| *token != names::NONE)?)))
        .map(|(vm, token)| Ticket {
            token: Secret::new(token),
            agent_token: None,
            server: vm.attribute(names::MASTER).map(|ip| format!("{ip}:9345")),
        })
        .next()
        .map_or(Observed::Absent, Observed::Known)
}

/// A ticket attribute is `FINGERPRINT.CLUSTER.SEALED`: the leader sees by the fingerprint which key it has answered,
/// the joiner by the cluster's ID where it will be.
pub fn attribute(public: &str, cluster: &str, sealed: &str) -> String {
    format!("{}.{cluster}.{sealed}", fingerprint(public))
}

/// True if the attribute answers this key for this cluster.
pub fn answers(attribute: &str, public: &str, cluster: &str) -> bool {
    attribute.strip_prefix(&format!("{}.{cluster}.", fingerprint(public))).is_some()
}

fn parts(attribute: &str) -> Option<(&str, &str)> {
    attribute.split_once('.')?.1.split_once('.')
}

fn fingerprint(public: &str) -> String {
    crate::plan::digest(public)[..16].to_owned()
}
