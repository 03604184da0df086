//! Policies on OneKE's workers, beyond what was recorded.

use oneke_cloud::{
    Adjustment, ElasticityPolicy, Instantiate, Options, RoleTemplate, ScheduledPolicy, Templates, VmId,
};

use crate::world::World;

/// OneKE running, with another worker role.
fn running(change: impl Fn(&mut RoleTemplate)) -> World {
    let mut templates = Templates::oneke();
    templates.service.roles.iter_mut().filter(|role| role.name == "worker").for_each(change);
    let mut world = World::with(Options::default(), &templates, &Instantiate::oneke());
    world.pass(10);
    world.ready(0);
    world.pass(10);
    let workers: Vec<u32> = world.cloud.vms().map(|vm| vm.id.0).filter(|vm| *vm > 0).collect();
    workers.into_iter().for_each(|vm| world.ready(vm));
    world.pass(2);
    assert!(world.shape().starts_with("Running"), "{}", world.shape());
    world
}

fn policy(expression: &str, adjust: i64) -> ElasticityPolicy {
    ElasticityPolicy {
        expression: expression.into(),
        kind: Adjustment::Change,
        adjust,
        min_adjust_step: None,
        period_number: 0,
        period: 0,
        cooldown: None,
    }
}

#[test]
fn without_a_maximum_nothing_grows() {
    for (max, expected) in [(None, "Running"), (Some(3), "Scaling")] {
        let mut world = running(|worker| {
            worker.max_vms = max;
            worker.elasticity_policies = vec![policy("ONEGATE_K8S_PENDING_PODS > 0", 1)];
        });
        world.ask(2, "PUT", "/vm", "ONEGATE_K8S_PENDING_PODS=4");
        world.pass(95);
        assert!(world.shape().starts_with(expected), "{max:?}: {}", world.shape());
    }
}

#[test]
fn who_is_leaving_does_not_count() {
    let mut world = running(|worker| {
        worker.cardinality = 2;
        worker.elasticity_policies = vec![policy("BUSY < 50", -1)];
    });
    world.ask(2, "PUT", "/vm", "BUSY=100");
    world.ask(3, "PUT", "/vm", "BUSY=10");
    world.pass(90);
    assert!(world.shape().starts_with("Running"), "the mean is 55: {}", world.shape());
    world.cloud.terminate(world.now, VmId(2), false).expect("it runs");
    world.happened();
    world.pass(95);
    // The mean is that of VM 3 alone; the oldest is to go, and who was shutting down is pulled out.
    assert_eq!(world.happened(), ["2 off"]);
    assert!(world.shape().contains("worker:Cooldown[3]"), "{}", world.shape());
}

#[test]
fn a_time_comes_and_the_role_grows() {
    let start = Options::default().epoch + 200;
    let mut world = running(|worker| {
        worker.max_vms = Some(5);
        worker.scheduled_policies = vec![ScheduledPolicy {
            kind: Adjustment::Cardinality,
            adjust: 3,
            min_adjust_step: None,
            recurrence: None,
            start_time: Some(start),
            cooldown: Some(10),
        }];
    });
    world.pass(170);
    assert!(world.shape().contains("worker:Running[2]"), "{}", world.shape());
    world.pass(90);
    assert!(world.shape().contains("worker:Scaling[2, 3, 4]"), "{}", world.shape());
}

#[test]
fn a_role_below_its_minimum_is_restored() {
    let mut world = running(|worker| worker.min_vms = Some(1));
    world.cloud.terminate(world.now, VmId(2), true).expect("it runs");
    world.pass(3);
    assert!(world.shape().contains("worker:Running[]"), "{}", world.shape());
    world.pass(95);
    assert!(world.shape().contains("worker:Scaling[3]"), "{}", world.shape());
}
