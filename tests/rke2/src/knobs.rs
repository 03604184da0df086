//! How a test makes the stand-in slow, broken or quick: `/etc/rancher/rke2/standin.toml`, then the environment
//! (`RKE2_STANDIN_NODE_READY_DELAY_MS=100` for `node-ready-delay-ms`). Real RKE2 knows none of this.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::paths::{self, Paths, ROOT_VARIABLE};

const PREFIX: &str = "RKE2_STANDIN_";

/// Everything that can be tuned; the defaults are RKE2's own where it has one.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Knobs {
    /// How long a process waits before it does anything, in milliseconds.
    pub start_delay_ms: u64,
    /// From the kubelet's registration to the Node's Ready, in milliseconds.
    pub node_ready_delay_ms: u64,
    /// How long a new etcd member stays a learner after it has caught up, in milliseconds.
    pub promotion_delay_ms: u64,
    /// How many of the next starts end in a crash. The count is kept in the data directory.
    pub crash_at_start: u32,
    /// Without a heartbeat for so long a Node becomes NotReady (node-monitor-grace-period), in milliseconds.
    pub not_ready_after_ms: u64,
    /// Between two heartbeats of a kubelet, in milliseconds.
    pub heartbeat_ms: u64,
    /// Added to every answer of the Kubernetes API, in milliseconds.
    pub api_delay_ms: u64,
    /// Lifetime of the certificates below the CAs, in seconds.
    pub certificate_lifetime_s: u64,
    /// How long a deleted or evicted pod takes to stop, in milliseconds.
    pub pod_stop_ms: u64,
    /// Without a leader for so long a member stands for election (up to twice as long), in milliseconds.
    pub election_ms: u64,
    /// Between two tries of what is waited for (a server, a node's password), in milliseconds.
    pub retry_ms: u64,
    /// Where the ports are opened.
    pub bind: Bind,
    /// What happens to a key that RKE2 does not know.
    pub unknown_keys: UnknownKeys,
    /// Whether `/readyz`, `/livez` and `/healthz` answer without credentials. RKE2 runs with anonymous-auth=false.
    pub anonymous_health: bool,
}

/// Which addresses the ports are opened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bind {
    /// All of them, as RKE2 does.
    All,
    /// Only the node's own, so that many nodes share one loopback interface.
    NodeIp,
}

/// What happens to a key that RKE2 does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownKeys {
    /// The process ends with an error.
    Reject,
    /// A warning, `Unknown flag --KEY found in config.yaml, skipping`.
    Warn,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            start_delay_ms: 0,
            node_ready_delay_ms: 2_000,
            promotion_delay_ms: 2_000,
            crash_at_start: 0,
            not_ready_after_ms: 40_000,
            heartbeat_ms: 10_000,
            api_delay_ms: 0,
            certificate_lifetime_s: 365 * 86_400,
            pod_stop_ms: 500,
            election_ms: 1_000,
            retry_ms: 5_000,
            bind: Bind::All,
            unknown_keys: UnknownKeys::Reject,
            anonymous_health: false,
        }
    }
}

impl Knobs {
    /// Reads the file, then the environment.
    ///
    /// # Errors
    /// A knob that does not exist or has a wrong form.
    pub fn load(paths: &Paths) -> Result<Self> {
        let file = paths.etc("standin.toml");
        let text = paths::read(&file)?.unwrap_or_default();
        Self::parse(&text, std::env::vars()).with_context(|| format!("wrong knob in {}", file.display()))
    }

    fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut table: toml::Table = text.parse()?;
        for (name, value) in environment {
            let Some(knob) = name.strip_prefix(PREFIX).filter(|_| name != ROOT_VARIABLE) else { continue };
            let key = knob.to_lowercase().replace('_', "-");
            let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
            table.insert(key, parsed.unwrap_or(toml::Value::String(value)));
        }
        Ok(table.try_into()?)
    }

    /// [`Self::retry_ms`] as a duration.
    pub fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    /// [`Self::election_ms`] as a duration.
    pub fn election(&self) -> Duration {
        Duration::from_millis(self.election_ms)
    }

    /// [`Self::certificate_lifetime_s`] as a duration.
    pub fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_lifetime_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Knobs> {
        Knobs::parse(text, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment =
            [("RKE2_STANDIN_BIND", "node-ip"), ("RKE2_STANDIN_RETRY_MS", "7"), ("RKE2_STANDIN_ROOT", "/x")];
        let knobs = parse("retry-ms = 5\napi-delay-ms = 9", &environment).unwrap();
        assert_eq!((knobs.retry_ms, knobs.api_delay_ms, knobs.bind), (7, 9, Bind::NodeIp));
    }

    #[test]
    fn a_misspelt_knob_is_refused() {
        assert!(parse("retry = 5", &[]).is_err());
        assert!(parse("", &[("RKE2_STANDIN_RETRY", "5")]).is_err());
    }
}
