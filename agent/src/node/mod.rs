//! Decides for RKE2 nodes: found, join, run.

pub mod files;

use crate::context::Config;
use crate::driver::Interests;
use crate::facts::Facts;
use crate::plan::Decision;
use crate::service::Role;

/// What a node looks at.
pub fn interests(_config: &Config, _role: &Role, _interests: &mut Interests) {}

/// What a node does.
pub fn decide(_config: &Config, _facts: &Facts, _role: &Role, _decision: &mut Decision) {}
