//! Scenarios: what a vnf VM does while OneGate lies or is silent.
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::time::Duration;

use oneke_agent::facts::{Fault, FaultKind};
use oneke_agent::plan::Status;
use oneke_agent::service::digest::Digest;
use oneke_agent::service::{Service, ServiceNode, ServiceRole, Vm, VmId};

use super::machine::{Machine, status, vm_of_role};

pub const CONTEXT: &str = "
VMID='6' SERVICE_ID='4'
ETH0_MAC='02:00:00:00:00:01' ETH0_IP='10.0.0.101' ETH0_MASK='255.255.255.0'
ETH1_MAC='02:00:00:00:00:02' ETH1_IP='172.20.0.106' ETH1_MASK='255.255.0.0'
ONEAPP_VROUTER_ETH0_VIP0='10.0.0.200' ONEAPP_VROUTER_ETH1_VIP0='172.20.0.200'
ONEAPP_VNF_KEEPALIVED_ETH0_SKIP='YES'
ONEAPP_VNF_HAPROXY_ENABLED='YES' ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED='YES'
ONEAPP_VNF_HAPROXY_LB1_IP='<ETH0_EP0>' ONEAPP_VNF_HAPROXY_LB1_PORT='6443'
ONEAPP_VNF_DNS_ENABLED='YES' ONEAPP_VNF_NAT4_ENABLED='YES' ONEAPP_VNF_NAT4_INTERFACES_OUT='eth0'
ONEAPP_VNF_ROUTER4_ENABLED='YES'
";

pub fn machine() -> Machine {
    machine_of(CONTEXT)
}

pub fn machine_of(context: &str) -> Machine {
    // One assignment a line, as oned writes them.
    Machine::new(&context.trim().replace("' ", "'\n")).expect("the scenario's context has no problem")
}

/// A master that offers its API.
pub fn master(id: u32) -> Vm {
    offering(id, &format!("172.20.0.{id}"), "6443")
}

pub fn offering(id: u32, host: &str, port: &str) -> Vm {
    let mut vm = vm_of_role("master", id);
    let attributes = vm.attributes.as_mut().unwrap();
    for (setting, value) in
        [("IP", "<ETH0_EP0>"), ("PORT", "6443"), ("SERVER_HOST", host), ("SERVER_PORT", port)]
    {
        attributes.insert(format!("ONEGATE_HAPROXY_LB1_{setting}"), value.to_owned());
    }
    vm
}

/// The whole truth: two vnf VMs, of which this is one, and these masters.
pub fn service(masters: Vec<Vm>) -> Service {
    let role = |name: &str, vms: Vec<Vm>| ServiceRole {
        name: name.to_owned(),
        cardinality: u32::try_from(vms.len()).unwrap(),
        state: 2,
        nodes: vms.into_iter().map(|vm| ServiceNode { id: vm.id, vm: Some(vm) }).collect(),
    };
    let vnf = vec![vm_of_role("vnf", 6), vm_of_role("vnf", 7)];
    Service { id: 4, state: 2, roles: vec![role("vnf", vnf), role("master", masters)] }
}

/// A machine that serves masters 8, 9 and 10.
pub fn serving() -> Machine {
    let mut machine = machine();
    machine.told(service(vec![master(8), master(9), master(10)]));
    machine.settle();
    assert_eq!(machine.servers(), ALL);
    machine.done.clear();
    machine
}

const ALL: [&str; 3] = ["vm8_172.20.0.8_6443", "vm9_172.20.0.9_6443", "vm10_172.20.0.10_6443"];
const WITHOUT_9: [&str; 2] = [ALL[0], ALL[2]];

/// The answer arrives some time later; what is then served.
pub fn after(machine: &mut Machine, answer: Service) -> Vec<String> {
    machine.later(30);
    machine.told(answer);
    machine.settle();
    machine.servers().into_iter().map(str::to_owned).collect()
}

