//! What oned does to a VM: its steps through life, and the verbs that move it.

use std::time::Duration;

use crate::calendar::asctime;
use crate::cloud::{Cloud, Refused, Timer};
use crate::event::{Event, Plug, PowerOn};
use crate::id::VmId;
use crate::vm::{Vm, VmState};

impl Cloud {
    /// `onevm terminate`: asks the guest to stop, or with `hard` pulls its plug; the VM is then DONE.
    ///
    /// # Errors
    /// If there is no such VM, or it is on its way between states.
    pub fn terminate(&mut self, now: Duration, vm: VmId, hard: bool) -> Result<(), Refused> {
        self.tick(now);
        self.terminate_now(now, vm, hard)
    }

    fn terminate_now(&mut self, now: Duration, vm: VmId, hard: bool) -> Result<(), Refused> {
        match self.state(vm)? {
            VmState::Running => self.stop(now, vm, VmState::Shutdown, hard),
            VmState::Pending => self.enter(now, vm, VmState::Done),
            VmState::Poweroff | VmState::Undeployed | VmState::BootFailure => {
                self.enter(now, vm, VmState::Epilog)
            }
            other => return Err(wrong_state(vm, other, "terminate")),
        }
        Ok(())
    }

    /// `onevm recover --delete`: takes a VM away whatever it does.
    ///
    /// # Errors
    /// If there is no such VM, or it is DONE.
    pub fn delete(&mut self, now: Duration, vm: VmId) -> Result<(), Refused> {
        self.tick(now);
        self.delete_now(now, vm)
    }

    fn delete_now(&mut self, now: Duration, vm: VmId) -> Result<(), Refused> {
        match self.state(vm)? {
            VmState::Done => return Err(wrong_state(vm, VmState::Done, "delete")),
            state if state.has_guest() => self.emit(Event::Destroy { vm }),
            _ => {}
        }
        self.enter(now, vm, VmState::CleanupDelete);
        Ok(())
    }

    /// `onevm poweroff`: like terminate, but the VM stays and keeps its disk.
    ///
    /// # Errors
    /// If it is not RUNNING.
    pub fn poweroff(&mut self, now: Duration, vm: VmId, hard: bool) -> Result<(), Refused> {
        self.tick(now);
        self.expect_state(vm, VmState::Running, "poweroff")?;
        self.stop(now, vm, VmState::ShutdownPoweroff, hard);
        Ok(())
    }

    /// `onevm undeploy`: like poweroff, and the VM leaves its host.
    ///
    /// # Errors
    /// If it is not RUNNING.
    pub fn undeploy(&mut self, now: Duration, vm: VmId, hard: bool) -> Result<(), Refused> {
        self.tick(now);
        self.expect_state(vm, VmState::Running, "undeploy")?;
        self.stop(now, vm, VmState::ShutdownUndeploy, hard);
        Ok(())
    }

    /// `onevm resume`: starts a VM that is off, with the disk it had.
    ///
    /// # Errors
    /// If it is neither POWEROFF nor UNDEPLOYED.
    pub fn resume(&mut self, now: Duration, vm: VmId) -> Result<(), Refused> {
        self.tick(now);
        match self.state(vm)? {
            VmState::Poweroff => self.enter(now, vm, VmState::BootPoweroff),
            VmState::Undeployed => self.enter(now, vm, VmState::PrologUndeploy),
            other => return Err(wrong_state(vm, other, "resume")),
        }
        Ok(())
    }

    /// `onevm reboot`: the VM stays RUNNING whatever its guest does.
    ///
    /// # Errors
    /// If it is not RUNNING.
    pub fn reboot(&mut self, now: Duration, vm: VmId, hard: bool) -> Result<(), Refused> {
        self.tick(now);
        self.expect_state(vm, VmState::Running, "reboot")?;
        self.emit(if hard { Event::Reset { vm } } else { Event::AcpiReboot { vm } });
        Ok(())
    }

