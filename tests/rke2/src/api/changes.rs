//! Making, replacing, patching and deleting objects.

use base64::Engine as _;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::status::Refusal;
use super::{Api, Asked, access, json_answer, object, patch, reads, success};
use crate::http::Body;
use crate::pki;
use crate::store::state::{Change, Record};
use crate::store::{StoreError, Transaction};

/// How often a patch without a revision is tried anew when others change the object meanwhile.
const TRIES: usize = 10;

/// Kinds whose status is only written through `/status`.
const WITH_STATUS: &[&str] = &["nodes", "pods", "namespaces", "deployments", "daemonsets", "statefulsets"];

impl Api {
    pub(super) async fn create(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let body = parsed(&asked.body)?;
        let (resource, namespace) = (asked.target.resource, asked.target.namespace.as_deref());
        let name = name_of(&body)?;
        let mut object = object::completed(with_encoded_secrets(body), resource, namespace, &name);
        if resource.plural == "pods" && object["status"].is_null() {
            object["status"] = json!({"phase": "Pending"});
        }
        access::check_change(&asked.caller, &asked.target, None, Some(&object))?;
        if resource.namespaced {
            self.check_namespace(namespace.unwrap_or("default")).await?;
        }
        let key = resource.key(namespace, &name);
        let transaction =
            Transaction { guards: vec![(key.clone(), 0)], changes: vec![Change::Put(key, object.clone())] };
        match self.store.write(transaction).await {
            Ok(revision) => Ok(json_answer(StatusCode::CREATED, &at(object, revision))),
            Err(StoreError::Conflict(_)) => Err(Refusal::exists(&asked.target, &name)),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn update(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let body = with_encoded_secrets(parsed(&asked.body)?);
        let record = self.find(asked).await?;
        let wanted = body["metadata"]["resourceVersion"].as_str().filter(|text| !text.is_empty());
        if wanted.is_some_and(|revision| revision != record.modified.to_string()) {
            return Err(Refusal::conflict(&asked.target));
        }
        let after = allowed(asked, &record.value, body);
        let (object, revision) = self.replace(asked, &record, after).await?;
        Ok(json_answer(StatusCode::OK, &at(object, revision)))
    }

    pub(super) async fn patch(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        for _ in 0..TRIES {
            let record = match self.find(asked).await {
                Err(refusal) if refusal.code == StatusCode::NOT_FOUND && is_apply(asked) => {
                    return self.create(asked).await;
                }
                found => found?,
            };
            let shown = object::shown(&record);
            let mut patched = patch::apply(&shown, &asked.content_type, &asked.body)?;
            if patched["metadata"]["resourceVersion"] != shown["metadata"]["resourceVersion"] {
                return Err(Refusal::conflict(&asked.target));
            }
            patched = allowed(asked, &record.value, with_encoded_secrets(patched));
            match self.replace(asked, &record, patched).await {
                Err(refusal) if refusal.reason == "Conflict" => {}
                other => {
                    return other
                        .map(|(object, revision)| json_answer(StatusCode::OK, &at(object, revision)));
                }
            }
        }
        Err(Refusal::conflict(&asked.target))
    }

    pub(super) async fn delete(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let options: Value = serde_json::from_slice(&asked.body).unwrap_or_default(); // Without a body: no options.
        for _ in 0..TRIES {
            let record = self.find(asked).await?;
            let wanted = options["preconditions"]["uid"].as_str();
            if wanted.is_some_and(|uid| record.value["metadata"]["uid"] != uid) {
                return Err(Refusal::conflict(&asked.target));
            }
            access::check_change(&asked.caller, &asked.target, Some(&record.value), None)?;
            let grace = asked.query.get("gracePeriodSeconds").and_then(|text| text.parse().ok());
            let change =
                removal(asked, &record.value, grace.or_else(|| options["gracePeriodSeconds"].as_i64()));
            let key = asked.target.key().ok_or_else(Refusal::method)?;
            let gone = matches!(change, Change::Delete(_));
            let guards = vec![(key, record.modified)];
            match self.store.write(Transaction { guards, changes: vec![change] }).await {
                Ok(_) if gone => return Ok(json_answer(StatusCode::OK, &success())),
                Ok(_) => return self.get(asked).await,
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::conflict(&asked.target))
    }

    pub(super) async fn delete_all(&self, mut asked: Asked) -> Result<Response<Body>, Refusal> {
        let items = self.store.read(|state| reads::listed(state, &asked)).await?;
        for item in items {
            asked.target.name = item["metadata"]["name"].as_str().map(str::to_owned);
            asked.target.namespace = item["metadata"]["namespace"].as_str().map(str::to_owned);
            match self.delete(&asked).await {
                Err(refusal) if refusal.code != StatusCode::NOT_FOUND => return Err(refusal),
                _ => {}
            }
        }
        Ok(json_answer(StatusCode::OK, &success()))
    }

    /// Writes the object if it is still as `record` has it; one that was only waiting for its finalizers goes.
    async fn replace(&self, asked: &Asked, record: &Record, after: Value) -> Result<(Value, u64), Refusal> {
        access::check_change(&asked.caller, &asked.target, Some(&record.value), Some(&after))?;
        let key = asked.target.key().ok_or_else(Refusal::method)?;
        if after == record.value {
            return Ok((after, record.modified));
        }
        let done = object::is_leaving(&after) && !object::has_finalizers(&after);
        let gone = done && asked.target.resource.plural != "pods";
        let change = if gone { Change::Delete(key.clone()) } else { Change::Put(key.clone(), after.clone()) };
        let transaction = Transaction { guards: vec![(key, record.modified)], changes: vec![change] };
        match self.store.write(transaction).await {
            Ok(revision) => Ok((after, revision)),
            Err(StoreError::Conflict(_)) => Err(Refusal::conflict(&asked.target)),
            Err(error) => Err(error.into()),
        }
    }

    async fn check_namespace(&self, namespace: &str) -> Result<(), Refusal> {
        let key = format!("/registry/core/namespaces/_/{namespace}");
        if self.store.read(|state| state.keys.contains_key(&key)).await? {
            return Ok(());
        }
        let mut missing = Refusal::no_such_resource();
        missing.message = format!("namespaces {namespace:?} not found");
        Err(missing)
    }
}

/// What deleting an object means: gone at once, or marked until its pod has stopped or its finalizers are done.
pub(super) fn removal(asked: &Asked, object: &Value, grace: Option<i64>) -> Change {
    let resource = asked.target.resource;
    let namespace = object["metadata"]["namespace"].as_str();
    let key = resource.key(namespace, object["metadata"]["name"].as_str().unwrap_or_default());
    let runs = resource.plural == "pods" && object["spec"]["nodeName"].is_string();
    let grace = grace.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    if !object::has_finalizers(object) && (!runs || grace == 0) {
        return Change::Delete(key);
    }
    let mut marked = object.clone();
    if !object::is_leaving(object) {
        marked["metadata"]["deletionTimestamp"] = json!(object::now());
        marked["metadata"]["deletionGracePeriodSeconds"] = json!(if runs { grace } else { 0 });
    }
    Change::Put(key, marked)
}

/// Of what the caller sent, what it may change here: `/status` only the status (and metadata), the rest all but that.
fn allowed(asked: &Asked, before: &Value, mut after: Value) -> Value {
    let through_status = asked.target.subresource.is_some();
    if through_status || WITH_STATUS.contains(&asked.target.resource.plural) {
        let kept: &[&str] = if through_status { &["spec", "data"] } else { &["status"] };
        for field in kept {
            match before.get(field) {
                Some(value) => after[field] = value.clone(),
                None => drop(after.as_object_mut().and_then(|map| map.remove(*field))),
            }
        }
    }
    for field in ["apiVersion", "kind"] {
        after[field] = before[field].clone();
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp"] {
        match before["metadata"].get(field) {
            Some(value) => after["metadata"][field] = value.clone(),
            None => drop(after["metadata"].as_object_mut().and_then(|map| map.remove(field))),
        }
    }
    if let Some(metadata) = after["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    after
}

fn is_apply(asked: &Asked) -> bool {
    asked.content_type.starts_with("application/apply-patch")
}

fn at(mut object: Value, revision: u64) -> Value {
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}

/// A body in JSON, or in YAML, of which JSON is a part.
fn parsed(body: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| Refusal::bad(error.to_string()))?;
    let value = serde_json::from_str(text).or_else(|_| serde_saphyr::from_str(text));
    let value: Value = value.map_err(|error| Refusal::bad(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(Refusal::bad("an object was expected")) }
}

fn name_of(object: &Value) -> Result<String, Refusal> {
    let metadata = &object["metadata"];
    if let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':');
        let good = name.len() <= 253 && name.bytes().all(plain);
        return if good {
            Ok(name.to_owned())
        } else {
            Err(Refusal::invalid(format!("Invalid value: {name:?}")))
        };
    }
    match metadata["generateName"].as_str() {
        Some(prefix) => {
            let suffix: String = pki::random(3).iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(format!("{prefix}{}", &suffix[..5]))
        }
        None => Err(Refusal::invalid("metadata.name: Required value: name or generateName is required")),
    }
}

/// `stringData` is a way to write `data` (Secret, v1).
fn with_encoded_secrets(mut object: Value) -> Value {
    let plain = object.as_object_mut().and_then(|map| map.remove("stringData"));
    for (key, value) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        object["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
    object
}
