//! OneFlow: services, their roles, and what it does to them as their VMs change.

mod autoscaler;
mod expression;
mod instantiate;
mod lifecycle;
pub mod policy;
mod scaling;
pub mod service;

pub use instantiate::Instantiate;
