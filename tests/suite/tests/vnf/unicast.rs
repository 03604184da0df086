//! Scenarios: vnf VMs that speak VRRP to each other alone. A VM in unicast mode and one in multicast mode are deaf to
//! each other, so no two that run may ever be in different modes.
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use oneke_agent::facts::{Active, Observed};
use oneke_agent::service::{Service, ServiceNode, ServiceRole, Vm, VmNic};
use oneke_agent::vrrp::{Advert, Heard};

use super::machine::{Machine, vm_of_role};
use super::scenarios::machine_of;

const KEEPALIVED: &str = "/etc/keepalived/keepalived.conf";

/// The VMs of a vnf role, and what OneGate knows of them.
#[derive(Default)]
struct Cluster {
    machines: BTreeMap<u8, Machine>,
    told: BTreeMap<u8, Vm>,
}

impl Cluster {
    /// OneFlow deploys a VM, which boots.
    fn add(&mut self, id: u8, unicast: &str) {
        let context = format!(
            "VMID='{id}' SERVICE_ID='4' ETH0_MAC='02:00:00:00:00:01' ETH0_IP='10.0.0.{id}' \
             ETH0_MASK='255.255.255.0' ONEAPP_VROUTER_ETH0_VIP0='10.0.0.200' \
             ONEAPP_VNF_KEEPALIVED_UNICAST='{unicast}'"
        );
        let mut machine = machine_of(&context);
        machine.facts.heard = Observed::Known(Vec::new());
        self.machines.insert(id, machine);
        let mut vm = vm_of_role("vnf", id.into());
        vm.nics = vec![VmNic { ip: Some(Ipv4Addr::new(10, 0, 0, id).into()), ..VmNic::default() }];
        self.told.insert(id, vm);
    }

    /// One VM reads the service, goes as far as it can, and publishes; then all must be of one mode.
    fn pass(&mut self, id: u8) {
        let nodes = self.told.values().map(|vm| ServiceNode { id: vm.id, vm: Some(vm.clone()) });
        let nodes: Vec<ServiceNode> = nodes.collect();
        let cardinality = u32::try_from(nodes.len()).unwrap();
        let role = ServiceRole { name: "vnf".into(), cardinality, state: 2, nodes };
        let machine = self.machines.get_mut(&id).unwrap();
        machine.told(Service { id: 4, state: 2, roles: vec![role] });
        let decision = machine.settle();
        let attributes = self.told.get_mut(&id).unwrap().attributes.as_mut().unwrap();
        for (name, value) in decision.publish {
            attributes.insert(name.as_str().to_owned(), value.as_str().to_owned());
        }
    }

    /// The modes of those that run.
    fn modes(&self) -> Vec<&'static str> {
        let running = self.machines.values().filter(|machine| {
            let unit = machine.facts.unit("keepalived.service");
            unit.known().is_some_and(|unit| unit.active == Active::Active)
        });
        let mode = |machine: &Machine| {
            if machine.file(KEEPALIVED).contains("unicast_peer") { "unicast" } else { "multicast" }
        };
        running.map(mode).collect()
    }

    fn is_deaf(&self) -> bool {
        let modes = self.modes();
        modes.windows(2).any(|pair| pair[0] != pair[1])
    }

    fn passes(&mut self, order: &[u8]) {
        for id in order {
            self.pass(*id);
            assert!(!self.is_deaf(), "after a pass of VM {id}: {:?}", self.modes());
        }
    }
}

#[test]
fn a_role_that_boots_meets_before_it_speaks() {
    for order in [[6, 7, 6, 7, 6], [7, 7, 6, 6, 7], [6, 6, 6, 7, 6]] {
        let mut cluster = Cluster::default();
        cluster.add(6, "YES");
        cluster.add(7, "YES");
        cluster.passes(&order);
        assert_eq!(cluster.modes(), ["unicast", "unicast"]);
        assert!(cluster.machines[&6].file(KEEPALIVED).contains("        10.0.0.7\n"));
    }
}

