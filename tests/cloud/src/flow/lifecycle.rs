//! How OneFlow follows its services: deployment, readiness, the watchdog, undeployment.
//!
//! ```text
//! Deploying -> Running <-> Warning          Running -> Scaling -> Cooldown -> Running
//!     |           |           |                           |
//!     v           '-----------'---> Undeploying           v
//! FailedDeploying                        |           FailedScaling -> (recover) -> Cooldown
//!                                        v
//!                                   (the service is gone)
//! ```
//! OneFlow reacts to events within a second. What makes no event (READY written in lower case, a
//! boot that failed) it finds when it looks again, every 30 seconds of waiting. It waits for ever.

use std::time::Duration;

use super::service::{FlowState, Service};
use crate::cloud::{Cloud, Refused, Timer};
use crate::id::{ServiceId, VmId};
use crate::vm::VmState;

impl Cloud {
    /// `oneflow delete`: terminates children first, their parents last, and forgets the service.
    ///
    /// # Errors
    /// If there is no such service, or it is DEPLOYING, SCALING, in COOLDOWN or going already.
    pub fn delete_service(&mut self, now: Duration, id: ServiceId) -> Result<(), Refused> {
        self.tick(now);
        let service = self.known_service(id)?;
        let busy = [FlowState::Deploying, FlowState::Scaling, FlowState::Cooldown, FlowState::Undeploying];
        if busy.contains(&service.state) {
            return Err(Refused(format!(
                "service {id} cannot be deleted while it is in {:?}",
                service.state
            )));
        }
        self.set_service_state(now, id, FlowState::Undeploying);
        self.undeploy_roles(now, id);
        self.at(now + self.options.timing.reaction, Timer::Look(id));
        self.remember(now);
        Ok(())
    }

    /// `oneflow recover`: tries the VMs again whose boot failed, and takes the service onwards.
    ///
    /// # Errors
    /// If there is no such service, or it did not fail.
    pub fn recover_service(&mut self, now: Duration, id: ServiceId) -> Result<(), Refused> {
        self.tick(now);
        let service = self.known_service(id)?;
        let failed: Vec<VmId> = service.nodes().map(|node| node.vm).collect();
        let next = match service.state {
            FlowState::FailedDeploying => FlowState::Deploying,
            FlowState::FailedScaling => FlowState::Cooldown,
            other => return Err(Refused(format!("service {id} cannot recover from {other:?}"))),
        };
        for vm in failed {
            // Only those whose boot failed can be tried again; the others need nothing.
            self.retry(now, vm).ok();
        }
        self.set_roles(
            id,
            |state| matches!(state, FlowState::FailedDeploying | FlowState::FailedScaling),
            next,
        );
        self.set_service_state(now, id, next);
        self.remember(now);
        Ok(())
    }

    /// OneFlow restarts, and looks at every service again.
    pub fn restart_oneflow(&mut self, now: Duration) {
        self.tick(now);
        let ids: Vec<ServiceId> = self.services.keys().copied().collect();
        for id in ids {
            self.services.entry(id).and_modify(|service| service.blind = false);
            self.at(now + self.options.timing.reaction, Timer::Look(id));
        }
    }

    /// A READY text was in an update of a VM; nobody sees it while OneFlow is down.
    pub(crate) fn ready_seen(&mut self, now: Duration, vm: VmId) {
        if self.faults.oneflow_down {
            return;
        }
        for service in self.services.values_mut() {
            let node = service.roles.iter_mut().flat_map(|role| &mut role.nodes).find(|node| node.vm == vm);
            if let Some(node) = node {
                node.ready = true;
                let id = service.id;
                self.at(now + self.options.timing.reaction, Timer::Look(id));
                return;
            }
        }
    }

