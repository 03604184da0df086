//! What the nodes told, heard by a watch of their metadata: the leader alone listens. A thousand nodes say nothing as
//! long as nothing changes; their kubelets' own reports come every five minutes each.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use kube::core::Request;
use kube::core::WatchEvent;
use kube::core::params::{Patch, PatchParams, WatchParams};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use zbus_systemd::zbus::export::futures_core::Stream;

use super::answers::NodeAnswer;
use super::{Cluster, NODES, SERVER, TOTAL, client, why};
use crate::facts::Moment;
use crate::service::VmId;
use crate::service::told::{ANNOTATION, Told};
use crate::world::clock;

type Words = BTreeMap<VmId, (Told, Moment)>;

/// The API ends a watch after this many seconds, and a new one begins with all Nodes again.
const LASTS: u32 = 290;
/// A watch that is silent for longer has lost its connection.
const SILENCE: Duration = Duration::from_secs(300);
/// From the beginning of a watch to that of the next at the least: an API that is away, or closes every watch at once,
/// is not asked for all its Nodes without a pause.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens, or not.
pub struct Ears {
    wake: Arc<Notify>,
    heard: Arc<Mutex<Words>>,
    watch: Option<JoinHandle<()>>,
}

impl Ears {
    /// Nobody listens yet; what is heard notifies `wake`.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, heard: Arc::default(), watch: None }
    }

    fn stop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
            self.heard = Arc::default();
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Cluster {
    /// What was heard so far. Begins to listen, or ends it, as `wanted`.
    pub fn told(&mut self, wanted: bool) -> Words {
        if !wanted {
            self.ears.stop();
            return Words::new();
        }
        let Ears { wake, heard, watch } = &mut self.ears;
        if watch.is_none() {
            *watch = Some(tokio::spawn(listen(Arc::clone(heard), Arc::clone(wake))));
        }
        heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Annotates this machine's own Node.
    ///
    /// # Errors
    /// If the API refuses, or cannot be asked.
    pub async fn annotate(&mut self, node: &str, told: &Told) -> anyhow::Result<()> {
        // Whatever comes of it, the next pass must see the Node as it is then.
        self.last = None;
        let (client, _) =
            self.connect().await?.context("this node has no credentials for the cluster yet")?;
        let change = json!({ "metadata": { "annotations": { ANNOTATION: told.to_string() } } });
        let request = Request::new(NODES).patch(node, &PatchParams::default(), &Patch::Merge(change))?;
        match tokio::time::timeout(TOTAL, client.request::<NodeAnswer>(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => anyhow::bail!("{}", why(&error)),
            Err(_) => anyhow::bail!("no answer within {} s", TOTAL.as_secs()),
        }
    }
}

/// A Node's metadata, as far as they are read.
#[derive(Clone, Deserialize)]
struct Named {
    metadata: Annotated,
}

#[derive(Clone, Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Watches again and again.
async fn listen(heard: Arc<Mutex<Words>>, wake: Arc<Notify>) {
    loop {
        let next = Instant::now() + PAUSE;
        if let Err(error) = follow(&heard, &wake).await {
            tracing::debug!("the watch of the Nodes ended: {error:#}");
        }
        sleep_until(next).await;
    }
}

/// One watch. Version 0: it begins with every Node as the API server's cache has it.
async fn follow(heard: &Mutex<Words>, wake: &Notify) -> anyhow::Result<()> {
    let client = client(Path::new(SERVER), SILENCE).await?;
    let parameters = WatchParams::default().timeout(LASTS).disable_bookmarks();
    let request = Request::new(NODES).watch_metadata(&parameters, "0")?;
    let mut events = pin!(client.request_events::<Named>(request).await?);
    while let Some(event) = poll_fn(|context| events.as_mut().poll_next(context)).await {
        match event? {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                if note(&node, heard) {
                    wake.notify_one();
                }
            }
            // Its VM may live on under another Node; then that one tells it again.
            WatchEvent::Deleted(node) => forget(&node, heard),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => anyhow::bail!("{} {}", status.code, status.message),
        }
    }
    Ok(())
}

fn word(node: &Named) -> Option<Told> {
    Told::parse(node.metadata.annotations.get(ANNOTATION)?)
}

/// A leader may listen for months, while nodes come and go.
fn forget(node: &Named, heard: &Mutex<Words>) {
    if let Some(told) = word(node) {
        heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&told.vm);
    }
}

/// True if the node told something new.
fn note(node: &Named, heard: &Mutex<Words>) -> bool {
    let Some(told) = word(node) else { return false };
    let mut words = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if words.get(&told.vm).is_some_and(|(known, _)| *known == told) {
        return false;
    }
    words.insert(told.vm, (told, clock::now()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_news_once() {
        let heard = Mutex::default();
        let node = |told: &str| {
            let text = json!({ "metadata": { "name": "n", "annotations": { ANNOTATION: told } } });
            serde_json::from_value::<Named>(text).unwrap()
        };
        assert!(note(&node("8 0123456789abcdef"), &heard));
        assert!(!note(&node("8 0123456789abcdef"), &heard));
        assert!(!note(&node("nonsense"), &heard));
        assert!(note(&node("8 fedcba9876543210"), &heard));
        assert!(note(&node("9 fedcba9876543210"), &heard));
        assert_eq!(heard.lock().unwrap().len(), 2);
        forget(&node("9 fedcba9876543210"), &heard);
        forget(&node("nonsense"), &heard);
        assert_eq!(heard.lock().unwrap().len(), 1);
    }
}
