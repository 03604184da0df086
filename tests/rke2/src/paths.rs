//! Where RKE2 keeps its files, below a root that tests move away from `/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The environment variable that moves every default path below another root.
pub const ROOT_VARIABLE: &str = "RKE2_STANDIN_ROOT";

/// The places of one installation.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
    data: PathBuf,
}

impl Paths {
    /// The paths of this process: `RKE2_STANDIN_ROOT`, or `/`.
    pub fn from_environment() -> Self {
        Self::below(std::env::var_os(ROOT_VARIABLE).map_or_else(|| PathBuf::from("/"), PathBuf::from))
    }

    /// The paths below `root`.
    pub fn below(root: PathBuf) -> Self {
        let data = root.join("var/lib/rancher/rke2");
        Self { root, data }
    }

    /// The same with `data-dir` as the configuration names it.
    pub fn with_data(mut self, data: &str) -> Self {
        self.data = PathBuf::from(data);
        self
    }

    /// `/etc/rancher/rke2` or a file in it.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.root.join("etc/rancher/rke2").join(name)
    }

    /// `/etc/rancher/node/password`: what binds a node's name to this machine.
    pub fn node_password(&self) -> PathBuf {
        self.root.join("etc/rancher/node/password")
    }

    /// Something in the data directory, `/var/lib/rancher/rke2`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// The datastore: its presence means that this node was a member.
    pub fn etcd(&self) -> PathBuf {
        self.data("server/db/etcd")
    }
}

/// Writes a file whole or not at all, with `mode` before it becomes visible, creating its directory.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn write(path: &Path, mode: u32, content: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let directory = path.parent().context("a file needs a directory")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("could not create {}", directory.display()))?;
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let wrote = (|| {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(directory)?.sync_all()
    })();
    wrote.with_context(|| format!("could not write {}", path.display()))
}

/// A file's text, `None` if it is not there.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
    }
}
