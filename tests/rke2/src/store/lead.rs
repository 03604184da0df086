//! Leading: one task a peer tells it what is new; what a majority has on disk is agreed on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::members::{Member, Members};
use super::messages::{AppendReply, AppendRequest, InstallRequest, Outcome, Transaction};
use super::state::{self, Change, Entry};
use super::{Progress, Role, Store, StoreError};
use crate::log;

/// What to send to a peer next.
enum Next {
    Append(AppendRequest),
    Install(Box<InstallRequest>),
}

impl Store {
    /// Where the leader is; only while it leads.
    pub(super) fn lead_read(&self) -> Outcome {
        let inner = self.lock();
        // Within this time nobody else can have been elected: the others wait for a whole election's time.
        let alone = inner.leads() && inner.has_majority(&self.me, self.timing.election * 3 / 4);
        if alone { Ok(inner.state.revision) } else { Err(StoreError::NoQuorum) }
    }

    /// Writes if the guards hold: one write after another.
    pub(super) async fn lead_write(&self, transaction: &Transaction) -> Outcome {
        let _turn = self.writing.lock().await;
        self.wait_for(|inner| !matches!(inner.role, Role::Leader { .. }) || inner.tail.is_empty()).await?;
        let (term, revision) = self.begin(transaction)?;
        self.advance();
        self.moved();
        self.wait_for(|inner| inner.state.revision >= revision || !matches!(inner.role, Role::Leader { .. }))
            .await?;
        // Under another leader another entry may have taken the revision's place.
        let ours = |entry: &Entry| (entry.term, entry.revision) == (term, revision);
        let agreed = self.lock().recent.iter().any(ours);
        if agreed { Ok(revision) } else { Err(StoreError::TimedOut) }
    }

    fn begin(&self, transaction: &Transaction) -> Result<(u64, u64), StoreError> {
        let mut inner = self.lock();
        if !inner.leads() || !inner.tail.is_empty() {
            return Err(StoreError::NoQuorum);
        }
        let modified = |key: &str| inner.state.keys.get(key).map_or(0, |record| record.modified);
        if let Some((key, _)) = transaction.guards.iter().find(|(key, seen)| modified(key) != *seen) {
            return Err(StoreError::Conflict(key.clone()));
        }
        let entry = Entry {
            term: inner.vote.term,
            revision: inner.state.revision + 1,
            changes: transaction.changes.clone(),
        };
        let name = (entry.term, entry.revision);
        if inner.append(vec![entry]) { Ok(name) } else { Err(StoreError::TimedOut) }
    }

    /// Counts who has what, and agrees on what a majority has. Only entries of the own term are counted (Raft, 5.4.2).
    pub(super) fn advance(&self) {
        let mut inner = self.lock();
        let Role::Leader { since } = inner.role else { return };
        let members = state::effective_members(&inner.state, &inner.tail);
        let mine = inner.last().1;
        let has = |member: &Member| match inner.progress.get(&member.name) {
            _ if member.name == self.me => mine,
            Some(progress) => progress.last.1,
            None => 0,
        };
        let mut revisions: Vec<u64> = members.voters().map(has).collect();
        revisions.sort_unstable_by(|a, b| b.cmp(a));
        let agreed = revisions.get(members.majority() - 1).copied().unwrap_or(0);
        if agreed >= since && agreed > inner.state.revision {
            inner.commit(agreed);
            drop(inner);
            self.moved();
        }
    }

    /// Starts a task for every peer, and ends when this member's lead of `term` does.
    pub(super) async fn replicate(self: Arc<Self>, term: u64) {
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut moves = self.moves();
        while self.leads_term(term) {
            for member in self.members().list {
                if member.name != self.me && told.insert(member.name.clone()) {
                    tokio::spawn(self.clone().tell(member, term));
                }
            }
            let members = self.lock().state.members();
            if !members.list.is_empty() && members.get(&self.me).is_none() {
                self.on_removed();
            }
            told.retain(|name| self.members().get(name).is_some());
            let _ = tokio::time::timeout(self.timing.election / 4, moves.changed()).await; // Either is a reason to look.
        }
    }

    fn leads_term(&self, term: u64) -> bool {
        let inner = self.lock();
        inner.vote.term == term && matches!(inner.role, Role::Leader { .. })
    }