    /// `onevm recover --recreate`, or the hook for a failed host: the same VM, token, context and
    /// attributes, on an empty disk.
    ///
    /// # Errors
    /// If there is no such VM, or it is DONE or not deployed yet.
    pub fn recreate(&mut self, now: Duration, vm: VmId) -> Result<(), Refused> {
        self.tick(now);
        match self.state(vm)? {
            state @ (VmState::Done | VmState::Pending) => return Err(wrong_state(vm, state, "recreate")),
            state if state.has_guest() => self.emit(Event::Destroy { vm }),
            _ => {}
        }
        self.enter(now, vm, VmState::CleanupResubmit);
        Ok(())
    }

    /// The operator tries again to start a VM that could not be started.
    ///
    /// # Errors
    /// If its boot did not fail.
    pub fn retry(&mut self, now: Duration, vm: VmId) -> Result<(), Refused> {
        self.tick(now);
        self.expect_state(vm, VmState::BootFailure, "retry")?;
        self.enter(now, vm, VmState::Boot);
        Ok(())
    }

    /// The guest says that it is off: because it was asked to, or unasked, which monitoring notices
    /// after a while and calls POWEROFF. Says nothing of a VM without a guest.
    pub fn guest_stopped(&mut self, now: Duration, vm: VmId) {
        self.tick(now);
        let Some(state) = self.vms.get(&vm).map(|vm| vm.state) else { return };
        match state {
            VmState::Shutdown | VmState::ShutdownPoweroff | VmState::ShutdownUndeploy => {
                self.stopped(now, vm)
            }
            VmState::Running | VmState::Boot | VmState::BootPoweroff | VmState::BootUndeploy => {
                if state != VmState::Running {
                    self.enter(now, vm, VmState::Running);
                }
                self.goes_on(now + self.options.timing.monitoring, vm, VmState::Poweroff);
            }
            _ => {}
        }
    }

    /// The hypervisor says that it could not start the guest it was told to power on.
    ///
    /// # Errors
    /// If the VM is not being booted.
    pub fn boot_failed(&mut self, now: Duration, vm: VmId) -> Result<(), Refused> {
        self.tick(now);
        let unix = self.unix(now);
        match self.state(vm)? {
            VmState::Boot | VmState::BootPoweroff | VmState::BootUndeploy => {}
            other => return Err(wrong_state(vm, other, "fail to boot")),
        }
        self.enter(now, vm, VmState::BootFailure);
        let machine = self.vms.get_mut(&vm).expect("its state was just looked at");
        let domain = format!("{}:{}:dummy", host(vm), machine.name);
        machine.user_template.set("ERROR", format!("{}: DEPLOY: {domain}", asctime(unix)));
        Ok(())
    }

    /// `onevm updateconf`: changes context variables of a VM, which its guest sees at once.
    ///
    /// # Errors
    /// If there is no such VM.
    pub fn update_context<'a>(
        &mut self,
        now: Duration,
        vm: VmId,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Refused> {
        self.tick(now);
        self.state(vm)?;
        let machine = self.vms.get_mut(&vm).expect("its state was just looked at");
        for (name, value) in variables {
            machine.context.insert(name.to_uppercase(), value.trim().to_owned());
        }
        let context_sh = machine.context_sh();
        self.emit(Event::ContextChanged { vm, context_sh });
        Ok(())
    }

