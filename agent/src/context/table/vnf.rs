//! What vnf VMs read.

use super::Variable;

pub(super) const ADDRESSES: &[Variable] = &[];
pub(super) const HAPROXY: &[Variable] = &[];
pub(super) const LVS: &[Variable] = &[];
pub(super) const ROUTING: &[Variable] = &[];
pub(super) const OTHERS: &[Variable] = &[];