    /// OneFlow reacts to whatever happened to a service's VMs.
    pub(crate) fn look(&mut self, at: Duration, id: ServiceId) {
        let Some(service) = self.services.get(&id) else { return };
        match service.state {
            FlowState::Deploying => self.look_at_deployment(at, id),
            FlowState::Scaling => self.look_at_scaling(at, id),
            FlowState::Running | FlowState::Warning if !service.blind => self.watch(at, id),
            FlowState::Undeploying => self.look_at_undeployment(at, id),
            _ => {}
        }
    }

    /// OneFlow looks at stored values and at failures, as it does while it waits.
    pub(crate) fn scan(&mut self, at: Duration, id: ServiceId, generation: u64) {
        let Some(service) = self.services.get_mut(&id).filter(|service| service.generation == generation)
        else {
            return;
        };
        let failure = match service.state {
            FlowState::Deploying => FlowState::FailedDeploying,
            FlowState::Scaling => FlowState::FailedScaling,
            _ => return,
        };
        let mut failed_roles = Vec::new();
        for role in service.roles.iter_mut().filter(|role| role.state == service.state) {
            for node in &mut role.nodes {
                let Some(vm) = self.vms.get(&node.vm) else { continue };
                node.ready |= vm.user_template.text("READY") == Some("YES");
                if vm.state == VmState::BootFailure {
                    failed_roles.push(role.name.clone());
                }
            }
        }
        self.look(at, id);
        if failed_roles.is_empty() {
            self.at(at + self.options.timing.scan, Timer::Scan { service: id, generation });
            return;
        }
        if let Some(service) = self.services.get_mut(&id) {
            let roles = service.roles.iter_mut().filter(|role| failed_roles.contains(&role.name));
            roles.for_each(|role| role.state = failure);
        }
        self.set_service_state(at, id, failure);
    }

    /// Creates the VMs of roles whose parents all run.
    pub(crate) fn deploy_roles(&mut self, at: Duration, id: ServiceId) {
        let service = &self.services[&id];
        let runs = |name: &String| service.role(name).is_none_or(|role| role.state == FlowState::Running);
        let due: Vec<usize> = (service.roles.iter().enumerate())
            .filter(|(_, role)| role.state == FlowState::Pending && role.parents.iter().all(runs))
            .map(|(index, _)| index)
            .collect();
        for index in due {
            self.services.entry(id).and_modify(|service| service.roles[index].state = FlowState::Deploying);
            if self.add_nodes(at, id, index).is_err() {
                self.services
                    .entry(id)
                    .and_modify(|service| service.roles[index].state = FlowState::FailedDeploying);
                self.set_service_state(at, id, FlowState::FailedDeploying);
                return;
            }
        }
    }

    pub(crate) fn set_service_state(&mut self, at: Duration, id: ServiceId, state: FlowState) {
        let Some(service) = self.services.get_mut(&id) else { return };
        service.state = state;
        service.since = at;
        service.generation += 1;
        let generation = service.generation;
        match state {
            FlowState::Deploying | FlowState::Scaling => {
                self.at(at + self.options.timing.scan, Timer::Scan { service: id, generation });
            }
            FlowState::Cooldown => {
                let cooling = service.roles.iter().filter(|role| role.state == FlowState::Cooldown);
                let wait = cooling.map(|role| role.cooldown).max().unwrap_or_default();
                self.at(at + wait, Timer::CooldownEnds { service: id, generation });
            }
            FlowState::Running => self.at(at, Timer::Look(id)),
            _ => {}
        }
    }

    /// # Errors
    /// If OneFlow is down.
    pub(crate) fn expect_oneflow(&self) -> Result<(), Refused> {
        if self.faults.oneflow_down { Err(Refused("OneFlow is down".to_owned())) } else { Ok(()) }
    }

    pub(crate) fn known_service(&self, id: ServiceId) -> Result<&Service, Refused> {
        self.expect_oneflow()?;
        self.services.get(&id).ok_or_else(|| Refused(format!("there is no service {id}")))
    }

