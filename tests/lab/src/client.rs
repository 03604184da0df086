//! A client on the public network: it asks through the virtual address, and measures how long it gets no answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::output;
use crate::network::inside;

/// What a client needs to be let in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CA that the server's certificate must come from.
    pub ca: PathBuf,
    /// The client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Asks once, verified and with credentials, and returns the body.
///
/// # Errors
/// When no answer comes in time, it is not verified, or its status is not 200.
pub fn ask(url: &str, credentials: &Credentials) -> Result<String> {
    let (url, credentials) = (url.to_owned(), credentials.clone());
    inside("client", move || request(&url, &credentials, "5"))?
        .join()
        .unwrap_or_else(|_| bail!("the client died"))
}

fn request(url: &str, credentials: &Credentials, patience: &str) -> Result<String> {
    let path = |path: &PathBuf| path.display().to_string();
    let (ca, certificate, key) =
        (path(&credentials.ca), path(&credentials.certificate), path(&credentials.key));
    let argv = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        patience,
        "--cacert",
        &ca,
        "--cert",
        &certificate,
        "--key",
        &key,
        url,
    ];
    let output = output(&argv)?;
    if !output.status.success() {
        bail!("{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks again and again, from now until it is ended.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Outage>>,
}

/// What a probe saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outage {
    /// The longest time from the start of a request that was answered to the answer of the next one that was, where
    /// there were failures in between; zero if all were answered.
    pub longest: Duration,
    /// Requests without an answer.
    pub failed: u32,
    /// Requests with one.
    pub answered: u32,
}

impl Outage {
    fn add(&mut self, answered: bool, since_last_answer: Duration, failed_before: bool) {
        if answered {
            self.answered += 1;
            if failed_before {
                self.longest = self.longest.max(since_last_answer);
            }
        } else {
            self.failed += 1;
        }
    }
}

impl Probe {
    /// Starts asking, about thirty times a second, each time over a new connection.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start(url: &str, credentials: &Credentials) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, url, credentials) = (Arc::clone(&stop), url.to_owned(), credentials.clone());
        let thread = inside("client", move || {
            let mut outage = Outage::default();
            let (mut last, mut failed) = (Instant::now(), false);
            while !flag.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answered = request(&url, &credentials, "0.5").is_ok();
                outage.add(answered, last.elapsed(), failed);
                failed = !answered;
                if answered {
                    last = asked;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(outage)
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it and tells what it saw.
    ///
    /// # Errors
    /// When its thread died.
    pub fn end(self) -> Result<Outage> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the probe died")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_answer_to_answer() {
        let mut outage = Outage::default();
        let ms = Duration::from_millis;
        outage.add(true, ms(30), false);
        outage.add(false, ms(530), false);
        outage.add(false, ms(1030), true);
        outage.add(true, ms(1100), true);
        outage.add(true, ms(30), false);
        assert_eq!(outage, Outage { longest: ms(1100), failed: 2, answered: 3 });
    }
}
