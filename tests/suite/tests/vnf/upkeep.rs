//! Scenarios: what a vnf VM does while its own machine is not as it should be.

use oneke_agent::facts::{Active, Observed};
use oneke_agent::plan::{Effect, Status};

use super::machine::{status, vm_of_role};
use super::scenarios::{CONTEXT, machine, machine_of, master, service, serving};

#[test]
fn what_cannot_be_read_is_left_alone() {
    for path in [
        "/etc/haproxy/haproxy.cfg",
        "/etc/keepalived/keepalived.conf",
        "/etc/unbound/unbound.conf.d/oneke.conf",
        "/etc/nftables.d/oneke.nft",
        "/etc/sysctl.d/98-oneke-router.conf",
    ] {
        let mut machine = serving();
        machine.facts.files.insert(path.into(), Observed::Unknown("input/output error".into()));
        machine.later(30);
        machine.told(service(vec![master(8)]));
        let decision = machine.settle();
        assert!(
            !machine.done.iter().any(|effect| matches!(effect, Effect::WriteFile(file) if file.path == path)),
            "{path}"
        );
        let unknown = decision.conditions.iter().find(|condition| condition.status == Status::Unknown);
        assert!(
            unknown.is_some_and(|condition| condition.message.contains(path)),
            "{path}: {:?}",
            decision.conditions
        );
    }
}

#[test]
fn unseen_links_stop_what_names_them_but_not_the_balancer() {
    let mut machine = machine();
    machine.facts.links = Observed::Unknown("netlink is silent".into());
    let decision = machine.settle();
    assert_eq!(status(&decision, "AddressesConfigured"), Some(Status::Unknown));
    assert_eq!(status(&decision, "BalancerRunning"), Some(Status::True));
    assert_eq!(machine.file("/etc/keepalived/keepalived.conf"), "");
}

#[test]
fn a_nic_is_found_by_its_mac() {
    let mut machine = machine();
    let Observed::Known(links) = &mut machine.facts.links else { unreachable!() };
    links.iter_mut().filter(|link| link.name == "eth0").for_each(|link| link.name = "ens3".into());
    machine.settle();
    assert!(machine.file("/etc/keepalived/keepalived.conf").contains("10.0.0.200/24 dev ens3"));
    assert!(machine.file("/etc/nftables.d/oneke.nft").contains("oifname \"ens3\""));
    assert_eq!(machine.facts.sysctls["net.ipv4.conf.ens3.forwarding"], Observed::Known("1".into()));
}

#[test]
fn an_own_address_that_is_not_there_is_told_and_stops_nothing() {
    let mut machine = serving();
    let Observed::Known(links) = &mut machine.facts.links else { unreachable!() };
    let eth1 = links.iter_mut().find(|link| link.name == "eth1").unwrap();
    eth1.addresses = vec![("172.20.0.9".parse().unwrap(), 16)];
    let decision = machine.settle();
    assert_eq!(status(&decision, "AddressesPresent"), Some(Status::False));
    let message = &decision.conditions.iter().find(|c| c.kind == "AddressesPresent").unwrap().message;
    assert_eq!(message, "ETH1_IP=\"172.20.0.106\": expected on eth1, which has 172.20.0.9");
    assert_eq!(status(&decision, "AddressesConfigured"), Some(Status::True));
    assert_eq!(machine.done, []);
}

#[test]
fn a_lost_nic_is_told() {
    let mut machine = machine();
    let Observed::Known(links) = &mut machine.facts.links else { unreachable!() };
    links.retain(|link| link.name != "eth0");
    let decision = machine.settle();
    assert_eq!(status(&decision, "AddressesConfigured"), Some(Status::False));
    assert_eq!(machine.file("/etc/keepalived/keepalived.conf"), "");
}

#[test]
fn forwarding_comes_back_after_somebody_set_it_for_all() {
    let mut machine = serving();
    machine.apply(&Effect::SetSysctl { key: "net.ipv4.conf.all.forwarding".into(), value: "1".into() });
    // In one pass: nothing may stop forwarding until the next.
    machine.decide().effects.iter().for_each(|effect| machine.apply(effect));
    assert_eq!(machine.decide().effects, []);
    for (nic, value) in [("all", "0"), ("eth0", "1"), ("eth1", "1")] {
        let key = format!("net.ipv4.conf.{nic}.forwarding");
        assert_eq!(machine.facts.sysctls[&key], Observed::Known(value.into()), "{key}");
    }
}

#[test]
fn daemons_that_fell_are_started_again() {
    for unit in ["haproxy.service", "keepalived.service", "unbound.service", "oneke-nft.service"] {
        let mut machine = serving();
        machine.unit(unit).active = Active::Failed;
        let decision = machine.decide();
        assert_eq!(decision.effects, [Effect::StartUnit(unit.into())], "{unit}");
        machine.settle();
    }
}

