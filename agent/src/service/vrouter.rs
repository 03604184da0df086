//! What OneGate tells a virtual router: itself, its fellows, and who else is on its networks.
//!
//! A vnf VM outside of OneFlow finds its backends so: each lease of a network names its VM, and carries that VM's
//! `ONEGATE_*` attributes if its context says `BACKEND=YES` (contract.md 1.3). A network from which others were reserved
//! names them, and OneGate shows those to the router as well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::VmId;
use super::answer::{AnswerError, At, PUBLISHED, read};
use super::parse::attributes;

/// What one look around told: `/vrouter`, and `/vnet/ID?extended` for each network that it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Networks {
    /// This virtual router; `None`: not told.
    pub router: Option<VRouter>,
    /// The networks of its NICs, and those that were reserved from them.
    pub read: Vec<VNet>,
    /// Those of them that OneGate did not show, in the operator's words. While there are any, a VM that is on no network
    /// that was read may still be there.
    pub unread: Vec<String>,
}

/// `GET /vrouter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VRouter {
    /// Its ID.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its VMs.
    pub vms: Vec<VmId>,
    /// Its NICs in order.
    pub nics: Vec<VRouterNic>,
}

/// A NIC of a virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VRouterNic {
    /// Name of the virtual network.
    pub network: String,
    /// Its ID, by which `/vnet/ID` is asked.
    pub network_id: Option<u32>,
    /// The floating address.
    pub vip: Option<IpAddr>,
}

/// `GET /vnet/ID?extended`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VNet {
    /// Its ID.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Every address that is taken.
    pub leases: Vec<Lease>,
}

/// A taken address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address; a lease of a pure Ethernet range has none.
    pub ip: Option<IpAddr>,
    /// Lower-case hex with colons.
    pub mac: String,
    /// Who has it.
    pub holder: Holder,
    /// OneGate looked at the VM that has it: only an extended answer does.
    pub looked_at: bool,
    /// Its VM's context says `BACKEND=YES`; only an extended answer tells.
    pub backend: bool,
    /// The `ONEGATE_*` attributes of that VM.
    pub attributes: BTreeMap<String, String>,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A VM.
    Vm(VmId),
    /// A virtual router, as floating address.
    VRouter(u32),
    /// Another network, which was reserved from this one.
    VNet(u32),
    /// An address on hold.
    Other,
}

impl VRouter {
    /// Reads the answer to `GET /vrouter`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(text: &str) -> Result<Self, AnswerError> {
        let answer = read(text)?;
        let at = At::root(&answer, "VROUTER")?;
        let vms = at.key("VMS")?.key("ID")?.several()?;
        let nics = at.key("TEMPLATE")?.key("NIC")?.several()?;
        Ok(Self {
            id: at.key("ID")?.integer("the virtual router's ID")?,
            name: at.key("NAME")?.text()?,
            vms: vms.iter().map(|vm| vm.integer("a VM's ID").map(VmId)).collect::<Result<_, _>>()?,
            nics: nics.iter().map(nic).collect::<Result<_, _>>()?,
        })
    }
}

impl VRouter {
    /// The networks of its NICs, each once.
    pub fn networks(&self) -> BTreeSet<u32> {
        self.nics.iter().filter_map(|nic| nic.network_id).collect()
    }
}

impl VNet {
    /// The networks that were reserved from it.
    pub fn reserved(&self) -> impl Iterator<Item = u32> {
        self.leases.iter().filter_map(|lease| match lease.holder {
            Holder::VNet(id) => Some(id),
            Holder::Vm(_) | Holder::VRouter(_) | Holder::Other => None,
        })
    }

    /// Reads the answer to `GET /vnet/ID`, extended or not.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(text: &str) -> Result<Self, AnswerError> {
        let answer = read(text)?;
        let at = At::root(&answer, "VNET")?;
        let mut leases = Vec::new();
        for range in at.key("AR_POOL")?.key("AR")?.several()? {
            for entry in range.key("LEASES")?.key("LEASE")?.several()? {
                leases.push(lease(&entry)?);
            }
        }
        let id = at.key("ID")?.integer("the virtual network's ID")?;
        Ok(Self { id, name: at.key("NAME")?.text()?, leases })
    }
}

fn nic(at: &At<'_>) -> Result<VRouterNic, AnswerError> {
    Ok(VRouterNic {
        network: at.key("NETWORK")?.text()?,
        network_id: at.key("NETWORK_ID")?.parsed("a virtual network's ID")?,
        vip: at.key("VROUTER_IP")?.parsed("an IP address")?,
    })
}

fn lease(at: &At<'_>) -> Result<Lease, AnswerError> {
    let (vm, vrouter, vnet) = (at.key("VM")?, at.key("VROUTER")?, at.key("VNET")?);
    let holder = if !vm.is_missing() {
        // -1 marks an address on hold.
        u32::try_from(vm.integer::<i64>("a VM's ID")?).map_or(Holder::Other, |id| Holder::Vm(VmId(id)))
    } else if !vrouter.is_missing() {
        Holder::VRouter(vrouter.integer("a virtual router's ID")?)
    } else if !vnet.is_missing() {
        Holder::VNet(vnet.integer("a virtual network's ID")?)
    } else {
        Holder::Other
    };
    let backend = at.key("BACKEND")?.text()? == "YES";
    let entries = at.entries()?.into_iter().flatten();
    Ok(Lease {
        ip: at.key("IP")?.parsed("an IP address")?,
        mac: at.key("MAC")?.text()?.to_ascii_lowercase(),
        holder,
        looked_at: backend || !at.key("NIC_NAME")?.is_missing(),
        backend,
        attributes: attributes(entries.filter(|(name, _)| name.starts_with(PUBLISHED))),
    })
}
