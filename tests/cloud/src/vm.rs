//! A VM as oned keeps it, and the states it goes through.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::id::{ServiceId, VmId};
use crate::network::Nic;

/// Where a VM is in its life. Numbers: include/VirtualMachine.h of OpenNebula.
///
/// ```text
/// Pending -> Prolog -> Boot -> Running -> Shutdown -> Epilog -> Done
///    ^                   |       |  ^ ^-- BootPoweroff <- Poweroff
///    |                   v       |  |                       ^
///    |              BootFailure  |  |-- ShutdownPoweroff ---'
///    |                           |  |-- ShutdownUndeploy -> EpilogUndeploy -> Undeployed
///    '----- CleanupResubmit <----'  '-- BootUndeploy <- PrologUndeploy <----------'
/// ```
/// A guest that ignores ACPI is destroyed after [`crate::Timing::shutdown`] and goes on like one
/// that stopped by itself. A boot that fails stays in `BootFailure` until somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Waits for a host.
    Pending,
    /// Its disks are copied.
    Prolog,
    /// It is being started.
    Boot,
    /// It runs.
    Running,
    /// Asked to stop for good.
    Shutdown,
    /// Its disks are removed.
    Epilog,
    /// Asked to stop, to be resumed later.
    ShutdownPoweroff,
    /// Stopped; its disk is kept on the host.
    Poweroff,
    /// Started again from `Poweroff`.
    BootPoweroff,
    /// Asked to stop and to leave its host.
    ShutdownUndeploy,
    /// Its disks go to the datastore.
    EpilogUndeploy,
    /// Stopped, on no host.
    Undeployed,
    /// Its disks come back from the datastore.
    PrologUndeploy,
    /// Started again from `Undeployed`.
    BootUndeploy,
    /// It could not be started.
    BootFailure,
    /// Its disks are thrown away; it begins anew.
    CleanupResubmit,
    /// Thrown away without being asked.
    CleanupDelete,
    /// It no longer exists.
    Done,
}

impl VmState {
    /// STATE and LCM_STATE.
    pub fn numbers(self) -> (u8, u8) {
        match self {
            Self::Pending => (1, 0),
            Self::Prolog => (3, 1),
            Self::Boot => (3, 2),
            Self::Running => (3, 3),
            Self::Epilog => (3, 11),
            Self::Shutdown => (3, 12),
            Self::CleanupResubmit => (3, 15),
            Self::ShutdownPoweroff => (3, 18),
            Self::BootPoweroff => (3, 20),
            Self::CleanupDelete => (3, 23),
            Self::ShutdownUndeploy => (3, 29),
            Self::EpilogUndeploy => (3, 30),
            Self::PrologUndeploy => (3, 31),
            Self::BootUndeploy => (3, 32),
            Self::BootFailure => (3, 36),
            Self::Done => (6, 0),
            Self::Poweroff => (8, 0),
            Self::Undeployed => (9, 0),
        }
    }

    /// Whether a guest may be executing.
    pub fn has_guest(self) -> bool {
        matches!(
            self,
            Self::Boot
                | Self::BootPoweroff
                | Self::BootUndeploy
                | Self::Running
                | Self::Shutdown
                | Self::ShutdownPoweroff
                | Self::ShutdownUndeploy
        )
    }

    /// Whether OneFlow's watchdog warns of it.
    pub(crate) fn is_alarming(self) -> bool {
        matches!(self, Self::Poweroff | Self::Undeployed | Self::BootFailure)
    }
}

/// A VM as oned keeps it.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its number.
    pub id: VmId,
    /// Its name, which may be changed.
    pub name: String,
    /// Where it is in its life.
    pub state: VmState,
    /// What it and its fellows publish, next to what it was created with.
    pub user_template: Attributes,
    /// The context as last generated.
    pub context: BTreeMap<String, String>,
    /// In order.
    pub nics: Vec<Nic>,
    /// In order.
    pub aliases: Vec<Nic>,
    /// What OneGate accepts from it; on the context CD.
    pub token: String,
    /// The service that created it, and its role.
    pub membership: Option<(ServiceId, String)>,
    /// The virtual router that it is a part of.
    pub virtual_router: Option<u32>,
    pub(crate) hardware: Hardware,
    pub(crate) created: Duration,
    pub(crate) started: Option<Duration>,
    pub(crate) stopped: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    /// Whether the next power-on finds an empty disk.
    pub(crate) fresh_disk: bool,
    /// Counts changes of state, so that a timer of an earlier one is known.
    pub(crate) generation: u64,
}

/// What a VM was made of; only the long form of the service shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hardware {
    pub template_id: u32,
    pub cpu: String,
    pub memory: String,
    pub uuid: String,
}

impl Vm {
    /// The text of its context file.
    pub fn context_sh(&self) -> String {
        crate::context::file(&self.context)
    }
}
