//! The add-ons' own variables, from the catalogue.

use std::sync::LazyLock;

use super::{Form, Origin, Roles, Variable, var};
use crate::node::files::{VariableKind, catalogue};

/// What enables an add-on prepares every node (modules, images); what configures it is for masters alone.
pub(super) static VARIABLES: LazyLock<Vec<Variable>> = LazyLock::new(|| {
    let mut variables: Vec<Variable> = Vec::new();
    for addon in catalogue() {
        for variable in &addon.variables {
            // Two add-ons may share one.
            if variables.iter().any(|there| there.name == variable.name) {
                continue;
            }
            let roles = if addon.enable.contains(&variable.name) { Roles::NODES } else { Roles::MASTER };
            let (form, default) = match variable.kind {
                VariableKind::Flag => (Form::Bool, "NO"),
                VariableKind::Text => (Form::Text, ""),
                VariableKind::Url => (Form::HttpUrl, ""),
                VariableKind::Version => (Form::Rke2Version, ""),
                VariableKind::Channel => (Form::Rke2Channel, ""),
            };
            let row = var(&variable.name, form, roles, &variable.doc).default(default).from(Origin::New);
            variables.push(if variable.secret { row.secret() } else { row });
        }
    }
    variables
});
