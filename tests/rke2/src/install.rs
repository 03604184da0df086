//! `rke2 standin install --root DIR`: lays down what the release's tarball holds, this very program as `rke2`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::options::Options;
use crate::paths;

/// Path below the root, mode, text.
const FILES: &[(&str, u32, &str)] = &[
    (
        "usr/local/lib/systemd/system/rke2-server.service",
        0o644,
        include_str!("../assets/rke2-server.service"),
    ),
    ("usr/local/lib/systemd/system/rke2-agent.service", 0o644, include_str!("../assets/rke2-agent.service")),
    ("usr/local/lib/systemd/system/rke2-server.env", 0o644, include_str!("../assets/rke2-server.env")),
    ("usr/local/lib/systemd/system/rke2-agent.env", 0o644, include_str!("../assets/rke2-agent.env")),
    ("usr/local/bin/rke2-killall.sh", 0o755, include_str!("../assets/rke2-killall.sh")),
    ("usr/local/bin/rke2-uninstall.sh", 0o755, include_str!("../assets/rke2-uninstall.sh")),
];

/// Installs `program` as `/usr/local/bin/rke2` below `root`, with the units and scripts.
///
/// # Errors
/// Whatever the file system says.
pub fn install(program: &Path, root: &Path) -> Result<()> {
    for (path, mode, text) in FILES {
        paths::write(&root.join(path), *mode, text)?;
    }
    let target = root.join("usr/local/bin/rke2");
    std::fs::copy(program, &target).with_context(|| format!("could not copy to {}", target.display()))?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The command.
///
/// # Errors
/// As [`install`].
pub fn command(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments, &["root"], &[])?;
    let root = options.one("root").context("--root is required")?;
    install(&std::env::current_exe()?, Path::new(root))
}
