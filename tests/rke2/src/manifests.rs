//! Applying what lies in `server/manifests`, as RKE2's deploy controller does: every document of every file, again when
//! a file changes. What was applied is told in `server/standin/applied.json`, and failures by an event.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::api::object;
use crate::api::resources::Resource;
use crate::log;
use crate::paths::{self, Paths};
use crate::store::state::Change;
use crate::store::{Store, StoreError, Transaction};
use crate::token;

/// RKE2 looks every 15 s; an impatient test is served sooner.
const LOOK: Duration = Duration::from_secs(2);

/// Runs on every server, over its own directory.
pub async fn run(paths: Paths, store: Arc<Store>, node: String) {
    let report = paths.data("server/standin/applied.json");
    let mut applied: BTreeMap<String, Value> = match paths::read(&report) {
        Ok(text) => serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default(), // Damaged: all is applied anew.
        Err(_) => BTreeMap::new(),
    };
    loop {
        let before = applied.clone();
        for file in files(&paths.data("server/manifests")) {
            let outcome = look(&store, &file, &applied).await;
            let Some((name, entry)) = outcome else { continue };
            if let Some(error) = entry["error"].as_str() {
                log::error(&format!(
                    "Failed to process config: failed to process {}: {error}",
                    file.display()
                ));
                announce(&store, &node, &file, error).await;
            } else {
                log::info(&format!("Applied manifest {}", file.display()));
            }
            applied.insert(name, entry);
        }
        if applied != before
            && let Err(error) = paths::write(&report, 0o644, &json!(applied).to_string())
        {
            log::error(&format!("{error:#}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The files that RKE2 would apply, but not those with a `.skip` file beside them.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() }; // Nothing to apply.
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            let skip = path
                .with_file_name(format!("{}.skip", path.file_name().unwrap_or_default().to_string_lossy()));
            found.extend((!skip.exists()).then_some(path));
        }
    }
    found.sort();
    found
}

/// Applies a file unless this very content was applied before; tells what came of it.
async fn look(store: &Store, file: &Path, applied: &BTreeMap<String, Value>) -> Option<(String, Value)> {
    let name = file.to_string_lossy().into_owned();
    let text = paths::read(file).ok().flatten()?; // Gone or half written: the next look reads it.
    let sha = token::hash(&text);
    if applied.get(&name).is_some_and(|entry| entry["sha256"] == sha) {
        return None;
    }
    match apply(store, &text).await {
        Ok(count) => Some((name, json!({"sha256": sha, "documents": count}))),
        Err(error) if error.is::<StoreError>() => None,
        Err(error) => Some((name, json!({"sha256": sha, "documents": 0, "error": format!("{error:#}")}))),
    }
}

/// All documents or none; kinds that the API does not know are only counted.
async fn apply(store: &Store, text: &str) -> Result<usize> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("yaml: {error}"))?;
    let documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    for document in &documents {
        let kind = document["kind"].as_str().context("Object 'Kind' is missing")?;
        let version = document["apiVersion"].as_str().context("Object 'apiVersion' is missing")?;
        let name = document["metadata"]["name"].as_str().context("metadata.name is missing")?;
        let Some(resource) = Resource::of_object(version, kind) else { continue };
        let namespace = document["metadata"]["namespace"].as_str();
        let key = resource.key(namespace, name);
        let before = store.read(|state| state.keys.get(&key).cloned()).await?;
        let mut wanted = object::completed(document.clone(), resource, namespace, name);
        if let Some(before) = &before {
            for field in ["uid", "creationTimestamp", "finalizers"] {
                wanted["metadata"][field] = before.value["metadata"][field].clone();
            }
            wanted["status"] = before.value["status"].clone();
        }
        let guards = vec![(key.clone(), before.map_or(0, |record| record.modified))];
        store.write(Transaction { guards, changes: vec![Change::Put(key, wanted)] }).await?;
    }
    Ok(documents.len())
}

async fn announce(store: &Store, node: &str, file: &Path, error: &str) {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let resource = Resource::named("", "events").expect("events are in the table");
    let event = json!({
        "type": "Warning", "reason": "ApplyManifestFailed",
        "message": format!("Applying manifest at {:?} failed: {error}", file.display().to_string()),
        "involvedObject": {"kind": "Addon", "apiVersion": "k3s.cattle.io/v1", "namespace": "kube-system", "name": name},
        "source": {"component": "deploy", "host": node}, "firstTimestamp": object::now(), "count": 1,
    });
    let event_name = format!("{name}.{}", token::random(8));
    let event = object::completed(event, resource, Some("kube-system"), &event_name);
    let change = Change::Put(resource.key(Some("kube-system"), &event_name), event);
    // An event that is lost was told in the log.
    let _ = store.write(Transaction { guards: Vec::new(), changes: vec![change] }).await;
}
