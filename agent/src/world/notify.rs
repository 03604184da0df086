//! Tells systemd how the agent is: ready, its status, that its loop turns. Without systemd nothing is sent.

use sd_notify::NotifyState;

use crate::driver::Report;
use crate::plan::Status;

/// What systemd was told last.
#[derive(Default)]
pub struct Notifier {
    ready: bool,
    status: String,
}

impl Notifier {
    /// After each pass: ready after the first one, and the status whenever it changed.
    pub fn pass(&mut self, report: &Report) {
        if !self.ready {
            send(NotifyState::Ready);
            self.ready = true;
        }
        let status = status_line(report);
        if status != self.status {
            send(NotifyState::Status(&status));
            self.status = status;
        }
    }
}

/// The loop turns. Only the loop itself says so: a stuck loop is killed and started again.
pub fn watchdog() {
    send(NotifyState::Watchdog);
}

/// The agent stops because it was asked to.
pub fn stopping() {
    send(NotifyState::Stopping);
}

fn send(state: NotifyState<'_>) {
    // Nobody to tell, or systemd is restarting itself: the next pass tells again what matters.
    sd_notify::notify(&[state]).ok();
}

/// The phase and what is waited for first.
fn status_line(report: &Report) -> String {
    let unmet = report.conditions.iter().find(|standing| standing.condition.status != Status::True);
    match unmet {
        Some(standing) => format!("{}: {}", report.phase, standing.condition.message.replace('\n', " ")),
        None => report.phase.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Standing;
    use crate::plan::Condition;

    #[test]
    fn the_first_unmet_condition_is_told() {
        let standing = |condition| Standing { condition, since: 0 };
        let mut report = Report { phase: "joining".into(), ..Report::default() };
        assert_eq!(status_line(&report), "joining");
        report.conditions = vec![
            standing(Condition::met("A", "Yes", "fine")),
            standing(Condition::unknown("B", "Silent", "waiting for\nthe token")),
            standing(Condition::unmet("C", "No", "later")),
        ];
        assert_eq!(status_line(&report), "joining: waiting for the token");
    }
}