#[test]
fn lies_remove_nobody() {
    let truth = || service(vec![master(8), master(9), master(10)]);
    type Lie = fn(&mut Service);
    let lies: [(&str, Lie); 7] = [
        ("half the list", |s| drop(s.roles[1].nodes.remove(1))),
        ("an empty list", |s| s.roles[1].nodes.clear()),
        ("vm_info: null", |s| s.roles[1].nodes[1].vm = None),
        ("no USER_TEMPLATE", |s| s.roles[1].nodes[1].vm.as_mut().unwrap().attributes = None),
        ("an empty USER_TEMPLATE", |s| {
            s.roles[1].nodes[1].vm.as_mut().unwrap().attributes.as_mut().unwrap().clear();
        }),
        ("not even ourselves", |s| {
            s.roles[0].nodes.retain(|node| node.id != VmId(6));
            s.roles[0].cardinality = 1;
            s.roles[1].nodes.remove(1);
            s.roles[1].cardinality = 2;
        }),
        ("no role at all", |s| s.roles.clear()),
    ];
    for (name, lie) in lies {
        let mut machine = serving();
        let mut answer = truth();
        lie(&mut answer);
        assert_eq!(after(&mut machine, answer), ALL, "{name}");
        assert!(machine.done.is_empty(), "{name}: {:?}", machine.done);
    }
}

#[test]
fn proofs_remove_one() {
    let without_attribute = vm_of_role("master", 9);
    let mut done = master(9);
    done.state = 6;
    let proofs = [
        ("absent from a whole answer", service(vec![master(8), master(10)])),
        ("DONE", service(vec![master(8), done, master(10)])),
        ("taken back", service(vec![master(8), offering(9, "172.20.0.9", "0"), master(10)])),
        ("marked as none", service(vec![master(8), offering(9, "none", "6443"), master(10)])),
        ("without the attribute", service(vec![master(8), without_attribute, master(10)])),
    ];
    for (name, answer) in proofs {
        assert_eq!(after(&mut serving(), answer), WITHOUT_9, "{name}");
    }
}

#[test]
fn a_withdrawal_counts_in_half_an_answer() {
    let mut half = service(vec![master(8), offering(9, "172.20.0.9", "0"), master(10)]);
    half.roles[1].nodes[0].vm = None;
    assert_eq!(after(&mut serving(), half), WITHOUT_9);
}

#[test]
fn absence_never_empties_a_balancer() {
    assert_eq!(after(&mut serving(), service(vec![])), ALL);
    assert_eq!(after(&mut serving(), service(vec![master(11)])), ["vm11_172.20.0.11_6443"]);
}

#[test]
fn an_address_follows_its_newest_vm() {
    let reused = service(vec![master(8), master(10), offering(12, "172.20.0.9", "6443")]);
    let mut with_old = reused.clone();
    with_old.roles[1].nodes.push(ServiceNode { id: VmId(9), vm: None });
    with_old.roles[1].cardinality = 4;
    for answer in [reused, with_old] {
        let served = after(&mut serving(), answer);
        assert_eq!(served, [ALL[0], "vm12_172.20.0.9_6443", ALL[2]]);
    }
}

#[test]
fn a_digest_that_knows_the_older_vm_does_not_give_it_the_address_back() {
    let mut machine = serving();
    let before = digest_of(&machine, None, &service(vec![master(8), master(9), master(10)]));
    after(&mut machine, service(vec![master(8), master(10), offering(12, "172.20.0.9", "6443")]));
    // The agent was restarted, and has nothing but the digest.
    machine.facts.service = oneke_agent::facts::Reading::default();
    write_digest(&mut machine, &before);
    machine.settle();
    assert_eq!(machine.servers(), [ALL[0], "vm12_172.20.0.9_6443", ALL[2]]);
}

#[test]
fn a_silent_onegate_changes_nothing_for_a_day() {
    let mut machine = serving();
    let fault = Fault { kind: FaultKind::Timeout, message: "no answer".into(), since: machine.facts.now };
    machine.facts.service.fault = Some(fault);
    for _ in 0..24 {
        machine.later(3600);
        let decision = machine.settle();
        assert_eq!(status(&decision, "BackendsKnown"), Some(Status::True));
    }
    // Even a restart of the agent, which forgets the last answer.
    machine.facts.service = oneke_agent::facts::Reading::default();
    machine.settle();
    assert_eq!(machine.servers(), ALL);
    assert!(machine.done.is_empty(), "{:?}", machine.done);
}

