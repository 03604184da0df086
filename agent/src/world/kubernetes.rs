//! The cluster's API, asked with this node's own credentials: is it ready, is this node, who holds the Lease.

mod answers;
mod told;
mod workloads;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::core::params::{GetParams, PostParams};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use self::answers::{LeaseAnswer, NodeAnswer};
use self::workloads::Workloads;
use super::background::Background;
use crate::facts::{Kubernetes, Lease, Moment, Observed};
use crate::plan::Reads;

/// The administrator's credentials; RKE2 writes them on servers only.
const SERVER: &str = "/etc/rancher/rke2/rke2.yaml";
/// The kubelet's credentials; on every node that has joined.
const AGENT: &str = "/var/lib/rancher/rke2/agent/kubelet.kubeconfig";
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// A pass waits so long for the answers; later ones are taken by a later pass.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The API is local, or one hop away.
const CONNECT: Duration = Duration::from_secs(3);
/// For a whole answer.
const TOTAL: Duration = Duration::from_secs(5);

/// The cluster, as the agent meets it.
pub struct Cluster {
    root: PathBuf,
    client: Option<Connected>,
    background: Background<Answers>,
    last: Option<(Moment, Option<String>, Kubernetes)>,
    /// Version of the Lease and when this process first saw it.
    seen: Option<(String, Moment)>,
    workloads: Workloads,
    ears: told::Ears,
}

/// A client and what it was made from.
struct Connected {
    client: kube::Client,
    source: Source,
}

#[derive(Clone, PartialEq, Eq)]
struct Source {
    path: &'static str,
    modified: Option<SystemTime>,
}

