//! The agent of OneKE, OpenNebula's Kubernetes appliance. A map of the house, in reading order:
//!
//! - [`context`]: what the context says: text to variables to a validated configuration.
//! - [`service`]: what OneGate says: this VM and its service.
//! - [`facts`]: one observation of everything; each part known, absent, or unknown.
//! - [`plan`]: what a pass decides: effects, conditions, when to look again.
//! - [`identity`]: who this VM is, pinned on its disk.
//! - [`token`], [`seal`]: RKE2's join tokens, and the envelope in which one travels to the VM that shall join.
//! - [`vrrp`]: the adverts by which virtual routers speak.
//! - [`decide`]: one decision from all deciders.
//! - [`guest`], [`node`], [`vnf`], [`signals`]: the deciders; pure functions that do not know each other.
//! - [`driver`]: observe, decide, apply, report, wait: the one loop, and the one seam, `trait World`.
//! - `world`: the only code that touches the machine. `cli`: one file per command.
//!
//! Everything above `world` is the core: values in, values out. `clippy.toml` keeps the clock, files, sockets,
//! processes, the environment and randomness out of it.

pub mod cli;
pub mod context;
pub mod decide;
pub mod driver;
pub mod facts;
pub mod guest;
pub mod identity;
pub mod node;
pub mod plan;
pub mod seal;
pub mod service;
pub mod signals;
pub mod token;
pub mod vnf;
pub mod vrrp;
pub mod world;
