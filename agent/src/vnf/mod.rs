//! Decides for vnf nodes: addresses, balancing, routing, NAT, names.

use crate::context::Config;
use crate::driver::Interests;
use crate::facts::Facts;
use crate::plan::Decision;

/// What a vnf node looks at.
pub fn interests(_config: &Config, _interests: &mut Interests) {}

/// What a vnf node does.
pub fn decide(_config: &Config, _facts: &Facts, _decision: &mut Decision) {}
