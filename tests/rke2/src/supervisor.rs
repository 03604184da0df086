//! Port 9345 of a server: where nodes join.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::access;
use crate::cluster::{self, Grant, Secrets};
use crate::der::Name;
use crate::http::{self, Body};
use crate::knobs::Knobs;
use crate::paths::Paths;
use crate::pki::{Authorities, Subject};
use crate::store::{Store, Transaction};
use crate::{log, snapshots, token};

/// The supervisor's port.
pub const PORT: u16 = 9345;

/// One server's supervisor.
pub struct Supervisor {
    /// What it signs with.
    pub authorities: Authorities,
    /// The datastore.
    pub store: Arc<Store>,
    /// Where its files are.
    pub paths: Paths,
    /// Its node's name.
    pub node: String,
    /// How it was tuned.
    pub knobs: Knobs,
}

/// What a joining server gets: enough to be one.
#[derive(Serialize, Deserialize)]
pub struct Bootstrap {
    /// The keys of the cluster.
    pub authorities: Authorities,
    /// The shared secrets.
    pub secrets: Secrets,
    /// What must be equal on all servers.
    pub critical: std::collections::BTreeMap<String, String>,
}

/// What a joining node gets for its kubelet.
#[derive(Serialize, Deserialize)]
pub struct KubeletFiles {
    /// Its certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Whom it trusts.
    pub server_ca: String,
    /// Whom it believes as clients.
    pub client_ca: String,
}

/// A refusal: the status and its words.
type No = (StatusCode, String);

