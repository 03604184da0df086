//! What operators do, and what comes of it.

use oneke_cloud::{Options, VmId};

use crate::world::{SERVICE, World};

#[test]
fn a_service_from_cradle_to_grave() {
    let mut world = World::new(Options::default(), 3);
    world.pass(10);
    assert_eq!(world.happened(), ["vnf0 on, fresh"]);
    assert_eq!(
        world.shape(),
        "Deploying vnf:Deploying[0] master:Pending[] worker:Pending[] storage:Pending[]"
    );
    world.ready(0);
    world.pass(10);
    assert_eq!(
        world.happened(),
        ["master1 on, fresh", "master2 on, fresh", "master3 on, fresh", "worker4 on, fresh"]
    );
    (1..=4).for_each(|vm| world.ready(vm));
    world.pass(2);
    assert_eq!(
        world.shape(),
        "Running vnf:Running[0] master:Running[1, 2, 3] worker:Running[4] storage:Running[]"
    );

    world.cloud.scale(world.now, SERVICE, "worker", 2).expect("it runs");
    world.pass(10);
    world.ready(5);
    world.pass(2);
    assert!(world.shape().starts_with("Cooldown"), "{}", world.shape());
    world.cloud.delete_service(world.now, SERVICE).expect_err("it cools down");
    world.pass(120);
    world.happened();
    world.cloud.scale(world.now, SERVICE, "worker", 1).expect("it runs");
    assert_eq!(world.happened(), ["4 asked"], "the oldest");
    assert_eq!(world.states(4), "3/12");
    world.cloud.guest_stopped(world.now, VmId(4));
    world.pass(125);
    assert_eq!(
        world.shape(),
        "Running vnf:Running[0] master:Running[1, 2, 3] worker:Running[5] storage:Running[]"
    );

    world.cloud.delete_service(world.now, SERVICE).expect("it runs");
    assert_eq!(world.happened(), ["1 asked", "2 asked", "3 asked", "5 asked"]);
    world.pass(190);
    assert_eq!(world.happened(), ["1 off", "2 off", "3 off", "5 off", "0 asked"], "nobody obeyed");
    world.pass(190);
    assert_eq!(world.shape(), "gone");
    assert_eq!(world.ask(1, "GET", "/service", "").text(), "Service 1 not found");
    assert_eq!(world.ask(1, "PUT", "/vm", "A=1").status, 200, "who is DONE may still publish");
}

#[test]
fn a_recreated_vm_is_the_same_on_an_empty_disk() {
    let mut world = World::running();
    world.ask(1, "PUT", "/vm", "ONEGATE_K8S_MASTER=172.20.0.101");
    let before = world.cloud.vm(VmId(1)).expect("a master").clone();
    world.cloud.recreate(world.now, VmId(1)).expect("it runs");
    assert_eq!((world.happened(), world.states(1)), (vec!["1 off".to_owned()], "3/15".to_owned()));
    world.pass(1);
    assert_eq!(world.states(1), "1/0");
    world.pass(5);
    assert_eq!((world.happened(), world.states(1)), (vec!["master1 on, fresh".to_owned()], "3/3".to_owned()));
    let after = world.cloud.vm(VmId(1)).expect("a master");
    let kept = |vm: &oneke_cloud::Vm| {
        (vm.token.clone(), vm.context.clone(), vm.user_template.clone(), vm.nics.clone())
    };
    assert_eq!(kept(&before), kept(after));
    assert_eq!(after.user_template.text("READY"), Some("YES"));
}

#[test]
fn poweroff_and_undeploy_keep_the_disk() {
    let mut world = World::running();
    for (verb, stopping, stopped) in [("poweroff", "3/18", "8/0"), ("undeploy", "3/29", "9/0")] {
        match verb {
            "poweroff" => world.cloud.poweroff(world.now, VmId(2), false).expect("it runs"),
            _ => world.cloud.undeploy(world.now, VmId(2), false).expect("it runs"),
        }
        assert_eq!((world.happened(), world.states(2)), (vec!["2 asked".to_owned()], stopping.to_owned()));
        world.pass(60);
        assert!(world.shape().starts_with("Running"), "while it stops nobody warns: {}", world.shape());
        world.cloud.guest_stopped(world.now, VmId(2));
        world.pass(3);
        assert_eq!(world.states(2), stopped);
        assert_eq!(
            world.shape(),
            "Warning vnf:Running[0] master:Running[1] worker:Warning[2] storage:Running[]"
        );
        world.cloud.resume(world.now, VmId(2)).expect("it is off");
        world.pass(5);
        assert_eq!(world.happened(), ["worker2 on, kept"]);
        assert!(world.shape().starts_with("Running"), "{}", world.shape());
    }
}

