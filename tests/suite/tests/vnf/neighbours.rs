//! Scenarios: other virtual routers speak on this VM's networks.
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::net::Ipv4Addr;
use std::time::Duration;

use oneke_agent::facts::{Observed, ServerState, VrrpState};
use oneke_agent::plan::{Condition, Decision, Status};
use oneke_agent::service::{Service, VmNic};
use oneke_agent::vrrp::{Advert, Heard};

use super::machine::Machine;
use super::scenarios::{machine, master, service, serving};

const FELLOW: [u8; 4] = [172, 20, 0, 107];
const STRANGER: [u8; 4] = [172, 20, 0, 66];

/// This VM, listening, with a fellow of which OneGate told at `told`.
fn listening() -> Machine {
    let mut machine = serving();
    machine.told(with_fellow(service(vec![master(8), master(9), master(10)])));
    machine.facts.heard = Observed::Known(Vec::new());
    machine
}

fn with_fellow(mut service: Service) -> Service {
    let fellow = service.roles[0].nodes[1].vm.as_mut().unwrap();
    fellow.nics = vec![VmNic { ip: Some(Ipv4Addr::from(FELLOW).into()), ..VmNic::default() }];
    service
}

/// One that began to speak `began` seconds ago, and spoke last a moment ago. The service's ID 4 gives VRID 5.
fn speaks(machine: &mut Machine, source: [u8; 4], vrid: u8, began: u64) {
    let advert = Advert {
        source: source.into(),
        vrid,
        version: 2,
        priority: 100,
        interval: Duration::from_secs(1),
        addresses: vec![[172, 20, 0, 200].into()],
    };
    let now = machine.facts.now;
    let since = now - Duration::from_secs(began);
    let heard = Heard { interface: "eth1".into(), advert, since, at: now };
    let Observed::Known(all) = &mut machine.facts.heard else { panic!("nobody listens") };
    all.retain(|other| other.advert.source != heard.advert.source);
    all.push(heard);
}

fn holds(machine: &mut Machine, vip: [u8; 4]) {
    let Observed::Known(links) = &mut machine.facts.links else { unreachable!() };
    let link = links.iter_mut().find(|link| link.name == "eth1").unwrap();
    link.addresses.push((Ipv4Addr::from(vip).into(), 16));
}

fn agree(decision: &Decision) -> &Condition {
    decision.conditions.iter().find(|condition| condition.kind == "RoutersAgree").unwrap()
}

fn check(machine: &mut Machine, status: Status, reason: &str) -> String {
    let decision = machine.settle();
    let condition = agree(&decision);
    assert_eq!((condition.status, condition.reason.as_str()), (status, reason), "{condition}");
    condition.message.clone()
}

#[test]
fn a_fellow_may_speak() {
    let mut machine = listening();
    check(&mut machine, Status::True, "Alone");
    machine.later(100);
    speaks(&mut machine, FELLOW, 5, 10);
    check(&mut machine, Status::True, "Alone");
}

#[test]
fn a_stranger_is_foreign_once_onegate_told_after_he_spoke() {
    let mut machine = listening();
    machine.later(100);
    speaks(&mut machine, STRANGER, 5, 0);
    let decision = machine.settle();
    assert_eq!(agree(&decision).reason, "Asking");
    assert_eq!(decision.reads.service, Some(Duration::from_secs(30)), "the service is asked");
    machine.told(with_fellow(service(vec![master(8)])));
    machine.later(1);
    let message = check(&mut machine, Status::False, "ForeignRouter");
    assert_eq!(
        message,
        "172.20.0.66 on eth1 speaks for VRID 5 (version 2, priority 100, addresses 172.20.0.200), and is no VM of \
         this service: give this service's vnf VMs another ONEAPP_VNF_KEEPALIVED_VRID, or the other router another ID"
    );
    machine.facts.heard = Observed::Known(Vec::new());
    check(&mut machine, Status::True, "Alone");
}

#[test]
fn unknown_is_not_foreign() {
    let mut machine = listening();
    machine.later(200);
    speaks(&mut machine, STRANGER, 5, 120);
    check(&mut machine, Status::Unknown, "FellowsUnknown");
    let mut half = with_fellow(service(vec![master(8)]));
    half.roles[0].nodes[1].vm = None;
    machine.told(half);
    check(&mut machine, Status::Unknown, "FellowsUnknown");
    machine.facts.heard = Observed::Unknown("could not listen for VRRP on eth1".into());
    check(&mut machine, Status::Unknown, "NotListening");
}

