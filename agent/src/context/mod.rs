//! From `context.sh` to a [`Config`]: quoting, then meaning; every problem at once, nothing executed.

mod addons;
mod config;
mod disks;
mod forms;
mod interfaces;
mod lint;
mod manifests;
mod metallb;
mod networks;
mod nics;
mod node;
pub mod placeholder;
mod problem;
mod quoting;
mod reader;
mod scheduling;
mod settings;
pub mod show;
pub mod table;
mod vars;
pub mod vnf;

pub use addons::AddonValues;
pub use config::{Config, OneGateConfig};
pub use disks::{Purpose, Selector, StorageConfig, Wish};
pub use interfaces::{Selected, Selection, select};
pub use nics::Nic;
pub use node::{LbEndpoint, NodeConfig, TokenMode};
pub use problem::{Problem, Warning};
pub use reader::Reader;
pub use settings::{JOIN_BATCH, NodeNic, PublishKubeconfig};
pub use vars::{ParseError, Vars, repair_ssh_keys};
