//! Nodes inside of another process: each with a directory as its root and, with `bind = "node-ip"` in its
//! `standin.toml`, with an address of its own on the loopback interface. Everything else is as `rke2` does it.

use std::path::Path;

use anyhow::Result;

pub use crate::log::be_silent;
use crate::paths::Paths;
use crate::start;
pub use crate::traffic::{Ports, Traffic};

/// `rke2 server` with its files below `root`; `ports` is where its traffic is counted.
///
/// # Errors
/// Whatever makes RKE2 exit.
pub async fn server(root: &Path, ports: Ports) -> Result<()> {
    let mut server = start::server_at(Paths::below(root.to_owned()), &[]).await?;
    server.ports = ports;
    server.run().await
}

/// `rke2 agent` with its files below `root`.
///
/// # Errors
/// Whatever makes RKE2 exit.
pub async fn agent(root: &Path) -> Result<()> {
    start::agent_at(Paths::below(root.to_owned()), &[]).await?.run().await
}
