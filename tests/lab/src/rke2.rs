//! The stand-in for RKE2, packed as RKE2's release is: a tarball that unpacks into /usr/local.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::run;

/// Makes RKE2's tarball from the stand-in: the program, its units and their environment files.
///
/// # Errors
/// When a file cannot be written or `tar` fails.
pub fn tarball(program: &Path, stage: &Path) -> Result<()> {
    let tree = stage.join("rke2");
    let units = tree.join("lib/systemd/system");
    fs::create_dir_all(tree.join("bin")).context("could not make the tarball's bin directory")?;
    fs::create_dir_all(&units).context("could not make the tarball's unit directory")?;
    fs::copy(program, tree.join("bin/rke2"))
        .with_context(|| format!("could not copy {}", program.display()))?;
    let (tree, target) = (tree.display().to_string(), stage.join("rke2.tar.gz").display().to_string());
    run(&["tar", "-czf", &target, "-C", &tree, "."])?;
    fs::remove_dir_all(&tree).context("could not remove the tarball's tree")
}
