//! What a running HAProxy shows of itself on its statistics socket.

use std::collections::BTreeMap;

use crate::plan::{ServerChange, To};

/// HAProxy's own view.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HaproxyStats {
    /// The `description` of the configuration that it runs with: names what only a reload changes.
    pub loaded: Option<String>,
    /// By `backend/server`.
    pub servers: BTreeMap<String, HaproxyServer>,
}

/// A server as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyServer {
    /// Whether it is used.
    pub state: ServerState,
    /// Its share; 0: no new connections, those that there are live on.
    pub weight: u16,
    /// No more connections than this at once; 0: no limit.
    pub limit: u32,
    /// Connections that it has, and that wait for it.
    pub connections: u32,
}

/// Whether a server is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It gets connections, as far as its share allows.
    Up,
    /// Its health check failed.
    Down,
    /// Taken out by command: one that was just added, or that is about to be removed.
    Maintenance,
}

impl HaproxyStats {
    /// True if the backend of `backend/server` has servers.
    pub fn has_backend_of(&self, server: &str) -> bool {
        let backend = |name: &str| name.split_once('/').map(|(backend, _)| backend.to_owned());
        self.servers.keys().any(|name| backend(name) == backend(server))
    }

    /// What HAProxy makes of the change: for the worlds in memory.
    pub fn change(&mut self, change: &ServerChange) {
        let name = change.server.clone();
        match &change.to {
            To::Added { weight, limit, .. } => {
                let (state, weight, limit) = (ServerState::Up, *weight, *limit);
                let new = HaproxyServer { state, weight, limit, connections: 0 };
                self.servers.entry(name).or_insert(new);
            }
            To::Removed => {
                if let Some(server) = self.servers.get_mut(&name) {
                    server.state = ServerState::Maintenance;
                }
                self.servers.retain(|other, server| *other != name || server.connections > 0);
            }
            To::Used { .. } => {
                self.servers.entry(name).and_modify(|server| server.state = ServerState::Up);
            }
            To::Weight(weight) => {
                self.servers.entry(name).and_modify(|server| server.weight = *weight);
            }
            To::Limit(limit) => {
                self.servers.entry(name).and_modify(|server| server.limit = *limit);
            }
        }
    }
}
