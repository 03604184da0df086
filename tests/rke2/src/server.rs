//! `rke2 server`: founds a cluster, joins one, or starts again as the member that it was.
//!
//! ```text
//! datastore on disk ──────────────▶ restart: `server:` is not looked at, no other node is needed to begin
//! none, `server:` set ────────────▶ join: trust, bootstrap, agree, become a learner, be promoted
//! none, no `server:` ─────────────▶ found: new authorities (or those on disk), new datastore
//! removed from the cluster before ▶ the old datastore is put aside, then as if there were none
//! ```

mod entry;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;

use crate::api::{self, Api};
use crate::client::ApiClient;
use crate::config::Config;
use crate::join::{self, Introduction};
use crate::knobs::{Bind, Knobs};
use crate::kubelet::{self, Node};
use crate::paths::{self, Paths};
use crate::pki::{Authorities, Pair, Subject};
use crate::store::members::Members;
use crate::store::state::Record;
use crate::store::{Peers, Store, Timing, peers};
use crate::supervisor::{self, Supervisor};
use crate::token;
use crate::traffic::Ports;
use crate::{controllers, http, kubeconfig, log, manifests, metrics, notify, tls};

use entry::Entry;
pub use entry::write_tokens;

/// One server on its way up.
pub struct Server {
    /// Its files.
    pub paths: Paths,
    /// Its configuration.
    pub config: Config,
    /// How it was tuned.
    pub knobs: Knobs,
    /// Its node's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// How much its ports are asked.
    pub ports: Ports,
}

impl Server {
    /// Reads who and where this server is.
    ///
    /// # Errors
    /// No usable node-ip or name.
    pub fn new(paths: Paths, config: Config, knobs: Knobs) -> Result<Self> {
        let (name, address) = (config.node_name()?, config.node_ip()?);
        Ok(Self { paths, config, knobs, name, address, ports: Ports::default() })
    }

    /// Runs until the process is asked to end.
    ///
    /// # Errors
    /// Whatever makes RKE2 exit; systemd starts it again.
    pub async fn run(self) -> Result<()> {
        let node = Node::new(&self.name, self.address, &self.config)?;
        let (supervisor, store) = self.prepare().await.context("starting kubernetes: preparing server")?;
        let api = Api::new(store.clone(), self.knobs.clone());
        self.wait_for_api(&api, &store).await?;
        self.open_api(&supervisor, &api).await?;
        tokio::spawn(controllers::run(store.clone(), self.knobs.clone()));
        tokio::spawn(controllers::keep_token_files(
            store.clone(),
            self.paths.clone(),
            supervisor.authorities.clone(),
        ));
        let (registered, mut known) = watch::channel(false);
        tokio::spawn(start_kubelet(supervisor.clone(), node, self.introduction()?, self.local(), registered));
        tokio::spawn(manifests::run(self.paths.clone(), store.clone(), self.name.clone()));
        let end = self.watch_over(&store);
        tokio::pin!(end);
        tokio::select! {
            ended = &mut end => return ended,
            _ = known.wait_for(|known| *known) => notify::ready("rke2 is up and running"),
        }
        end.await
    }

    /// The address that local callers use.
    fn local(&self) -> IpAddr {
        match self.knobs.bind {
            Bind::All => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Bind::NodeIp => self.address,
        }
    }

