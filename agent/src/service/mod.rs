//! What OneGate tells of this VM and its service, as values; and the attributes by which its VMs talk.

mod answer;
mod attribute;
pub mod digest;
mod endpoint;
pub mod names;
pub mod offers;
mod parse;
pub mod told;
mod vrouter;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

pub use answer::AnswerError;
pub use attribute::{AttributeName, AttributeValue, Unpublishable, render};
pub use endpoint::needs_link_route;
pub use vrouter::{Holder, Lease, Networks, VNet, VRouter, VRouterNic};

/// OpenNebula's ID of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct VmId(pub u32);

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a VM is for. OneFlow's role name decides; any name beside the four is a group of workers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Role {
    /// Virtual IPs, balancing, routing, NAT, names.
    Vnf,
    /// RKE2 server.
    Master,
    /// RKE2 agent with Longhorn's disks.
    Storage,
    /// RKE2 agent; the group's name, `worker` for the plain one.
    Worker(String),
}

impl Role {
    /// OneFlow's name of it.
    pub fn name(&self) -> &str {
        match self {
            Self::Vnf => "vnf",
            Self::Master => "master",
            Self::Storage => "storage",
            Self::Worker(name) => name,
        }
    }

    /// True for the three that run RKE2.
    pub fn is_node(&self) -> bool {
        !matches!(self, Self::Vnf)
    }
}

impl From<String> for Role {
    fn from(name: String) -> Self {
        match name.as_str() {
            "vnf" => Self::Vnf,
            "master" => Self::Master,
            "storage" => Self::Storage,
            _ => Self::Worker(name),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.name().to_owned()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A VM as OneGate shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its ID.
    pub id: VmId,
    /// Its name in OpenNebula.
    pub name: String,
    /// OpenNebula's STATE: 3 ACTIVE, 6 DONE, 8 POWEROFF, 9 UNDEPLOYED.
    pub state: i32,
    /// LCM_STATE: 3 RUNNING, 12 SHUTDOWN, 18 SHUTDOWN_POWEROFF, 29 SHUTDOWN_UNDEPLOY.
    pub lcm_state: i32,
    /// `USER_TEMPLATE`: what its fellows and OneFlow wrote; `None` if the answer lacked it.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Its NICs in order.
    pub nics: Vec<VmNic>,
}

impl Vm {
    /// An attribute's value; empty is none.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.as_ref()?.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `ROLE_NAME`.
    pub fn role(&self) -> Option<Role> {
        self.attribute("ROLE_NAME").map(|name| Role::from(name.to_owned()))
    }

    /// STATE 6.
    pub fn is_done(&self) -> bool {
        self.state == 6
    }

    /// LCM_STATE 12: it is being terminated and will not come back.
    pub fn is_leaving(&self) -> bool {
        self.state == 3 && self.lcm_state == 12
    }

    /// LCM_STATE 12, 18 or 29: it is being shut down, whether it will come back or not.
    pub fn is_stopping(&self) -> bool {
        self.state == 3 && matches!(self.lcm_state, 12 | 18 | 29)
    }
}

/// A NIC as OneGate shows it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VmNic {
    /// Lower-case hex with colons.
    pub mac: String,
    /// IPv4 address.
    pub ip: Option<IpAddr>,
    /// IPv6 address: the static one, else the global, else the unique local one.
    pub ip6: Option<Ipv6Addr>,
    /// Name of the virtual network.
    pub network: String,
    /// The address is outside the guest (an alias with EXTERNAL=YES).
    pub external: bool,
    /// True for an entry of NIC_ALIAS.
    pub alias: bool,
}

/// OneFlow's states of a service (captures; onegate.md).
pub mod state {
    /// All is as wanted.
    pub const RUNNING: i32 = 2;
    /// The whole service goes.
    pub const UNDEPLOYING: i32 = 3;
    /// A VM is off, or fails.
    pub const WARNING: i32 = 4;
    /// It scaled a moment ago.
    pub const COOLDOWN: i32 = 10;
}

/// The service as `/service?extended` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its ID.
    pub id: u32,
    /// Its state, see [`state`].
    pub state: i32,
    /// Its roles in the template's order.
    pub roles: Vec<ServiceRole>,
}

/// A role of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRole {
    /// OneFlow's name.
    pub name: String,
    /// How many VMs it shall have.
    pub cardinality: u32,
    /// Its state.
    pub state: i32,
    /// Its VMs, oldest first.
    pub nodes: Vec<ServiceNode>,
}

/// A VM of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNode {
    /// Its ID: `deploy_id`, there even if `vm_info` is null.
    pub id: VmId,
    /// The VM; `None` if OneFlow had no data of it.
    pub vm: Option<Vm>,
}

impl Service {
    /// All VMs that came with data, with their role.
    pub fn vms(&self) -> impl Iterator<Item = (&str, &Vm)> {
        self.roles.iter().flat_map(|role| {
            role.nodes.iter().filter_map(|node| Some((role.name.as_str(), node.vm.as_ref()?)))
        })
    }

    /// The role by name.
    pub fn role(&self, name: &str) -> Option<&ServiceRole> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// How many VMs the service lists.
    pub fn size(&self) -> usize {
        self.roles.iter().map(|role| role.nodes.len()).sum()
    }

    /// What is missing from a whole answer, if anything: a VM without its data, or fewer VMs than a deployed role
    /// shall have. `None` means that this answer may be believed about who is *not* there.
    pub fn gap(&self) -> Option<String> {
        self.roles.iter().find_map(|role| {
            let blind =
                role.nodes.iter().find(|node| node.vm.as_ref().is_none_or(|vm| vm.attributes.is_none()));
            if let Some(node) = blind {
                return Some(format!("OneGate gave no data of VM {} (role {})", node.id, role.name));
            }
            let few = role.nodes.len() < role.cardinality as usize;
            few.then(|| format!("role {} lists {} of {} VMs", role.name, role.nodes.len(), role.cardinality))
        })
    }
}
