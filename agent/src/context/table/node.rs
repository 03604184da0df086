//! What RKE2 nodes read, and what the image's build does.

use super::Variable;

pub(super) const VARIABLES: &[Variable] = &[];
pub(super) const BUILD: &[Variable] = &[];
