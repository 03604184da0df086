//! Brings the offered servers of a running HAProxy to what the file says, without a reload.
//!
//! ```text
//!           offered                       no longer offered
//!  (none) ──add──▶ used ◀──weight──▶ drained ──no connection left──▶ removed
//!                    ▲                  │ its last connections live on; HAProxy cuts them if its check fails
//!                    └──offered again───┘
//! ```
//!
//! Nothing is remembered here: HAProxy shows each server's share and connections, and an interrupted change (a server
//! that was added and not enabled, drained and not removed) shows, too, and is finished by the next pass.

use std::collections::BTreeMap;

use super::haproxy::{self, LiveServer};
use crate::facts::{HaproxyServer, HaproxyStats, ServerState};
use crate::plan::{ServerChange, To};

/// What is left to do, and what only time does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// In order: who comes is there before anybody leaves.
    pub changes: Vec<ServerChange>,
    /// Servers that are no longer offered and still have connections.
    pub leaving: usize,
    /// How many connections they have.
    pub connections: u64,
}

/// Compares what shall run with what runs.
pub fn reconcile(wanted: &BTreeMap<String, LiveServer>, running: &HaproxyStats) -> Reconciled {
    let mut reconciled = Reconciled::default();
    for (name, server) in wanted {
        let to = match running.servers.get(name) {
            None => vec![To::Added {
                words: server.words.clone(),
                weight: server.weight,
                limit: server.limit,
                checked: server.checked,
            }],
            Some(there) => correct(server, there),
        };
        reconciled.changes.extend(to.into_iter().map(|to| ServerChange { server: name.clone(), to }));
    }
    for (name, there) in &running.servers {
        if !wanted.contains_key(name) && haproxy::is_live(name) {
            retire(name, there, &mut reconciled);
        }
    }
    reconciled
}

fn correct(wanted: &LiveServer, there: &HaproxyServer) -> Vec<To> {
    let mut to = Vec::new();
    if there.weight != wanted.weight {
        to.push(To::Weight(wanted.weight));
    }
    if there.limit != wanted.limit {
        to.push(To::Limit(wanted.limit));
    }
    if there.state == ServerState::Maintenance {
        to.push(To::Used { checked: wanted.checked });
    }
    to
}

/// Drained first, and removed once that shows and nobody is connected: no connection is ever handed to it in between.
fn retire(name: &str, there: &HaproxyServer, reconciled: &mut Reconciled) {
    if there.weight != 0 {
        reconciled.changes.push(ServerChange { server: name.to_owned(), to: To::Weight(0) });
    }
    if there.connections > 0 {
        reconciled.leaving += 1;
        reconciled.connections += u64::from(there.connections);
    } else if there.weight == 0 || there.state == ServerState::Maintenance {
        reconciled.changes.push(ServerChange { server: name.to_owned(), to: To::Removed });
    }
}
