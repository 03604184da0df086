//! How a server begins: which of the three ways it is, and what must be true before it goes it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Server;
use crate::cluster::{self, Secrets};
use crate::paths::{self, Paths};
use crate::pki::Authorities;
use crate::store::Store;
use crate::supervisor::Bootstrap;
use crate::token::{self, Token};
use crate::{join, log};

/// How a server begins.
pub(super) enum Entry {
    Restart,
    Found,
    Join { address: String, token: Token },
}

impl Server {
    pub(super) fn entry(&self) -> Result<Entry> {
        let etcd = self.paths.etcd();
        if etcd.join("tombstone").exists() {
            log::info("tombstone file has been detected, removing data dir to rejoin the cluster");
            let aside = format!("etcd-old-{}", jiff::Timestamp::now().as_second());
            std::fs::rename(&etcd, etcd.with_file_name(aside))
                .context("could not put the old datastore aside")?;
        }
        if etcd.join("state").exists() {
            // A normal start allows the next reset.
            let _ = std::fs::remove_file(self.paths.data("server/db/reset-flag")); // It is rarely there.
            return Ok(Entry::Restart);
        }
        let Some(url) = self.config.one("server") else { return Ok(Entry::Found) };
        let address = join::address_of(url)?;
        let text = self.config.secret("token")?.context("--token is required to join a cluster")?;
        let token = Token::parse(&text, "server").context("failed to parse token: invalid token format")?;
        Ok(Entry::Join { address, token })
    }

    pub(super) fn founding_authorities(&self, directory: &Path) -> Result<Authorities> {
        let authorities = match Authorities::load(directory)? {
            Some(authorities) => authorities,
            None => Authorities::generate()?,
        };
        let token = self.config.secret("token")?.and_then(|text| Token::parse(&text, "server"));
        let ours = token::hash(&authorities.server.certificate);
        match token.and_then(|token| token.ca_hash) {
            Some(hash) if hash != ours => {
                bail!(
                    "failed to normalize server token; token CA hash does not match the Cluster CA certificate hash: {hash} != {ours}"
                )
            }
            _ => Ok(authorities),
        }
    }

    pub(super) fn found(&self, store: &Store, authorities: &Authorities) -> Result<()> {
        let known = paths::read(&self.paths.data("server/token"))?;
        let parsed = self.config.secret("token")?.or(known).and_then(|text| Token::parse(&text, "server"));
        let server = parsed.map_or_else(|| token::random(16), |token| token.password().to_owned());
        let secrets = Secrets { server, agent: self.agent_password()? };
        write_tokens(&self.paths, authorities, &secrets)?;
        log::info("Starting etcd for new cluster");
        store.found(&self.address.to_string(), cluster::beginning(&secrets, &self.config.critical()))
    }

    fn agent_password(&self) -> Result<Option<String>> {
        let parsed = self.config.secret("agent-token")?.and_then(|text| Token::parse(&text, "node"));
        Ok(parsed.map(|token| token.password().to_owned()))
    }

    /// A new server must agree with the others.
    pub(super) fn check_critical(&self, bootstrap: &Bootstrap) -> Result<()> {
        let ours = self.config.critical();
        let differing = ours.iter().filter(|(key, value)| bootstrap.critical.get(*key) != Some(value));
        let mut names: Vec<&str> = differing.map(|(key, _)| key.as_str()).collect();
        if self.agent_password()? != bootstrap.secrets.agent {
            names.push("agent-token");
        }
        if names.is_empty() {
            return Ok(());
        }
        log::error(&format!("critical configuration mismatched: {}", names.join(", ")));
        bail!(
            "failed to validate server configuration: critical configuration value mismatch between servers"
        )
    }

    /// A member comes back under its name, its address and the token that the datastore was encrypted with.
    pub(super) fn check_restart(&self, store: &Store) -> Result<()> {
        let token = self.config.secret("token")?.and_then(|text| Token::parse(&text, "server"));
        let stored = Secrets::of(&store.on_disk());
        if let (Some(token), Some(stored)) = (token, stored)
            && token.password() != stored.server
        {
            bail!("bootstrap data already found and encrypted with different token");
        }
        let members = store.members();
        match members.get(&store.me) {
            Some(member) if member.address != self.address.to_string() => {
                let list: Vec<String> =
                    members.list.iter().map(|m| format!("{}=https://{}:2380", m.name, m.address)).collect();
                bail!(
                    "start managed database: this server is a not a member of the etcd cluster. Found [{}], expect: \
                     {}=https://{}:2380",
                    list.join(" "),
                    store.me,
                    self.address
                )
            }
            _ => Ok(()),
        }
    }

    /// The member's name, made once.
    pub(super) fn member_name(&self) -> Result<String> {
        let file = self.paths.etcd().join("name");
        if let Some(name) = paths::read(&file)? {
            return Ok(name.trim().to_owned());
        }
        let name = format!("{}-{}", self.name, token::random(4));
        paths::write(&file, 0o600, &name)?;
        Ok(name)
    }
}

/// Writes `server/token`, `node-token` and `agent-token` in the full form; the last is a link to the first unless
/// agents have their own.
///
/// # Errors
/// Whatever the file system says.
pub fn write_tokens(paths: &Paths, authorities: &Authorities, secrets: &Secrets) -> Result<()> {
    let ca = &authorities.server.certificate;
    let server = format!("{}\n", token::full(ca, "server", &secrets.server));
    let files =
        [paths.data("server/token"), paths.data("server/node-token"), paths.data("server/agent-token")];
    paths::write(&files[0], 0o600, &server)?;
    match &secrets.agent {
        Some(agent) => {
            link(&files[0], &files[1])?;
            let _ = std::fs::remove_file(&files[2]); // It may be a link, which must not be written through.
            paths::write(&files[2], 0o600, &format!("{}\n", token::full(ca, "node", agent)))
        }
        None => link(&files[0], &files[1]).and_then(|()| link(&files[0], &files[2])),
    }
}

fn link(target: &Path, at: &Path) -> Result<()> {
    let _ = std::fs::remove_file(at); // It may not be there.
    std::os::unix::fs::symlink(target, at).with_context(|| format!("could not link {}", at.display()))
}
