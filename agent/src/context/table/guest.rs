//! What the VM, its NICs and its guest are told.

use super::{Form, Origin, Roles, Served, Variable, var};

const fn nic(name: &'static str, form: Form, doc: &'static str) -> Variable {
    var(name, form, Roles::ALL, doc).from(Origin::OpenNebula).served(Served::Guest)
}

pub(super) const SERVICE: &[Variable] = &[];
pub(super) const GUEST: &[Variable] = &[];
pub(super) const NETWORK: &[Variable] = &[nic("ETHx_IP", Form::Ipv4, "address")];