#[test]
fn a_guest_that_will_not_stop_is_destroyed_after_three_minutes() {
    let mut world = World::running();
    world.cloud.terminate(world.now, VmId(2), false).expect("it runs");
    world.pass(179);
    assert_eq!((world.happened(), world.states(2)), (vec!["2 asked".to_owned()], "3/12".to_owned()));
    world.pass(1);
    assert_eq!((world.happened(), world.states(2)), (vec!["2 off".to_owned()], "3/11".to_owned()));
    world.pass(2);
    assert_eq!(world.states(2), "6/0");
    assert_eq!(world.shape(), "Running vnf:Running[0] master:Running[1] worker:Running[] storage:Running[]");
    assert_eq!(world.cloud.service(SERVICE).expect("it runs").roles[2].cardinality, 0);
}

#[test]
fn hard_verbs_give_the_guest_no_notice() {
    let mut world = World::running();
    world.cloud.reboot(world.now, VmId(2), false).expect("it runs");
    world.cloud.reboot(world.now, VmId(2), true).expect("it runs");
    assert_eq!(
        (world.happened(), world.states(2)),
        (vec!["2 asked to reboot".into(), "2 reset".into()], "3/3".into())
    );
    world.cloud.terminate(world.now, VmId(2), true).expect("it runs");
    assert_eq!((world.happened(), world.states(2)), (vec!["2 off".to_owned()], "3/12".to_owned()));
    world.pass(3);
    assert_eq!(world.states(2), "6/0");
}

#[test]
fn a_guest_that_powers_itself_off_is_found_by_monitoring() {
    let mut world = World::running();
    world.cloud.guest_stopped(world.now, VmId(2));
    world.pass(5);
    assert_eq!(world.states(2), "3/3");
    world.pass(10);
    assert_eq!((world.happened(), world.states(2)), (vec![], "8/0".to_owned()));
    assert!(world.shape().starts_with("Warning"), "{}", world.shape());
}

#[test]
fn a_deployment_that_fails_can_be_recovered() {
    let mut world = World::new(Options::default(), 1);
    world.pass(3);
    world.cloud.boot_failed(world.now, VmId(0)).expect("it boots");
    world.pass(20);
    assert!(world.shape().starts_with("Deploying"), "it is found by the look every 30 s: {}", world.shape());
    world.pass(10);
    assert!(world.shape().starts_with("FailedDeploying vnf:FailedDeploying[0]"), "{}", world.shape());
    world.cloud.recover_service(world.now, SERVICE).expect("it failed");
    world.pass(3);
    world.ready(0);
    world.pass(5);
    assert!(world.shape().starts_with("Deploying vnf:Running[0] master:Deploying[1]"), "{}", world.shape());
}

#[test]
fn oneflow_sees_again_once_it_restarts() {
    let mut world = World::running();
    world.cloud.scale(world.now, SERVICE, "nosuch", 2).expect_err("there is no such role");
    world.cloud.terminate(world.now, VmId(2), true).expect("it runs");
    world.pass(30);
    assert!(world.shape().contains("worker:Running[2]"), "{}", world.shape());
    world.cloud.restart_oneflow(world.now);
    world.pass(2);
    assert!(world.shape().contains("worker:Running[]"), "{}", world.shape());
}

#[test]
fn members_can_end_one_another() {
    let mut world = World::running();
    let body = r#"{"action":{"perform":"terminate"}}"#;
    assert_eq!(world.ask(1, "POST", "/vms/2/action", body).status, 204);
    assert_eq!(world.happened(), ["2 asked"]);
    assert_eq!(world.ask(1, "POST", "/vms/2/action", body).status, 500, "it is going already");
}

#[test]
fn a_changed_context_reaches_the_guest() {
    let mut world = World::running();
    world
        .cloud
        .update_context(world.now, VmId(1), [("oneapp_k8s_extra_sans", "a.example")])
        .expect("it is there");
    assert_eq!(world.happened(), ["1 context"]);
    let context = world.cloud.vm(VmId(1)).expect("a master").context_sh();
    assert!(context.contains("\nONEAPP_K8S_EXTRA_SANS='a.example'\n"), "{context}");
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let tell = |seed| {
        let mut world = World::new(Options { seed, ..Options::default() }, 3);
        world.pass(10);
        world.ready(0);
        world.pass(10);
        format!("{:?}", world.cloud)
    };
    assert_eq!(tell(7), tell(7));
    assert_ne!(tell(7), tell(8));
}
