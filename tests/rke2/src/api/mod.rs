//! The Kubernetes API on port 6443: as much of it as an agent of a node meets, in Kubernetes' own JSON.

pub mod access;
mod budget;
mod changes;
mod discovery;
mod eviction;
pub mod object;
mod patch;
mod query;
mod reads;
pub mod resources;
mod status;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

pub use budget::refreshed as refreshed_budget;
use query::{Query, Selector};
use resources::Target;
use status::Refusal;

use crate::der::Name;
use crate::http::{self, Body};
use crate::knobs::Knobs;
use crate::store::Store;

/// The API's port.
pub const PORT: u16 = 6443;

/// Health checks answer within this, quorum or not (kubelet's probes of the API server wait so long).
const HEALTH_WITHIN: Duration = Duration::from_secs(2);

/// One server's API.
pub struct Api {
    store: Arc<Store>,
    knobs: Knobs,
}

/// A request that was read and may be answered.
struct Asked {
    caller: Name,
    method: Method,
    target: Target,
    query: Query,
    selector: Selector,
    content_type: String,
    body: Bytes,
}

impl Api {
    /// The API over a datastore.
    pub fn new(store: Arc<Store>, knobs: Knobs) -> Arc<Self> {
        Arc::new(Self { store, knobs })
    }

    /// Answers one request of `caller`.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, caller: Option<Name>) -> Response<Body> {
        if self.knobs.api_delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.knobs.api_delay_ms)).await;
        }
        let path = request.uri().path().to_owned();
        let health = matches!(path.as_str(), "/readyz" | "/livez" | "/healthz");
        let Some(caller) = caller.or_else(|| self.anonymous(health)) else {
            return Refusal::unauthorized().response();
        };
        if health {
            return self.health(&path).await;
        }
        if request.method() == Method::GET
            && let Some(found) = discovery::find(&path)
        {
            return json_answer(StatusCode::OK, &found);
        }
        match self.resource(request, caller).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    /// Whether a majority stands behind the API now.
    pub async fn is_ready(&self) -> bool {
        matches!(tokio::time::timeout(HEALTH_WITHIN, self.store.read(|_| ())).await, Ok(Ok(())))
    }

    fn anonymous(&self, health: bool) -> Option<Name> {
        let name = || Name { common_name: "system:anonymous".to_owned(), organizations: Vec::new() };
        (health && self.knobs.anonymous_health).then(name)
    }

    async fn health(&self, path: &str) -> Response<Body> {
        if self.is_ready().await {
            return http::answer(StatusCode::OK, "text/plain; charset=utf-8", "ok");
        }
        let check = path.trim_start_matches('/');
        let text = format!("[+]ping ok\n[-]etcd failed: reason withheld\n{check} check failed\n");
        http::answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text)
    }

    async fn resource(&self, request: Request<Incoming>, caller: Name) -> Result<Response<Body>, Refusal> {
        let asked = read(request, caller).await?;
        let watch = asked.query.is("watch");
        access::check(&asked.caller, &asked.method, &asked.target, &asked.selector, watch)?;
        match (asked.method.as_str(), asked.target.name.is_some(), asked.target.subresource.as_deref()) {
            ("GET", true, None | Some("status")) => self.get(&asked).await,
            ("GET", false, None) if watch => self.watch(asked).await,
            ("GET", false, None) => self.list(&asked).await,
            ("POST", false, None) => self.create(&asked).await,
            ("POST", true, Some("eviction")) if asked.target.resource.plural == "pods" => {
                self.evict(&asked).await
            }
            ("PUT", true, None | Some("status")) => self.update(&asked).await,
            ("PATCH", true, None | Some("status")) => self.patch(&asked).await,
            ("DELETE", true, None) => self.delete(&asked).await,
            ("DELETE", false, None) => self.delete_all(asked).await,
            (_, _, None | Some("status" | "eviction")) => Err(Refusal::method()),
            _ => Err(Refusal::no_such_resource()),
        }
    }
}

async fn read(request: Request<Incoming>, caller: Name) -> Result<Asked, Refusal> {
    let target = Target::parse(request.uri().path()).ok_or_else(Refusal::no_such_resource)?;
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let selector = query.selector()?;
    let method = request.method().clone();
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("application/json").to_owned();
    let body = http::whole(request.into_body()).await.map_err(|error| Refusal::bad(error.to_string()))?;
    Ok(Asked { caller, method, target, query, selector, content_type, body })
}

fn json_answer(status: StatusCode, object: &Value) -> Response<Body> {
    http::answer(status, "application/json", object.to_string())
}

/// What a successful deletion answers.
fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
}
