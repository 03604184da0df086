//! What members say to each other on port 2380, as JSON over mutual TLS.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::state::{Change, Entry, State};

/// "May I lead?"
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The term to lead in.
    pub term: u64,
    /// Who asks.
    pub candidate: String,
    /// The term of the asker's last entry.
    pub last_term: u64,
    /// Its revision.
    pub last_revision: u64,
    /// Only asked, not meant: nothing is remembered (Raft, 9.6). It keeps a lonely member from raising its term.
    pub trial: bool,
}

/// The answer to [`VoteRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VoteReply {
    /// The answerer's term.
    pub term: u64,
    /// Whether it agrees.
    pub granted: bool,
    /// The asker is a member no more.
    pub removed: bool,
}

/// "I lead; here is what is new", also when nothing is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppendRequest {
    /// The leader's term.
    pub term: u64,
    /// The leader.
    pub leader: String,
    /// The term of the entry before the new ones.
    pub previous_term: u64,
    /// Its revision.
    pub previous_revision: u64,
    /// The new ones.
    pub entries: Vec<Entry>,
    /// Everything up to this revision is agreed on.
    pub commit: u64,
}

/// "You are too far behind or beside: take all of this."
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstallRequest {
    /// The leader's term.
    pub term: u64,
    /// The leader.
    pub leader: String,
    /// Its state.
    pub state: State,
    /// Its entries after that.
    pub tail: Vec<Entry>,
}

/// The answer to [`AppendRequest`] and [`InstallRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppendReply {
    /// The answerer's term.
    pub term: u64,
    /// Whether it took the entries.
    pub taken: bool,
    /// The term of its last entry now.
    pub last_term: u64,
    /// Its revision.
    pub last_revision: u64,
}

/// "Let this change be made if these keys are as I saw them."
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Transaction {
    /// Keys with the revision of their last change; 0 for a key that must not be there.
    pub guards: Vec<(String, u64)>,
    /// What changes.
    pub changes: Vec<Change>,
}

/// The revision that a leader answers with, or why not.
pub type Outcome = Result<u64, StoreError>;
