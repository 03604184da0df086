//! The joiner's side of port 9345: trust first, then credentials.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use hyper::{Method, StatusCode};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::http::{Call, Client};
use crate::pki::Pair;
use crate::supervisor::{Bootstrap, KubeletFiles};
use crate::token::{self, Token};
use crate::{log, tls};

/// A supervisor that is trusted.
pub struct Supervisor {
    client: Client,
    authorization: String,
}

/// How a node introduces itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The node's name.
    pub name: String,
    /// Its password, as in /etc/rancher/node/password.
    pub password: String,
    /// Its address.
    pub address: String,
}

/// Why a node got no certificate.
pub enum KubeletRefusal {
    /// The name belongs to another node, or the server is not ready: ask again.
    Wait(String),
    /// The credentials are wrong.
    Fatal(anyhow::Error),
}

impl Supervisor {
    /// Downloads the CA bundle from `address` without trust, compares it with the token's hash, and trusts it then.
    ///
    /// # Errors
    /// No connection, another CA than the token says, or a certificate that is not for that address.
    pub async fn trust(address: &str, token: &Token, pair: Option<&Pair>) -> Result<Self> {
        let ca = bundle(address, tls::trusting_client()?).await.context("failed to get CA certs")?;
        match &token.ca_hash {
            Some(expected) if *expected != token::hash(&ca) => {
                let found = token::hash(&ca);
                bail!("token CA hash does not match the Cluster CA certificate hash: {expected} != {found}");
            }
            Some(_) => {}
            None => log::warn(
                "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA \
                 hash. Use the full token from the server's node-token file to enable Cluster CA validation.",
            ),
        }
        let tls = tls::client(&ca, pair)?;
        bundle(address, tls.clone()).await.context("CA cert validation failed")?;
        Ok(Self { client: Client::new(address, tls), authorization: token.header() })
    }

    /// Everything that a server needs.
    ///
    /// # Errors
    /// Above all 401.
    pub async fn bootstrap(&self) -> Result<Bootstrap> {
        self.ask(Method::GET, "/v1-rke2/server-bootstrap", &[], Value::Null).await
    }

    /// The addresses of all servers.
    ///
    /// # Errors
    /// Above all 401, or no connection.
    pub async fn servers(&self) -> Result<Vec<String>> {
        self.ask(Method::GET, "/v1-rke2/apiservers", &[], Value::Null).await
    }

    /// Asks to become a member.
    ///
    /// # Errors
    /// etcd's own words.
    pub async fn add_member(&self, name: &str, address: &str) -> Result<()> {
        let body = json!({"name": name, "address": address});
        let _: Value = self.ask(Method::POST, "/v1-rke2/members", &[], body).await?;
        Ok(())
    }

    /// Asks anything that answers in JSON.
    ///
    /// # Errors
    /// The server's words.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.ask(Method::POST, path, &[], body).await
    }

    /// Asks for the kubelet's certificate.
    ///
    /// # Errors
    /// [`KubeletRefusal`].
    pub async fn kubelet_files(&self, node: &Introduction) -> Result<KubeletFiles, KubeletRefusal> {
        let headers = [
            ("rke2-node-name", node.name.as_str()),
            ("rke2-node-password", node.password.as_str()),
            ("rke2-node-ip", node.address.as_str()),
        ];
        let (status, body) = match self.raw(Method::POST, "/v1-rke2/kubelet", &headers, Value::Null).await {
            Ok(answer) => answer,
            Err(error) => return Err(KubeletRefusal::Wait(format!("{error:#}"))),
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => {
                serde_json::from_str(&text).map_err(|error| KubeletRefusal::Fatal(anyhow!("{error}")))
            }
            StatusCode::UNAUTHORIZED => {
                Err(KubeletRefusal::Fatal(self.refused("/v1-rke2/config", status, &text)))
            }
            _ => Err(KubeletRefusal::Wait(text)),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Result<T> {
        let (status, bytes) = self.raw(method, path, headers, body).await?;
        if !status.is_success() {
            return Err(self.refused(path, status, &String::from_utf8_lossy(&bytes)));
        }
        serde_json::from_slice(&bytes).with_context(|| format!("could not read the answer to {path}"))
    }

    async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let mut all = vec![("authorization", self.authorization.as_str())];
        all.extend(headers);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, bytes) = self.client.call(Call { method, path, headers: &all, body }).await?;
        Ok((status, bytes.to_vec()))
    }

    fn refused(&self, path: &str, status: StatusCode, text: &str) -> anyhow::Error {
        match status {
            StatusCode::INTERNAL_SERVER_ERROR => anyhow!("{text}"),
            _ => anyhow!("https://{}{path}: {status}: {text}", self.client.address()),
        }
    }
}

async fn bundle(address: &str, tls: Arc<ClientConfig>) -> Result<String> {
    let (status, body) = Client::new(address, tls).get("/cacerts", &[]).await?;
    if !status.is_success() {
        bail!("https://{address}/cacerts: {status}");
    }
    String::from_utf8(body.to_vec()).context("the CA bundle is no text")
}

/// `host:port` of a `server:` URL.
///
/// # Errors
/// What RKE2 says about one that is none.
pub fn address_of(url: &str) -> Result<String> {
    let rest = url
        .strip_prefix("https://")
        .with_context(|| format!("only https:// URLs are supported, invalid scheme: {url}"))?;
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(authority.to_owned()),
        None if !authority.is_empty() => Ok(format!("{authority}:443")),
        _ => bail!("invalid server URL {url:?}: no host in request URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls_need_a_host() {
        assert_eq!(address_of("https://10.0.0.1:9345").unwrap(), "10.0.0.1:9345");
        assert_eq!(address_of("https://ep0.eth0.vr:9345/").unwrap(), "ep0.eth0.vr:9345");
        assert!(address_of("https://:9345").is_err());
        assert!(address_of("http://10.0.0.1:9345").is_err());
    }
}
