//! The join ticket: what a leader gives a joiner so that it can enter the cluster.
//!
//! ```text
//!  joiner: key pair ──JOIN_KEY on its own VM──▶ leader reads the service
//!  joiner ◀──JOIN_TICKET on the joiner's VM──── leader seals { token, agent token, address } to that key,
//!                                               or notes the joiner's place if others go first
//! ```
//!
//! Both attributes are overwritten once the node has joined. The leader's half is in [`super::lead`].

use crate::context::TokenMode;
use crate::facts::Observed;
use crate::plan::{Content, Effect, FileSpec, Secret};
use crate::seal::{self, KeyPair};
use crate::service::{Role, VmId, names};

use super::files::Critical;
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
    /// For masters: what all servers must say alike; empty if the leader is too old to tell.
    pub critical: Critical,
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
        for (setting, value) in &self.critical {
            text.push_str(&format!("{SETTING}{setting}={value}\n"));
        }
        Secret::new(text)
    }

    /// Reads it back. Unknown names are passed over, so that a later agent may say more.
    pub fn parse(text: &Secret) -> Option<Self> {
        let get = |name: &str| {
            let value = text.expose().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.filter(|value| !value.is_empty())
        };
        let setting = |line: &str| line.strip_prefix(SETTING)?.split_once('=').map(owned);
        Some(Self {
            token: Secret::new(get("token")?),
            agent_token: get("agent-token").map(Secret::new),
            server: get("server").map(str::to_owned),
            critical: text.expose().lines().filter_map(setting).collect(),
        })
    }
}

/// Before the name of a setting of RKE2.
const SETTING: &str = "rke2/";

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
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
    let answer = node.facts.me.last.known().and_then(|vm| vm.attribute(names::JOIN_TICKET));
    if let Some(Answer { cluster, body: Body::Sealed(sealed), .. }) = answer.and_then(Answer::parse) {
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

/// The service shows its token to everybody, as the old appliance does.
pub fn is_in_clear(node: &Node<'_>) -> bool {
    node.config.node.token_mode == TokenMode::Plain || in_clear(node).known().is_some()
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
            critical: Critical::new(),
        })
        .next()
        .map_or(Observed::Absent, Observed::Known)
}

/// This VM's place among those who wait, as the leader last noted it: then there is a leader, and it knows.
pub fn place(node: &Node<'_>, key: &KeyPair) -> Option<Place> {
    let attribute = node.facts.me.last.known()?.attribute(names::JOIN_TICKET)?;
    match Answer::parse(attribute).filter(|answer| answer.is_to(&key.public()))?.body {
        Body::Place(place) => Some(place),
        Body::Sealed(_) => None,
    }
}

/// What a leader writes onto a joiner's VM: `FINGERPRINT.CLUSTER.AT.BODY`. It sees by the fingerprint which key it has
/// answered and by the time how long ago; the joiner sees by the cluster's ID where it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    fingerprint: &'a str,
    /// The cluster's ID.
    pub cluster: &'a str,
    /// The leader's wall clock, seconds since 1970.
    pub at: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The sealed ticket, in base64.
    Sealed(&'a str),
    /// Not yet.
    Place(Place),
}

/// A place among those who wait, the first one 1: `place-137-of-450`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The place.
    pub place: usize,
    /// How many wait.
    pub of: usize,
}

impl<'a> Answer<'a> {
    /// Reads the attribute; `None` if it is no answer.
    pub fn parse(attribute: &'a str) -> Option<Self> {
        let mut parts = attribute.splitn(4, '.');
        let (fingerprint, cluster) = (parts.next()?, parts.next()?);
        let (at, body) = (parts.next()?.parse().ok()?, parts.next()?);
        let body = match body.strip_prefix("place-") {
            Some(place) => {
                let (place, of) = place.split_once("-of-")?;
                Body::Place(Place { place: place.parse().ok()?, of: of.parse().ok()? })
            }
            None => Body::Sealed(body),
        };
        Some(Self { fingerprint, cluster, at, body })
    }

    /// True if it answers this key.
    pub fn is_to(&self, public: &str) -> bool {
        self.fingerprint == fingerprint(public)
    }
}

/// The attribute that answers this key.
pub fn attribute(public: &str, cluster: &str, at: u64, body: Body<'_>) -> String {
    let start = format!("{}.{cluster}.{at}", fingerprint(public));
    match body {
        Body::Sealed(sealed) => format!("{start}.{sealed}"),
        Body::Place(Place { place, of }) => format!("{start}.place-{place}-of-{of}"),
    }
}

fn fingerprint(public: &str) -> String {
    crate::plan::digest(public)[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_as_it_was_written() {
        let critical =
            Critical::from([("cni".into(), "multus,cilium".into()), ("cluster-dns".into(), "".into())]);
        let agent_token = Some(Secret::new("agents-only"));
        let server = Some("[fd00::1]:9345".into());
        let ticket = Ticket { token: Secret::new("K10ab::server:c=d"), agent_token, server, critical };
        assert_eq!(Ticket::parse(&ticket.to_text()), Some(ticket));
        let earlier = Ticket::parse(&Secret::new("token=x\nlater=y\n")).unwrap();
        assert_eq!((earlier.server, earlier.critical), (None, Critical::new()));
    }

    #[test]
    fn an_answer_reads_as_it_was_written() {
        for body in [Body::Sealed("c2VhbGVk+/=="), Body::Place(Place { place: 137, of: 450 })] {
            let text = attribute("key", "abc", 1_790_000_000, body);
            let answer = Answer::parse(&text).unwrap();
            assert_eq!((answer.cluster, answer.at, answer.body), ("abc", 1_790_000_000, body));
            assert!(answer.is_to("key") && !answer.is_to("another key"));
        }
        for damaged in ["", "none", "f.abc", "f.abc.now.c2VhbGVk", "f.abc.1.place-1", "f.abc.1.place-x-of-2"]
        {
            assert_eq!(Answer::parse(damaged), None, "{damaged}");
        }
    }
}
