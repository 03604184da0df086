//! The embedded service: a whole OneKE service on one machine, from real contexts to RUNNING. In reading order:
//!
//! - [`host`]: what the lab needs of this machine, and how it takes its traces away again.
//! - [`network`]: the wires. [`base`]: the file systems under the nodes. [`guest`]: what one-context does in them.
//! - [`machine`]: one node with its power button. [`hypervisor`]: all of them.
//! - [`service`]: what is brought up. [`front`]: the cloud that brings it up. [`plain`]: VMs that are servers only.
//!   [`lab`]: all of it, running.
//! - [`progress`]: what the operator watches. [`client`]: who asks through the virtual address, [`probe`]: who asks
//!   without a pause. [`backends`]: what stands behind it.
//! - [`story`]: the main job, step by step. [`checks`]: the same with every step asserted. [`change`]: contexts
//!   that change under way. [`router`]: a virtual router instead of a service. [`leaks`]: where secrets may
//!   not be, [`secrets`]: how they are recognised.
//! - [`bench`]: figures, one module each, and [`figures`]: how they are printed.
//! - [`controls`]: what is done to a running lab from outside.
//! - [`rke2`]: the stand-in, packed as RKE2's release is.
//! - [`command`]: how the machine's own tools are run.
#![expect(clippy::disallowed_methods, reason = "the lab is made of files, processes, namespaces and time")]

pub mod backends;
pub mod base;
pub mod bench;
pub mod change;
pub mod checks;
pub mod client;
pub mod command;
pub mod controls;
pub mod figures;
pub mod front;
pub mod guest;
pub mod host;
pub mod hypervisor;
pub mod lab;
pub mod leaks;
pub mod machine;
pub mod network;
pub mod plain;
pub mod probe;
pub mod progress;
pub mod rke2;
pub mod router;
pub mod secrets;
pub mod service;
pub mod story;
