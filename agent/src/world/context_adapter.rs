//! Where the context comes from: a file that was named, or the directory `/context`.

use std::path::{Path, PathBuf};

use crate::facts::{Moment, Observed};
use crate::plan::Secret;

/// A source of context.
#[derive(Debug)]
pub struct ContextSource {
    path: PathBuf,
    seen: Option<std::time::SystemTime>,
}

impl ContextSource {
    /// The file that was named, else the machine's own.
    pub fn new(file: Option<&Path>) -> Self {
        Self { path: file.map_or_else(|| "/context/context.sh".into(), Path::to_path_buf), seen: None }
    }

    /// Reads it.
    pub async fn read(&mut self, _now: Moment) -> Observed<Secret> {
        self.seen = modified(&self.path);
        super::files::read(&self.path).map(|file| file.content)
    }

    /// The OneGate token beside it.
    pub fn token(&self) -> Option<Secret> {
        let file = super::files::read(&self.path.with_file_name("token.txt"));
        file.known().map(|file| Secret::new(file.content.expose().trim()))
    }

    /// Looks again at the next read.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Whether it is another one than was read.
    pub fn has_changed(&self) -> bool {
        modified(&self.path) != self.seen
    }
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