#[test]
fn other_ids_and_this_vms_own_words_concern_nobody() {
    let mut machine = listening();
    speaks(&mut machine, STRANGER, 6, 0);
    speaks(&mut machine, [172, 20, 0, 106], 5, 0);
    check(&mut machine, Status::True, "Alone");
}

#[test]
fn two_masters_are_told_and_a_takeover_is_not() {
    let mut machine = listening();
    machine.later(100);
    holds(&mut machine, [172, 20, 0, 200]);
    // The old master's last words, as this VM takes over.
    speaks(&mut machine, FELLOW, 5, 50);
    machine.later(4);
    check(&mut machine, Status::True, "Alone");
    speaks(&mut machine, FELLOW, 5, 2);
    check(&mut machine, Status::True, "Alone");
    speaks(&mut machine, FELLOW, 5, 60);
    let message = check(&mut machine, Status::False, "TwoMasters");
    assert!(message.starts_with("VM 7 holds this VM's addresses as well: 172.20.0.107 on eth1"), "{message}");
}

#[test]
fn a_virtual_address_that_is_a_fellows_own_is_told() {
    let mut machine = listening();
    let mut told = with_fellow(service(vec![master(8)]));
    told.roles[0].nodes[1].vm.as_mut().unwrap().nics[0].ip = Some([172, 20, 0, 200].into());
    machine.told(told);
    let message = check(&mut machine, Status::False, "AddressTaken");
    assert!(message.starts_with("ONEAPP_VROUTER_ETH1_VIP0=\"172.20.0.200\": expected"), "{message}");
}

/// The tables as the operator reads them, without their columns' widths.
fn shown(decision: &Decision) -> String {
    let lines = decision.tables.iter().flat_map(|table| {
        std::iter::once(format!("{}: {}", table.name, table.columns.join(" | ")))
            .chain(table.rows.iter().map(|row| format!("  {}", row.join(" | "))))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tables_say_who_holds_what_and_who_serves() {
    let mut machine = listening();
    machine.facts.vrrp = Observed::Known([("ETH1".to_owned(), VrrpState::Backup)].into());
    machine.later(100);
    speaks(&mut machine, FELLOW, 5, 50);
    // VM 10 is gone from an answer that is not whole: it stays, and nobody stands by it.
    let mut half = with_fellow(service(vec![master(8), master(9)]));
    half.roles[1].cardinality = 3;
    machine.told(half);
    machine.settle();
    let ninth = machine.running().servers.get_mut("lb1/vm9_172.20.0.9_6443").expect("it was offered");
    ninth.state = ServerState::Down;
    let expected = "\
Virtual routers: instance | interface | VRID | state
  ETH1 | eth1 | 5 | BACKUP
Virtual addresses: address | interface | instance | held by
  10.0.0.200/24 | eth0 | ETH1 | VM 7 (vnf_7, 172.20.0.107)
  172.20.0.200/16 | eth1 | ETH1 | VM 7 (vnf_7, 172.20.0.107)
Servers: listener | server | health | source
  lb1 10.0.0.200:6443 | 172.20.0.8:6443 | up | VM 8 (service)
  lb1 10.0.0.200:6443 | 172.20.0.9:6443 | down | VM 9 (service)
  lb1 10.0.0.200:6443 | 172.20.0.10:6443 | up | VM 10 (kept from before)";
    assert_eq!(shown(&machine.settle()), expected);
    let running = std::mem::replace(&mut machine.facts.haproxy, Observed::Unknown("it is silent".into()));
    assert!(shown(&machine.decide()).contains("172.20.0.8:6443 | unknown | VM 8 (service)"));
    machine.facts.haproxy = running;
    machine.later(9);
    assert!(shown(&machine.settle()).contains("nobody that is heard"));
    speaks(&mut machine, STRANGER, 5, 0);
    assert!(shown(&machine.settle()).contains("172.20.0.200/16 | eth1 | ETH1 | 172.20.0.66\n"));
    machine.told(with_fellow(service(vec![master(8)])));
    assert!(shown(&machine.settle()).contains("a foreign router (172.20.0.66)"));
    holds(&mut machine, [172, 20, 0, 200]);
    assert!(shown(&machine.settle()).contains("172.20.0.200/16 | eth1 | ETH1 | this VM"));
}

#[test]
fn nobody_is_named_where_nobody_listens() {
    let mut machine = machine();
    assert!(shown(&machine.settle()).contains("172.20.0.200/16 | eth1 | ETH1 | unknown"));
}
