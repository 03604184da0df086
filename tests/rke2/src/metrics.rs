//! What an etcd member says of itself, without TLS and to its own machine alone, as RKE2 lets etcd serve its metrics.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use hyper::StatusCode;

use crate::http;
use crate::store::{Standing, Store};

/// RKE2's `listen-metrics-urls` for etcd.
const PORT: u16 = 2381;

/// Serves them until the process ends.
///
/// # Errors
/// When the port is taken.
pub async fn open(local: IpAddr, store: Arc<Store>) -> Result<()> {
    let listener = http::listen(SocketAddr::new(local, PORT)).await?;
    tokio::spawn(http::serve_plainly(listener, move |request| match request.uri().path() {
        "/metrics" => http::answer(StatusCode::OK, "text/plain; version=0.0.4", text(store.standing())),
        "/health" => http::answer(StatusCode::OK, "application/json", r#"{"health":"true","reason":""}"#),
        _ => http::answer(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n"),
    }));
    Ok(())
}

/// The gauges by which a member tells its part, in Prometheus' text (etcd's documentation, "Metrics", server).
fn text(standing: Standing) -> String {
    let gauges = [
        ("has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", standing.has_leader),
        ("is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", standing.is_leader),
        ("is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", standing.is_learner),
    ];
    let gauge = |(name, help, holds): (&str, &str, bool)| {
        let name = format!("etcd_server_{name}");
        format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}\n", u8::from(holds))
    };
    gauges.map(gauge).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_follows_says_so() {
        let text = text(Standing { has_leader: true, is_leader: false, is_learner: true });
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            ["etcd_server_has_leader 1", "etcd_server_is_leader 0", "etcd_server_is_learner 1"]
        );
    }
}
