//! From `context.sh` to a [`Config`]: quoting, then meaning; every problem at once, nothing executed.

mod config;
mod problem;
mod reader;
pub mod table;
mod vars;
pub mod vnf;

pub use config::{Config, LbEndpoint, Nic, NodeConfig, OneGateConfig, StorageConfig, TokenMode};
pub use problem::{Problem, Warning};
pub use reader::Reader;
pub use vars::{ParseError, Vars};
