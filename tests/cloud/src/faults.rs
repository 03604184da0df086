//! What goes wrong on request: everything that a real front end was seen to do, and a little more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::VmId;
use crate::ledger::Kind;

/// What goes wrong from now on. The default is: nothing.
///
/// `one_in` fields are chances: 0 is never, 1 always, `n` once in `n` requests on average.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How long the server takes, by kind of request, in seconds.
    pub latency: BTreeMap<Kind, f64>,
    /// Answers 500 `Internal server error`.
    pub error_one_in: u32,
    /// The status instead of 500.
    pub error_status: Option<u16>,
    /// Limits `error_one_in` to these kinds; empty means all.
    pub error_kinds: BTreeSet<Kind>,
    /// Answers 401 to a good request; a real server does so to about one in 1,000 under load.
    pub unauthorized_one_in: u32,
    /// OneFlow is down: 404 for everything about the service, and nothing happens to services; what
    /// VMs do meanwhile it finds out afterwards.
    pub oneflow_down: bool,
    /// oned is down: 401 for everything.
    pub oned_down: bool,
    /// Nobody answers, until this many seconds after the cloud's start.
    pub refuse_until: f64,
    /// The connection ends in the middle of a body.
    pub cut_one_in: u32,
    /// `/service` tells what was so many seconds ago.
    pub stale_service: f64,
    /// `vm_info` is null for these nodes.
    pub null_vm_info: BTreeSet<VmId>,
    /// `vm_info` is null for a node.
    pub null_vm_info_one_in: u32,
    /// These nodes are not listed.
    pub missing_nodes: BTreeSet<VmId>,
    /// A node is not listed.
    pub missing_node_one_in: u32,
    /// These VMs are shown without USER_TEMPLATE.
    pub missing_user_template: BTreeSet<VmId>,
    /// `/vnet/ID` of these networks answers 500.
    pub unreadable_networks: BTreeSet<u32>,
    /// Between an erase's reading and its writing back, in seconds; what others write meanwhile is
    /// lost. A real server needs some tens of milliseconds.
    pub erase_window: f64,
}

/// Seconds as users write them; what is no time counts as none.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
