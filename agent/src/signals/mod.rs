//! Decides what the cloud is told: readiness and state.

use crate::context::Config;
use crate::facts::Facts;
use crate::plan::Decision;

/// The one word for where this VM stands.
pub fn phase(decision: &Decision) -> &'static str {
    if decision.is_ready() { "running" } else { "waiting" }
}

/// Adds what must be told.
pub fn decide(_config: &Config, _facts: &Facts, _decision: &mut Decision) {}
