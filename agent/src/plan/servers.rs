//! Changes of a running HAProxy's servers, and how they are told.

use std::fmt;

/// So many changes are told one by one; of more their numbers.
const TOLD: usize = 4;

/// One server is made so. Idempotent: a server that is there is not added again, one that is gone is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerChange {
    /// `backend/server`.
    pub server: String,
    /// What becomes of it.
    pub to: To,
}

/// What becomes of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// It is there, and is used.
    Added {
        /// Its address, port and options as the configuration file has them, for a server without defaults.
        words: String,
        /// Its share.
        weight: u16,
        /// Its limit of connections; 0: none.
        limit: u32,
        /// HAProxy checks its health.
        checked: bool,
    },
    /// It is used again.
    Used {
        /// HAProxy checks its health.
        checked: bool,
    },
    /// It has this share; 0 drains it.
    Weight(u16),
    /// It has this limit of connections; 0: none.
    Limit(u32),
    /// It is gone, unless it still has connections: then it gets no new ones.
    Removed,
}

impl fmt::Display for ServerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        match &self.to {
            To::Added { .. } => write!(f, "add {server}"),
            To::Used { .. } => write!(f, "use {server} again"),
            To::Weight(0) => write!(f, "drain {server}"),
            To::Weight(weight) => write!(f, "give {server} the weight {weight}"),
            To::Limit(0) => write!(f, "lift the limit of {server}"),
            To::Limit(limit) => write!(f, "limit {server} to {limit} connections"),
            To::Removed => write!(f, "remove {server}"),
        }
    }
}

/// All of them in one line.
pub(super) fn told(changes: &[ServerChange], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let few: Vec<String> = changes.iter().take(TOLD).map(ServerChange::to_string).collect();
    write!(f, "in HAProxy: {}", few.join(", "))?;
    if changes.len() > TOLD { write!(f, " and {} more", changes.len() - TOLD) } else { Ok(()) }
}
