//! What was: kept only while answers about the service are to be stale.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::cloud::Cloud;
use crate::faults::seconds;
use crate::flow::service::Service;
use crate::id::{ServiceId, VmId};
use crate::vm::Vm;

/// All that `/service` tells, at one time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub services: BTreeMap<ServiceId, Service>,
    pub vms: BTreeMap<VmId, Vm>,
}

/// Snapshots by time, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<(Duration, Snapshot)>);

impl History {
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// The last one at or before `at`, or the oldest.
    fn of(&self, at: Duration) -> Option<&Snapshot> {
        let older = self.0.iter().rev().find(|(taken, _)| *taken <= at);
        older.or(self.0.front()).map(|(_, snapshot)| snapshot)
    }
}

impl Cloud {
    /// Keeps the present for later, if answers are to be stale.
    pub(crate) fn remember(&mut self, now: Duration) {
        let age = seconds(self.faults.stale_service);
        if age.is_zero() {
            return;
        }
        let snapshot = Snapshot { services: self.services.clone(), vms: self.vms.clone() };
        self.history.0.push_back((now, snapshot));
        while self.history.0.get(1).is_some_and(|(taken, _)| *taken + age <= now) {
            self.history.0.pop_front();
        }
    }

    /// What `/service` tells from, if that is not the present.
    pub(crate) fn stale(&self, now: Duration) -> Option<Snapshot> {
        let age = seconds(self.faults.stale_service);
        if age.is_zero() {
            return None;
        }
        self.history.of(now.saturating_sub(age)).cloned()
    }
}
