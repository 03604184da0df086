//! Looks at the supervisor that this node will join through: the hash of its CA bundle.
//!
//! The connection is not verified, on purpose: RKE2 itself downloads `/cacerts` so and compares the hash with the one
//! in the token, which comes from elsewhere (rke2.md, "Founding and joining"). Nothing is sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::Notify;

use super::background::Background;
use crate::facts::Observed;
use crate::plan::digest;

/// A pass waits so long; the way to the supervisor may be a virtual IP that nobody holds yet.
const PATIENCE: Duration = Duration::from_millis(500);
/// Within a network.
const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(4);
/// A bundle is a few kilobytes.
const LARGEST: usize = 1 << 20;

/// The supervisor, as the agent meets it.
pub struct Supervisor {
    background: Background<(String, Observed<String>)>,
}

impl Supervisor {
    /// Nobody is asked yet; late answers notify `wake`.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { background: Background::new(wake) }
    }

    /// SHA-256 of the CA bundle at `host:port`, in hex. Absent if there is nobody to ask.
    pub async fn observe(&mut self, address: Option<&str>) -> Observed<String> {
        let Some(address) = address else { return Observed::Absent };
        let asked = address.to_owned();
        match self.background.ask(PATIENCE, || Box::new(ask(asked))).await {
            Some((of, answer)) if of == address => answer,
            Some(_) | None => Observed::Unknown(format!("the supervisor {address} has not answered yet")),
        }
    }
}

async fn ask(address: String) -> (String, Observed<String>) {
    let answer = match ca_bundle(&address).await {
        Ok(bundle) => Observed::Known(digest(&bundle)),
        Err(error) => Observed::Unknown(format!("the supervisor {address} does not answer: {error:#}")),
    };
    (address, answer)
}

async fn ca_bundle(address: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        .build()?;
    let url = format!("https://{address}/cacerts");
    let mut answer = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    if !answer.status().is_success() {
        bail!("/cacerts answers {}", answer.status());
    }
    let mut bundle = Vec::new();
    while let Some(part) = answer.chunk().await? {
        bundle.extend_from_slice(&part);
        if bundle.len() > LARGEST {
            bail!("/cacerts is larger than 1 MiB");
        }
    }
    let bundle = String::from_utf8(bundle).context("/cacerts is no text")?;
    if !bundle.contains("-----BEGIN CERTIFICATE-----") {
        bail!("/cacerts holds no certificate");
    }
    Ok(bundle)
}
