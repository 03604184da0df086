//! A service as OneFlow keeps it.

use std::time::Duration;

use serde::Serialize;

use super::policy::{ElasticityPolicy, ScheduledPolicy};
use crate::attributes::Attributes;
use crate::id::{ServiceId, VmId};

/// States of services and of roles have the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowState {
    /// Waits for its parents.
    Pending = 0,
    /// Its VMs are created and not ready yet.
    Deploying = 1,
    /// All is well.
    Running = 2,
    /// Its VMs are being terminated.
    Undeploying = 3,
    /// A VM is off.
    Warning = 4,
    /// Its VMs are gone.
    Done = 5,
    /// A VM could not be started at the first deployment.
    FailedDeploying = 7,
    /// VMs come or go.
    Scaling = 8,
    /// A VM that was to come could not be started.
    FailedScaling = 9,
    /// It scaled, and refuses to do so again for a while.
    Cooldown = 10,
}

impl Serialize for FlowState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// A service as OneFlow keeps it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// The template's name, unless the user gave another.
    pub name: String,
    /// Its state.
    pub state: FlowState,
    /// In the template's order.
    pub roles: Vec<Role>,
    pub(crate) gate: bool,
    /// An unknown role was to be scaled: the watchdog no longer looks, until OneFlow restarts.
    pub(crate) blind: bool,
    /// Since when OneFlow waits in this state; it looks at everything again each 30 s from then.
    pub(crate) since: Duration,
    /// Counts changes of state, so that a timer of an earlier one is known.
    pub(crate) generation: u64,
    pub(crate) last_schedule: Duration,
    /// User inputs, defaults included.
    pub(crate) inputs: std::collections::BTreeMap<String, String>,
}

/// A role of a service.
#[derive(Clone, Debug)]
pub struct Role {
    /// `vnf`, `master`, ...
    pub name: String,
    /// How many VMs there should be.
    pub cardinality: u32,
    /// Its state.
    pub state: FlowState,
    /// Oldest first.
    pub nodes: Vec<Node>,
    pub(crate) parents: Vec<String>,
    pub(crate) min_vms: Option<u32>,
    pub(crate) max_vms: Option<u32>,
    pub(crate) cooldown: Duration,
    pub(crate) hard_shutdown: bool,
    pub(crate) vm_template: crate::templates::VmTemplate,
    pub(crate) contents: Attributes,
    pub(crate) policies: Vec<Watched>,
    pub(crate) schedule: Vec<ScheduledPolicy>,
    /// The number in the next VM's name.
    pub(crate) next_index: u32,
}

impl Role {
    /// How long it refuses to scale after it scaled; a policy that fired may have changed it.
    pub fn cooldown(&self) -> Duration {
        self.cooldown
    }

    /// For each elasticity policy: its expression, how often in a row it was true, and the figures
    /// it was last evaluated with, in OneFlow's words. None before the first evaluation.
    pub fn evaluations(&self) -> impl Iterator<Item = (&str, Option<u32>, Option<&str>)> {
        self.policies.iter().map(|watched| {
            (watched.policy.expression.as_str(), watched.true_evaluations, watched.words.as_deref())
        })
    }
}

/// A VM in a role's list.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number.
    pub vm: VmId,
    /// Its name when it was created; OneFlow does not learn of another.
    pub(crate) name: String,
    /// OneFlow has seen READY=YES.
    pub(crate) ready: bool,
    /// OneFlow has asked for its end.
    pub(crate) leaving: bool,
    /// OneFlow has seen it off, and not running since.
    pub(crate) alarmed: bool,
}

/// An elasticity policy, and how far it has come.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub policy: ElasticityPolicy,
    pub last_evaluation: Option<Duration>,
    pub true_evaluations: Option<u32>,
    pub words: Option<String>,
}

impl Service {
    /// The role of this name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// Whether a VM is in one of the roles' lists.
    pub fn contains(&self, vm: VmId) -> bool {
        self.nodes().any(|node| node.vm == vm)
    }

    /// Every node, role by role.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.roles.iter().flat_map(|role| &role.nodes)
    }
}
