//! `rke2 server --cluster-reset`: becomes the only member, from what is on disk or from a snapshot.

use anyhow::{Context as _, Result, bail};

use crate::cluster::Secrets;
use crate::log;
use crate::paths;
use crate::server::Server;
use crate::snapshots;
use crate::store::state::State;
use crate::token::Token;

/// Resets and returns; the server is then started without the flag.
///
/// # Errors
/// A second reset without a start between, a snapshot of another cluster, no datastore.
pub fn run(server: &Server) -> Result<()> {
    let flag = server.paths.data("server/db/reset-flag");
    if flag.exists() {
        bail!(
            "Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start rke2 \
             normally. If you need to perform another cluster reset, you must first manually delete the file at {}",
            flag.display()
        );
    }
    let keys = match server.config.one("cluster-reset-restore-path") {
        Some(path) => Some(snapshots::open(path.as_ref()).context("starting kubernetes: preparing server")?),
        None if server.paths.etcd().join("state").exists() => None,
        None => bail!("cannot perform cluster-reset while server: the datastore is empty"),
    };
    if let Some(keys) = &keys {
        let state = State { keys: keys.clone(), ..State::default() };
        check_token(server, Secrets::of(&state))?;
    }
    server.reset_store(keys)?;
    paths::write(&flag, 0o600, "")?;
    log::info(&format!(
        "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete \
         {} on each peer etcd server and rejoin the nodes",
        server.paths.data("server/db").display()
    ));
    Ok(())
}

fn check_token(server: &Server, stored: Option<Secrets>) -> Result<()> {
    let known = paths::read(&server.paths.data("server/token"))?;
    let given = server.config.secret("token")?.or(known).and_then(|text| Token::parse(&text, "server"));
    match (given, stored) {
        (Some(given), Some(stored)) if given.password() != stored.server => {
            bail!("bootstrap data already found and encrypted with different token")
        }
        (_, None) => bail!("the snapshot holds no cluster"),
        _ => Ok(()),
    }
}
