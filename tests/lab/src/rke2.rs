//! The stand-in for RKE2, packed as RKE2's release is: a tarball that unpacks into /usr/local.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::run;

/// From the kubelet's registration to a Ready node; real ones need about this once their images are there.
pub const NODE_READY_DELAY: Duration = Duration::from_secs(2);

/// Makes `STAGE/rke2.tar.gz` from the stand-in, which lays itself down as the release does.
///
/// # Errors
/// When it cannot, or `tar` fails.
pub fn tarball(program: &Path, stage: &Path) -> Result<()> {
    let tree = stage.join("rke2");
    let text = |path: &Path| path.display().to_string();
    run(&[&text(program), "standin", "install", "--root", &text(&tree)])?;
    run(&["tar", "-czf", &text(&stage.join("rke2.tar.gz")), "-C", &text(&tree.join("usr/local")), "."])?;
    fs::remove_dir_all(&tree).context("could not remove the tarball's tree")
}

/// Makes the stand-in of an image as quick as the lab wants it. Real RKE2 knows no such file.
///
/// # Errors
/// When the file cannot be written.
pub fn tune(root: &Path) -> Result<()> {
    let directory = root.join("etc/rancher/rke2");
    fs::create_dir_all(&directory).context("could not make RKE2's directory")?;
    let knobs = format!("node-ready-delay-ms = {}\n", NODE_READY_DELAY.as_millis());
    fs::write(directory.join("standin.toml"), knobs).context("could not write the stand-in's knobs")
}
