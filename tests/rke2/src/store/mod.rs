//! The datastore: what etcd is to RKE2. Raft (Ongaro, 2014) with whole-state catch-up instead of a long log.
//!
//! A write is acknowledged when a majority of the voters has it on disk. Reads are asked of the leader first, so
//! nobody sees a value that a later read takes back.

mod disk;
mod election;
mod follow;
mod lead;
pub mod members;
mod messages;
pub mod peers;
pub mod state;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use disk::{Disk, Vote};
use members::Members;
use messages::Outcome;
pub use messages::Transaction;
pub use peers::Peers;
use state::{Change, Entry, Event, State};

/// How many events a watcher may be behind before it must list again.
const HISTORY: usize = 2_000;

/// How many entries are kept for followers that are a little behind; beyond, they get the whole state.
const RECENT: usize = 500;

/// How long a write or a read waits for a majority; etcd's request timeout is 5 s plus twice the election's.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the datastore did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StoreError {
    /// Nobody leads, or the leader has no majority; nothing was changed.
    #[error("etcdserver: no leader")]
    NoQuorum,
    /// No majority answered in time; the change may still be made.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// A guarded key was changed by someone else.
    #[error("etcdserver: {0} has changed")]
    Conflict(String),
    /// This member was removed.
    #[error("etcdserver: server stopped")]
    Removed,
}

/// What this member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    /// Leads; has agreed with a majority on everything from this revision on.
    Leader {
        since: u64,
    },
}

/// Who leads, as far as this member knows.
enum Leader {
    Me,
    At(String),
    Nobody,
}

/// How far a peer has followed, as its leader knows.
#[derive(Debug, Clone, Copy)]
struct Progress {
    last: (u64, u64),
    heard: Instant,
    caught_up: Option<Instant>,
}

/// One member's part of the datastore.
pub struct Store {
    /// This member's name.
    pub me: String,
    inner: Mutex<Inner>,
    writing: tokio::sync::Mutex<()>,
    /// Counts up whenever anything moves: entries, agreement, leadership.
    moved: watch::Sender<u64>,
    peers: Peers,
    timing: Timing,
}

/// The delays that a test may shorten.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Without a leader for so long, up to twice as long, a member stands for election.
    pub election: Duration,
    /// How long a member that has caught up stays a learner.
    pub promotion: Duration,
}

/// A member's part in its cluster, as it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It has heard of a leader lately.
    pub has_leader: bool,
    /// It leads.
    pub is_leader: bool,
    /// It has no vote yet.
    pub is_learner: bool,
}

struct Inner {
    disk: Disk,
    vote: Vote,
    state: State,
    tail: Vec<Entry>,
    recent: VecDeque<Entry>,
    history: VecDeque<Event>,
    /// Watchers from before this revision must list again.
    history_from: u64,
    role: Role,
    leader: Option<String>,
    heard: Instant,
    progress: BTreeMap<String, Progress>,
    removed: bool,
    failure: Option<String>,
}

impl Store {
    /// Opens the member's log. Nothing moves until [`Store::run`].
    ///
    /// # Errors
    /// When the log is damaged or the disk says no.
    pub fn open(directory: &Path, me: &str, peers: Peers, timing: Timing) -> Result<Arc<Self>> {
        let (disk, vote, state, tail) = Disk::open(directory)?;
        let history_from = state.revision;
        let inner = Inner {
            disk,
            vote,
            state,
            tail,
            recent: VecDeque::new(),
            history: VecDeque::new(),
            history_from,
            role: Role::Follower,
            leader: None,
            heard: Instant::now(),
            progress: BTreeMap::new(),
            removed: false,
            failure: None,
        };
        let (moved, _) = watch::channel(0);
        Ok(Arc::new(Self {
            me: me.to_owned(),
            inner: Mutex::new(inner),
            writing: tokio::sync::Mutex::new(()),
            moved,
            peers,
            timing,
        }))
    }