impl Source {
    /// The credentials that this node has; servers have both.
    fn find(root: &Path) -> std::io::Result<Option<Self>> {
        for path in [SERVER, AGENT] {
            match std::fs::metadata(below(root, path)) {
                Ok(metadata) => return Ok(Some(Self { path, modified: metadata.modified().ok() })),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// What the API answered to one look.
struct Answers {
    of: Option<String>,
    readyz: Observed<()>,
    node: Observed<NodeAnswer>,
    lease: Observed<LeaseAnswer>,
}

impl Cluster {
    /// Not asked yet; late answers notify `wake`. RKE2's files lie below `root`, `/` but in tests.
    pub fn new(root: &Path, wake: Arc<Notify>) -> Self {
        let workloads = Workloads::new(Background::new(Arc::clone(&wake)));
        let ears = told::Ears::new(Arc::clone(&wake));
        let background = Background::new(wake);
        Self { root: root.to_owned(), client: None, background, last: None, seen: None, workloads, ears }
    }

    /// Looks at the cluster if `reads` asks for it and the last look is too old. `node`: this node's name.
    pub async fn observe(&mut self, node: Option<&str>, reads: &Reads, now: Moment) -> Kubernetes {
        let Some(limit) = reads.kubernetes else { return Kubernetes::default() };
        if let Some((at, of, last)) = &self.last
            && now.saturating_sub(*at) < limit
            && of.as_deref() == node
        {
            return last.clone();
        }
        match self.read(node, now).await {
            Some(read) => {
                self.last = Some((now, node.map(str::to_owned), read.clone()));
                read
            }
            None => unknown("the API has not answered yet"),
        }
    }

    /// `None`: the answers are still on their way.
    async fn read(&mut self, node: Option<&str>, now: Moment) -> Option<Kubernetes> {
        let (client, source) = match self.connect().await {
            Ok(Some(connected)) => connected,
            Ok(None) => {
                let (readyz, node, lease) = (Observed::Absent, Observed::Absent, Observed::Absent);
                return Some(Kubernetes { readyz, node, lease });
            }
            Err(error) => return Some(unknown(&format!("{error:#}"))),
        };
        let of = node.map(str::to_owned);
        let question = || -> Box<dyn Future<Output = Answers> + Send> { Box::new(ask(client, source, of)) };
        let answers = self.background.ask(PATIENCE, question).await.filter(|a| a.of.as_deref() == node)?;
        if matches!(answers.readyz, Observed::Unknown(_)) {
            // Certificates may have been renewed under the client: it is made again from what is on disk.
            self.client = None;
        }
        Some(Kubernetes {
            readyz: answers.readyz,
            node: answers.node.map(NodeAnswer::into_node),
            lease: answers.lease.map(|answer| self.first_seen(answer, now)),
        })
    }

    fn first_seen(&mut self, answer: LeaseAnswer, now: Moment) -> Lease {
        let (holder, version) = answer.into_parts();
        let seen = match &self.seen {
            Some((known, at)) if *known == version => *at,
            Some(_) | None => now,
        };
        self.seen = Some((version.clone(), seen));
        Lease { holder, version, seen }
    }

    /// Creates or renews the Lease.
    ///
    /// # Errors
    /// If another holder was faster, or the API cannot be asked.
    pub async fn hold_lease(&mut self, holder: &str, version: Option<&str>) -> anyhow::Result<()> {
        // Whatever comes of it, the next pass must see the Lease as it is then.
        self.last = None;
        let (client, _) =
            self.connect().await?.context("this node has no credentials for the cluster yet")?;
        let body = serde_json::to_vec(&answers::lease_body(holder, version, jiff::Timestamp::now()))?;
        let (leases, parameters) = (Request::new(LEASES), PostParams::default());
        let request = match version {
            Some(_) => leases.replace(answers::LEASE, &parameters, body)?,
            None => leases.create(&parameters, body)?,
        };
        let answer = tokio::time::timeout(TOTAL, client.request::<LeaseAnswer>(request));
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            // Another master was quicker: no fault of ours, and the next pass sees who holds it.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(error)) => anyhow::bail!("{}", why(&error)),
            Err(_) => anyhow::bail!("no answer within {} s", TOTAL.as_secs()),
        }
    }

    /// The client, made again when its file changed. `None`: there are no credentials yet.
    async fn connect(&mut self) -> anyhow::Result<Option<(kube::Client, Source)>> {
        let Some(source) =
            Source::find(&self.root).context("could not look for the cluster's credentials")?
        else {
            self.client = None;
            return Ok(None);
        };
        if let Some(connected) = self.client.as_ref().filter(|connected| connected.source == source) {
            return Ok(Some((connected.client.clone(), source)));
        }
        let client = client(&below(&self.root, source.path), TOTAL)
            .await
            .with_context(|| format!("could not use {}", source.path))?;
        self.client = Some(Connected { client: client.clone(), source: source.clone() });
        Ok(Some((client, source)))
    }
}

/// An absolute path, as it is below another root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn unknown(why: &str) -> Kubernetes {
    let (readyz, node) = (Observed::Unknown(why.to_owned()), Observed::Unknown(why.to_owned()));
    Kubernetes { readyz, node, lease: Observed::Unknown(why.to_owned()) }
}

/// All three questions at once.
async fn ask(client: kube::Client, source: Source, of: Option<String>) -> Answers {
    let node = async {
        match &of {
            Some(name) => get::<NodeAnswer>(&client, NODES, name).await,
            None => Observed::Unknown("this node's name is not pinned yet".into()),
        }
    };
    let lease = async {
        if source.path == SERVER {
            get::<LeaseAnswer>(&client, LEASES, answers::LEASE).await
        } else {
            Observed::Unknown("only servers may ask for the Lease".into())
        }
    };
    let (readyz, node, lease) = tokio::join!(readyz(&client), node, lease);
    Answers { of, readyz, node, lease }
}

/// `silence`: the longest pause in an answer.
async fn client(path: &Path, silence: Duration) -> anyhow::Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(silence);
    config.write_timeout = Some(TOTAL);
    // The loop retries, visibly. And the API is never behind a proxy, whatever the environment says.
    config.default_retry = false;
    config.proxy_url = None;
    Ok(kube::Client::try_from(config)?)
}

async fn readyz(client: &kube::Client) -> Observed<()> {
    let request = match Request::new("").get("readyz", &GetParams::default()) {
        Ok(request) => request,
        Err(error) => return Observed::Unknown(error.to_string()),
    };
    match tokio::time::timeout(TOTAL, client.request_text(request)).await {
        Ok(Ok(_)) => Observed::Known(()),
        Ok(Err(error)) => Observed::Unknown(format!("the API is not ready: {}", why(&error))),
        Err(_) => Observed::Unknown(format!("the API gave no answer within {} s", TOTAL.as_secs())),
    }
}

async fn get<T: DeserializeOwned>(client: &kube::Client, path: &str, name: &str) -> Observed<T> {
    let request = match Request::new(path).get(name, &GetParams::default()) {
        Ok(request) => request,
        Err(error) => return Observed::Unknown(error.to_string()),
    };
    match tokio::time::timeout(TOTAL, client.request::<T>(request)).await {
        Ok(Ok(answer)) => Observed::Known(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Observed::Absent,
        Ok(Err(error)) => Observed::Unknown(format!("could not read {path}/{name}: {}", why(&error))),
        Err(_) => Observed::Unknown(format!("no answer to {path}/{name} within {} s", TOTAL.as_secs())),
    }
}

/// The whole chain of an error, on one line.
fn why(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} {}", status.code, status.message);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let next = error.to_string();
        // Many a link of the chain repeats the one below it.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
