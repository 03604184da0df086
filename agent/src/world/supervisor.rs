//! Looks at the supervisor that this node will join through: the hash of its CA bundle.
//!
//! The connection is not verified, on purpose: RKE2 itself downloads `/cacerts` so and compares the hash with the one
//! in the token, which comes from elsewhere (rke2.md, "Founding and joining"). Nothing is sent.

use std::time::Duration;

use anyhow::{Context, bail};

use crate::facts::Observed;
use crate::plan::digest;

/// Within a network; a balancer without backends answers at once or never.
const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(4);
/// A bundle is a few kilobytes.
const LARGEST: usize = 1 << 20;

/// SHA-256 of the CA bundle at `host:port`, in hex. Absent if there is nobody to ask.
pub async fn read(address: Option<&str>) -> Observed<String> {
    let Some(address) = address else { return Observed::Absent };
    match ca_bundle(address).await {
        Ok(bundle) => Observed::Known(digest(&bundle)),
        Err(error) => Observed::Unknown(format!("the supervisor {address} does not answer: {error:#}")),
    }
}

async fn ca_bundle(address: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        .build()?;
    let mut answer =
        client.get(format!("https://{address}/cacerts")).send().await.map_err(reqwest::Error::without_url)?;
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
