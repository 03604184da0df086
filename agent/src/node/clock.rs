//! Waits for the clock before certificates are made, but never for long.
//!
//! A founder makes the cluster's authorities, and a joiner judges the supervisor's certificate: both by the clock. A
//! machine without a time service is as right as its host, and one whose servers do not answer may be right all the same:
//! so only a service that is still at work is waited for, and only in the machine's first minute.

use std::time::Duration;

use super::Node;
use crate::facts::{ClockState, Observed};
use crate::plan::{Condition, Decision};

/// After boot; a time service that has a server needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const KIND: &str = "ClockSynchronised";

/// What is waited for before this node enters a cluster, if anything.
pub fn awaited(node: &Node<'_>) -> Option<Condition> {
    let waits = node.facts.clock == Observed::Known(ClockState::Waiting) && node.facts.now < PATIENCE;
    let message = format!(
        "waiting for the time service to reach a server before certificates are made, until {} s after boot at most",
        PATIENCE.as_secs()
    );
    waits.then(|| Condition::unmet(KIND, "Waiting", message))
}

/// How the clock stands, once nothing waits for it any more.
pub fn tell(node: &Node<'_>, decision: &mut Decision) {
    let unmet = |reason, message| Condition::unmet(KIND, reason, message);
    decision.told.push(match &node.facts.clock {
        Observed::Known(ClockState::Synchronised) => {
            Condition::met(KIND, "Synchronised", "the clock is synchronised")
        }
        Observed::Known(ClockState::Waiting) => unmet(
            "NoServer",
            "the time service has reached no server: the clock is the host's; certificates are made by it",
        ),
        Observed::Known(ClockState::NoService) => {
            unmet("NoService", "no time service runs: the clock is the host's; certificates are made by it")
        }
        Observed::Absent | Observed::Unknown(_) => return,
    });
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::Facts;
    use crate::service::Role;

    #[track_caller]
    fn check(clock: Observed<ClockState>, seconds: u64, awaits: bool, tells: &str) {
        let mut facts = Facts { clock, now: Duration::from_secs(seconds), ..Facts::default() };
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        let config = fixture::config();
        let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
        assert_eq!(awaited(&node).is_some(), awaits);
        let mut decision = Decision::default();
        tell(&node, &mut decision);
        assert_eq!(decision.told.first().map_or("", |it| it.reason.as_str()), tells);
    }

    #[test]
    fn only_a_service_at_work_is_waited_for_and_not_for_ever() {
        check(Observed::Known(ClockState::Waiting), 59, true, "NoServer");
        check(Observed::Known(ClockState::Waiting), 60, false, "NoServer");
        check(Observed::Known(ClockState::Synchronised), 1, false, "Synchronised");
        check(Observed::Known(ClockState::NoService), 1, false, "NoService");
        check(Observed::Absent, 1, false, "");
        check(Observed::Unknown("no D-Bus".into()), 1, false, "");
    }
}
