//! Questions that may take long are asked beside the loop: a slow answer makes facts late, it never holds a pass.
//!
//! ```text
//!  idle ── asked ──▶ in time ──▶ the answer, idle
//!                └─▶ late ─────▶ nothing yet; when it lands the loop is woken, and takes it
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// One question at a time. Dropping it abandons the question.
pub struct Background<T> {
    wake: Arc<Notify>,
    asked: Option<Asked<T>>,
}

struct Asked<T> {
    task: JoinHandle<T>,
    /// Nobody waits for the answer any more: it has to announce itself.
    is_late: Arc<AtomicBool>,
}

impl<T: Send + 'static> Background<T> {
    /// Nothing is asked yet; late answers notify `wake`.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, asked: None }
    }

    /// Asks, or goes on waiting for what was asked before, at most for `patience`. `None`: no answer yet.
    pub async fn ask(
        &mut self,
        patience: Duration,
        question: impl FnOnce() -> Box<dyn Future<Output = T> + Send>,
    ) -> Option<T> {
        let mut asked = self.asked.take().unwrap_or_else(|| self.spawn(question()));
        match tokio::time::timeout(patience, &mut asked.task).await {
            // A task that panicked has no answer: it is asked again next time.
            Ok(answer) => answer.ok(),
            Err(_) => {
                asked.is_late.store(true, Ordering::Relaxed);
                self.asked = Some(asked);
                None
            }
        }
    }

    fn spawn(&self, question: Box<dyn Future<Output = T> + Send>) -> Asked<T> {
        let (wake, is_late) = (Arc::clone(&self.wake), Arc::new(AtomicBool::new(false)));
        let seen_late = Arc::clone(&is_late);
        let question = Box::into_pin(question);
        let task = tokio::spawn(async move {
            let answer = question.await;
            if seen_late.load(Ordering::Relaxed) {
                wake.notify_one();
            }
            answer
        });
        Asked { task, is_late }
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        if let Some(asked) = &self.asked {
            asked.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_wakes_and_is_taken_without_asking_again() {
        let wake = Arc::new(Notify::new());
        let mut background = Background::new(Arc::clone(&wake));
        let slow = || -> Box<dyn Future<Output = u8> + Send> {
            Box::new(async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                1
            })
        };
        assert_eq!(background.ask(Duration::from_secs(1), slow).await, None);
        wake.notified().await;
        let never = || -> Box<dyn Future<Output = u8> + Send> { panic!("it was asked already") };
        assert_eq!(background.ask(Duration::from_secs(1), never).await, Some(1));
        let quick = || -> Box<dyn Future<Output = u8> + Send> { Box::new(async { 2 }) };
        assert_eq!(background.ask(Duration::from_secs(1), quick).await, Some(2));
        let woken = tokio::time::timeout(Duration::from_secs(9), wake.notified()).await;
        assert!(woken.is_err(), "an answer in time wakes nobody");
    }
}