/// What the leader writes onto this VM after it read `answer`.
fn digest_of(machine: &Machine, previous: Option<&Digest>, answer: &Service) -> Digest {
    Digest::next(previous, answer, Some(VmId(8)), machine.facts.wall)
}

fn write_digest(machine: &mut Machine, digest: &Digest) {
    let mut me = vm_of_role("vnf", 6);
    me.attributes.as_mut().unwrap().insert("ONEGATE_VNF_BACKENDS".into(), digest.value().as_str().into());
    machine.told_me(me);
}

#[test]
fn the_digest_serves_without_the_service() {
    let mut machine = machine();
    let first = digest_of(&machine, None, &service(vec![master(8), master(9), master(10)]));
    write_digest(&mut machine, &first);
    let decision = machine.settle();
    assert_eq!(machine.servers(), ALL);
    assert_eq!(decision.reads.service, None, "a fresh digest explains everything");

    machine.later(60);
    let second = digest_of(&machine, Some(&first), &service(vec![master(8), master(10)]));
    write_digest(&mut machine, &second);
    machine.settle();
    assert_eq!(machine.servers(), WITHOUT_9, "the digest tells who is gone");
}

#[test]
fn a_digest_that_lacks_a_server_proves_nothing() {
    let mut machine = serving();
    machine.later(60);
    let poorer = digest_of(&machine, None, &service(vec![master(8), master(10)]));
    write_digest(&mut machine, &poorer);
    let decision = machine.settle();
    assert_eq!(machine.servers(), ALL);
    assert!(decision.reads.service.is_some(), "the service itself must explain VM 9");
}

/// The digest has its time from another VM's clock.
#[test]
fn an_answer_that_is_hardly_younger_than_the_digest_proves_nothing() {
    let mut machine = serving();
    let digest = digest_of(&machine, None, &service(vec![master(8), master(9), master(10)]));
    write_digest(&mut machine, &digest);
    machine.later(3);
    machine.told(service(vec![master(8), master(10)]));
    machine.settle();
    assert_eq!(machine.servers(), ALL);
    assert_eq!(after(&mut machine, service(vec![master(8), master(10)])), WITHOUT_9);
}

#[test]
fn an_older_answer_brings_nobody_back() {
    let mut machine = serving();
    let first = digest_of(&machine, None, &service(vec![master(8), master(9), master(10)]));
    machine.later(60);
    let second = digest_of(&machine, Some(&first), &service(vec![master(8), master(10)]));
    write_digest(&mut machine, &second);
    machine.settle();
    machine.later(4000);
    let third = Digest { at: machine.facts.wall, gone: Default::default(), ..second };
    write_digest(&mut machine, &third);
    machine.settle();
    assert_eq!(machine.servers(), WITHOUT_9, "the answer of the beginning still lists VM 9");
}

#[test]
fn an_older_digest_does_not_undo_a_return() {
    let mut machine = serving();
    let first = digest_of(&machine, None, &service(vec![master(8), master(9), master(10)]));
    machine.later(60);
    let gone = digest_of(&machine, Some(&first), &service(vec![master(8), master(10)]));
    write_digest(&mut machine, &gone);
    machine.settle();
    assert_eq!(machine.servers(), WITHOUT_9);
    assert_eq!(after(&mut machine, service(vec![master(8), master(9), master(10)])), ALL, "VM 9 is back");
    // The agent restarts and knows only the digest, whose writer has not looked since.
    machine.facts.service = oneke_agent::facts::Reading::default();
    machine.settle();
    assert_eq!(machine.servers(), ALL);
}

#[test]
fn an_older_answer_is_no_proof_for_the_digests_writer() {
    let machine = machine();
    let known = digest_of(&machine, None, &service(vec![master(8), master(9)]));
    let next = Digest::next(Some(&known), &service(vec![master(8)]), Some(VmId(8)), known.at - 60);
    assert_eq!(next, known);
    let newcomer =
        Digest::next(Some(&known), &service(vec![master(8), master(10)]), Some(VmId(8)), known.at - 60);
    let vms = |digest: &Digest| digest.offers.iter().map(|offer| offer.vm.0).collect::<Vec<_>>();
    assert_eq!(vms(&newcomer), [8, 9, 10], "nobody who is new waits for the clocks");
}

