//! Calls to other members, and the port that answers theirs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{
    AppendReply, AppendRequest, InstallRequest, Outcome, Transaction, VoteReply, VoteRequest,
};
use super::{Store, StoreError};
use crate::http::{self, Body, Call, Client};

/// etcd's peer port.
pub const PORT: u16 = 2380;

/// Connections to the other members; entries and questions have each their own, as a question may wait.
pub struct Peers {
    tls: Arc<ClientConfig>,
    answer_within: Duration,
    clients: Mutex<BTreeMap<String, Arc<Client>>>,
}

impl Peers {
    /// Callers that show a member's certificate and give up on entries and votes after `answer_within`.
    pub fn new(tls: Arc<ClientConfig>, answer_within: Duration) -> Self {
        Self { tls, answer_within, clients: Mutex::new(BTreeMap::new()) }
    }

    pub(super) async fn vote(&self, address: &str, request: &VoteRequest) -> Option<VoteReply> {
        tokio::time::timeout(self.answer_within, self.call(address, "/vote", request)).await.ok()?
    }

    pub(super) async fn append(&self, address: &str, request: &AppendRequest) -> Option<AppendReply> {
        tokio::time::timeout(self.answer_within, self.call(address, "/append", request)).await.ok()?
    }

    pub(super) async fn install(&self, address: &str, request: &InstallRequest) -> Option<AppendReply> {
        self.call(address, "/install", request).await
    }

    pub(super) async fn removed(&self, address: &str) -> Option<()> {
        tokio::time::timeout(self.answer_within, self.call(address, "/removed", &())).await.ok()?
    }

    /// Asks the leader to write, or where it is.
    pub(super) async fn ask(&self, address: &str, transaction: Option<&Transaction>) -> Outcome {
        let lost = if transaction.is_some() { StoreError::TimedOut } else { StoreError::NoQuorum };
        self.call(address, "/ask", &transaction).await.unwrap_or(Err(lost))
    }

    /// A peer that does not answer, or answers nonsense, is a peer that is not there.
    async fn call<R: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        message: &impl Serialize,
    ) -> Option<R> {
        let body = serde_json::to_vec(message).expect("messages are JSON");
        let client = self.client(address, path);
        let answer = client.call(Call { method: Method::POST, path, headers: &[], body }).await;
        let (_, body) = answer.ok().filter(|(status, _)| status.is_success())?;
        serde_json::from_slice(&body).ok()
    }

    fn client(&self, address: &str, path: &str) -> Arc<Client> {
        let host =
            if address.contains(':') { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") };
        let kind = if path == "/ask" { "ask" } else { "raft" };
        let mut clients = self.clients.lock().expect("no one panics while holding the list");
        let new = || Arc::new(Client::new(&host, self.tls.clone()));
        clients.entry(format!("{kind} {host}")).or_insert_with(new).clone()
    }
}

/// Answers another member.
pub async fn answer(store: Arc<Store>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let Ok(body) = http::whole(request.into_body()).await else { return refuse() };
    let reply = match path.as_str() {
        "/vote" => parsed(&body).map(|request: VoteRequest| json(&store.on_vote(&request))),
        "/append" => parsed(&body).map(|request| json(&store.on_append(request))),
        "/install" => parsed(&body).map(|request| json(&store.on_install(request))),
        "/removed" => {
            store.on_removed();
            Some(json(&()))
        }
        "/ask" => match parsed::<Option<Transaction>>(&body) {
            Some(Some(transaction)) => Some(json(&store.lead_write(&transaction).await)),
            Some(None) => Some(json(&store.lead_read())),
            None => None,
        },
        _ => None,
    };
    reply.map_or_else(refuse, |reply| http::answer(StatusCode::OK, "application/json", reply))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok() // The caller is told that its message was refused.
}

fn json(reply: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(reply).expect("replies are JSON")
}

fn refuse() -> Response<Body> {
    http::answer(StatusCode::BAD_REQUEST, "text/plain", "bad message")
}
