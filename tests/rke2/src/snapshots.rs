//! Snapshots of the datastore, in `server/db/snapshots`: the server's side and the command's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::options::Options;
use crate::paths::{self, Paths};
use crate::store::Store;
use crate::store::state::{Record, State};
use crate::{log, tokens};

/// RKE2 keeps five (`etcd-snapshot-retention`).
const KEPT: usize = 5;

/// What a snapshot file holds.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    keys: BTreeMap<String, Record>,
}

/// Answers `/db/snapshot`: `save`, `list`, `delete` and `prune`.
///
/// # Errors
/// Above all a full disk.
pub async fn serve(paths: &Paths, store: &Store, node: &str, request: &Value) -> Result<Value> {
    let directory = directory(paths);
    match request["operation"].as_str() {
        Some("save") => {
            let keys = store.read(|state: &State| state.keys.clone()).await?;
            let base = request["name"].as_str().unwrap_or("on-demand");
            let name = format!("{base}-{node}-{}", jiff::Timestamp::now().as_second());
            paths::write(&directory.join(&name), 0o600, &serde_json::to_string(&Snapshot { keys })?)?;
            log::info(&format!("Saving etcd snapshot to {}", directory.join(&name).display()));
            Ok(json!([name]))
        }
        Some("list") => Ok(json!(list(&directory)?.iter().map(Entry::json).collect::<Vec<_>>())),
        Some("delete") => {
            let names = request["names"].as_array().cloned().unwrap_or_default();
            let wanted = |entry: &Entry| names.contains(&json!(entry.name));
            remove(list(&directory)?.into_iter().filter(wanted))
        }
        Some("prune") => {
            let kept = request["retention"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(KEPT);
            remove(list(&directory)?.into_iter().rev().skip(kept))
        }
        _ => bail!("invalid snapshot operation"),
    }
}

/// The keys in a snapshot file.
///
/// # Errors
/// When it is not there or is none.
pub fn open(path: &Path) -> Result<BTreeMap<String, Record>> {
    let text =
        paths::read(path)?.with_context(|| format!("stat {}: no such file or directory", path.display()))?;
    let snapshot: Snapshot =
        serde_json::from_str(&text).with_context(|| format!("snapshot {} is damaged", path.display()))?;
    Ok(snapshot.keys)
}

/// `rke2 etcd-snapshot save|ls|delete|prune`.
///
/// # Errors
/// When the local server does not answer.
pub async fn command(paths: &Paths, arguments: &[String]) -> Result<()> {
    let known =
        &["name", "dir", "etcd-snapshot-dir", "output", "o", "snapshot-retention", "data-dir", "config"];
    let options =
        Options::parse(arguments, known, &["debug", "snapshot-compress", "etcd-snapshot-compress"])?;
    let Some((operation, names)) = options.positional.split_first() else {
        bail!("expected a command: save, ls, delete or prune")
    };
    let supervisor = tokens::local_supervisor(paths, None, None).await?;
    let request = match operation.as_str() {
        "save" => json!({"operation": "save", "name": options.one("name").unwrap_or("on-demand")}),
        "ls" | "list" | "l" => json!({"operation": "list"}),
        "delete" => json!({"operation": "delete", "names": names}),
        "prune" => {
            let retention = options.one("snapshot-retention").and_then(|text| text.parse::<u64>().ok());
            json!({"operation": "prune", "retention": retention})
        }
        other => bail!("No help topic for '{other}'"),
    };
    let answer = supervisor.post("/db/snapshot", request).await?;
    print(operation, &answer);
    Ok(())
}

fn print(operation: &str, answer: &Value) {
    let items = answer.as_array().cloned().unwrap_or_default();
    if !matches!(operation, "ls" | "list" | "l") {
        let word = if operation == "save" { "saved" } else { "deleted" };
        items
            .iter()
            .for_each(|name| log::info(&format!("Snapshot {} {word}.", name.as_str().unwrap_or_default())));
        return;
    }
    println!("{:<48} {:<90} {:<10} Created", "Name", "Location", "Size");
    for item in items {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        println!("{:<48} {:<90} {:<10} {}", text("name"), text("location"), item["size"], text("created"));
    }
}

struct Entry {
    name: String,
    path: PathBuf,
    size: u64,
    created: jiff::Timestamp,
}

impl Entry {
    fn json(&self) -> Value {
        json!({
            "name": self.name, "location": format!("file://{}", self.path.display()), "size": self.size,
            "created": self.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    }
}

/// All snapshots, the oldest first.
fn list(directory: &Path) -> Result<Vec<Entry>> {
    let Ok(files) = std::fs::read_dir(directory) else { return Ok(Vec::new()) }; // None was ever saved.
    let mut entries = Vec::new();
    for file in files {
        let file = file?;
        let metadata = file.metadata()?;
        entries.push(Entry {
            name: file.file_name().to_string_lossy().into_owned(),
            path: file.path(),
            size: metadata.len(),
            created: metadata.modified()?.try_into()?,
        });
    }
    entries.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
    Ok(entries)
}

fn remove(entries: impl Iterator<Item = Entry>) -> Result<Value> {
    let mut names = Vec::new();
    for entry in entries {
        std::fs::remove_file(&entry.path)
            .with_context(|| format!("could not delete {}", entry.path.display()))?;
        names.push(entry.name);
    }
    Ok(json!(names))
}

fn directory(paths: &Paths) -> PathBuf {
    paths.data("server/db/snapshots")
}