    /// Begins a log with this member alone and `changes`; only before [`Store::run`], on an empty log.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn found(&self, address: &str, changes: Vec<Change>) -> Result<()> {
        let alone = Members::default().with_learner(&self.me, address).map_err(anyhow::Error::msg)?;
        self.reset(&alone.with_promoted(&self.me), changes)
    }

    /// Forgets all other members: what `--cluster-reset` does. Only before [`Store::run`].
    ///
    /// # Errors
    /// When the disk says no.
    pub fn reset(&self, members: &Members, mut changes: Vec<Change>) -> Result<()> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let tail = std::mem::take(&mut inner.tail);
        tail.iter().for_each(|entry| drop(inner.state.apply(entry)));
        inner.vote = Vote { term: inner.vote.term + 1, whom: None };
        changes.push(Change::Put(state::MEMBERS_KEY.to_owned(), members.to_value()));
        let entry = Entry { term: inner.vote.term, revision: inner.state.revision + 1, changes };
        inner.state.apply(&entry);
        inner.disk.save_vote(&inner.vote)?;
        inner.disk.install(&inner.state, &[])
    }

    /// Replaces the whole state, keeping the order of revisions: a snapshot's restore. Only before [`Store::run`].
    pub fn replace(&self, keys: BTreeMap<String, state::Record>) {
        let mut inner = self.lock();
        inner.tail.clear();
        inner.state.keys = keys;
    }

    /// A copy of the agreed state as this member knows it, without asking anyone.
    pub fn local(&self) -> State {
        self.lock().state.clone()
    }

    /// The state with everything that is on disk, agreed on or not: what a member may look at before it runs.
    pub fn on_disk(&self) -> State {
        let inner = self.lock();
        let mut state = inner.state.clone();
        inner.tail.iter().for_each(|entry| drop(state.apply(entry)));
        state
    }

    /// The members as this member knows them, without asking anyone.
    pub fn members(&self) -> Members {
        let inner = self.lock();
        state::effective_members(&inner.state, &inner.tail)
    }

    /// Whether this member leads and has a majority behind it.
    pub fn leads(&self) -> bool {
        self.lock().leads()
    }

    /// What this member says of itself.
    pub fn standing(&self) -> Standing {
        let inner = self.lock();
        let members = state::effective_members(&inner.state, &inner.tail);
        // Followers learn only by silence that their leader is gone.
        let heard = inner.leader.is_some() && inner.heard.elapsed() < self.timing.election * 2;
        Standing {
            has_leader: inner.leads() || heard,
            is_leader: inner.leads(),
            is_learner: members.get(&self.me).is_some_and(|member| !member.voter),
        }
    }

    /// Whether this member was told that it is none any more.
    pub fn is_removed(&self) -> bool {
        self.lock().removed
    }

    /// Why the process must end, if it must: the disk refused a write.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Whether that member has answered its leader lately; only the leader knows.
    pub fn is_healthy(&self, name: &str) -> bool {
        let inner = self.lock();
        name == self.me
            || inner.progress.get(name).is_some_and(|p| p.heard.elapsed() < self.timing.election * 3)
    }

    /// Wakes up whenever anything moved.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// The events after `revision`, or `None` if they are forgotten and the watcher must list again.
    pub fn events_after(&self, revision: u64) -> Option<Vec<Event>> {
        let inner = self.lock();
        let known = revision >= inner.history_from;
        known.then(|| inner.history.iter().filter(|event| event.revision > revision).cloned().collect())
    }

    /// Lets `look` see the state as a majority agrees on it now.
    ///
    /// # Errors
    /// [`StoreError::NoQuorum`], [`StoreError::Removed`].
    pub async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        let agreed = self.ask_leader(None).await?;
        self.wait_for(|inner| inner.state.revision >= agreed).await?;
        Ok(look(&self.lock().state))
    }

    /// Makes a change, all or nothing; returns its revision, at which this member can be read too.
    ///
    /// # Errors
    /// All of [`StoreError`].
    pub async fn write(&self, transaction: Transaction) -> Outcome {
        let revision = self.ask_leader(Some(&transaction)).await?;
        self.wait_for(|inner| inner.state.revision >= revision).await?;
        Ok(revision)
    }

    /// Asks the leader, whoever it is or becomes within our patience, to write or, without a transaction, where it is.
    async fn ask_leader(&self, transaction: Option<&Transaction>) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut moves = self.moves();
            let known = self.leader_address()?;
            let answer = match (known, transaction) {
                (Leader::Me, Some(transaction)) => self.lead_write(transaction).await,
                (Leader::Me, None) => self.lead_read(),
                (Leader::At(address), transaction) => self.peers.ask(&address, transaction).await,
                (Leader::Nobody, _) => Err(StoreError::NoQuorum),
            };
            match answer {
                Err(StoreError::NoQuorum) if Instant::now() < deadline => {
                    // A new leader may be found meanwhile; a move wakes us, a silent peer does not.
                    let _ = tokio::time::timeout(Duration::from_millis(100), moves.changed()).await;
                }
                other => return other,
            }
        }
    }

    fn leader_address(&self) -> Result<Leader, StoreError> {
        let inner = self.lock();
        if inner.removed {
            return Err(StoreError::Removed);
        }
        let Some(leader) = &inner.leader else { return Ok(Leader::Nobody) };
        if *leader == self.me {
            return Ok(Leader::Me);
        }
        let members = state::effective_members(&inner.state, &inner.tail);
        Ok(members.get(leader).map_or(Leader::Nobody, |member| Leader::At(member.address.clone())))
    }

    async fn wait_for(&self, done: impl Fn(&Inner) -> bool) -> Result<(), StoreError> {
        let mut moves = self.moves();
        let waiting = async {
            while !done(&self.lock()) {
                if moves.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| StoreError::TimedOut)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no one panics while holding the store")
    }

    fn moved(&self) {
        self.moved.send_modify(|count| *count += 1);
    }
}

