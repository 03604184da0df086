//! What an effect does to a simulated machine.

use std::time::Duration;

use oneke_agent::plan::Effect;
use oneke_agent::service::VmId;

use crate::universe::Universe;

impl Universe {
    /// Applies an effect that concerns the machine alone.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn apply_local(&mut self, vm: VmId, effect: &Effect) -> Result<(), String> {
        let now = self.now();
        if let Effect::WriteFile(file) = effect
            && file.path == "/etc/haproxy/haproxy.cfg"
        {
            let old = self
                .machines
                .get(&vm)
                .and_then(|m| m.disk.files.get(&file.path))
                .map(|f| f.1.clone())
                .unwrap_or_default();
            self.check_backends(vm, &old, file.content.as_str(), now);
        }
        if let Effect::SetServers { changes, .. } = effect {
            self.check_servers(vm, changes, now);
        }
        let machine = self.machines.get_mut(&vm).ok_or("the machine is gone")?;
        match effect {
            Effect::WriteFile(file) => {
                machine.disk.files.insert(file.path.clone(), (file.mode, file.content.as_str().to_owned()));
            }
            Effect::RemoveFile { path } => {
                machine.disk.files.remove(path);
            }
            Effect::Link { path, target } => {
                machine.disk.symlinks.insert(path.clone(), target.clone());
            }
            Effect::EnableUnit(unit) => {
                machine.disk.enabled.insert(unit.clone());
            }
            Effect::DisableUnit(unit) => {
                machine.disk.enabled.remove(unit);
            }
            Effect::StartUnit(unit) => machine.start(unit, now),
            Effect::StopUnit(unit) => {
                machine.units.remove(unit);
            }
            Effect::RestartUnit(unit) => {
                machine.units.remove(unit);
                machine.start(unit, now);
            }
            Effect::LoadConfig { unit, digest, .. } => machine.load(unit, digest, now),
            Effect::SetServers { changes, .. } => {
                changes.iter().for_each(|change| machine.haproxy.change(change));
                machine.note_servers(now);
            }
            Effect::SetSysctl { key, value } => {
                machine.sysctls.insert(key.clone(), value.clone());
            }
            Effect::LinkUp { .. } => {}
            Effect::SetDefaultRoute { via, device, protocol } => {
                machine.routes.set(*via, device, *protocol);
            }
            Effect::RemoveDefaultRoute { via, device, protocol } => {
                machine.routes.remove(*via, device, *protocol);
            }
            Effect::Publish { .. } | Effect::HoldLease { .. } | Effect::AnnotateNode { .. } => {
                unreachable!("these go over the network")
            }
            Effect::PublishSealed(_) => unreachable!("no simulated machine has age"),
        }
        Ok(())
    }

    /// Creates or renews the Lease if it is at the version that the agent saw.
    ///
    /// # Errors
    /// If the API does not answer. Somebody else's newer version is no error: it is seen at the next look.
    pub fn hold_lease(&mut self, vm: VmId, holder: &str, version: Option<&str>) -> Result<(), String> {
        let now: Duration = self.now();
        let cluster = self.machines.get(&vm).and_then(|m| m.disk.etcd).filter(|c| self.quorum(*c, now));
        let lease = &mut self.clusters[cluster.ok_or("the Kubernetes API does not answer")?].lease;
        let there = lease.as_ref().map(|(_, version)| version.to_string());
        if there.as_deref() == version {
            let next = lease.as_ref().map_or(1, |(_, version)| version + 1);
            *lease = Some((holder.to_owned(), next));
        }
        Ok(())
    }
}
