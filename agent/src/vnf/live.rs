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

#[cfg(test)]
mod tests {
    use super::*;

    /// `name weight limit`.
    fn wanted(servers: &[(&str, u16, u32)]) -> BTreeMap<String, LiveServer> {
        let server = |(name, weight, limit): &(&str, u16, u32)| {
            let words = "10.0.0.9:6443 check".to_owned();
            ((*name).to_owned(), LiveServer { words, weight: *weight, limit: *limit, checked: true })
        };
        servers.iter().map(server).collect()
    }

    /// `name state weight limit connections`.
    fn running(servers: &[(&str, ServerState, u16, u32, u32)]) -> HaproxyStats {
        let server = |(name, state, weight, limit, connections): &(&str, ServerState, u16, u32, u32)| {
            let (state, weight, limit, connections) = (*state, *weight, *limit, *connections);
            ((*name).to_owned(), HaproxyServer { state, weight, limit, connections })
        };
        HaproxyStats { loaded: None, servers: servers.iter().map(server).collect() }
    }

    /// What is done, in words; applied until nothing is left.
    #[track_caller]
    fn check(want: &[(&str, u16, u32)], run: &[(&str, ServerState, u16, u32, u32)], expected: &[&str]) {
        let (want, mut run) = (wanted(want), running(run));
        let mut told = Vec::new();
        for _ in 0..4 {
            let reconciled = reconcile(&want, &run);
            if reconciled.changes.is_empty() {
                assert_eq!(told, expected);
                return;
            }
            for change in reconciled.changes {
                told.push(change.to_string());
                run.change(&change);
            }
        }
        panic!("it does not come to rest: {told:?}");
    }

    const NEW: &str = "lb1/vm9_10.0.0.9_6443";
    const OLD: &str = "lb1/vm8_10.0.0.8_6443";

    #[test]
    fn servers_come_and_go() {
        use ServerState::{Down, Maintenance, Up};
        check(&[], &[], &[]);
        check(&[(NEW, 1, 0)], &[(NEW, Up, 1, 0, 7)], &[]);
        check(&[(NEW, 1, 0)], &[(NEW, Down, 1, 0, 0)], &[]);
        let (add, drain) = (format!("add {NEW}"), format!("drain {OLD}"));
        let remove = format!("remove {OLD}");
        check(&[(NEW, 1, 0)], &[(OLD, Up, 1, 0, 0)], &[&add, &drain, &remove]);
        check(&[], &[(OLD, Down, 1, 0, 0)], &[&drain, &remove]);
        check(&[], &[(OLD, Maintenance, 0, 0, 0)], &[&remove]);
        check(&[], &[("lb1/static_10.0.0.8_6443", Up, 1, 0, 0), ("lb1/vm8_name_80", Up, 1, 0, 0)], &[]);
    }

    #[test]
    fn half_a_change_is_finished() {
        use ServerState::{Maintenance, Up};
        let again = format!("use {NEW} again");
        check(&[(NEW, 1, 0)], &[(NEW, Maintenance, 1, 0, 0)], &[&again]);
        let weight = format!("give {NEW} the weight 1");
        check(&[(NEW, 1, 0)], &[(NEW, Up, 0, 0, 3)], &[&weight]);
        check(&[(NEW, 1, 0)], &[(NEW, Maintenance, 0, 0, 3)], &[&weight, &again]);
    }

    #[test]
    fn shares_and_limits_follow() {
        use ServerState::Up;
        let (drain, limit) = (format!("drain {NEW}"), format!("limit {NEW} to 5 connections"));
        check(&[(NEW, 0, 5)], &[(NEW, Up, 1, 0, 3)], &[&drain, &limit]);
        check(&[(NEW, 1, 0)], &[(NEW, Up, 1, 5, 3)], &[&format!("lift the limit of {NEW}")]);
    }

    #[test]
    fn the_last_connections_are_waited_for() {
        let mut run = running(&[(OLD, ServerState::Up, 1, 0, 3)]);
        check(&[], &[(OLD, ServerState::Up, 1, 0, 3)], &[&format!("drain {OLD}")]);
        run.servers.get_mut(OLD).unwrap().weight = 0;
        let waiting = Reconciled { changes: Vec::new(), leaving: 1, connections: 3 };
        assert_eq!(reconcile(&BTreeMap::new(), &run), waiting);
    }
}
