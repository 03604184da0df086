//! What happens to guests: the cloud tells whoever runs them.

use serde::Serialize;

use crate::id::{ServiceId, VmId};

/// What whoever runs the guests must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Start a guest.
    PowerOn(Box<PowerOn>),
    /// Press its power button; tell [`crate::Cloud::guest_stopped`] when it is off.
    AcpiShutdown {
        /// Which VM.
        vm: VmId,
    },
    /// Ask it to restart; nothing needs to be told.
    AcpiReboot {
        /// Which VM.
        vm: VmId,
    },
    /// Press its reset button.
    Reset {
        /// Which VM.
        vm: VmId,
    },
    /// Pull its plug; nothing needs to be told.
    Destroy {
        /// Which VM.
        vm: VmId,
    },
    /// The context CD now holds this.
    ContextChanged {
        /// Which VM.
        vm: VmId,
        /// The text of `context.sh`.
        context_sh: String,
    },
}

/// A guest that starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PowerOn {
    /// Its number.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// Its service, if it has one.
    pub service: Option<ServiceId>,
    /// Its role in that service.
    pub role: Option<String>,
    /// The text of `context.sh`.
    pub context_sh: String,
    /// The text of `token.txt`, without its line break.
    pub token: String,
    /// Whether its disks are as the image made them: a first start, or a recreation.
    pub fresh_disk: bool,
    /// Its NICs in order; aliases are in the context only.
    pub nics: Vec<Plug>,
}

/// A NIC, as the hypervisor plugs it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plug {
    /// The network's name.
    pub network: String,
    /// The bridge on the host.
    pub bridge: String,
    /// 02:00 and the address.
    pub mac: String,
    /// The leased address.
    pub ip: std::net::Ipv4Addr,
}
