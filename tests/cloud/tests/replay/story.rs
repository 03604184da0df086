//! The recorded day, replayed in the order in which it was recorded.

use oneke_cloud::{
    Attributes, Cloud, Event, Faults, FlowState, NicRequest, ServiceId, VmId, VmState, VmTemplate,
};

use crate::recorded::{World, context, instantiate, nic, vm_template};

const FIRST: ServiceId = ServiceId(1);
const SECOND: ServiceId = ServiceId(2);

#[test]
fn the_recorded_day() {
    let mut world = World::new();
    the_first_service_is_deployed(&mut world);
    everybody_asks_everything(&mut world);
    the_first_service_grows_and_shrinks(&mut world);
    the_second_service_is_elastic(&mut world);
    oned_and_oneflow_are_down(&mut world);
    virtual_routers_ask(&mut world);
    machines_come_and_go(&mut world);
    the_watchdog_is_blinded(&mut world);
    a_stranger_claims_to_belong(&mut world);
}

fn the_first_service_is_deployed(world: &mut World) {
    instantiate(world);
    world.pass(60.0);
    world.replay(&[
        "get-root",
        "get-service-deploying-other-roles-zero-nodes",
        "get-service-extended-deploying",
        "get-vm-multi-nic-deploying",
        "get-vm",
        "put-vm-ready-yes-raw",
        "get-service-right-after-vnf-ready",
    ]);
    world.pass(1.2);
    world.replay(&["get-service-roles-have-nodes-vms-not-yet-booted", "get-service-extended-vms-pending"]);
    world.pass(12.0);
    world.replay(&["put-vm-ready-yes-master", "put-vm-ready-yes-worker", "put-vm-ready-yes-storage"]);
    world.pass(5.0);
    world.replay(&["get-service-running"]);
}

fn everybody_asks_everything(world: &mut World) {
    let solo =
        VmTemplate { context: context(&[("NETWORK", "YES"), ("TOKEN", "YES")]), ..VmTemplate::default() };
    world.cloud.create_vm(world.now, "solo", &solo, vec![nic("private")]).expect("there are addresses");
    world.pass(350.0);
    assert_eq!(world.send(4, "PUT", "/vm", "X=1").status, 200);
    world.replay(&[
        "auth-bad-token-garbage",
        "auth-bad-token-valid-b64",
        "auth-empty-token",
        "auth-lowercase-header-names",
        "auth-missing-both-headers",
        "auth-missing-token",
        "auth-missing-vmid",
        "auth-token-of-other-vm",
        "auth-token-with-trailing-newline-stripped",
        "auth-vmid-in-query-id-vm1",
        "auth-vmid-in-query-id",
        "auth-vmid-nonexistent-good-token",
        "auth-vmid-nonexistent",
        "auth-vmid-not-a-number",
        "auth-vmid-with-space",
        "get-service-extended-false",
        "get-service-extended-true",
        "get-service-extended-empty",
        "get-service-from-vm-without-service",
        "get-service",
        "get-vm-single-nic-no-service",
        "get-vm-single-nic",
        "get-vms-id-from-vm-without-service",
        "get-vms-id-nonexistent",
        "get-vms-id-not-number-from-vm1",
        "get-vms-id-not-number",
        "get-vms-id-outside-service",
        "get-vms-id-same-service",
        "get-vms-id-self",
        "put-service-role-from-vm-without-service",
        "get-vnet-from-non-vr",
        "get-vrouter-from-non-vr",
        "head-vm",
        "options-vm",
        "path-double-slash",
        "path-trailing-slash",
        "post-action-badjson",
        "post-action-hold-invalid-state",
        "post-action-outside-service",
        "post-action-reboot",
        "post-action-rename",
        "get-service-after-rename",
        "post-action-resched",
        "post-action-unknown",
        "post-action-unresched",
        "post-action-wrong-root",
        "post-vm",
        "put-vms-id-outside-service",
        "put-vms-id-same-service",
        "unknown-path-delete",
        "unknown-path-get-noauth",
        "unknown-path-get",
        "unknown-path-put",
        "unknown-path-vms",
    ]);
}