#[test]
fn a_stale_digest_lets_the_vm_ask_for_itself() {
    let mut machine = machine();
    let digest = digest_of(&machine, None, &service(vec![master(8), master(9), master(10)]));
    write_digest(&mut machine, &digest);
    machine.settle();
    machine.later(3600);
    let decision = machine.settle();
    assert!(decision.reads.service.is_some());
    assert_eq!(machine.servers(), ALL, "and changes nothing else");
}

#[test]
fn nonsense_in_the_digest_is_no_digest() {
    for text in [
        "",
        "v2 at=1",
        "v1",
        "v1 at=x",
        "v1 at=1 8/172.20.0.8/6443",
        "v1 at=1 h1/<X>/6443",
        "v1 at=1 h1/10.0.0.1/0",
        "v1 at=1 h1/<ETH0_EP0>/6443 8/a b/6443",
        "v1 at=1 h1/<ETH0_EP0>/6443 8/x;y/6443",
    ] {
        assert_eq!(Digest::decode(text), None, "{text}");
    }
}

#[test]
fn the_pace_of_reading_follows_the_services_size() {
    let mut machine = machine();
    let decision = machine.settle();
    assert_eq!(
        (decision.reads.me, decision.reads.service),
        (Duration::from_millis(500), Some(Duration::from_secs(2))),
        "it comes up, and nobody writes digests"
    );
    machine.later(600);
    assert_eq!(machine.settle().reads.service, Some(Duration::from_secs(10)));
    machine.told(service((8..106).map(|id| vm_of_role("master", id)).collect()));
    let decision = machine.settle();
    assert_eq!(decision.reads.service, Some(Duration::from_secs(200)), "100 VMs, and no server yet");
    machine.told(service((8..106).map(master).collect()));
    let decision = machine.settle();
    assert_eq!(
        (decision.reads.me, decision.reads.service),
        (Duration::from_millis(500), Some(Duration::from_secs(3000)))
    );
}

#[test]
fn who_goes_down_rests_unless_nobody_is_left() {
    let leaving = |id: u32| {
        let mut vm = master(id);
        let attributes = vm.attributes.as_mut().unwrap();
        attributes.insert("ONEGATE_HAPROXY_LB1_SERVER_WEIGHT".into(), "0".into());
        attributes.insert("ONEGATE_K8S_STATE".into(), "leaving".into());
        vm
    };
    let mut machine = machine();
    machine.told(service(vec![leaving(8), master(9)]));
    machine.settle();
    let file = machine.file(oneke_agent::vnf::haproxy::PATH);
    assert!(file.contains("vm8_172.20.0.8_6443 172.20.0.8:6443 weight 0"), "{file}");
    machine.later(10);
    machine.told(service(vec![leaving(8), leaving(9)]));
    machine.settle();
    let file = machine.file(oneke_agent::vnf::haproxy::PATH);
    assert!(!file.contains("weight 0"), "{file}");
}

/// Masters come, go and are lied about at random; a master that lives and offers is never missing once it was seen.
#[test]
fn no_live_backend_is_lost_whatever_onegate_tells() {
    for seed in 1..=300 {
        let mut random = Random(seed);
        let mut machine = machine();
        let mut living: Vec<u32> = vec![8, 9, 10];
        let mut seen: Vec<u32> = Vec::new();
        for _ in 0..40 {
            match random.below(6) {
                0 if living.len() > 1 => drop(living.remove(random.below(living.len()))),
                1 => living.push(8 + u32::try_from(random.below(60)).unwrap()),
                _ => {}
            }
            living.sort_unstable();
            living.dedup();
            seen.retain(|id| living.contains(id));
            let mut answer = service(living.iter().copied().map(master).collect());
            let damage = random.below(4);
            for _ in 0..damage {
                spoil(&mut answer, &mut random);
            }
            machine.later(10);
            if damage == 0 {
                seen.clone_from(&living);
            }
            if random.below(5) > 0 {
                machine.told(answer);
            } else if damage == 0 {
                seen.retain(|id| machine.servers().contains(&format!("vm{id}_172.20.0.{id}_6443").as_str()));
            }
            machine.settle();
            for id in &seen {
                let name = format!("vm{id}_172.20.0.{id}_6443");
                assert!(machine.servers().contains(&name.as_str()), "seed {seed}: {name} is lost");
            }
        }
    }
}

