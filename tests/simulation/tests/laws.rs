//! A few runs of the cluster simulation with every `cargo test`; CI runs a thousand (`oneke-simulation run`).

use oneke_simulation::scenario::{Scenario, Size};

#[test]
fn the_default_service_comes_up() {
    let outcome = Scenario::calm(Size { vms: [2, 3, 2, 1], plain: false }).run();
    assert_eq!(outcome.violations, Vec::<String>::new());
    assert!(outcome.running.is_some(), "the service never was RUNNING:\n{}", outcome.log.join("\n"));
}

#[test]
fn a_service_with_plain_tokens_comes_up() {
    let outcome = Scenario::calm(Size { vms: [1, 3, 1, 0], plain: true }).run();
    assert_eq!(outcome.violations, Vec::<String>::new());
    assert!(outcome.running.is_some(), "the service never was RUNNING:\n{}", outcome.log.join("\n"));
}

#[test]
fn a_single_master_is_a_cluster() {
    let outcome = Scenario::calm(Size { vms: [1, 1, 0, 0], plain: false }).run();
    assert_eq!(outcome.violations, Vec::<String>::new());
    assert!(outcome.running.is_some(), "the service never was RUNNING:\n{}", outcome.log.join("\n"));
}

#[test]
fn the_laws_hold_for_some_seeds() {
    for seed in 0..3 {
        let outcome = Scenario::from_seed(seed).run();
        assert_eq!(
            outcome.violations,
            Vec::<String>::new(),
            "replay with: oneke-simulation run --seed {seed}"
        );
    }
}

#[test]
fn one_seed_is_one_run() {
    let (first, second) = (Scenario::from_seed(3).run(), Scenario::from_seed(3).run());
    assert_eq!(first.log, second.log);
}
