//! The parsers, held to what OneGate really answered.

use std::net::IpAddr;

use oneke_agent::service::{Holder, Role, Service, ServiceNode, ServiceRole, VNet, VRouter, Vm, VmId};
use oneke_suite::captures::{all, load};
use proptest::prelude::*;

fn service(name: &str) -> Service {
    Service::from_json(&load(name).response.body).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn vm(name: &str) -> Vm {
    Vm::from_json(&load(name).response.body).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A role in a line: its name, cardinality, state, and its VMs with their LCM state, `?` where there is no data.
fn roles(service: &Service) -> String {
    let node = |node: &ServiceNode| match &node.vm {
        Some(vm) => format!("{}:{}/{}", node.id, vm.state, vm.lcm_state),
        None => format!("{}:?", node.id),
    };
    let role = |role: &ServiceRole| {
        let nodes: Vec<_> = role.nodes.iter().map(node).collect();
        format!("{} {} {} [{}]", role.name, role.cardinality, role.state, nodes.join(" "))
    };
    service.roles.iter().map(role).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_good_answer_is_read_and_every_other_refused() {
    for (name, capture) in all("") {
        let path = capture.request.path.split('?').next().unwrap();
        let good = capture.request.method == "GET" && capture.response.status == 200;
        let body = &capture.response.body;
        let is_vm = path == "/vm" || path == "//vm" || path.starts_with("/vms/");
        assert_eq!(Vm::from_json(body).is_ok(), good && is_vm, "{name}");
        assert_eq!(Service::from_json(body).is_ok(), good && path == "/service", "{name}");
    }
}

#[test]
fn a_service_while_it_deploys_and_scales() {
    let cases = [
        ("get-service", "vnf 1 2 [0:?], master 1 2 [1:?], worker 1 2 [2:?], storage 1 2 [3:?]"),
        (
            "get-service-deploying-other-roles-zero-nodes",
            "vnf 1 1 [0:?], master 1 0 [], worker 1 0 [], storage 1 0 []",
        ),
        ("get-service-extended-deploying", "vnf 1 1 [0:3/3], master 1 0 [], worker 1 0 [], storage 1 0 []"),
        (
            "get-service-extended-vms-pending",
            "vnf 1 2 [0:3/3], master 1 1 [1:1/0], worker 1 1 [2:1/0], storage 1 1 [3:1/0]",
        ),
        (
            "get-service-extended-scaling",
            "vnf 1 2 [0:3/3], master 1 2 [1:3/3], worker 2 8 [2:3/3 5:3/3], storage 1 2 [3:3/3]",
        ),
        (
            "get-service-extended-stale-node-watchdog-blind",
            "vnf 1 2 [6:3/3], master 1 2 [7:3/3], worker 1 2 [185:3/3], storage 1 2 [186:6/0]",
        ),
    ];
    for (name, expected) in cases {
        assert_eq!(roles(&service(name)), expected, "{name}");
    }
}

#[test]
fn a_gap_is_seen_where_there_is_one() {
    let gap = |name| service(name).gap();
    assert_eq!(gap("get-service-extended-true"), None);
    assert_eq!(gap("get-service"), Some("OneGate gave no data of VM 0 (role vnf)".into()));
    assert_eq!(gap("get-service-extended-deploying"), Some("role master lists 0 of 1 VMs".into()));
}

#[test]
fn a_vm_shows_its_role_and_states() {
    let seen = |name| {
        let vm = vm(name);
        (vm.id, vm.role(), vm.is_done(), vm.is_leaving())
    };
    let worker = Some(Role::Worker("worker".into()));
    assert_eq!(seen("get-vm"), (VmId(0), Some(Role::Vnf), false, false));
    assert_eq!(seen("get-vm-single-nic"), (VmId(1), Some(Role::Master), false, false));
    assert_eq!(seen("get-vm-no-nic"), (VmId(181), None, false, false));
    assert_eq!(seen("get-vm-self-done"), (VmId(9), Some(Role::Storage), true, false));
    assert_eq!(seen("scaledown-vm2-vm-0"), (VmId(2), worker.clone(), false, true));
    assert_eq!(seen("scaledown-vm2-vm-1"), (VmId(2), worker, true, false));
}

#[test]
fn nics_and_aliases_keep_their_order_and_marks() {
    let vm = vm("get-vm-many-nics-alias-external");
    let seen: Vec<_> = vm
        .nics
        .iter()
        .map(|nic| (nic.network.as_str(), nic.ip.unwrap().to_string(), nic.alias, nic.external))
        .collect();
    let expected = [
        ("private", "172.20.1.14", false, false),
        ("public", "10.0.0.102", false, false),
        ("v6", "192.0.2.10", false, false),
        ("ext", "198.51.100.10", true, true),
        ("public", "10.0.0.103", true, false),
    ];
    assert_eq!(
        seen,
        expected.map(|(network, ip, alias, external)| (network, ip.to_owned(), alias, external))
    );
    assert_eq!(vm.nics[2].ip6.map(IpAddr::V6), Some("2001:db8:1::c0ff:fe00:20a".parse().unwrap()));
}

#[test]
fn one_vm_reads_the_same_however_it_is_asked() {
    let extended = service("get-service-extended-true");
    let (_, there) = extended.vms().find(|(_, vm)| vm.id == VmId(2)).unwrap();
    let asked = vm("get-vms-id-same-service");
    assert_eq!(there.nics, asked.nics);
    assert_eq!(there.role(), asked.role());
}

#[test]
fn a_virtual_router_knows_its_vms_and_floating_addresses() {
    let two = VRouter::from_json(&load("get-vrouter-two-vms").response.body).unwrap();
    assert_eq!(two.vms, [VmId(182), VmId(183)]);
    let vips: Vec<_> = two.nics.iter().map(|nic| (nic.network_id, nic.vip)).collect();
    assert_eq!(vips, [(Some(0), Some("172.20.1.15".parse().unwrap())), (Some(1), None)]);
    let one = VRouter::from_json(&load("get-vrouter-one-vm-one-nic").response.body).unwrap();
    assert_eq!((one.id, one.vms, one.nics.len()), (1, vec![VmId(184)], 1));
    assert!(VRouter::from_json(&load("get-vrouter-from-non-vr").response.body).is_err());
}

#[test]
fn a_network_tells_who_holds_its_addresses() {
    let plain = VNet::from_json(&load("get-vnet-by-vrouter").response.body).unwrap();
    let extended = VNet::from_json(&load("get-vnet-extended-by-vrouter").response.body).unwrap();
    assert_eq!((plain.id, plain.leases.len(), extended.leases.len()), (0, 12, 12));
    let backends =
        |net: &VNet| net.leases.iter().filter(|lease| lease.backend).map(|l| l.holder).collect::<Vec<_>>();
    assert_eq!(backends(&plain), []);
    assert_eq!(backends(&extended), [182, 183, 184].map(|id| Holder::Vm(VmId(id))));
    assert_eq!(plain.leases[8].holder, Holder::VRouter(0));
    assert_eq!(plain.leases[0].ip, Some("172.20.0.104".parse().unwrap()));
}

proptest! {
    /// Whatever happens to an answer on its way, it is read or refused; never a panic.
    #[test]
    fn a_damaged_answer_never_panics(
        name in prop::sample::select(vec!["get-vm-many-nics-alias-external", "get-service-running", "get-service-extended-deploying", "get-vnet-extended-by-vrouter", "get-vrouter-two-vms"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:0n\\ \x00x-".to_vec())), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = load(name).response.body.into_bytes();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let text = String::from_utf8_lossy(&body);
        let _ = Vm::from_json(&text);
        let _ = Service::from_json(&text);
        let _ = VRouter::from_json(&text);
        let _ = VNet::from_json(&text);
    }

    /// A whole answer of some other shape, key by key.
    #[test]
    fn a_foreign_value_anywhere_never_panics(
        name in prop::sample::select(vec!["get-vm", "get-service-running", "get-service-extended-deploying", "get-vnet-extended-by-vrouter", "get-vrouter-two-vms"]),
        at in any::<prop::sample::Index>(),
        with in prop::sample::select(vec!["null", "{}", "[]", "\"\"", "-1", "1e300", "99999999999", "[[]]", "{\"VM\":{\"ID\":1}}"]),
    ) {
        let body = load(name).response.body;
        let values: Vec<_> = body.match_indices(':').map(|(start, _)| start + 1).collect();
        let start = values[at.index(values.len())];
        let end = start + body[start..].find([',', '}']).unwrap_or(0);
        let text = format!("{}{with}{}", &body[..start], &body[end..]);
        let _ = Vm::from_json(&text);
        let _ = Service::from_json(&text);
        let _ = VRouter::from_json(&text);
        let _ = VNet::from_json(&text);
    }
}