/// One fault of the kinds that were recorded.
fn spoil(service: &mut Service, random: &mut Random) {
    let role = random.below(service.roles.len().max(1));
    let Some(role) = service.roles.get_mut(role) else { return };
    let node = random.below(role.nodes.len().max(1));
    match (random.below(4), role.nodes.get_mut(node)) {
        (0, Some(node)) => node.vm = None,
        (1, Some(node)) => node.vm.iter_mut().for_each(|vm| vm.attributes = None),
        (2, Some(node)) => node.vm.iter_mut().for_each(|vm| vm.attributes = Some(Default::default())),
        (_, Some(_)) => drop(role.nodes.remove(node)),
        (_, None) => {}
    }
}

/// Numbers that repeat with their seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ (self.0 >> 7) ^ 0x5851;
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }
}

#[test]
fn ipvs_remembers_its_servers_too() {
    let context = "
VMID='6' SERVICE_ID='4' ETH0_IP='10.0.0.101' ONEAPP_VROUTER_ETH0_VIP0='10.0.0.200'
ONEAPP_VNF_LB_ENABLED='YES' ONEAPP_VNF_LB_ONEGATE_ENABLED='YES'
ONEAPP_VNF_LB0_IP='<ETH0_EP0>' ONEAPP_VNF_LB0_PROTOCOL='TCP'
ONEAPP_VNF_LB1_IP='<ETH0_EP0>' ONEAPP_VNF_LB1_PORT='80' ONEAPP_VNF_LB1_PROTOCOL='TCP'
";
    let offer = |vm: &mut Vm, n: u8, settings: &[(&str, &str)]| {
        for (setting, value) in settings {
            vm.attributes.as_mut().unwrap().insert(format!("ONEGATE_LB{n}_{setting}"), (*value).to_owned());
        }
    };
    let mut web = vm_of_role("web", 8);
    offer(&mut web, 0, &[("IP", "<ETH0_EP0>"), ("SERVER_HOST", "172.20.0.8"), ("SERVER_WEIGHT", "7")]);
    let http = [("IP", "10.0.0.200"), ("PORT", "80"), ("SERVER_HOST", "172.20.0.8"), ("SERVER_PORT", "8080")];
    offer(&mut web, 1, &http);
    offer(&mut web, 1, &[("SERVER_ULIMIT", "100"), ("SERVER_LLIMIT", "50")]);
    let mut machine = machine_of(context);
    machine.told(service(vec![web]));
    machine.settle();
    let file = machine.file("/etc/keepalived/keepalived.conf").to_owned();
    assert!(file.contains("# vm8\n    real_server 172.20.0.8 {\n        weight 7\n"), "{file}");
    assert!(
        file.contains("real_server 172.20.0.8 8080 {\n        uthreshold 100\n        lthreshold 50\n"),
        "{file}"
    );

    machine.facts.service = oneke_agent::facts::Reading::default();
    machine.settle();
    assert_eq!(machine.file("/etc/keepalived/keepalived.conf"), file);
    machine.later(30);
    machine.told(service(vec![vm_of_role("web", 8)]));
    machine.settle();
    assert!(!machine.file("/etc/keepalived/keepalived.conf").contains("real_server"));
}

/// Prints what the largest services cost; the figure is not asserted.
#[test]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn a_thousand_backends_are_decided_in_milliseconds() {
    let mut machine = machine();
    machine.told(service(
        (8..1008).map(|id| offering(id, &format!("172.20.{}.{}", id / 250, id % 250), "6443")).collect(),
    ));
    machine.settle();
    assert_eq!(machine.servers().len(), 1000);
    let start = std::time::Instant::now();
    for _ in 0..10 {
        machine.decide();
    }
    println!("1,000 backends: {:?} a decision with its files", start.elapsed() / 10);
    let digest = digest_of(&machine, None, machine.facts.service.last.known().unwrap());
    assert_eq!(Digest::decode(digest.value().as_str()).as_ref(), Some(&digest));
    println!("their digest has {} bytes", digest.value().as_str().len());
}