fn the_first_service_grows_and_shrinks(world: &mut World) {
    world.replay(&[
        "put-service-role-cardinality-string",
        "get-service-scaling-up-immediately",
        "put-service-role-cardinality-int",
        "put-service-role-while-scaling",
    ]);
    world.pass(5.0);
    world.replay(&[
        "get-service-extended-scaling",
        "get-vm-new-worker-before-ready",
        "put-vm-ready-new-worker",
    ]);
    world.pass(1.0);
    world.replay(&["get-service-cooldown-after-scale-up", "put-service-role-while-cooldown"]);
    world.pass(30.0);
    world.replay(&[
        "put-service-role-above-max",
        "put-service-role-below-min",
        "put-service-role-bad-json",
        "put-service-role-negative",
        "put-service-role-no-cardinality",
        "put-service-role-same-cardinality",
        "put-service-role-unknown-role",
    ]);
    world.cloud.take_events();
    world.replay(&[
        "put-service-role-scale-down",
        "get-service-scaling-down-immediately",
        "scaledown-vm0-vms-2-0",
        "scaledown-vm2-service-0",
        "scaledown-vm2-vm-0",
        "scaledown-vm5-service-0",
        "scaledown-vm5-vm-0",
    ]);
    assert_eq!(world.cloud.take_events(), [Event::AcpiShutdown { vm: VmId(2) }], "the oldest goes");
    world.pass(13.0);
    world.cloud.guest_stopped(world.now, VmId(2));
    world.pass(2.0);
    world.replay(&[
        "scaledown-vm0-vms-2-1",
        "scaledown-vm2-service-1",
        "scaledown-vm2-vm-1",
        "scaledown-vm5-service-1",
        "put-vm-from-done-vm",
    ]);
    world.pass(31.0);
    world.replay(&["scaledown-vm5-service-2"]);
}

fn the_second_service_is_elastic(world: &mut World) {
    instantiate(world);
    world.pass(10.0);
    world.send(6, "PUT", "/vm", "READY=YES");
    world.pass(10.0);
    for vm in 7..=9 {
        world.send(vm, "PUT", "/vm", "READY=YES");
    }
    world.pass(3.0);
    world.replay(&["put-vm-elasticity-att-90"]);
    world.until("the worker role scales up", |cloud| state(cloud, SECOND) == FlowState::Scaling);
    world.replay(&["get-service-elastic-scaling-up"]);
    world.pass(10.0);
    world.send(8, "PUT", "/vm", "ATT=50");
    world.send(10, "PUT", "/vm", "ATT=50\nREADY=YES");
    world.until("it runs again", |cloud| state(cloud, SECOND) == FlowState::Running);
    world.replay(&["get-service-elastic-after-up"]);
    world.send(8, "PUT", "/vm", "ATT=5");
    world.send(10, "PUT", "/vm", "ATT=5");
    world.cloud.take_events();
    world.until("the worker role scales down", |cloud| state(cloud, SECOND) == FlowState::Scaling);
    world.obey();
    world.until("it runs again", |cloud| state(cloud, SECOND) == FlowState::Running);
    world.replay(&["get-service-elastic-after-down"]);
    world.send(10, "PUT", "/vm", "ATT=high");
}

fn oned_and_oneflow_are_down(world: &mut World) {
    world.cloud.set_faults(world.now, Faults { oned_down: true, ..Faults::default() });
    world.replay(&["oned-down-get-root", "oned-down-get-service", "oned-down-get-vm", "oned-down-put-vm"]);
    world.cloud.set_faults(world.now, Faults { oneflow_down: true, ..Faults::default() });
    world.replay(&[
        "oneflow-down-get-root",
        "oneflow-down-get-service",
        "oneflow-down-get-vm",
        "oneflow-down-get-vms-other",
        "oneflow-down-put-role",
    ]);
    world.cloud.set_faults(world.now, Faults::default());
}

fn virtual_routers_ask(world: &mut World) {
    world.cloud.delete_service(world.now, FIRST).expect("it runs");
    world.pass(1.0);
    world.obey();
    world.pass(5.0);
    world.obey();
    world.pass(10.0);
    assert_eq!(world.shape(1), "gone");

    let mut plain =
        VmTemplate { context: context(&[("NETWORK", "YES"), ("TOKEN", "YES")]), ..VmTemplate::default() };
    // VM 11 has the private address with index 13, VM 175 the one with index 165.
    world.use_up_addresses(2);
    world.cloud.create_vm(world.now, "odd", &plain, vec![nic("private")]).expect("there are addresses");
    world.use_up_numbers(163);
    world.use_up_addresses(151);
    let own_name = NicRequest { name: Some("NIC0".into()), ..nic("private") };
    world.cloud.create_vm(world.now, "member", &plain, vec![own_name]).expect("there are addresses");
    world.use_up_numbers(4);
    world.use_up_addresses(4);
    plain.attributes = vm_template().attributes;
    world.cloud.create_vm(world.now, "manynics", &plain, many_nics()).expect("there are addresses");
    plain.attributes = Attributes::default();
    world.cloud.create_vm(world.now, "nonic", &plain, Vec::new()).expect("there are addresses");
    let mut router = VmTemplate { id: 23, ..vm_template() };
    router.context = context(&[("NETWORK", "YES"), ("TOKEN", "YES"), ("BACKEND", "YES")]);
    let both = [("private", true), ("public", false)];
    world.cloud.create_virtual_router(world.now, "vr1", &router, &both, 2).expect("there are addresses");
    world
        .cloud
        .create_virtual_router(world.now, "vr2", &router, &[("private", false)], 1)
        .expect("there are addresses");
    world.pass(10.0);
    world.replay(&[
        "get-service-from-vrouter",
        "get-vm-many-nics-alias-external",
        "get-vm-no-nic",
        "get-vm-vrouter-member",
        "get-vms-id-other-vrouter",
        "get-vms-id-same-vrouter",
        "get-vnet-bad-id",
        "get-vnet-by-vrouter",
        "get-vnet-extended-by-vrouter",
        "get-vnet-forbidden-by-vrouter",
        "get-vnet-nonexistent",
        "get-vrouter-one-vm-one-nic",
        "get-vrouter-two-vms",
    ]);
}

