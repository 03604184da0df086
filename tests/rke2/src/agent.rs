//! `rke2 agent`: joins through any server, then runs the kubelet behind its own load balancer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use crate::api;
use crate::balancer::{self, Servers};
use crate::client::ApiClient;
use crate::config::Config;
use crate::join::{self, Introduction, KubeletRefusal};
use crate::knobs::{Bind, Knobs};
use crate::kubelet::{self, Node};
use crate::paths::{self, Paths};
use crate::pki::Pair;
use crate::server::node_password;
use crate::supervisor::{self, KubeletFiles};
use crate::token::Token;
use crate::{http, kubeconfig, log, notify};

/// The load balancer's port for the supervisor (`lb-server-port`); the one for the API is one less.
const BALANCER_PORT: u16 = 6444;

/// How often the list of servers is read again.
const SERVERS_LOOK: Duration = Duration::from_secs(5);

/// One agent.
pub struct Agent {
    paths: Paths,
    knobs: Knobs,
    node: Node,
    who: Introduction,
    address: IpAddr,
    port: u16,
    token: Token,
    servers: Arc<Servers>,
}

impl Agent {
    /// Reads who and where this agent is, and whom it joins.
    ///
    /// # Errors
    /// A missing server or token, or a label or taint that a kubelet refuses.
    pub fn new(paths: Paths, config: &Config, knobs: Knobs) -> Result<Self> {
        let url = config.one("server").context("--server is required")?;
        let server = join::address_of(url)?;
        let text = config.secret("token")?.context("--token is required")?;
        let token = Token::parse(&text, "node").context("failed to parse token: invalid token format")?;
        let (name, address) = (config.node_name()?, config.node_ip()?);
        let node = Node::new(&name, address, config)?;
        let who = Introduction { name, password: node_password(&paths)?, address: address.to_string() };
        let servers = Servers::load(paths.data("agent/etc/rke2-agent-load-balancer.json"), &server)?;
        let port = config.one("lb-server-port").and_then(|text| text.parse().ok()).unwrap_or(BALANCER_PORT);
        Ok(Self { paths, knobs, node, who, address, port, token, servers })
    }

    /// Runs until the process is asked to end.
    ///
    /// # Errors
    /// Wrong credentials or another cluster; systemd starts it again.
    pub async fn run(self) -> Result<()> {
        let asked = crate::stop_asked()?;
        tokio::pin!(asked);
        let files = tokio::select! {
            () = &mut asked => return Ok(()),
            files = self.join() => files.context("preparing node")?,
        };
        let local = SocketAddr::new(self.local(), self.port - 1);
        let pair = save_kubelet(&self.paths, &files, local)?;
        self.open_balancer().await?;
        let api = ApiClient::new(&local.to_string(), &files.server_ca, &pair)?;
        let (registered, mut known) = watch::channel(false);
        tokio::spawn(kubelet::run(self.node.clone(), api, self.knobs.clone(), registered));
        tokio::select! {
            () = &mut asked => return Ok(()),
            _ = known.wait_for(|known| *known) => notify::ready("rke2 agent is up and running"),
        }
        tokio::select! {
            () = &mut asked => {}
            () = self.keep_servers(&pair) => {}
        }
        Ok(())
    }

    fn local(&self) -> IpAddr {
        match self.knobs.bind {
            Bind::All => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Bind::NodeIp => self.address,
        }
    }

    /// Asks server after server until one gives the kubelet its certificate.
    async fn join(&self) -> Result<KubeletFiles> {
        let pair = Pair::load(&self.paths.data("agent/client-kubelet"))?;
        loop {
            for address in self.servers.all() {
                log::info(&format!("Connecting to proxy via https://{address}"));
                let supervisor = match join::Supervisor::trust(&address, &self.token, pair.as_ref()).await {
                    Ok(supervisor) => supervisor,
                    Err(error) if format!("{error:#}").contains("token CA hash") => return Err(error),
                    Err(error) => {
                        log::error(&format!(
                            "Failed to validate connection to cluster at https://{address}: {error:#}"
                        ));
                        continue;
                    }
                };
                match supervisor.kubelet_files(&self.who).await {
                    Ok(files) => {
                        self.remember(&supervisor).await;
                        return Ok(files);
                    }
                    Err(KubeletRefusal::Fatal(error)) => return Err(error),
                    Err(KubeletRefusal::Wait(text)) => {
                        log::info(&format!(
                            "Waiting to retrieve agent configuration; server is not ready: {text}"
                        ));
                    }
                }
            }
            notify::status("waiting for a server");
            tokio::time::sleep(self.knobs.retry()).await;
        }
    }

    async fn open_balancer(&self) -> Result<()> {
        let ports = [(self.port, supervisor::PORT), (self.port - 1, api::PORT)];
        for (own, servers) in ports {
            let listener = http::listen(SocketAddr::new(self.local(), own)).await?;
            tokio::spawn(balancer::run(listener, self.servers.clone(), servers));
        }
        Ok(())
    }

    async fn remember(&self, supervisor: &join::Supervisor) {
        // Without an answer the old list stays, which is what it is for.
        if let Ok(servers) = supervisor.servers().await
            && let Err(error) = self.servers.remember(balancer::addresses(&servers, supervisor::PORT))
        {
            log::error(&format!("could not remember the servers: {error:#}"));
        }
    }

    async fn keep_servers(&self, pair: &Pair) {
        loop {
            tokio::time::sleep(SERVERS_LOOK.min(self.knobs.retry())).await;
            for address in self.servers.all() {
                if let Ok(supervisor) = join::Supervisor::trust(&address, &self.token, Some(pair)).await {
                    self.remember(&supervisor).await;
                    break;
                }
            }
        }
    }
}

/// Writes the kubelet's certificate and kubeconfig to where RKE2 has them.
///
/// # Errors
/// Whatever the file system says.
pub fn save_kubelet(paths: &Paths, files: &KubeletFiles, api: SocketAddr) -> Result<Pair> {
    let pair = Pair { certificate: files.certificate.clone(), key: files.key.clone() };
    pair.save(&paths.data("agent/client-kubelet"))?;
    paths::write(&paths.data("agent/server-ca.crt"), 0o644, &files.server_ca)?;
    paths::write(&paths.data("agent/client-ca.crt"), 0o644, &files.client_ca)?;
    let kubeconfig = paths.data("agent/kubelet.kubeconfig");
    kubeconfig::write(&kubeconfig, 0o600, &format!("https://{api}"), &files.server_ca, &pair)?;
    Ok(pair)
}
