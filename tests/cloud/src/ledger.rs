//! Who asked OneGate for what, and everything it was ever sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::VmId;

/// What a request costs the cloud, and whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `GET /vm`.
    OwnRead,
    /// `PUT /vm`.
    OwnWrite,
    /// `GET /service`.
    Service,
    /// `GET /service?extended`.
    ServiceExtended,
    /// `GET /vms/ID`.
    OtherRead,
    /// `PUT /vms/ID`.
    OtherWrite,
    /// `POST /vms/ID/action`.
    Action,
    /// `PUT /service/role/ROLE`.
    Scale,
    /// `GET /vrouter` and `GET /vnet/ID`.
    VirtualRouter,
    /// `GET /` and what OneGate does not know.
    Other,
}

/// One request that carried a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    /// When.
    pub at: Duration,
    /// Who, by the X-ONEGATE-VMID it sent.
    pub vm: Option<VmId>,
    /// What.
    pub kind: Kind,
    /// Path and query.
    pub path_and_query: String,
    /// The body; what is not UTF-8 is replaced.
    pub body: String,
}

/// Counts and bodies since the cloud's start.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    counts: BTreeMap<(Option<VmId>, Kind), u64>,
    received: Vec<Received>,
}

impl Ledger {
    /// How many requests of a kind a VM has made, refused ones included.
    pub fn count(&self, vm: VmId, kind: Kind) -> u64 {
        self.counts.get(&(Some(vm), kind)).copied().unwrap_or_default()
    }

    /// Every count, by VM and kind; requests without a VM number come under None.
    pub fn counts(&self) -> impl Iterator<Item = (Option<VmId>, Kind, u64)> {
        self.counts.iter().map(|((vm, kind), count)| (*vm, *kind, *count))
    }

    /// How many requests of a kind all VMs have made.
    pub fn total(&self, kind: Kind) -> u64 {
        self.counts().filter(|(_, counted, _)| *counted == kind).map(|(.., count)| count).sum()
    }

    /// Every request with a body, in order: where to look for secrets.
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    pub(crate) fn record(&mut self, received: Received) {
        *self.counts.entry((received.vm, received.kind)).or_default() += 1;
        if !received.body.is_empty() {
            self.received.push(received);
        }
    }
}