impl Inner {
    /// Term and revision of the last entry, agreed on or not.
    fn last(&self) -> (u64, u64) {
        self.tail.last().map_or((self.state.term, self.state.revision), |entry| (entry.term, entry.revision))
    }

    fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { since } if self.state.revision >= since)
    }

    /// Whether a leader has heard a majority of the voters within that time.
    fn has_majority(&self, me: &str, within: Duration) -> bool {
        let members = state::effective_members(&self.state, &self.tail);
        let fresh =
            |name: &str| self.progress.get(name).is_some_and(|progress| progress.heard.elapsed() < within);
        let heard = members.voters().filter(|member| member.name == me || fresh(&member.name)).count();
        heard >= members.majority()
    }

    /// Writes entries to disk and to the tail. A disk that refuses ends the member.
    fn append(&mut self, entries: Vec<Entry>) -> bool {
        if let Err(error) = self.disk.append(&entries) {
            self.failure = Some(format!("{error:#}"));
            self.role = Role::Follower;
            self.leader = None;
            return false;
        }
        self.tail.extend(entries);
        true
    }

    /// Everything up to `revision` is agreed on: it becomes the state.
    fn commit(&mut self, revision: u64) {
        let agreed = self.tail.iter().take_while(|entry| entry.revision <= revision).count();
        let entries: Vec<Entry> = self.tail.drain(..agreed).collect();
        for entry in entries {
            self.history.extend(self.state.apply(&entry));
            self.recent.push_back(entry);
        }
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        while self.history.len() > HISTORY {
            self.history_from = self.history.pop_front().map_or(self.history_from, |event| event.revision);
        }
        if self.disk.entries > 4 * RECENT
            && let Err(error) = self.disk.install(&self.state, &self.tail)
        {
            self.failure = Some(format!("{error:#}"));
        }
    }

    fn save_vote(&mut self, vote: Vote) -> bool {
        match self.disk.save_vote(&vote) {
            Ok(()) => {
                self.vote = vote;
                true
            }
            Err(error) => {
                self.failure = Some(format!("{error:#}"));
                false
            }
        }
    }
}
