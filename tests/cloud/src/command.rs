//! What operators and hypervisors can tell a cloud, as data: one closed list, read from JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cloud::{Cloud, Refused};
use crate::faults::Faults;
use crate::flow::Instantiate;
use crate::id::{ServiceId, VmId};
use crate::templates::Templates;

/// One thing to do: `{"do": "scale", "service": 1, "role": "worker", "cardinality": 3}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// A new service of the templates at hand; answers with its number.
    Instantiate(Instantiate),
    /// Sets how many VMs a role has.
    Scale {
        /// Which service.
        service: ServiceId,
        /// Which of its roles.
        role: String,
        /// How many VMs it shall have.
        cardinality: u32,
    },
    /// Ends a service.
    DeleteService {
        /// Which service.
        service: ServiceId,
    },
    /// Takes a service onwards that failed.
    RecoverService {
        /// Which service.
        service: ServiceId,
    },
    /// OneFlow restarts.
    RestartOneflow,
    /// Ends a VM.
    Terminate(Stop),
    /// Stops a VM and keeps its disk.
    Poweroff(Stop),
    /// Stops a VM, keeps its disk and leaves its host.
    Undeploy(Stop),
    /// Restarts a VM's guest.
    Reboot(Stop),
    /// Starts a VM that is off.
    Resume(Which),
    /// The same VM on an empty disk.
    Recreate(Which),
    /// Tries a VM again whose boot failed.
    Retry(Which),
    /// Takes a VM away whatever it does.
    Delete(Which),
    /// Changes context variables.
    UpdateContext {
        /// Which VM.
        vm: VmId,
        /// Variables by name.
        variables: BTreeMap<String, String>,
    },
    /// The guest is off.
    GuestStopped(Which),
    /// The guest could not be started.
    BootFailed(Which),
    /// What goes wrong from now on; what is left out does not.
    Faults(Faults),
}

/// A VM to be stopped, politely unless `hard`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Stop {
    /// Which VM.
    pub vm: VmId,
    /// Without asking the guest.
    #[serde(default)]
    pub hard: bool,
}

/// A VM.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Which {
    /// Which VM.
    pub vm: VmId,
}

impl Cloud {
    /// Does what a command says; `templates` are those that `instantiate` uses.
    ///
    /// # Errors
    /// Those of the verb.
    pub fn run_command(
        &mut self,
        now: Duration,
        command: Command,
        templates: &Templates,
    ) -> Result<Value, Refused> {
        match command {
            Command::Instantiate(request) => {
                let service = self.instantiate(now, templates, &request)?;
                return Ok(json!({ "service": service }));
            }
            Command::Scale { service, role, cardinality } => self.scale(now, service, &role, cardinality)?,
            Command::DeleteService { service } => self.delete_service(now, service)?,
            Command::RecoverService { service } => self.recover_service(now, service)?,
            Command::RestartOneflow => self.restart_oneflow(now),
            Command::Terminate(stop) => self.terminate(now, stop.vm, stop.hard)?,
            Command::Poweroff(stop) => self.poweroff(now, stop.vm, stop.hard)?,
            Command::Undeploy(stop) => self.undeploy(now, stop.vm, stop.hard)?,
            Command::Reboot(stop) => self.reboot(now, stop.vm, stop.hard)?,
            Command::Resume(Which { vm }) => self.resume(now, vm)?,
            Command::Recreate(Which { vm }) => self.recreate(now, vm)?,
            Command::Retry(Which { vm }) => self.retry(now, vm)?,
            Command::Delete(Which { vm }) => self.delete(now, vm)?,
            Command::UpdateContext { vm, variables } => {
                let pairs = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                self.update_context(now, vm, pairs)?;
            }
            Command::GuestStopped(Which { vm }) => self.guest_stopped(now, vm),
            Command::BootFailed(Which { vm }) => self.boot_failed(now, vm)?,
            Command::Faults(faults) => self.set_faults(now, faults),
        }
        Ok(json!({}))
    }

    /// Services, roles and VMs, for an operator to look at; without tokens and contexts.
    pub fn summary(&self) -> Value {
        let role = |role: &crate::Role| {
            let nodes: Vec<VmId> = role.nodes.iter().map(|node| node.vm).collect();
            json!({
                "name": role.name,
                "state": format!("{:?}", role.state),
                "cardinality": role.cardinality,
                "nodes": nodes,
            })
        };
        let service = |service: &crate::Service| {
            json!({
                "id": service.id,
                "name": service.name,
                "state": format!("{:?}", service.state),
                "roles": service.roles.iter().map(role).collect::<Vec<_>>(),
            })
        };
        let vm = |vm: &crate::Vm| {
            let (service, role) = vm.membership.clone().unzip();
            json!({
                "id": vm.id,
                "name": vm.name,
                "state": format!("{:?}", vm.state),
                "service": service,
                "role": role,
                "addresses": vm.nics.iter().map(|nic| nic.ip).collect::<Vec<_>>(),
                "attributes": vm.user_template,
            })
        };
        json!({
            "services": self.services().map(service).collect::<Vec<_>>(),
            "vms": self.vms().map(vm).collect::<Vec<_>>(),
        })
    }
}