    fn listening(&self, port: u16) -> SocketAddr {
        let any = match (self.knobs.bind, self.address) {
            (Bind::NodeIp, address) => address,
            (Bind::All, IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (Bind::All, IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(any, port)
    }

    /// Everything up to a running member: after this, ports 2380 and 9345 are open.
    async fn prepare(&self) -> Result<(Arc<Supervisor>, Arc<Store>)> {
        let tls = self.paths.data("server/tls");
        let entry = self.entry()?;
        let (authorities, joined) = match &entry {
            Entry::Restart => {
                (Authorities::load(&tls)?.context("the datastore is there, its authorities are not")?, None)
            }
            Entry::Found => (self.founding_authorities(&tls)?, None),
            Entry::Join { address, token } => {
                let supervisor = join::Supervisor::trust(address, token, None).await?;
                let bootstrap = supervisor.bootstrap().await?;
                self.check_critical(&bootstrap)?;
                (bootstrap.authorities.clone(), Some((supervisor, bootstrap)))
            }
        };
        authorities.save(&tls)?;
        let member = self.member_name()?;
        let store = self.open_store(&authorities, &member)?;
        match (&entry, &joined) {
            (Entry::Found, _) => self.found(&store, &authorities)?,
            (Entry::Join { .. }, Some((supervisor, bootstrap))) => {
                write_tokens(&self.paths, &authorities, &bootstrap.secrets)?;
                let added = supervisor.add_member(&member, &self.address.to_string()).await;
                added.context("start managed database: joining etcd cluster")?;
            }
            _ => self.check_restart(&store)?,
        }
        let supervisor = self.open_ports(authorities, &store).await?;
        metrics::open(self.local(), store.clone()).await?;
        tokio::spawn(store.clone().run());
        Ok((supervisor, store))
    }

    fn open_store(&self, authorities: &Authorities, member: &str) -> Result<Arc<Store>> {
        let pair = self.peer_pair(authorities)?;
        let election = self.knobs.election();
        let peers = Peers::new(tls::client(&authorities.peer.certificate, Some(&pair))?, election / 2);
        let timing = Timing { election, promotion: Duration::from_millis(self.knobs.promotion_delay_ms) };
        Store::open(&self.paths.etcd(), member, peers, timing)
    }

    /// Makes this the only member, with these keys or with those on disk.
    ///
    /// # Errors
    /// No authorities on disk, or a disk that says no.
    pub fn reset_store(&self, keys: Option<BTreeMap<String, Record>>) -> Result<()> {
        let authorities =
            Authorities::load(&self.paths.data("server/tls"))?.context("server/tls holds no authorities")?;
        let store = self.open_store(&authorities, &self.member_name()?)?;
        if let Some(keys) = keys {
            store.replace(keys);
        }
        let alone = Members::default()
            .with_learner(&store.me, &self.address.to_string())
            .map_err(anyhow::Error::msg)?;
        store.reset(&alone.with_promoted(&store.me), Vec::new())
    }

    fn peer_pair(&self, authorities: &Authorities) -> Result<Pair> {
        let stem = self.paths.data("server/tls/etcd/peer-server-client");
        let names = [self.address.to_string(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        let subject = Subject::new("etcd-peer", &[]);
        Pair::ensure(&stem, &authorities.peer, &subject, &names, self.knobs.certificate_lifetime())
    }

    fn serving_pair(&self, authorities: &Authorities) -> Result<Pair> {
        let mut names = vec![self.address.to_string(), self.name.clone()];
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
        names.push(format!("kubernetes.default.svc.{}", self.config.critical()["cluster-domain"]));
        names.extend(self.config.list("node-ip"));
        names.extend(self.config.list("node-external-ip"));
        names.extend(self.config.list("tls-san"));
        let stem = self.paths.data("server/tls/serving-kube-apiserver");
        let subject = Subject::new("kube-apiserver", &[]);
        Pair::ensure(&stem, &authorities.server, &subject, &names, self.knobs.certificate_lifetime())
    }

    async fn open_ports(&self, authorities: Authorities, store: &Arc<Store>) -> Result<Arc<Supervisor>> {
        let peer_tls = tls::server(&self.peer_pair(&authorities)?, &authorities.peer.certificate, true)?;
        let listener = http::listen(self.listening(peers::PORT)).await?;
        let member = store.clone();
        tokio::spawn(http::serve(listener, peer_tls, Arc::default(), move |request, _| {
            peers::answer(member.clone(), request)
        }));
        let tls = tls::server(&self.serving_pair(&authorities)?, &authorities.client.certificate, false)?;
        let listener = http::listen(self.listening(supervisor::PORT)).await?;
        let supervisor = Arc::new(Supervisor {
            authorities,
            store: store.clone(),
            paths: self.paths.clone(),
            node: self.name.clone(),
            knobs: self.knobs.clone(),
        });
        let handler = supervisor.clone();
        tokio::spawn(http::serve(listener, tls, self.ports.supervisor.clone(), move |request, caller| {
            handler.clone().answer(request, caller)
        }));
        Ok(supervisor)
    }

    /// Port 6443 opens when a majority stands behind it and this member votes.
    async fn wait_for_api(&self, api: &Api, store: &Store) -> Result<()> {
        let mut moves = store.moves();
        for round in 0_u32.. {
            if let Some(failure) = store.failure() {
                bail!("{failure}");
            }
            if store.members().is_voter(&store.me) && api.is_ready().await {
                return Ok(());
            }
            if round.is_multiple_of(20) {
                log::info("Waiting for etcd server to become available");
                log::info("Waiting for API server to become available");
                notify::status("waiting for the API server");
            }
            // A move wakes us early; without one the next round looks again.
            let _ = tokio::time::timeout(Duration::from_millis(250), moves.changed()).await;
        }
        Ok(())
    }

    async fn open_api(&self, supervisor: &Supervisor, api: &Arc<Api>) -> Result<()> {
        let authorities = &supervisor.authorities;
        let tls = tls::server(&self.serving_pair(authorities)?, &authorities.client.certificate, false)?;
        let listener = http::listen(self.listening(api::PORT)).await?;
        let handler = api.clone();
        tokio::spawn(http::serve(listener, tls, self.ports.api.clone(), move |request, caller| {
            handler.clone().answer(request, caller)
        }));
        let stem = self.paths.data("server/tls/client-admin");
        let subject = Subject::new("system:admin", &[api::access::MASTERS]);
        let lifetime = self.knobs.certificate_lifetime();
        let admin = Pair::ensure(&stem, &authorities.client, &subject, &[], lifetime)?;
        let path =
            self.config.one("write-kubeconfig").map_or_else(|| self.paths.etc("rke2.yaml"), Into::into);
        let mode =
            self.config.one("write-kubeconfig-mode").and_then(|text| u32::from_str_radix(text, 8).ok());
        let url = format!("https://{}", SocketAddr::new(self.local(), api::PORT));
        kubeconfig::write(&path, mode.unwrap_or(0o600), &url, &authorities.server.certificate, &admin)?;
        std::fs::create_dir_all(self.paths.data("server/manifests"))?;
        log::info(&format!("Wrote kubeconfig {}", path.display()));
        Ok(())
    }

    fn introduction(&self) -> Result<Introduction> {
        let password = node_password(&self.paths)?;
        Ok(Introduction { name: self.name.clone(), password, address: self.address.to_string() })
    }

    /// Ends when the process is asked to, or when its datastore cannot go on.
    async fn watch_over(&self, store: &Store) -> Result<()> {
        let mut moves = store.moves();
        let asked = crate::stop_asked()?;
        tokio::pin!(asked);
        loop {
            if let Some(failure) = store.failure() {
                bail!("{failure}");
            }
            let tombstone = self.paths.etcd().join("tombstone");
            if store.is_removed() && !tombstone.exists() {
                paths::write(&tombstone, 0o600, "")?;
            }
            tokio::select! {
                () = &mut asked => return Ok(()),
                _ = moves.changed() => {}
            }
        }
    }
}

/// The kubelet of a server gets its certificate from its own supervisor, and must own its name like any other.
async fn start_kubelet(
    supervisor: Arc<Supervisor>,
    node: Node,
    who: Introduction,
    local: IpAddr,
    registered: watch::Sender<bool>,
) {
    let knobs = supervisor.knobs.clone();
    let files = loop {
        match supervisor.issue_kubelet(&who.name, &who.password, &who.address).await {
            Ok(files) => break files,
            Err((_, text)) => {
                log::info(&format!("Waiting to retrieve agent configuration; server is not ready: {text}"));
            }
        }
        tokio::time::sleep(knobs.retry()).await;
    };
    let address = SocketAddr::new(local, api::PORT);
    let client = crate::agent::save_kubelet(&supervisor.paths, &files, address)
        .and_then(|pair| ApiClient::new(&address.to_string(), &files.server_ca, &pair));
    match client {
        Ok(client) => kubelet::run(node, client, knobs, registered).await,
        Err(error) => log::error(&format!("kubelet exited: {error:#}")),
    }
}

/// The node's password, made once: what binds its name to this machine.
///
/// # Errors
/// Whatever the file system says.
pub fn node_password(paths: &Paths) -> Result<String> {
    let file = paths.node_password();
    if let Some(password) = paths::read(&file)? {
        return Ok(password.trim().to_owned());
    }
    let password = token::random(16);
    paths::write(&file, 0o600, &password)?;
    Ok(password)
}