    pub(crate) fn set_roles(&mut self, id: ServiceId, which: impl Fn(FlowState) -> bool, to: FlowState) {
        let Some(service) = self.services.get_mut(&id) else { return };
        service.roles.iter_mut().filter(|role| which(role.state)).for_each(|role| role.state = to);
    }

    fn look_at_deployment(&mut self, at: Duration, id: ServiceId) {
        let up = self.roles_that_are_up(id);
        let Some(service) = self.services.get_mut(&id) else { return };
        for (role, up) in service.roles.iter_mut().zip(up) {
            if role.state == FlowState::Deploying && up {
                role.state = FlowState::Running;
            }
        }
        if service.roles.iter().all(|role| role.state == FlowState::Running) {
            self.set_service_state(at, id, FlowState::Running);
            return;
        }
        self.deploy_roles(at, id);
        let is_empty =
            |role: &super::service::Role| role.state == FlowState::Deploying && role.cardinality == 0;
        if self.services[&id].roles.iter().any(is_empty) {
            // A role without VMs makes no event of its own.
            self.at(at + self.options.timing.reaction, Timer::Look(id));
        }
    }

    /// For each role, whether all its VMs run and, where there is a gate, have said so.
    pub(crate) fn roles_that_are_up(&self, id: ServiceId) -> Vec<bool> {
        let Some(service) = self.services.get(&id) else { return Vec::new() };
        let runs = |vm: VmId| self.vms.get(&vm).is_some_and(|vm| vm.state == VmState::Running);
        let up = |node: &super::service::Node| runs(node.vm) && (node.ready || !service.gate);
        service.roles.iter().map(|role| role.nodes.iter().all(up)).collect()
    }

    /// The watchdog: nodes that are gone are struck off, nodes that are off raise a warning.
    fn watch(&mut self, at: Duration, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else { return };
        for role in &mut service.roles {
            let before = role.nodes.len();
            role.nodes.retain_mut(|node| {
                let state = self.vms.get(&node.vm).map_or(VmState::Done, |vm| vm.state);
                node.alarmed = state.is_alarming() || (node.alarmed && state != VmState::Running);
                state != VmState::Done
            });
            role.cardinality = role.cardinality.saturating_sub((before - role.nodes.len()) as u32);
            let alarmed = role.nodes.iter().any(|node| node.alarmed);
            role.state = if alarmed { FlowState::Warning } else { FlowState::Running };
        }
        let warns = service.roles.iter().any(|role| role.state == FlowState::Warning);
        let state = if warns { FlowState::Warning } else { FlowState::Running };
        if service.state != state {
            self.set_service_state(at, id, state);
        }
    }

    fn undeploy_roles(&mut self, at: Duration, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let busy: Vec<String> = (service.roles.iter())
            .filter(|role| role.state != FlowState::Done)
            .flat_map(|role| role.parents.clone())
            .collect();
        let mut ending = Vec::new();
        for role in &mut service.roles {
            let goes_now = !busy.contains(&role.name);
            if goes_now && !matches!(role.state, FlowState::Undeploying | FlowState::Done) {
                role.state = FlowState::Undeploying;
                ending.extend(role.nodes.iter().map(|node| (node.vm, role.hard_shutdown)));
            }
        }
        for (vm, hard) in ending {
            self.end(at, vm, hard);
        }
    }

    fn look_at_undeployment(&mut self, at: Duration, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let mut changed = false;
        for role in service.roles.iter_mut().filter(|role| role.state == FlowState::Undeploying) {
            let gone = |vm: VmId| self.vms.get(&vm).is_none_or(|vm| vm.state == VmState::Done);
            if role.nodes.iter().all(|node| gone(node.vm)) {
                role.nodes.clear();
                role.state = FlowState::Done;
                changed = true;
            }
        }
        if service.roles.iter().all(|role| role.state == FlowState::Done) {
            self.services.remove(&id);
        } else if changed {
            self.undeploy_roles(at, id);
            // A role without VMs makes no event of its own.
            self.at(at + self.options.timing.reaction, Timer::Look(id));
        }
    }
}
