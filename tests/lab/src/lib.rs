//! The embedded service: a whole OneKE service on one machine, from real contexts to RUNNING. In reading order:
//!
//! - [`host`]: what the lab needs of this machine, and how it takes its traces away again.
//! - [`network`]: the wires. [`base`]: the file systems under the nodes. [`guest`]: what one-context does in them.
//! - [`machine`]: one node with its power button. [`hypervisor`]: all of them.
//! - [`service`]: what is brought up. [`front`]: the cloud that brings it up. [`lab`]: all of it, running.
//! - [`progress`]: what the operator watches. [`client`]: who asks through the virtual address.
//! - [`story`]: the main job, step by step. [`checks`]: the same with every step asserted, [`secrets`] among them.
//!   [`bench`]: figures.
//! - [`controls`]: what is done to a running lab from outside.
//! - [`rke2`]: the stand-in, packed as RKE2's release is.
//! - [`command`]: how the machine's own tools are run.
#![expect(clippy::disallowed_methods, reason = "the lab is made of files, processes, namespaces and time")]

pub mod base;
pub mod bench;
pub mod checks;
pub mod client;
pub mod command;
pub mod controls;
pub mod front;
pub mod guest;
pub mod host;
pub mod hypervisor;
pub mod lab;
pub mod machine;
pub mod network;
pub mod progress;
pub mod rke2;
pub mod secrets;
pub mod service;
pub mod story;
