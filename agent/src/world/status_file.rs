//! `/run/oneke-agent/status.json`: the last report, for whoever asks; and the lock that says that an agent runs.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::files;
use crate::driver::Report;

/// Where the agent's passing state is; it ends with the boot.
pub const DIRECTORY: &str = "/run/oneke-agent";

/// Writes the report whenever it changed.
pub struct StatusFile {
    path: PathBuf,
    written: Option<Report>,
}

impl StatusFile {
    /// The file in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { path: path_in(directory), written: None }
    }

    /// Writes the report if anything but its time changed; else only the file's own time moves, which shows that the
    /// agent is alive and costs no write.
    ///
    /// # Errors
    /// What was tried and why it failed.
    pub async fn update(&mut self, report: &Report) -> anyhow::Result<()> {
        let same =
            self.written.as_ref().is_some_and(|old| Report { at: report.at, ..old.clone() } == *report);
        if same && touch(&self.path).is_ok() {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(report).context("could not write a report as JSON")?;
        files::replace(&self.path, 0o644, &text, async |_| Ok(())).await?;
        self.written = Some(report.clone());
        Ok(())
    }
}

fn touch(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_modified(SystemTime::now())
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("status.json")
}

/// The last report in `directory` and how long ago the agent last confirmed it; `None` if there is none.
///
/// # Errors
/// If it is there and cannot be read.
pub fn last(directory: &Path) -> anyhow::Result<Option<(Report, Duration)>> {
    let path = path_in(directory);
    let could_not = || format!("could not read {}", path.display());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(could_not),
    };
    let modified =
        std::fs::metadata(&path).and_then(|metadata| metadata.modified()).with_context(could_not)?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    Ok(Some((serde_json::from_str(&text).with_context(could_not)?, age)))
}

/// Held by the agent as long as it runs; the kernel frees it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl Lock {
    /// Takes the lock; `None` if another agent has it.
    ///
    /// # Errors
    /// If the lock's file cannot be used.
    pub fn take(directory: &Path) -> anyhow::Result<Option<Self>> {
        let path = directory.join("lock");
        let could_not = || format!("could not lock {}", path.display());
        std::fs::create_dir_all(directory).with_context(could_not)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .with_context(could_not)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error).with_context(could_not),
        }
    }

    /// Whether an agent holds the lock in `directory`. Needs no rights but reading.
    pub fn is_held(directory: &Path) -> bool {
        let Ok(file) = File::open(directory.join("lock")) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_changes_are_written() {
        let home = tempfile::tempdir().unwrap();
        let mut file = StatusFile::new(home.path());
        assert!(last(home.path()).unwrap().is_none());
        let mut report = Report { at: 1, phase: "waiting".into(), ..Report::default() };
        file.update(&report).await.unwrap();
        report.at = 2;
        file.update(&report).await.unwrap();
        assert_eq!(last(home.path()).unwrap().unwrap().0.at, 1);
        report.phase = "ready".into();
        file.update(&report).await.unwrap();
        assert_eq!(last(home.path()).unwrap().unwrap().0, report);
        std::fs::remove_file(path_in(home.path())).unwrap();
        file.update(&report).await.unwrap();
        assert_eq!(last(home.path()).unwrap().unwrap().0, report, "a removed file comes back");
    }

    #[test]
    fn one_agent_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        assert!(!Lock::is_held(home.path()));
        let lock = Lock::take(home.path()).unwrap();
        assert!(lock.is_some());
        assert!(Lock::is_held(home.path()));
        assert!(Lock::take(home.path()).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_held(home.path()));
        assert!(Lock::take(home.path()).unwrap().is_some());
    }
}
