//! The log on disk: a whole state, the entries after it, and the vote. What was appended is there after a power loss.
//!
//! ```text
//! server/db/etcd/name            this member's name
//! server/db/etcd/vote            the term and whom this member voted for in it
//! server/db/etcd/state           a whole state, at some (term, revision)
//! server/db/etcd/wal-TERM-REV    the entries after exactly that state, one JSON text a line
//! ```
//! A new state gets a new wal, written before the state is: a crash between the two leaves the old pair.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::state::{Entry, State};
use crate::paths;

/// The term that a member is in, and its vote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The newest term heard of.
    pub term: u64,
    /// Whom this member voted for in that term.
    pub whom: Option<String>,
}

/// The open log.
pub struct Disk {
    directory: PathBuf,
    wal: File,
    /// How many entries the wal holds.
    pub entries: usize,
}

impl Disk {
    /// Opens the log in `directory`, or begins one.
    ///
    /// # Errors
    /// When what is there cannot be read. An unfinished last line is no error: it was never acknowledged.
    pub fn open(directory: &Path) -> Result<(Self, Vote, State, Vec<Entry>)> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("could not create {}", directory.display()))?;
        let vote = decoded(&directory.join("vote"))?.unwrap_or_default();
        let state: State = decoded(&directory.join("state"))?.unwrap_or_default();
        let path = wal_path(directory, &state);
        let text = paths::read(&path)?.unwrap_or_default();
        let (tail, valid_bytes) = entries_after(&text, &state);
        let mut wal = open_wal(&path)?;
        wal.set_len(valid_bytes as u64)?;
        wal.seek(std::io::SeekFrom::End(0))?;
        sync_directory(directory)?;
        let disk = Self { directory: directory.to_owned(), wal, entries: tail.len() };
        Ok((disk, vote, state, tail))
    }

    /// Adds entries; when this returns they survive a power loss.
    ///
    /// # Errors
    /// Above all a full disk. The log is then closed for good: the process must end, as etcd does.
    pub fn append(&mut self, entries: &[Entry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        let wrote = self.wal.write_all(&text).and_then(|()| self.wal.sync_data());
        wrote.with_context(|| format!("failed to save raft entries in {}", self.directory.display()))?;
        self.entries += entries.len();
        Ok(())
    }

    /// Replaces everything by a state and the entries after it.
    ///
    /// # Errors
    /// Whatever the file system says; the old pair is then still whole.
    pub fn install(&mut self, state: &State, tail: &[Entry]) -> Result<()> {
        let path = wal_path(&self.directory, state);
        let mut text = String::new();
        for entry in tail {
            text += &serde_json::to_string(entry)?;
            text.push('\n');
        }
        paths::write(&path, 0o600, &text)?;
        paths::write(&self.directory.join("state"), 0o600, &serde_json::to_string(state)?)?;
        self.wal = open_wal(&path)?;
        self.wal.seek(std::io::SeekFrom::End(0))?;
        self.entries = tail.len();
        self.forget_other_wals(&path);
        Ok(())
    }

    /// Remembers the vote before it is told to anyone.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn save_vote(&self, vote: &Vote) -> Result<()> {
        paths::write(&self.directory.join("vote"), 0o600, &serde_json::to_string(vote)?)
    }

    fn forget_other_wals(&self, keep: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return }; // They only take room.
        for entry in entries.flatten() {
            let is_wal = entry.file_name().to_string_lossy().starts_with("wal-");
            if is_wal && entry.path() != keep {
                let _ = std::fs::remove_file(entry.path()); // It only takes room.
            }
        }
    }
}

/// The entries that follow `state` without a gap, and how many bytes of `text` they are.
fn entries_after(text: &str, state: &State) -> (Vec<Entry>, usize) {
    let mut tail: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    for line in text.split_inclusive('\n') {
        let whole = line.ends_with('\n');
        let Ok(entry) = serde_json::from_str::<Entry>(line) else { break };
        let expected = state.revision + tail.len() as u64 + 1;
        if !whole || entry.revision != expected {
            break;
        }
        tail.push(entry);
        bytes += line.len();
    }
    (tail, bytes)
}

fn wal_path(directory: &Path, state: &State) -> PathBuf {
    directory.join(format!("wal-{}-{}", state.term, state.revision))
}

fn open_wal(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    opened.with_context(|| format!("could not open {}", path.display()))
}

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)?.sync_all().with_context(|| format!("could not sync {}", directory.display()))
}

fn decoded<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = paths::read(path)? else { return Ok(None) };
    let value = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::super::state::Change;
    use super::*;
    use serde_json::json;

    fn entry(term: u64, revision: u64) -> Entry {
        Entry { term, revision, changes: vec![Change::Put("/a".into(), json!(revision))] }
    }

    #[test]
    fn what_was_appended_is_read_back_and_half_a_line_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, ..) = Disk::open(directory.path()).unwrap();
        disk.append(&[entry(1, 1), entry(1, 2)]).unwrap();
        disk.wal.write_all(b"{\"term\":1,\"revi").unwrap();
        let (mut disk, _, state, tail) = Disk::open(directory.path()).unwrap();
        assert_eq!((state.revision, tail), (0, vec![entry(1, 1), entry(1, 2)]));
        disk.append(&[entry(2, 3)]).unwrap();
        assert_eq!(Disk::open(directory.path()).unwrap().3.len(), 3);
    }

    #[test]
    fn a_new_state_replaces_the_old_log() {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, ..) = Disk::open(directory.path()).unwrap();
        disk.append(&[entry(1, 1), entry(1, 2)]).unwrap();
        let mut state = State::default();
        state.apply(&entry(2, 1));
        disk.install(&state, &[entry(3, 2)]).unwrap();
        disk.append(&[entry(3, 3)]).unwrap();
        let vote = Vote { term: 3, whom: Some("a".into()) };
        disk.save_vote(&vote).unwrap();
        let (_, read, state, tail) = Disk::open(directory.path()).unwrap();
        assert_eq!((read, state.term, tail), (vote, 2, vec![entry(3, 2), entry(3, 3)]));
        let wals = std::fs::read_dir(directory.path()).unwrap().flatten();
        assert_eq!(wals.filter(|e| e.file_name().to_string_lossy().starts_with("wal-")).count(), 1);
    }
}
