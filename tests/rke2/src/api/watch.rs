//! Watching: a stream of events, one JSON text a line.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::status::Refusal;
use super::{Api, Asked, object, reads};
use crate::http::Body;
use crate::store::Store;
use crate::store::state::Event;

/// The API server ends a watch after 30 to 60 minutes if the caller names no time.
const LONGEST: Duration = Duration::from_secs(30 * 60);

impl Api {
    pub(super) async fn watch(&self, asked: Asked) -> Result<Response<Body>, Refusal> {
        let seconds = asked.query.get("timeoutSeconds").and_then(|text| text.parse().ok());
        let lasts = seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST);
        let from = asked
            .query
            .get("resourceVersion")
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|from| *from > 0);
        let initial = asked.query.is("sendInitialEvents");
        let (revision, items) = match from {
            Some(revision) if !initial => (revision, Vec::new()),
            _ => self.store.read(|state| (state.revision, reads::listed(state, &asked))).await?,
        };
        let mut lines: Vec<Bytes> = items.iter().map(|item| line("ADDED", item)).collect();
        if initial {
            lines.push(line("BOOKMARK", &bookmark(&asked, revision)));
        }
        let (sender, receiver) = mpsc::channel(16);
        let store = self.store.clone();
        tokio::spawn(async move {
            let stream = follow(store, asked, revision, lines, sender);
            let _ = tokio::time::timeout(lasts, stream).await; // A watch ends; the caller begins another.
        });
        let response = Response::builder().header("content-type", "application/json");
        Ok(response.body(Stream(receiver).boxed()).expect("the header is a constant"))
    }
}

async fn follow(
    store: Arc<Store>,
    asked: Asked,
    mut revision: u64,
    first: Vec<Bytes>,
    sender: mpsc::Sender<Bytes>,
) {
    let mut moves = store.moves();
    for line in first {
        if sender.send(line).await.is_err() {
            return;
        }
    }
    loop {
        moves.mark_unchanged();
        let Some(events) = store.events_after(revision) else {
            let _ = sender.send(line("ERROR", &Refusal::expired(revision).object())).await; // It ends either way.
            return;
        };
        for event in events {
            revision = event.revision;
            let Some(line) = told(&event, &asked) else { continue };
            if sender.send(line).await.is_err() {
                return;
            }
        }
        tokio::select! {
            moved = moves.changed() => if moved.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

/// The event as this watcher sees it: an object that stops matching is deleted to it.
fn told(event: &Event, asked: &Asked) -> Option<Bytes> {
    let prefix = asked.target.resource.prefix(asked.target.namespace.as_deref());
    if !event.key.starts_with(&prefix) {
        return None;
    }
    let matching = |object: &Value| asked.selector.matches(object);
    let before = event.before.as_ref().map(object::shown).filter(matching);
    let after = event.after.as_ref().map(object::shown).filter(matching);
    match (before, after) {
        (None, Some(after)) => Some(line("ADDED", &after)),
        (Some(_), Some(after)) => Some(line("MODIFIED", &after)),
        (Some(mut before), None) => {
            before["metadata"]["resourceVersion"] = json!(event.revision.to_string());
            Some(line("DELETED", &before))
        }
        (None, None) => None,
    }
}

fn bookmark(asked: &Asked, revision: u64) -> Value {
    let resource = asked.target.resource;
    json!({
        "kind": resource.kind, "apiVersion": resource.api_version(),
        "metadata": {
            "resourceVersion": revision.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
        },
    })
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    Bytes::from(text)
}

/// A body that is whatever comes out of a channel.
struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
