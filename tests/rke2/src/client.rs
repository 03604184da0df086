//! A small client of the Kubernetes API, for the kubelet and the commands.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::http::{Call, Client};
use crate::kubeconfig;
use crate::paths;
use crate::pki::Pair;
use crate::tls;

/// One caller with its certificate.
pub struct ApiClient {
    http: Client,
}

impl ApiClient {
    /// A caller of the API at or behind `address` (`host:port`) that trusts `server_ca` and shows `pair`.
    ///
    /// # Errors
    /// When the PEM texts hold no certificates.
    pub fn new(address: &str, server_ca: &str, pair: &Pair) -> Result<Self> {
        Ok(Self {
            http: Client::new(address, tls::client(server_ca, Some(pair))?)
                .expecting(kubeconfig::SERVER_NAME),
        })
    }

    /// The caller that a kubeconfig describes.
    ///
    /// # Errors
    /// When it is not there or is no kubeconfig.
    pub fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = paths::read(path)?
            .with_context(|| format!("stat {}: no such file or directory", path.display()))?;
        let parsed: Value = serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
        let decoded = |pointer: &str| -> Result<String> {
            let encoded = parsed.pointer(pointer).and_then(Value::as_str);
            let encoded = encoded.with_context(|| format!("{} has no {pointer}", path.display()))?;
            Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded)?)?)
        };
        let server = parsed.pointer("/clusters/0/cluster/server").and_then(Value::as_str);
        let address =
            server.and_then(|url| url.strip_prefix("https://")).context("the kubeconfig names no server")?;
        let pair = Pair {
            certificate: decoded("/users/0/user/client-certificate-data")?,
            key: decoded("/users/0/user/client-key-data")?,
        };
        Self::new(address, &decoded("/clusters/0/cluster/certificate-authority-data")?, &pair)
    }

    /// An object or a list; `None` if it is not there.
    ///
    /// # Errors
    /// Anything else than the object or its absence.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, path, "application/json", None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, value) => checked(status, value, path).map(Some),
        }
    }

    /// Makes an object; `None` if it is there already.
    ///
    /// # Errors
    /// Anything else.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Option<Value>> {
        match self.call(Method::POST, path, "application/json", Some(object)).await? {
            (StatusCode::CONFLICT, _) => Ok(None),
            (status, value) => checked(status, value, path).map(Some),
        }
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// Anything but success.
    pub async fn update(&self, path: &str, object: &Value) -> Result<Value> {
        let (status, value) = self.call(Method::PUT, path, "application/json", Some(object)).await?;
        checked(status, value, path)
    }

    /// Changes an object by a strategic merge patch; `None` if it is not there.
    ///
    /// # Errors
    /// Anything else.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Option<Value>> {
        match self.call(Method::PATCH, path, "application/strategic-merge-patch+json", Some(patch)).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, value) => checked(status, value, path).map(Some),
        }
    }

    /// Deletes an object; false if it was not there.
    ///
    /// # Errors
    /// Anything else.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<bool> {
        match self.call(Method::DELETE, path, "application/json", Some(options)).await? {
            (StatusCode::NOT_FOUND, _) => Ok(false),
            (status, value) => checked(status, value, path).map(|_| true),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let body = body.map(|value| value.to_string().into_bytes()).unwrap_or_default();
        let headers = [("content-type", kind)];
        let (status, bytes) = self.http.call(Call { method, path, headers: &headers, body }).await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default())) // A body that is no JSON says nothing more.
    }
}

fn checked(status: StatusCode, value: Value, path: &str) -> Result<Value> {
    if status.is_success() {
        return Ok(value);
    }
    bail!("{path}: {status}: {}", value["message"].as_str().unwrap_or_default())
}