    /// Takes a VM to a state, and sees to what follows from it.
    pub(crate) fn enter(&mut self, at: Duration, id: VmId, state: VmState) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        vm.state = state;
        vm.generation += 1;
        let service = vm.membership.as_ref().map(|(service, _)| *service);
        match state {
            VmState::Prolog => vm.started = Some(at),
            VmState::CleanupResubmit => vm.fresh_disk = true,
            VmState::BootFailure | VmState::Poweroff | VmState::Undeployed | VmState::Epilog => {
                vm.stopped = Some(at)
            }
            VmState::Done => {
                vm.ended = Some(at);
                self.networks.iter_mut().for_each(|network| network.release(id));
            }
            VmState::Boot | VmState::BootPoweroff | VmState::BootUndeploy => self.power_on(id),
            _ => {}
        }
        if let Some((wait, next)) = self.follow_up(state) {
            self.goes_on(at + wait, id, next);
        }
        if let Some(service) = service {
            self.at(at + self.options.timing.reaction, Timer::Look(service));
        }
    }

    /// The guest is off: the VM goes on to what was asked for.
    pub(crate) fn stopped(&mut self, at: Duration, vm: VmId) {
        if let Some(next) = self.vms.get(&vm).and_then(|vm| after_stop(vm.state)) {
            self.enter(at, vm, next);
        }
    }

    /// OneFlow's way to end a VM: terminate, and if that is refused (as for one that somebody else is
    /// shutting down), delete.
    pub(crate) fn end(&mut self, at: Duration, vm: VmId, hard: bool) {
        let has_gone = [VmState::Epilog, VmState::CleanupDelete, VmState::Done];
        let is_needed = self.vms.get(&vm).is_some_and(|vm| !has_gone.contains(&vm.state));
        if is_needed && self.terminate_now(at, vm, hard).is_err() {
            self.delete_now(at, vm).expect("a VM that is not DONE can be deleted");
        }
    }

    fn stop(&mut self, at: Duration, vm: VmId, state: VmState, hard: bool) {
        self.enter(at, vm, state);
        self.emit(if hard { Event::Destroy { vm } } else { Event::AcpiShutdown { vm } });
        let generation = self.vms[&vm].generation;
        match after_stop(state) {
            Some(next) if hard => self.goes_on(at + self.options.timing.epilog, vm, next),
            _ => self.at(at + self.options.timing.shutdown, Timer::Deadline { vm, generation }),
        }
    }

    fn follow_up(&self, state: VmState) -> Option<(Duration, VmState)> {
        let timing = self.options.timing;
        Some(match state {
            VmState::Pending => (timing.pending, VmState::Prolog),
            VmState::Prolog => (timing.prolog, VmState::Boot),
            VmState::PrologUndeploy => (timing.prolog, VmState::BootUndeploy),
            VmState::Boot | VmState::BootPoweroff | VmState::BootUndeploy => (timing.boot, VmState::Running),
            VmState::Epilog | VmState::CleanupDelete => (timing.epilog, VmState::Done),
            VmState::EpilogUndeploy => (timing.epilog, VmState::Undeployed),
            VmState::CleanupResubmit => (timing.epilog, VmState::Pending),
            _ => return None,
        })
    }

    fn goes_on(&mut self, due: Duration, vm: VmId, to: VmState) {
        let generation = self.vms[&vm].generation;
        self.at(due, Timer::VmGoesOn { vm, generation, to });
    }

    fn power_on(&mut self, id: VmId) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let fresh_disk = std::mem::take(&mut vm.fresh_disk);
        vm.stopped = None;
        let plug = |nic: &crate::network::Nic| Plug {
            network: nic.network.clone(),
            bridge: self.networks[nic.network_id as usize].spec.bridge.clone(),
            mac: nic.mac.clone(),
            ip: nic.ip,
        };
        let (service, role) = vm.membership.clone().unzip();
        let power_on = PowerOn {
            vm: id,
            name: vm.name.clone(),
            service,
            role,
            context_sh: vm.context_sh(),
            token: vm.token.clone(),
            fresh_disk,
            nics: vm.nics.iter().map(plug).collect(),
        };
        self.emit(Event::PowerOn(Box::new(power_on)));
    }

    fn state(&self, vm: VmId) -> Result<VmState, Refused> {
        self.vms.get(&vm).map(|vm: &Vm| vm.state).ok_or_else(|| Refused(format!("there is no VM {vm}")))
    }

    fn expect_state(&self, vm: VmId, expected: VmState, verb: &str) -> Result<(), Refused> {
        match self.state(vm)? {
            state if state == expected => Ok(()),
            other => Err(wrong_state(vm, other, verb)),
        }
    }
}

/// Where a VM goes whose guest was asked to stop, and did.
fn after_stop(state: VmState) -> Option<VmState> {
    match state {
        VmState::Shutdown => Some(VmState::Epilog),
        VmState::ShutdownPoweroff => Some(VmState::Poweroff),
        VmState::ShutdownUndeploy => Some(VmState::EpilogUndeploy),
        _ => None,
    }
}

/// The host a VM runs on, among four.
pub(crate) fn host(vm: VmId) -> String {
    format!("dummy{}", vm.0 % 4)
}

fn wrong_state(vm: VmId, state: VmState, verb: &str) -> Refused {
    Refused(format!("VM {vm} cannot {verb} while it is in {state:?}"))
}
