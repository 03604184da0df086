//! Workers join RKE2's stand-in in batches: the real agents, clients and join protocol, in one process.

use std::time::Duration;

use oneke_suite::joins::{Service, run};

#[test]
fn no_more_than_a_batch_join_at_once_and_all_do() {
    let service = Service {
        workers: 6,
        batch: 2,
        node_ready: Duration::from_millis(200),
        slow_onegate: false,
        patience: Duration::from_secs(120),
    };
    let joined = run(&service).unwrap();
    joined.check().unwrap_or_else(|error| panic!("{error}\n{joined}"));
    assert!(joined.at_once > 0 && joined.requests[0].iter().sum::<u64>() > 0, "{joined}");
}