impl Supervisor {
    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, caller: Option<Name>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/ping" => return http::answer(StatusCode::OK, "text/plain", "pong"),
            "/cacerts" => {
                return http::answer(
                    StatusCode::OK,
                    "text/plain",
                    self.authorities.server.certificate.clone(),
                );
            }
            _ => {}
        }
        match self.authorized(&path, request, caller).await {
            Ok(value) => http::answer(StatusCode::OK, "application/json", value.to_string()),
            Err((status, text)) => http::answer(status, "text/plain", text),
        }
    }

    async fn authorized(
        &self,
        path: &str,
        request: Request<Incoming>,
        caller: Option<Name>,
    ) -> Result<Value, No> {
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let grant = self.grant(&header("authorization"), caller.as_ref(), &header("rke2-node-name")).await?;
        let node = (header("rke2-node-name"), header("rke2-node-password"), header("rke2-node-ip"));
        let body = http::whole(request.into_body()).await.map_err(|error| internal(&error.to_string()))?;
        let server_only = || if grant == Grant::Server { Ok(()) } else { Err(unauthorized()) };
        match path {
            "/v1-rke2/readyz" => Ok(json!("ok")),
            "/v1-rke2/apiservers" => Ok(json!(self.addresses())),
            "/v1-rke2/kubelet" => self.kubelet_files(&node.0, &node.1, &node.2).await,
            "/v1-rke2/server-bootstrap" => server_only().and_then(|()| self.bootstrap()),
            "/v1-rke2/members" => {
                server_only()?;
                self.add_member(&body).await
            }
            "/v1-rke2/token" => {
                server_only()?;
                self.rotate_token(&body).await
            }
            "/db/snapshot" => {
                server_only()?;
                let request = parsed(&body)?;
                snapshots::serve(&self.paths, &self.store, &self.node, &request)
                    .await
                    .map_err(|e| internal(&e.to_string()))
            }
            _ => Err((StatusCode::NOT_FOUND, "404 page not found".to_owned())),
        }
    }

    /// A token, or the certificate that this very node got when it joined: its token may have expired since.
    async fn grant(&self, header: &str, caller: Option<&Name>, name: &str) -> Result<Grant, No> {
        let by_token = match token::from_header(header) {
            Some(credentials) => cluster::grant(&self.store, &credentials)
                .await
                .map_err(|error| internal(&error.to_string()))?,
            None => None,
        };
        let node = caller.and_then(access::node_of).filter(|node| name.is_empty() || *node == name);
        let by_certificate = node.map(|_| Grant::Agent);
        by_token.or(by_certificate).ok_or_else(unauthorized)
    }

    fn bootstrap(&self) -> Result<Value, No> {
        let state = self.store.local();
        let Some(secrets) = Secrets::of(&state) else { return Err(internal("runtime core not ready")) };
        let critical = cluster::critical(&state);
        let bootstrap = Bootstrap { authorities: self.authorities.clone(), secrets, critical };
        Ok(serde_json::to_value(bootstrap).expect("texts are JSON"))
    }

    /// The addresses of all servers, for the nodes' load balancers.
    fn addresses(&self) -> Vec<String> {
        self.store.members().voters().map(|member| member.address.clone()).collect()
    }

    async fn add_member(&self, body: &[u8]) -> Result<Value, No> {
        let asked = parsed(body)?;
        let (Some(name), Some(address)) = (asked["name"].as_str(), asked["address"].as_str()) else {
            return Err((StatusCode::BAD_REQUEST, "name and address expected".to_owned()));
        };
        log::info(&format!("Adding member {name}=https://{address}:2380 to etcd cluster"));
        let members = self.store.add_learner(name, address).await;
        members.map(|members| members.to_value()).map_err(|error| internal(&error))
    }

    async fn rotate_token(&self, body: &[u8]) -> Result<Value, No> {
        let asked = parsed(body)?;
        let new = asked["newToken"].as_str().filter(|text| !text.is_empty());
        let new = new.map_or_else(|| token::random(16), str::to_owned);
        let Some(mut secrets) = Secrets::of(&self.store.local()) else {
            return Err(internal("runtime core not ready"));
        };
        secrets.server = new;
        let transaction = Transaction { guards: Vec::new(), changes: vec![secrets.change()] };
        self.store.write(transaction).await.map_err(|error| internal(&error.to_string()))?;
        Ok(json!({}))
    }

    async fn kubelet_files(&self, name: &str, password: &str, address: &str) -> Result<Value, No> {
        let files = self.issue_kubelet(name, password, address).await;
        files.map(|files| serde_json::to_value(files).expect("texts are JSON"))
    }

    /// A certificate for the kubelet of that node, if the name is its own.
    ///
    /// # Errors
    /// 403 with RKE2's words for a name that belongs to another, 500 when the datastore does not answer.
    pub async fn issue_kubelet(&self, name: &str, password: &str, address: &str) -> Result<KubeletFiles, No> {
        if name.is_empty() || password.is_empty() || address.parse::<IpAddr>().is_err() {
            return Err((StatusCode::BAD_REQUEST, "node name not set".to_owned()));
        }
        cluster::bind_node_password(&self.store, name, password).await.map_err(|error| {
            let rejected = error == cluster::PASSWORD_REJECTED;
            (if rejected { StatusCode::FORBIDDEN } else { StatusCode::INTERNAL_SERVER_ERROR }, error)
        })?;
        let subject = Subject::new(&format!("system:node:{name}"), &["system:nodes"]);
        let names = [name.to_owned(), address.to_owned()];
        let lifetime = self.knobs.certificate_lifetime();
        let pair = self.authorities.client.issue(&subject, &names, lifetime);
        let pair = pair.map_err(|error| internal(&format!("{error:#}")))?;
        Ok(KubeletFiles {
            certificate: pair.certificate,
            key: pair.key,
            server_ca: self.authorities.server.certificate.clone(),
            client_ca: self.authorities.client.certificate.clone(),
        })
    }
}

fn parsed(body: &[u8]) -> Result<Value, No> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn unauthorized() -> No {
    (StatusCode::UNAUTHORIZED, "not authorized".to_owned())
}

fn internal(error: &str) -> No {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_owned())
}