#[test]
fn what_the_context_drops_is_retired() {
    let mut machine = serving();
    let facts = machine.facts.clone();
    machine = machine_of("VMID='6' SERVICE_ID='4' ETH0_IP='10.0.0.101' ETH1_IP='172.20.0.106'");
    machine.facts = facts;
    machine.settle();
    for unit in ["haproxy.service", "unbound.service"] {
        let unit = machine.unit(unit);
        assert_eq!((unit.active, unit.enabled), (Active::Inactive, false));
    }
    assert!(!machine.file("/etc/nftables.d/oneke.nft").contains("masquerade"));
    assert_eq!(machine.facts.sysctls["net.ipv4.conf.eth0.forwarding"], Observed::Known("0".into()));
}

#[test]
fn a_balancer_that_moved_forgets_its_old_servers() {
    let facts = serving().facts.clone();
    let mut machine = machine_of(&CONTEXT.replace("LB1_PORT='6443'", "LB1_PORT='7443'"));
    machine.facts = facts;
    machine.settle();
    assert!(machine.servers().is_empty(), "masters that offer to port 6443 do not serve 7443");
}

#[test]
fn servers_of_a_new_balancer_come_with_it() {
    let facts = serving().facts.clone();
    let second = "ONEAPP_VNF_HAPROXY_LB2_IP='<ETH0_EP0>' ONEAPP_VNF_HAPROXY_LB2_PORT='443'\n";
    let mut machine = machine_of(&format!("{CONTEXT}{second}"));
    machine.facts = facts;
    let mut worker = vm_of_role("worker", 20);
    for (setting, value) in
        [("IP", "<ETH0_EP0>"), ("PORT", "443"), ("SERVER_HOST", "172.20.0.20"), ("SERVER_PORT", "32443")]
    {
        let attributes = worker.attributes.as_mut().expect("a VM of a role has attributes");
        attributes.insert(format!("ONEGATE_HAPROXY_LB2_{setting}"), value.to_owned());
    }
    machine.later(30);
    machine.told(service(vec![master(8), master(9), master(10), worker]));
    machine.settle();
    // HAProxy would refuse a server of a backend that it does not run yet.
    let expected = ["write /etc/haproxy/haproxy.cfg (mode 0644)", "reload haproxy.service"];
    assert_eq!(of_haproxy(&machine), expected);
    assert!(machine.running().servers.contains_key("lb2/vm20_172.20.0.20_32443"));
}

/// What concerns HAProxy among what was done.
fn of_haproxy(machine: &super::machine::Machine) -> Vec<String> {
    let told = machine.done.iter().map(ToString::to_string);
    told.filter(|told| told.to_lowercase().contains("haproxy")).collect()
}

#[test]
fn servers_change_without_a_reload() {
    let mut machine = serving();
    machine.later(30);
    machine.told(service(vec![master(8), master(10), master(11)]));
    machine.settle();
    let expected = [
        "write /etc/haproxy/haproxy.cfg (mode 0644)",
        "in HAProxy: add lb1/vm11_172.20.0.11_6443, drain lb1/vm9_172.20.0.9_6443",
        "in HAProxy: remove lb1/vm9_172.20.0.9_6443",
    ];
    assert_eq!(of_haproxy(&machine), expected);
}

#[test]
fn a_silent_haproxy_is_reloaded() {
    for silence in [Observed::Absent, Observed::Unknown("it did not answer".into())] {
        let mut machine = serving();
        machine.facts.haproxy = silence;
        machine.later(30);
        machine.told(service(vec![master(8), master(9), master(10), master(11)]));
        let effects = machine.decide().effects;
        let told: Vec<String> = effects.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["write /etc/haproxy/haproxy.cfg (mode 0644)", "reload haproxy.service"]);
    }
}

#[test]
fn a_power_loss_at_any_effect_converges() {
    for applied in 0..3 {
        let mut machine = serving();
        machine.later(30);
        machine.told(service(vec![master(8), master(10), master(11)]));
        for effect in machine.decide().effects.iter().take(applied) {
            machine.apply(effect);
        }
        // HAProxy starts by itself with what the file says.
        let running = oneke_agent::vnf::haproxy::running(machine.file("/etc/haproxy/haproxy.cfg"));
        machine.facts.haproxy = Observed::Known(running);
        machine.unit("haproxy.service").loaded = None;
        machine.settle();
        let names: Vec<String> = machine.running().servers.keys().cloned().collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("lb1/vm11_")), "{names:?}");
        assert!(!of_haproxy(&machine).iter().any(|told| told.contains("reload")), "after {applied}");
    }
}

#[test]
fn a_drained_server_stays_until_its_last_connection_ends() {
    let mut machine = serving();
    let busy = "lb1/vm9_172.20.0.9_6443";
    machine.running().servers.get_mut(busy).expect("it is served").connections = 2;
    machine.later(30);
    machine.told(service(vec![master(8), master(10)]));
    let decision = machine.settle();
    assert!(machine.running().servers.contains_key(busy));
    assert_eq!(status(&decision, "BalancerRunning"), Some(Status::True));
    machine.running().servers.get_mut(busy).expect("it is still there").connections = 0;
    machine.settle();
    assert!(!machine.running().servers.contains_key(busy));
}
