//! The context as the loop asks for it: read again only when it looks different from outside.

use std::path::Path;

use super::context_source::{ContextFiles, ContextSource, Fingerprint};
use crate::facts::Observed;
use crate::plan::Secret;

/// A source of context, and what was last read of it.
#[derive(Debug)]
pub struct ContextReader {
    source: ContextSource,
    seen: Option<Fingerprint>,
    files: Option<ContextFiles>,
}

impl ContextReader {
    /// The file that was named, else the machine's own.
    pub fn new(file: Option<&Path>) -> Self {
        let source = file.map_or_else(ContextSource::machine, ContextSource::file);
        Self { source, seen: None, files: None }
    }

    /// Reads it; costs two or three sectors if it has not changed.
    pub fn read(&mut self) -> Observed<Secret> {
        match self.look() {
            Ok(Some(files)) => Observed::Known(files.context_sh),
            Ok(None) => Observed::Absent,
            Err(error) => Observed::Unknown(format!("{error:#}")),
        }
    }

    fn look(&mut self) -> anyhow::Result<Option<ContextFiles>> {
        let seen = self.source.fingerprint()?;
        if self.files.is_none() || seen.is_none() || seen != self.seen {
            self.files = self.source.read()?;
            self.seen = seen;
        }
        Ok(self.files.clone())
    }

    /// The OneGate token that came with what was last read.
    pub fn token(&self) -> Option<Secret> {
        self.files.as_ref()?.token.clone()
    }

    /// Reads everything anew the next time.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Whether it is another one than was read. What cannot be looked at is no change: the next pass says why.
    pub fn has_changed(&self) -> bool {
        self.source.fingerprint().is_ok_and(|now| now != self.seen)
    }
}
