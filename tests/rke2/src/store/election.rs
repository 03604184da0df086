//! Becoming the leader, and noticing that one is it no more.
//!
//! ```text
//!            no leader heard            a majority would         a majority does
//! follower ───────────────────▶ trial ───────────────────▶ vote ────────────────▶ leader
//!    ▲                            │ no                       │ no                   │
//!    └────────────────────────────┴──────────────────────────┴── no majority heard ─┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Vote;
use super::messages::VoteRequest;
use super::state::{self, Entry};
use super::{Role, Store};
use crate::{log, pki};

impl Store {
    /// Keeps the member going until the process ends: stands for election when there is no leader, leads when elected.
    pub async fn run(self: Arc<Self>) {
        loop {
            if self.is_removed() || self.failure().is_some() {
                return;
            }
            if self.leads_or_tries() {
                self.check_majority();
                tokio::time::sleep(self.timing.election / 4).await;
                continue;
            }
            let wait = self.timing.election + self.jitter();
            let heard = self.lock().heard;
            if heard.elapsed() < wait && !self.is_alone() {
                tokio::time::sleep(wait.saturating_sub(heard.elapsed()).max(Duration::from_millis(10))).await;
                continue;
            }
            if self.stand(true).await && self.stand(false).await {
                self.lead();
            } else {
                self.lock().heard = Instant::now();
                tokio::time::sleep(self.timing.election / 4).await;
            }
        }
    }

    fn leads_or_tries(&self) -> bool {
        matches!(self.lock().role, Role::Leader { .. })
    }

    /// A sole voter needs not wait for anyone's silence.
    fn is_alone(&self) -> bool {
        let members = self.members();
        members.is_voter(&self.me) && members.voters().count() == 1
    }

    /// Asks the voters; a trial changes nothing anywhere.
    async fn stand(&self, trial: bool) -> bool {
        let Some((request, others, majority)) = self.candidacy(trial) else { return false };
        let questions = others.iter().map(|address| self.peers.vote(address, &request));
        let answers = crate::parallel::all(questions).await;
        let newest = answers.iter().flatten().map(|reply| reply.term).max().unwrap_or(0);
        if answers.iter().flatten().any(|reply| reply.removed) {
            self.on_removed();
            return false;
        }
        let mut inner = self.lock();
        // Also after a trial: with an older term than the others' this member could never be elected.
        if newest > inner.vote.term {
            inner.save_vote(Vote { term: newest, whom: None });
            return false;
        }
        let granted = 1 + answers.iter().flatten().filter(|reply| reply.granted).count();
        let still = trial || inner.vote == Vote { term: request.term, whom: Some(self.me.clone()) };
        granted >= majority && still
    }

    fn candidacy(&self, trial: bool) -> Option<(VoteRequest, Vec<String>, usize)> {
        let mut inner = self.lock();
        let members = state::effective_members(&inner.state, &inner.tail);
        if !members.is_voter(&self.me)
            || inner.leader.is_some() && inner.heard.elapsed() < self.timing.election
        {
            return None;
        }
        inner.leader = None;
        let term = inner.vote.term + 1;
        if !trial && !inner.save_vote(Vote { term, whom: Some(self.me.clone()) }) {
            return None;
        }
        let (last_term, last_revision) = inner.last();
        let request = VoteRequest { term, candidate: self.me.clone(), last_term, last_revision, trial };
        let others = members.voters().filter(|member| member.name != self.me);
        let others = others.map(|member| member.address.clone()).collect();
        Some((request, others, members.majority()))
    }

    /// Takes the lead: an empty entry of the new term settles everything before it (Raft, 5.4.2).
    fn lead(self: &Arc<Self>) {
        let mut inner = self.lock();
        let term = inner.vote.term;
        let revision = inner.last().1 + 1;
        if !inner.append(vec![Entry { term, revision, changes: Vec::new() }]) {
            return;
        }
        inner.role = Role::Leader { since: revision };
        inner.leader = Some(self.me.clone());
        inner.heard = Instant::now();
        inner.progress.clear();
        drop(inner);
        log::info(&format!("raft: {} became leader at term {term}", self.me));
        self.advance();
        self.moved();
        tokio::spawn(self.clone().replicate(term));
    }

    /// A leader that has not heard a majority for an election's time must assume that there is another.
    fn check_majority(&self) {
        let mut inner = self.lock();
        if inner.has_majority(&self.me, self.timing.election) {
            inner.heard = Instant::now();
        } else if inner.heard.elapsed() > self.timing.election {
            log::warn("raft: stepped down to follower since quorum is not active");
            (inner.role, inner.leader) = (Role::Follower, None);
            inner.heard = Instant::now();
            drop(inner);
            self.moved();
        }
    }

    /// A random part of the election time, so that two members rarely stand at once.
    fn jitter(&self) -> Duration {
        let random = u32::from(pki::random(1)[0]);
        self.timing.election * random / 255
    }
}
