//! Getting and listing.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::status::Refusal;
use super::{Api, Asked, access, json_answer, object};
use crate::http::Body;
use crate::store::state::{Record, State};

impl Api {
    pub(super) async fn get(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let record = self.find(asked).await?;
        access::check_change(&asked.caller, &asked.target, Some(&record.value), Some(&record.value))?;
        Ok(json_answer(StatusCode::OK, &object::shown(&record)))
    }

    pub(super) async fn list(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let (revision, items) = self.store.read(|state| (state.revision, listed(state, asked))).await?;
        let resource = asked.target.resource;
        let list = json!({
            "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string()}, "items": items,
        });
        Ok(json_answer(StatusCode::OK, &list))
    }

    /// The object that the path names.
    pub(super) async fn find(&self, asked: &Asked) -> Result<Record, Refusal> {
        let key = asked.target.key().ok_or_else(Refusal::method)?;
        let found = self.store.read(|state| state.keys.get(&key).cloned()).await?;
        found.ok_or_else(|| Refusal::not_found(&asked.target))
    }
}

/// All objects that the path and the selectors mean.
pub(super) fn listed(state: &State, asked: &Asked) -> Vec<Value> {
    let prefix = asked.target.resource.prefix(asked.target.namespace.as_deref());
    let objects = state.range(&prefix).map(|(_, record)| object::shown(record));
    objects.filter(|object| asked.selector.matches(object)).collect()
}