#[test]
fn a_newcomer_waits_until_the_others_speak_to_it() {
    let mut cluster = Cluster::default();
    cluster.add(6, "YES");
    cluster.passes(&[6]);
    assert_eq!(cluster.modes(), ["multicast"], "alone, it has no peer to speak to");
    cluster.add(7, "YES");
    cluster.passes(&[7, 7]);
    assert_eq!(cluster.modes(), ["multicast"], "VM 7 waits");
    cluster.passes(&[6]);
    assert_eq!(cluster.modes(), ["unicast"], "VM 6 changes while nobody else speaks");
    cluster.passes(&[7]);
    assert_eq!(cluster.modes(), ["unicast", "unicast"]);
    cluster.add(8, "YES");
    cluster.passes(&[8, 6, 8]);
    assert_eq!(cluster.modes().len(), 2, "VM 7 does not know VM 8 yet");
    cluster.passes(&[7, 8]);
    assert_eq!(cluster.modes(), ["unicast"; 3]);
    cluster.told.retain(|id, _| *id == 7);
    cluster.machines.retain(|id, _| *id == 7);
    cluster.passes(&[7]);
    assert_eq!(cluster.modes(), ["multicast"]);
}

#[test]
fn without_onegate_the_file_knows_the_peers() {
    let mut cluster = Cluster::default();
    cluster.add(6, "YES");
    cluster.add(7, "YES");
    cluster.passes(&[6, 7, 6]);
    let machine = cluster.machines.get_mut(&6).unwrap();
    machine.facts.service = Default::default();
    machine.unit("keepalived.service").active = Active::Inactive;
    machine.unit("keepalived.service").loaded = None;
    machine.settle();
    assert!(machine.file(KEEPALIVED).contains("unicast_peer"));
    assert_eq!(machine.unit("keepalived.service").active, Active::Active);
}

#[test]
fn a_fellow_that_never_answers_is_waited_for_while_it_serves_and_no_longer() {
    let mut cluster = Cluster::default();
    cluster.add(6, "YES");
    cluster.add(7, "YES");
    cluster.passes(&[6]);
    assert_eq!(cluster.modes().len(), 0);
    let machine = cluster.machines.get_mut(&6).unwrap();
    machine.later(300);
    let advert = Advert {
        source: [10, 0, 0, 7].into(),
        vrid: 5,
        version: 2,
        priority: 100,
        interval: Duration::from_secs(1),
        addresses: Vec::new(),
    };
    let now = machine.facts.now;
    machine.facts.heard =
        Observed::Known(vec![Heard { interface: "eth0".into(), advert, since: now, at: now }]);
    cluster.passes(&[6]);
    assert_eq!(cluster.modes().len(), 0, "VM 7 serves");
    cluster.machines.get_mut(&6).unwrap().later(4);
    cluster.passes(&[6]);
    assert_eq!(cluster.modes(), ["unicast"], "VM 7 fell silent");
}

#[test]
fn a_fellow_that_is_off_is_not_waited_for() {
    let mut cluster = Cluster::default();
    cluster.add(6, "YES");
    cluster.add(7, "YES");
    cluster.told.get_mut(&7).unwrap().state = 8;
    cluster.passes(&[6]);
    assert_eq!(cluster.modes(), ["unicast"]);
}

#[test]
fn the_option_of_one_vm_alone_changes_nothing() {
    let mut cluster = Cluster::default();
    cluster.add(6, "NO");
    cluster.add(7, "NO");
    cluster.passes(&[6, 7]);
    assert_eq!(cluster.modes(), ["multicast", "multicast"]);
    let files = cluster.machines[&6].facts.files.clone();
    let units = cluster.machines[&6].facts.units.clone();
    cluster.add(6, "YES");
    let machine = cluster.machines.get_mut(&6).unwrap();
    (machine.facts.files, machine.facts.units) = (files, units);
    cluster.passes(&[6, 7, 6]);
    assert_eq!(cluster.modes(), ["multicast", "multicast"]);
}
