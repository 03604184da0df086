//! What this machine's etcd member says of itself, at the address where RKE2 lets it serve its metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::background::Background;
use crate::facts::{Etcd, Moment, Observed};

/// RKE2's static Pod listens here without TLS (rke2.md, "Files, units, ports"), and on no other address by default.
const METRICS: &str = "http://127.0.0.1:2381/metrics";
/// It is this machine.
const TOTAL: Duration = Duration::from_secs(2);
/// A pass waits so long.
const PATIENCE: Duration = Duration::from_millis(300);
/// A member of a large cluster says some hundred kilobytes.
const LARGEST: usize = 8 << 20;

/// The member, as the agent meets it.
pub struct Member {
    background: Background<Observed<Etcd>>,
    last: Option<(Moment, Observed<Etcd>)>,
}

impl Member {
    /// Not asked yet; late answers notify `wake`.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { background: Background::new(wake), last: None }
    }

    /// Asks again if the last answer is older than `limit`; `None`: nobody wants to know.
    pub async fn observe(&mut self, limit: Option<Duration>, now: Moment) -> Observed<Etcd> {
        let Some(limit) = limit else { return Observed::default() };
        if let Some((at, last)) = &self.last
            && now.saturating_sub(*at) < limit
        {
            return last.clone();
        }
        if let Some(answer) = self.background.ask(PATIENCE, || Box::new(ask())).await {
            self.last = Some((now, answer));
        }
        self.last.as_ref().map_or_else(Observed::default, |(_, last)| last.clone())
    }
}

async fn ask() -> Observed<Etcd> {
    match metrics().await {
        Ok(text) => match read(&text) {
            Some(etcd) => Observed::Known(etcd),
            None => Observed::Unknown(format!("{METRICS} says nothing of a leader")),
        },
        Err(error) if error.is_connect() => Observed::Absent,
        Err(error) => Observed::Unknown(format!("could not ask etcd: {}", error.without_url())),
    }
}

async fn metrics() -> Result<String, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(TOTAL).build()?;
    let mut answer = client.get(METRICS).send().await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(part) = answer.chunk().await? {
        text.extend_from_slice(&part);
        if text.len() > LARGEST {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Three gauges of etcd's (etcd's documentation, "Metrics", server).
fn read(metrics: &str) -> Option<Etcd> {
    let gauge = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.trim() == "1")
    };
    Some(Etcd {
        has_leader: gauge("etcd_server_has_leader")?,
        is_leader: gauge("etcd_server_is_leader")?,
        is_learner: gauge("etcd_server_is_learner").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_gauges_are_read() {
        let text = "# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n\
                    etcd_server_health_failures 1\netcd_server_is_leader 0\netcd_server_is_learner 1\n";
        assert_eq!(read(text), Some(Etcd { has_leader: true, is_leader: false, is_learner: true }));
        assert_eq!(read("etcd_server_has_leader 1\n"), None);
    }
}
