//! The answers of a member that does not lead: to a leader's entries and to a candidate's question.

use std::time::Instant;

use super::disk::Vote;
use super::messages::{AppendReply, AppendRequest, InstallRequest, VoteReply, VoteRequest};
use super::state::{self};
use super::{Role, Store};
use crate::log;

impl Store {
    /// Takes a leader's entries if they follow on ours.
    pub(super) fn on_append(&self, request: AppendRequest) -> AppendReply {
        let mut inner = self.lock();
        let mut taken = self.accept_leader(&mut inner, request.term, &request.leader);
        taken &= inner.last() == (request.previous_term, request.previous_revision);
        taken = taken && inner.append(request.entries);
        if taken {
            let known = inner.last().1.min(request.commit);
            inner.commit(known);
        }
        let (last_term, last_revision) = inner.last();
        let reply = AppendReply { term: inner.vote.term, taken, last_term, last_revision };
        drop(inner);
        self.moved();
        reply
    }

    /// Takes a leader's whole state instead of ours.
    pub(super) fn on_install(&self, request: InstallRequest) -> AppendReply {
        let mut inner = self.lock();
        let mut taken = self.accept_leader(&mut inner, request.term, &request.leader);
        if taken {
            match inner.disk.install(&request.state, &request.tail) {
                Ok(()) => {
                    inner.history_from = request.state.revision;
                    inner.history.clear();
                    inner.recent.clear();
                    inner.state = request.state;
                    inner.tail = request.tail;
                }
                Err(error) => {
                    inner.failure = Some(format!("{error:#}"));
                    taken = false;
                }
            }
        }
        let (last_term, last_revision) = inner.last();
        let reply = AppendReply { term: inner.vote.term, taken, last_term, last_revision };
        drop(inner);
        self.moved();
        reply
    }

    /// Votes, at most once a term, for a candidate that has everything we have. While a leader is alive nobody else
    /// gets a vote, so that a member that was cut off does not disturb the others (Raft, 4.2.3).
    pub(super) fn on_vote(&self, request: &VoteRequest) -> VoteReply {
        let mut inner = self.lock();
        let members = state::effective_members(&inner.state, &inner.tail);
        let removed = members.removed.contains(&request.candidate);
        let led = inner.leader.is_some() && (inner.leads() || inner.heard.elapsed() < self.timing.election);
        let no = |term| VoteReply { term, granted: false, removed };
        if removed || led || request.term < inner.vote.term || !members.is_voter(&request.candidate) {
            return no(inner.vote.term);
        }
        let has_all = (request.last_term, request.last_revision) >= inner.last();
        if request.trial {
            return VoteReply { term: inner.vote.term, granted: has_all, removed };
        }
        let free = request.term > inner.vote.term
            || inner.vote.whom.as_deref().is_none_or(|whom| whom == request.candidate);
        let whom = (has_all && free).then(|| request.candidate.clone());
        let granted = whom.is_some();
        let vote = Vote { term: request.term, whom: if free { whom } else { inner.vote.whom.clone() } };
        if vote.term > inner.vote.term {
            inner.role = Role::Follower;
            inner.leader = None;
        }
        if vote != inner.vote && !inner.save_vote(vote) {
            return no(inner.vote.term);
        }
        if granted {
            inner.heard = Instant::now();
        }
        VoteReply { term: inner.vote.term, granted, removed }
    }

    /// We are a member no more.
    pub(super) fn on_removed(&self) {
        let mut inner = self.lock();
        if !inner.removed {
            log::error(
                "this node has been removed from the cluster please restart rke2 to rejoin the cluster",
            );
        }
        (inner.removed, inner.role, inner.leader) = (true, Role::Follower, None);
        drop(inner);
        self.moved();
    }

    /// Follows `leader` if its term is not past; a newer term is written down first.
    fn accept_leader(&self, inner: &mut super::Inner, term: u64, leader: &str) -> bool {
        if term < inner.vote.term || inner.failure.is_some() {
            return false;
        }
        if term > inner.vote.term && !inner.save_vote(Vote { term, whom: None }) {
            return false;
        }
        inner.role = Role::Follower;
        inner.leader = Some(leader.to_owned());
        inner.heard = Instant::now();
        true
    }
}
