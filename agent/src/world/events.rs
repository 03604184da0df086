//! What wakes the loop before its time: signals of the process, and whatever moved on the machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Units change in several steps within a few milliseconds: one pass sees them all.
const GATHER: Duration = Duration::from_millis(20);
/// So many early passes may follow each other at once ...
const BURST: u32 = 10;
/// ... and then one in this time. A unit that dies whenever it is started wakes us each time: without a limit the two
/// would spin (invariant 12).
const REFILL: Duration = Duration::from_secs(1);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Time is up.
    Time,
    /// Something moved.
    Moved,
    /// SIGHUP: look at everything again.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

/// All sources of events.
pub struct Events {
    moved: Arc<Notify>,
    budget: Budget,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Events {
    /// Takes over the signals; `moved` is notified by whatever watches the machine.
    ///
    /// # Errors
    /// If the signals cannot be taken over.
    pub fn new(moved: Arc<Notify>) -> std::io::Result<Self> {
        Ok(Self {
            moved,
            budget: Budget::full(Instant::now()),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for an event, until `end` at the latest.
    pub async fn wait_until(&mut self, end: Instant) -> Woken {
        let mut has_moved = false;
        let mut wake_at = end;
        loop {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => return Woken::Stop,
                _ = self.interrupt.recv() => return Woken::Stop,
                _ = self.hangup.recv() => return Woken::Reload,
                () = self.moved.notified(), if !has_moved => {
                    has_moved = true;
                    let now = Instant::now();
                    wake_at = end.min(self.budget.take(now).max(now + GATHER));
                }
                () = sleep_until(wake_at) => return if has_moved { Woken::Moved } else { Woken::Time },
            }
        }
    }
}

/// A bucket of early passes: [`BURST`] at most, one more each [`REFILL`].
struct Budget {
    /// When the bucket will be, or was, full.
    full_at: Instant,
}

impl Budget {
    fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one; returns when it may be used.
    fn take(&mut self, now: Instant) -> Instant {
        self.full_at = self.full_at.max(now) + REFILL;
        self.full_at.checked_sub(REFILL * BURST).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_then_one_a_second() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        for _ in 0..BURST {
            assert_eq!(budget.take(start), start);
        }
        assert_eq!(budget.take(start), start + REFILL);
        assert_eq!(budget.take(start), start + REFILL * 2);
        let later = start + REFILL * 100;
        assert_eq!(budget.take(later), later);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moved_wakes_once() {
        let moved = Arc::new(Notify::new());
        let mut events = Events::new(Arc::clone(&moved)).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        moved.notify_one();
        moved.notify_one();
        assert_eq!(events.wait_until(end).await, Woken::Moved);
        assert_eq!(events.wait_until(end).await, Woken::Time);
    }
}
