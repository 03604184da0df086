//! OneGate's recorded answers: a directory with `vm.json`, `service.json` or `service-extended.json`, `vms/ID.json`;
//! for a virtual router `vrouter.json` and `vnet/ID.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::service::{Networks, Role, Service, VNet, VRouter, Vm, VmId};

/// What was recorded, parsed.
#[derive(Debug, Default)]
pub struct Recorded {
    /// `vm.json`: this VM.
    pub me: Option<Vm>,
    /// The service, its VMs completed from `vms/` and `vm.json`.
    pub service: Option<Service>,
    /// The virtual router and its networks, by ID.
    pub networks: Networks,
}

impl Recorded {
    /// Reads the directory; without one nothing was recorded.
    ///
    /// # Errors
    /// If a file that is there cannot be read, or is no answer of OneGate's.
    pub fn read(directory: Option<&Path>) -> anyhow::Result<Self> {
        let Some(directory) = directory else { return Ok(Self::default()) };
        if !directory.is_dir() {
            return Err(anyhow!("there is no directory {}", directory.display()));
        }
        let me = answer(&directory.join("vm.json"), Vm::from_json)?;
        let mut service = answer(&directory.join("service-extended.json"), Service::from_json)?;
        if service.is_none() {
            service = answer(&directory.join("service.json"), Service::from_json)?;
        }
        let mut vms: BTreeMap<VmId, Vm> =
            several(&directory.join("vms"), Vm::from_json)?.into_iter().map(|vm| (vm.id, vm)).collect();
        vms.extend(me.clone().map(|vm| (vm.id, vm)));
        for node in service.iter_mut().flat_map(|service| &mut service.roles).flat_map(|role| &mut role.nodes)
        {
            if let Some(vm) = vms.remove(&node.id) {
                node.vm = Some(vm);
            }
        }
        let mut read = several(&directory.join("vnet"), VNet::from_json)?;
        read.sort_by_key(|network| network.id);
        let router = answer(&directory.join("vrouter.json"), VRouter::from_json)?;
        let wanted = router.as_ref().map(VRouter::networks).unwrap_or_default();
        let seen: BTreeSet<u32> = read.iter().map(|network| network.id).collect();
        let unread = wanted.difference(&seen).map(|id| format!("vnet/{id}.json was not recorded")).collect();
        let networks = Networks { router, read, unread };
        Ok(Self { me, service, networks })
    }

    /// The role that OneGate names.
    pub fn role(&self) -> Option<Role> {
        self.me.as_ref().and_then(Vm::role)
    }
}

/// One recorded answer; `None` if it was not recorded.
fn answer<T, E: std::fmt::Display>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> anyhow::Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
    };
    parse(&text).map(Some).map_err(|error| anyhow!("{} is no answer of OneGate: {error}", path.display()))
}

/// Every recorded answer of a directory; none if there is no such directory.
fn several<T, E: std::fmt::Display>(
    directory: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
) -> anyhow::Result<Vec<T>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("could not read {}", directory.display())),
    };
    let mut answers = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            answers.extend(answer(&path, &parse)?);
        }
    }
    Ok(answers)
}
