//! Scaling a role: up by new VMs, down by its oldest.

use std::time::Duration;

use super::service::FlowState;
use crate::cloud::{Cloud, Refused, Timer};
use crate::id::{ServiceId, VmId};
use crate::vm::VmState;

impl Cloud {
    /// `oneflow scale`: sets how many VMs a role has.
    ///
    /// # Errors
    /// If the service is not RUNNING, or the role is unknown (which also makes OneFlow's watchdog
    /// forget the service until OneFlow restarts), or has so many already, or may not.
    pub fn scale(
        &mut self,
        now: Duration,
        id: ServiceId,
        role: &str,
        cardinality: u32,
    ) -> Result<(), Refused> {
        self.tick(now);
        let service = self.known_service(id)?;
        if service.state != FlowState::Running {
            return Err(Refused(format!("service {id} cannot scale while it is in {:?}", service.state)));
        }
        let Some(index) = service.roles.iter().position(|known| known.name == role) else {
            self.services.entry(id).and_modify(|service| service.blind = true);
            return Err(Refused(format!("service {id} has no role {role:?}")));
        };
        let role = &service.roles[index];
        let (min, max) = (role.min_vms.unwrap_or(0), role.max_vms.unwrap_or(u32::MAX));
        if cardinality == role.cardinality || !(min..=max).contains(&cardinality) {
            return Err(Refused(format!("role {} cannot have {cardinality} VMs", role.name)));
        }
        self.scale_role(now, id, index, cardinality);
        self.remember(now);
        Ok(())
    }

    /// Scales without asking whether it may.
    pub(crate) fn scale_role(&mut self, at: Duration, id: ServiceId, index: usize, cardinality: u32) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let role = &mut service.roles[index];
        let surplus = role.nodes.len().saturating_sub(cardinality as usize);
        role.cardinality = cardinality;
        role.state = FlowState::Scaling;
        for watched in &mut role.policies {
            watched.true_evaluations = None;
            watched.last_evaluation = None;
        }
        let hard = role.hard_shutdown;
        // The oldest go, all at once; nobody is drained and nobody chooses.
        let leaving: Vec<VmId> = (role.nodes.iter_mut().take(surplus))
            .map(|node| {
                node.leaving = true;
                node.vm
            })
            .collect();
        self.set_service_state(at, id, FlowState::Scaling);
        for vm in leaving {
            self.end(at, vm, hard);
        }
        if self.add_nodes(at, id, index).is_err() {
            self.set_roles(id, |state| state == FlowState::Scaling, FlowState::FailedScaling);
            self.set_service_state(at, id, FlowState::FailedScaling);
            return;
        }
        self.at(at + self.options.timing.reaction, Timer::Look(id));
    }

    pub(crate) fn look_at_scaling(&mut self, at: Duration, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let gone = |vm: VmId| self.vms.get(&vm).is_none_or(|vm| vm.state == VmState::Done);
        for role in service.roles.iter_mut().filter(|role| role.state == FlowState::Scaling) {
            role.nodes.retain(|node| !(node.leaving && gone(node.vm)));
        }
        let up = self.roles_that_are_up(id);
        let Some(service) = self.services.get(&id) else { return };
        let settled = |(role, up): (&super::service::Role, bool)| {
            role.state != FlowState::Scaling || (up && role.nodes.iter().all(|node| !node.leaving))
        };
        if service.roles.iter().zip(up).all(settled) {
            self.set_roles(id, |state| state == FlowState::Scaling, FlowState::Cooldown);
            self.set_service_state(at, id, FlowState::Cooldown);
        }
    }

    pub(crate) fn cooldown_ends(&mut self, at: Duration, id: ServiceId, generation: u64) {
        if self.services.get(&id).is_some_and(|service| service.generation == generation) {
            self.set_roles(id, |state| state == FlowState::Cooldown, FlowState::Running);
            self.set_service_state(at, id, FlowState::Running);
        }
    }
}
