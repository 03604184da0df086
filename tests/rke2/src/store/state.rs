//! What the members agree on: keys with JSON values, each with the revisions at which it was made and last changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::members::Members;

/// Where the membership lives among the keys.
pub const MEMBERS_KEY: &str = "/standin/members";

/// One step that the members agreed on. `(term, revision)` names it: two logs that hold the same pair are equal up to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's term.
    pub term: u64,
    /// One more than its predecessor's.
    pub revision: u64,
    /// What changes, all at once.
    pub changes: Vec<Change>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Make or replace.
    Put(String, Value),
    /// Remove, if it is there.
    Delete(String),
}

/// A value and when it came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The value.
    pub value: Value,
    /// The revision that made the key.
    pub created: u64,
    /// The revision that changed it last.
    pub modified: u64,
}

/// A change as a watcher sees it.
#[derive(Debug, Clone)]
pub struct Event {
    /// The revision that made it.
    pub revision: u64,
    /// Which key.
    pub key: String,
    /// What it was, if it was there.
    pub before: Option<Record>,
    /// What it is, unless it is gone.
    pub after: Option<Record>,
}

/// All keys, after a number of entries.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The term of the last entry.
    pub term: u64,
    /// Its revision.
    pub revision: u64,
    /// The keys.
    pub keys: BTreeMap<String, Record>,
}

impl State {
    /// Takes the next entry in, and tells what it changed.
    pub fn apply(&mut self, entry: &Entry) -> Vec<Event> {
        let mut events = Vec::new();
        for change in &entry.changes {
            let event = match change {
                Change::Put(key, value) => self.put(key, value, entry.revision),
                Change::Delete(key) => self.keys.remove(key).map(|before| (key, Some(before), None)),
            };
            if let Some((key, before, after)) = event {
                events.push(Event { revision: entry.revision, key: key.clone(), before, after });
            }
        }
        (self.term, self.revision) = (entry.term, entry.revision);
        events
    }

    /// The members, as of this state.
    pub fn members(&self) -> Members {
        self.keys.get(MEMBERS_KEY).map(|record| Members::from_value(&record.value)).unwrap_or_default()
    }

    /// The keys that begin with `prefix`, in order.
    pub fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Record)> {
        self.keys.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }

    fn put<'a>(&mut self, key: &'a String, value: &Value, revision: u64) -> Option<Step<'a>> {
        let before = self.keys.get(key).cloned();
        let created = before.as_ref().map_or(revision, |record| record.created);
        let after = Record { value: value.clone(), created, modified: revision };
        self.keys.insert(key.clone(), after.clone());
        Some((key, before, Some(after)))
    }
}

type Step<'a> = (&'a String, Option<Record>, Option<Record>);

/// The membership after `tail`, which counts from the moment it is written, not when it is agreed on (Raft, 4.1).
pub fn effective_members(state: &State, tail: &[Entry]) -> Members {
    let changes = tail.iter().rev().flat_map(|entry| entry.changes.iter().rev());
    let newest = changes.filter_map(|change| match change {
        Change::Put(key, value) if key == MEMBERS_KEY => Some(Members::from_value(value)),
        _ => None,
    });
    newest.into_iter().next().unwrap_or_else(|| state.members())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_remembers_when_it_was_made() {
        let mut state = State::default();
        let put =
            |revision, value| Entry { term: 1, revision, changes: vec![Change::Put("/a".into(), value)] };
        state.apply(&put(1, json!(1)));
        let events = state.apply(&put(2, json!(2)));
        assert_eq!((state.keys["/a"].created, state.keys["/a"].modified), (1, 2));
        assert_eq!(events[0].before.as_ref().unwrap().value, json!(1));
        let gone = state.apply(&Entry { term: 1, revision: 3, changes: vec![Change::Delete("/a".into())] });
        assert!(gone[0].after.is_none() && state.keys.is_empty());
    }

    #[test]
    fn a_range_ends_where_the_prefix_does() {
        let mut state = State::default();
        let changes = ["/a/1", "/a/2", "/b/1"].map(|key| Change::Put(key.into(), json!(0))).to_vec();
        state.apply(&Entry { term: 1, revision: 1, changes });
        assert_eq!(state.range("/a/").count(), 2);
    }
}
