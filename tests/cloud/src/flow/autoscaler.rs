//! The autoscaler: its round over all services, and how a role's policies are evaluated.

use std::time::Duration;

use super::expression::{Expression, mean};
use super::policy::{Bounds, wanted};
use super::service::{FlowState, Role, Service};
use crate::cloud::{Cloud, Timer};
use crate::id::ServiceId;
use crate::vm::{Vm, VmState};

/// A role that shall have another number of VMs.
struct Decision {
    role: usize,
    cardinality: u32,
    cooldown: Option<Duration>,
}

impl Cloud {
    /// One round: at most one role of each RUNNING service scales.
    pub(crate) fn autoscale(&mut self, at: Duration) {
        let running = |service: &&Service| service.state == FlowState::Running;
        let ids: Vec<ServiceId> = self.services.values().filter(running).map(|service| service.id).collect();
        for id in ids {
            if let Some(decision) = self.round(at, id) {
                let service = self.services.get_mut(&id).expect("it was in the list just made");
                if let Some(cooldown) = decision.cooldown {
                    service.roles[decision.role].cooldown = cooldown;
                }
                let (role, cardinality) = (decision.role, decision.cardinality);
                let due = at + self.options.timing.reaction;
                self.at(due, Timer::ScaleRole { service: id, role, cardinality });
            }
        }
    }

    /// The lifecycle manager gets round to what the autoscaler decided, if nothing came between.
    pub(crate) fn scale_as_decided(&mut self, at: Duration, id: ServiceId, role: usize, cardinality: u32) {
        if self.services.get(&id).is_some_and(|service| service.state == FlowState::Running) {
            self.scale_role(at, id, role, cardinality);
        }
    }

    fn round(&mut self, at: Duration, id: ServiceId) -> Option<Decision> {
        let mut service = self.services.remove(&id)?;
        let (last, now) = (self.unix(service.last_schedule), self.unix(at));
        service.last_schedule = at;
        let decision = (0..service.roles.len()).find_map(|index| {
            let role = &mut service.roles[index];
            let found =
                scheduled(role, last, now).or_else(|| self.elastic(at, role)).or_else(|| minimum(role));
            found.map(|(cardinality, cooldown)| Decision { role: index, cardinality, cooldown })
        });
        self.services.insert(id, service);
        decision
    }

    /// Evaluates each policy that is due; the first that fires and changes something wins.
    fn elastic(&self, at: Duration, role: &mut Role) -> Option<(u32, Option<Duration>)> {
        let bounds = bounds(role);
        let running: Vec<&Vm> = (role.nodes.iter())
            .filter_map(|node| self.vms.get(&node.vm))
            .filter(|vm| vm.state == VmState::Running)
            .collect();
        let average = |name: &str| mean(running.iter().filter_map(|vm| attribute(vm, name)));
        for watched in &mut role.policies {
            let policy = &watched.policy;
            let due = watched.last_evaluation.map(|last| last + Duration::from_secs(policy.period));
            if due.is_some_and(|due| at < due) {
                continue;
            }
            watched.last_evaluation = Some(at);
            // OneFlow passes over an expression that it cannot read.
            let Ok(expression) = Expression::parse(&policy.expression) else { continue };
            let evaluation = expression.evaluate(&average);
            watched.words = Some(evaluation.to_string());
            let so_far = watched.true_evaluations.unwrap_or(0);
            let count = if evaluation.holds { (so_far + 1).min(policy.period_number.max(1)) } else { 0 };
            watched.true_evaluations = Some(count);
            if !evaluation.holds || count < policy.period_number {
                continue;
            }
            let cardinality = wanted(policy.kind, policy.adjust, policy.min_adjust_step, bounds);
            if cardinality != role.cardinality {
                return Some((cardinality, policy.cooldown.map(Duration::from_secs)));
            }
        }
        None
    }
}

fn bounds(role: &Role) -> Bounds {
    Bounds { cardinality: role.cardinality, min: role.min_vms, max: role.max_vms }
}

/// Looked up where a policy's names are: what the VM publishes, then what it was made of.
fn attribute<'a>(vm: &'a Vm, name: &str) -> Option<&'a str> {
    vm.user_template.text(name).or(match name {
        "CPU" => Some(vm.hardware.cpu.as_str()),
        "MEMORY" => Some(vm.hardware.memory.as_str()),
        _ => None,
    })
}

fn scheduled(role: &Role, last: u64, now: u64) -> Option<(u32, Option<Duration>)> {
    role.schedule.iter().filter(|policy| policy.is_due(last, now)).find_map(|policy| {
        let cardinality = wanted(policy.kind, policy.adjust, policy.min_adjust_step, bounds(role));
        (cardinality != role.cardinality).then(|| (cardinality, policy.cooldown.map(Duration::from_secs)))
    })
}

/// The rule that nobody writes: a role below its minimum is brought back to it, without a cooldown.
fn minimum(role: &Role) -> Option<(u32, Option<Duration>)> {
    let min = role.min_vms.unwrap_or(0);
    (role.cardinality < min).then_some((min, Some(Duration::ZERO)))
}
