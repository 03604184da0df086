//! From the command line to a running service: knobs, configuration, what the tests ask to go wrong.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::agent::Agent;
use crate::config::Config;
use crate::knobs::Knobs;
use crate::paths::{self, Paths};
use crate::server::Server;
use crate::{log, reset, version};

/// The primary CNIs that `cni` may name, and the ingress controllers (RKE2 v1.33 and later).
const CNIS: &[&str] = &["none", "calico", "canal", "cilium", "flannel"];
const INGRESSES: &[&str] = &["none", "ingress-nginx", "traefik"];

/// `rke2 server`.
///
/// # Errors
/// Whatever makes RKE2 exit.
pub async fn server(arguments: &[String]) -> Result<()> {
    let server = server_at(Paths::from_environment(), arguments).await?;
    if server.config.flag("cluster-reset") { reset::run(&server) } else { server.run().await }
}

/// `rke2 agent`.
///
/// # Errors
/// Whatever makes RKE2 exit.
pub async fn agent(arguments: &[String]) -> Result<()> {
    agent_at(Paths::from_environment(), arguments).await?.run().await
}

/// A server with its files there, ready to run.
///
/// # Errors
/// A configuration that RKE2 refuses.
pub async fn server_at(paths: Paths, arguments: &[String]) -> Result<Server> {
    let (paths, config, knobs) = begin(paths, arguments, true).await?;
    check_components(&config)?;
    Server::new(paths, config, knobs)
}

/// An agent, likewise.
///
/// # Errors
/// As there.
pub async fn agent_at(paths: Paths, arguments: &[String]) -> Result<Agent> {
    let (paths, config, knobs) = begin(paths, arguments, false).await?;
    Agent::new(paths, &config, knobs)
}

async fn begin(mut paths: Paths, arguments: &[String], server: bool) -> Result<(Paths, Config, Knobs)> {
    let knobs = Knobs::load(&paths)?;
    let config = Config::load(&paths, arguments, server, knobs.unknown_keys)?;
    if let Some(data) = config.one("data-dir") {
        paths = paths.with_data(data);
    }
    check_registries(&paths, &config)?;
    crash_if_asked(&paths, knobs.crash_at_start)?;
    log::info(&format!("Starting rke2 {} (standin)", version::RKE2));
    tokio::time::sleep(Duration::from_millis(knobs.start_delay_ms)).await;
    Ok((paths, config, knobs))
}

/// Crashes on the first `times` starts, and remembers how often it did.
fn crash_if_asked(paths: &Paths, times: u32) -> Result<()> {
    let file = paths.data("standin/crashes");
    let done: u32 = paths::read(&file)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if done >= times {
        return Ok(());
    }
    paths::write(&file, 0o644, &(done + 1).to_string())?;
    bail!("crashing at start as the knob crash-at-start asks ({} of {times})", done + 1)
}

/// containerd gets its mirrors from there; RKE2 does not start with a file that it cannot read.
fn check_registries(paths: &Paths, config: &Config) -> Result<()> {
    let file = config.one("private-registry").map_or_else(|| paths.etc("registries.yaml"), Into::into);
    let Some(text) = paths::read(&file)?.filter(|text| !text.trim().is_empty()) else { return Ok(()) };
    let parsed: serde_json::Value = serde_saphyr::from_str(&text)
        .map_err(|error| anyhow::anyhow!("failed to load registry configuration: {error}"))?;
    let known = ["mirrors", "configs", "auths"];
    match parsed.as_object().and_then(|map| map.keys().find(|key| !known.contains(&key.as_str()))) {
        Some(key) => bail!("failed to load registry configuration: unknown field {key:?}"),
        None => Ok(()),
    }
}

fn check_components(config: &Config) -> Result<()> {
    let cnis = config.list("cni");
    let primary = match cnis.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => "canal".to_owned(),
        ["multus"] => bail!(
            "Failed to validate --cni flag: multus must be used alongside another primary cni selection"
        ),
        [one] | ["multus", one] => (*one).to_owned(),
        [_, _] => {
            bail!(
                "Failed to validate --cni flag: may only provide multiple values if multus is the first value"
            )
        }
        _ => bail!("Failed to validate --cni flag: must specify 1 or 2 values"),
    };
    if !CNIS.contains(&primary.as_str()) {
        bail!("Invalid value {primary} for --cni flag: must be one of {}", CNIS[1..].join(","));
    }
    if let Some(wrong) =
        config.list("ingress-controller").iter().find(|name| !INGRESSES.contains(&name.as_str()))
    {
        bail!(
            "Invalid value {wrong} for --ingress-controller flag: must be one of {}",
            INGRESSES[1..].join(",")
        );
    }
    match config.one("profile") {
        None | Some("cis" | "etcd") => Ok(()),
        Some(_) => bail!("invalid value provided for --profile flag"),
    }
}