fn machines_come_and_go(world: &mut World) {
    world.cloud.take_events();
    world.cloud.poweroff(world.now, VmId(9), false).expect("its state allows it");
    world.obey();
    world.pass(1.0);
    world.replay(&[
        "get-service-warning-after-poweroff",
        "get-vm-self-poweroff",
        "get-vms-id-poweroff",
        "put-service-role-while-warning",
    ]);
    world.cloud.resume(world.now, VmId(9)).expect("its state allows it");
    world.pass(3.0);
    assert_eq!(
        world.shape(2),
        "svc=RUNNING vnf:2/c=1/n=[6] master:2/c=1/n=[7] worker:2/c=1/n=[10] storage:2/c=1/n=[9]"
    );
    world.cloud.terminate(world.now, VmId(9), true).expect("its state allows it");
    world.pass(3.0);
    world.replay(&[
        "get-service-after-external-terminate",
        "get-vms-id-after-external-terminate",
        "get-service-self-done",
        "get-vm-self-done",
        "get-service-extended-after-external-terminate",
        "put-service-role-scale-up-that-fails",
    ]);
    world.until("VM 185 boots", |cloud| cloud.vm(VmId(185)).is_some_and(|vm| vm.state == VmState::Boot));
    world.cloud.boot_failed(world.now, VmId(185)).expect("its state allows it");
    world.until("it fails", |cloud| state(cloud, SECOND) == FlowState::FailedScaling);
    world.pass(15.0);
    world.replay(&["get-service-failed-scaling", "get-service-extended-failed-scaling"]);
    world.cloud.recover_service(world.now, SECOND).expect("its state allows it");
    world.pass(2.0);
    world.send(185, "PUT", "/vm", "READY=YES");
}

fn the_watchdog_is_blinded(world: &mut World) {
    world.until("storage is restored", |cloud| cloud.vm(VmId(186)).is_some());
    world.pass(5.0);
    world.send(186, "PUT", "/vm", "READY=YES");
    world.until("the worker role shrinks", |cloud| {
        let event = |vm: &oneke_cloud::Vm| vm.state == VmState::Shutdown;
        cloud.vm(VmId(10)).is_some_and(event)
    });
    world.obey();
    world.until("it runs again", |cloud| state(cloud, SECOND) == FlowState::Running);
    world.cloud.scale(world.now, SECOND, "nosuch", 2).expect_err("there is no such role");
    world.cloud.take_events();
    world.cloud.poweroff(world.now, VmId(186), false).expect("its state allows it");
    world.obey();
    world.pass(5.0);
    assert_eq!(world.cloud.vm(VmId(186)).expect("it was restored").state, VmState::Poweroff);
    world.replay(&["get-service-watchdog-blind"]);
    world.cloud.terminate(world.now, VmId(186), false).expect("its state allows it");
    world.pass(5.0);
    world.replay(&[
        "get-service-stale-node-watchdog-blind",
        "get-service-extended-stale-node-watchdog-blind",
        "get-vms-id-done-but-listed",
    ]);
}

fn a_stranger_claims_to_belong(world: &mut World) {
    world.replay(&[
        "spoof-service-id-leading-space",
        "get-service-with-spoofed-service-id",
        "get-vms-6-with-spoofed-service-id",
    ]);
    world.send(4, "PUT", "/vm", " SERVICE_ID=word");
    world.replay(&["get-service-id-invalid"]);
    world.send(4, "PUT", "/vm", " SERVICE_ID=999");
    world.replay(&["get-service-id-nonexistent"]);
}

/// Three NICs, and two aliases on the first.
pub fn many_nics() -> Vec<NicRequest> {
    let named = |network: &str, name: &str| NicRequest { name: Some(name.into()), ..nic(network) };
    let on_first = |request: NicRequest| NicRequest { parent: Some("priv".into()), ..request };
    vec![
        named("private", "priv"),
        nic("public"),
        named("v6", "dual"),
        on_first(named("ext", "al_ext")),
        on_first(nic("public")),
    ]
}

fn state(cloud: &Cloud, service: ServiceId) -> FlowState {
    cloud.service(service).expect("it is there").state
}
