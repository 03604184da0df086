//! A real HAProxy on the loopback interface, as the agent drives it: it is given the agent's files, is reloaded, and is
//! changed over its socket by the agent's own code.
#![expect(clippy::disallowed_methods, reason = "it starts HAProxy and finds free ports")]

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use oneke_agent::facts::{HaproxyStats, Observed};
use oneke_agent::plan::ServerChange;
use oneke_agent::vnf::haproxy::{HEALTH, UNIT, description};
use oneke_agent::world::haproxy;

/// The daemon. Dropping it ends it.
pub struct Daemon {
    home: tempfile::TempDir,
    health: u16,
    master: Option<Child>,
}

impl Daemon {
    /// Not started yet; `None` where HAProxy is not installed.
    ///
    /// # Errors
    /// If there is no room for its files, or no port for its health.
    pub fn find() -> Result<Option<Self>> {
        let places = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        if !places.iter().any(|place| Path::new(place).exists()) {
            return Ok(None);
        }
        let home = tempfile::tempdir().context("could not make a directory")?;
        let health = free_port("127.0.0.1".parse().expect("it is an address"))?;
        Ok(Some(Self { home, health, master: None }))
    }

    /// Its statistics socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("admin.sock")
    }

    /// Starts it with a file of the agent's, or reloads it, and waits until it runs with that.
    ///
    /// # Errors
    /// If it does not start, or refuses the file.
    pub async fn load(&mut self, file: &str) -> Result<()> {
        let path = self.home.path().join("haproxy.cfg");
        std::fs::write(&path, self.adapted(file))?;
        match &self.master {
            None => {
                let mut command = Command::new("haproxy");
                command.arg("-W").arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
                self.master = Some(command.spawn().context("could not start haproxy")?);
            }
            Some(master) => signal("-USR2", master)?,
        }
        let description = description(file).context("the file has no description")?;
        haproxy::took(&self.socket(), UNIT, description).await
    }

    /// The same file for this place: an own socket and health port, and no change of user, which needs root.
    fn adapted(&self, file: &str) -> String {
        let socket = self.socket();
        file.replace(haproxy::SOCKET, &socket.to_string_lossy())
            .replace(HEALTH, &format!("127.0.0.1:{}", self.health))
            .replace("    log /dev/log local0\n    user haproxy\n    group haproxy\n", "")
            .replace("    maxconn 8000\n", "    maxconn 1500\n")
    }

    /// What it shows.
    pub async fn read(&self) -> Observed<HaproxyStats> {
        haproxy::read(&self.socket()).await
    }

    /// Changes its servers.
    ///
    /// # Errors
    /// What it refused.
    pub async fn change(&self, changes: &[ServerChange]) -> Result<()> {
        haproxy::change(&self.socket(), changes).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(master) = &mut self.master {
            // If it is gone already there is nothing to end.
            let _ = signal("-TERM", master);
            let _ = master.wait();
        }
    }
}

fn signal(name: &str, process: &Child) -> Result<()> {
    let status = Command::new("kill").args([name, &process.id().to_string()]).status()?;
    if !status.success() {
        bail!("haproxy is gone");
    }
    Ok(())
}

/// A port that nobody listens on.
///
/// # Errors
/// If the address is not this machine's.
pub fn free_port(address: IpAddr) -> Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}