    /// Tells one peer everything, as long as it is a member and this one leads.
    async fn tell(self: Arc<Self>, peer: Member, term: u64) {
        let mut moves = self.moves();
        while self.leads_term(term) {
            if self.members().get(&peer.name).is_none() {
                let _ = self.peers.removed(&peer.address).await; // It learns it at its next election otherwise.
                self.lock().progress.remove(&peer.name);
                return;
            }
            moves.mark_unchanged();
            let reply = match self.next_for(&peer.name, term) {
                Next::Append(request) => self.peers.append(&peer.address, &request).await,
                Next::Install(request) => self.peers.install(&peer.address, &request).await,
            };
            let behind = reply.is_some_and(|reply| self.on_reply(&peer.name, &reply));
            self.advance();
            if !behind {
                let _ = tokio::time::timeout(self.timing.election / 5, moves.changed()).await; // Either is a reason.
            }
        }
    }

    fn next_for(&self, peer: &str, term: u64) -> Next {
        let inner = self.lock();
        let leader = self.me.clone();
        let last = inner.progress.get(peer).map_or(inner.last(), |progress| progress.last);
        let commit = inner.state.revision;
        let known: Vec<&Entry> = inner.recent.iter().chain(&inner.tail).collect();
        let append = |entries| AppendRequest {
            term,
            leader: leader.clone(),
            previous_term: last.0,
            previous_revision: last.1,
            entries,
            commit,
        };
        if last == inner.last() {
            return Next::Append(append(Vec::new()));
        }
        match known.iter().position(|entry| (entry.term, entry.revision) == last) {
            Some(at) => Next::Append(append(known[at + 1..].iter().map(|&entry| entry.clone()).collect())),
            None => Next::Install(Box::new(InstallRequest {
                term,
                leader,
                state: inner.state.clone(),
                tail: inner.tail.clone(),
            })),
        }
    }

    /// Remembers how far the peer is; true if it needs more at once.
    fn on_reply(&self, peer: &str, reply: &AppendReply) -> bool {
        let mut inner = self.lock();
        if reply.term > inner.vote.term {
            inner.save_vote(super::disk::Vote { term: reply.term, whom: None });
            (inner.role, inner.leader) = (Role::Follower, None);
            return false;
        }
        let now = Instant::now();
        let last = (reply.last_term, reply.last_revision);
        let ours = inner.last();
        let level = reply.taken && last == ours;
        let earlier = inner.progress.get(peer).and_then(|progress| progress.caught_up);
        let caught_up = earlier.or_else(|| level.then_some(now));
        inner.progress.insert(peer.to_owned(), Progress { last, heard: now, caught_up });
        last != ours
    }

    /// Adds a learner.
    ///
    /// # Errors
    /// etcd's and RKE2's own words; or the datastore's.
    pub async fn add_learner(&self, name: &str, address: &str) -> Result<Members, String> {
        self.change_members(|members| members.with_learner(name, address)).await
    }

    /// Removes a member, if the others are still a healthy majority afterwards.
    ///
    /// # Errors
    /// etcd's own words.
    pub async fn remove(&self, name: &str) -> Result<Members, String> {
        self.change_members(|members| {
            let fewer = members.without(name);
            let healthy = fewer.voters().filter(|member| self.is_healthy(&member.name)).count();
            if members.get(name).is_none() {
                return Ok(members.clone());
            }
            if healthy < fewer.majority() {
                return Err(
                    "etcdserver: re-configuration failed due to not enough started members".to_owned()
                );
            }
            Ok(fewer)
        })
        .await
    }

    /// Promotes the learner if it has caught up for long enough.
    pub async fn promote_learners(&self) {
        let ready = |member: &&Member| {
            let inner = self.lock();
            let progress = inner.progress.get(&member.name);
            !member.voter
                && progress.is_some_and(|p| {
                    p.caught_up.is_some_and(|since| since.elapsed() >= self.timing.promotion)
                })
        };
        let members = self.members();
        let Some(learner) = members.list.iter().find(ready) else { return };
        if self.change_members(|members| Ok(members.with_promoted(&learner.name))).await.is_ok() {
            log::info(&format!("Promoted learner {} to voting member", learner.name));
        }
    }

    /// One change at a time: the guard makes sure that it starts from what everyone agreed on.
    async fn change_members(
        &self,
        change: impl Fn(&Members) -> Result<Members, String>,
    ) -> Result<Members, String> {
        let key = state::MEMBERS_KEY.to_owned();
        let look = |state: &state::State| {
            (state.members(), state.keys.get(&key).map_or(0, |record| record.modified))
        };
        let (members, seen) = self.read(look).await.map_err(|error| error.to_string())?;
        let changed = change(&members)?;
        if changed != members {
            let changes = vec![Change::Put(key.clone(), changed.to_value())];
            let transaction = Transaction { guards: vec![(key.clone(), seen)], changes };
            self.write(transaction).await.map_err(|error| error.to_string())?;
        }
        Ok(changed)
    }
}
