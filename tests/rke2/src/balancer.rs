//! A node's own load balancer: a local port that leads to whichever server answers. The list of servers is kept on
//! disk, so that a restart finds one when the configured address is dead.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::paths;

/// How long a server may take to accept.
const ACCEPT_WITHIN: Duration = Duration::from_secs(2);

/// The servers, the configured address first.
pub struct Servers {
    file: PathBuf,
    configured: String,
    known: Mutex<Vec<String>>,
}

impl Servers {
    /// The configured address (`host:port`), and those that the file remembers.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(file: PathBuf, configured: &str) -> Result<Arc<Self>> {
        let text = paths::read(&file)?.unwrap_or_default();
        let stored: Value = serde_json::from_str(&text).unwrap_or_default(); // A damaged list is an empty one.
        let known = stored["ServerAddresses"].as_array().into_iter().flatten();
        let known = known.filter_map(|address| address.as_str().map(str::to_owned)).collect();
        Ok(Arc::new(Self { file, configured: configured.to_owned(), known: Mutex::new(known) }))
    }

    /// All of them, in the order in which to try them.
    pub fn all(&self) -> Vec<String> {
        let known = self.known.lock().expect("no one panics while holding the list").clone();
        let mut all = vec![self.configured.clone()];
        all.extend(known.into_iter().filter(|address| *address != self.configured));
        all
    }

    /// Remembers them, also on disk.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remember(&self, addresses: Vec<String>) -> Result<()> {
        let mut known = self.known.lock().expect("no one panics while holding the list");
        if *known == addresses || addresses.is_empty() {
            return Ok(());
        }
        let stored =
            json!({"ServerURL": format!("https://{}", self.configured), "ServerAddresses": addresses});
        paths::write(&self.file, 0o600, &stored.to_string())?;
        *known = addresses;
        Ok(())
    }
}

/// Leads each connection to the first of `servers` that accepts it on `port`.
pub async fn run(listener: TcpListener, servers: Arc<Servers>, port: u16) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(lead(stream, servers.clone(), port))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await, // Out of descriptors: others close first.
        }
    }
}

async fn lead(mut caller: TcpStream, servers: Arc<Servers>, port: u16) {
    for address in servers.all() {
        let address = with_port(&address, port);
        let Ok(Ok(mut server)) = tokio::time::timeout(ACCEPT_WITHIN, TcpStream::connect(&address)).await
        else {
            continue;
        };
        let _ = tokio::io::copy_bidirectional(&mut caller, &mut server).await; // Either side may end it as it likes.
        return;
    }
}

/// The same host with another port.
fn with_port(address: &str, port: u16) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    format!("{host}:{port}")
}

/// `address:port` texts for IP addresses.
pub fn addresses(ips: &[String], port: u16) -> Vec<String> {
    let text = |ip: &String| {
        ip.parse().map_or_else(|_| format!("{ip}:{port}"), |ip| SocketAddr::new(ip, port).to_string())
    };
    ips.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("etc/lb.json");
        let servers = Servers::load(file.clone(), "vip:9345").unwrap();
        servers.remember(addresses(&["10.0.0.1".into(), "fd00::2".into()], 9345)).unwrap();
        let again = Servers::load(file, "vip:9345").unwrap();
        assert_eq!(again.all(), ["vip:9345", "10.0.0.1:9345", "[fd00::2]:9345"]);
        assert_eq!(with_port("[fd00::2]:9345", 6443), "[fd00::2]:6443");
    }
}
