//! Who asks without a pause: one attempt every so often, whatever became of those before, each over a new connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::network::inside;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Anything, over TCP: whatever is answered proves that somebody serves.
    Tcp(SocketAddr),
    /// The address of `ep0.eth0.vr`, over UDP.
    Dns(SocketAddr),
}

/// One attempt, ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began.
    pub began: Instant,
    /// When it was answered, or given up.
    pub ended: Instant,
    /// What was answered, or why nothing was.
    pub outcome: Result<String, String>,
}

/// Attempts that go on until they are ended.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    thread: JoinHandle<Result<()>>,
}

impl Probe {
    /// Starts one attempt every `pace` from a namespace (`client`, `servers`); each is given up after `patience`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(namespace: &str, question: Question, pace: Duration, patience: Duration) -> Result<Self> {
        let (stop, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (flag, record) = (Arc::clone(&stop), Arc::clone(&attempts));
        let thread = inside(namespace, move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("could not make a runtime for a probe")?;
            runtime.block_on(ask_on(question, pace, patience, &flag, &record));
            Ok(())
        })?;
        Ok(Self { stop, attempts, thread })
    }

    /// The first answer to an attempt begun after `since` that `is` so.
    pub fn answered(&self, since: Instant, is: impl Fn(&str) -> bool) -> Option<Attempt> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest are the last: nobody waits for what is long past.
        let recent = attempts.iter().rev().take_while(|attempt| attempt.ended >= since);
        let good = recent
            .filter(|attempt| attempt.began >= since && attempt.outcome.as_ref().is_ok_and(|word| is(word)));
        good.min_by_key(|attempt| attempt.ended).cloned()
    }

    /// How many attempts have failed so far.
    pub fn failed(&self) -> usize {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.iter().filter(|attempt| attempt.outcome.is_err()).count()
    }

    /// Ends it, waits for the attempts under way, and returns all in the order of their ends.
    ///
    /// # Errors
    /// When its thread died.
    pub fn end(self) -> Result<Vec<Attempt>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("a probe died")??;
        Ok(std::mem::take(&mut *self.attempts.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The longest time between two answers, one after the other.
pub fn longest_gap(attempts: &[Attempt]) -> Duration {
    let mut answers: Vec<Instant> =
        attempts.iter().filter(|attempt| attempt.outcome.is_ok()).map(|attempt| attempt.ended).collect();
    answers.sort();
    answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

async fn ask_on(
    question: Question,
    pace: Duration,
    patience: Duration,
    stop: &AtomicBool,
    record: &Arc<Mutex<Vec<Attempt>>>,
) {
    // What a busy machine is late with is caught up on at once: the rate holds.
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let record = Arc::clone(record);
        running.spawn(async move {
            let began = Instant::now();
            let outcome = match timeout(patience, ask(question)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer in {} s", patience.as_secs_f64())),
            };
            let attempt = Attempt { began, ended: Instant::now(), outcome };
            record.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
        });
        while running.try_join_next().is_some() {}
    }
    running.join_all().await;
}

async fn ask(question: Question) -> Result<String, String> {
    match question {
        Question::Tcp(to) => ask_tcp(to).await,
        Question::Dns(to) => ask_dns(to).await,
    }
}

async fn ask_tcp(to: SocketAddr) -> Result<String, String> {
    let mut stream = TcpStream::connect(to).await.map_err(|error| format!("connecting: {error}"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.map_err(|error| format!("asking: {error}"))?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        // A server that speaks TLS says so and cuts the connection: it was served all the same.
        _ if !answer.is_empty() => Ok(word(&answer)),
        Ok(_) => Err("closed without a byte".into()),
        Err(error) => Err(format!("reading: {error}")),
    }
}

/// The last line of an answer in text.
fn word(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).lines().last().unwrap_or_default().to_owned()
}

/// A query for the A record of ep0.eth0.vr, recursion desired (RFC 1035, 4.1).
const QUERY: &[u8] =
    b"\x4f\x4e\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03ep0\x04eth0\x02vr\x00\x00\x01\x00\x01";

async fn ask_dns(to: SocketAddr) -> Result<String, String> {
    let socket = UdpSocket::bind("0.0.0.0:0").await.map_err(|error| format!("binding: {error}"))?;
    socket.connect(to).await.map_err(|error| format!("connecting: {error}"))?;
    socket.send(QUERY).await.map_err(|error| format!("asking: {error}"))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await.map_err(|error| format!("reading: {error}"))?;
    // Our identifier, a response without an error, one answer.
    match &answer[..length] {
        [0x4f, 0x4e, flags, code, _, _, 0, 1, ..] if flags & 0x80 != 0 && code & 0x0f == 0 => {
            Ok("ep0".into())
        }
        _ => Err("a name server that does not know ep0.eth0.vr".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_answer_to_answer() {
        let start = Instant::now();
        let attempt = |began: u64, ended: u64, good: bool| Attempt {
            began: start + Duration::from_millis(began),
            ended: start + Duration::from_millis(ended),
            outcome: if good { Ok(String::new()) } else { Err(String::new()) },
        };
        let attempts =
            [attempt(0, 1, true), attempt(400, 401, true), attempt(20, 520, false), attempt(10, 11, true)];
        assert_eq!(longest_gap(&attempts), Duration::from_millis(390));
        assert_eq!(longest_gap(&attempts[..1]), Duration::ZERO);
    }
}
