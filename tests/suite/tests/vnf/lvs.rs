//! IPVS: its servers as `status` shows them, and a kernel without it.
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use oneke_agent::facts::Observed;
use oneke_agent::plan::{Decision, Status};

use super::machine::{Machine, vm_of_role};
use super::scenarios::{machine_of, service};

const CONTEXT: &str = "
VMID='6' SERVICE_ID='4'
ETH0_MAC='02:00:00:00:00:01' ETH0_IP='10.0.0.101' ETH0_MASK='255.255.255.0'
ONEAPP_VROUTER_ETH0_VIP0='10.0.0.200'
ONEAPP_VNF_LB_ENABLED='YES' ONEAPP_VNF_LB_ONEGATE_ENABLED='YES'
ONEAPP_VNF_LB0_IP='<ETH0_EP0>' ONEAPP_VNF_LB0_PORT='6443'
";
const STATIC: &str = "ONEAPP_VNF_LB1_IP='<ETH0_EP0>' ONEAPP_VNF_LB1_SERVER0_HOST='10.0.0.9'\n";

fn servers(decision: &Decision) -> Vec<String> {
    let table = decision.tables.iter().filter(|table| table.name == "Servers");
    table.flat_map(|table| table.rows.iter().map(|row| row.join(" | "))).collect()
}

fn addresses(decision: &Decision) -> (Status, &str) {
    let of_addresses = decision.conditions.iter().find(|condition| condition.kind == "AddressesConfigured");
    of_addresses.map(|condition| (condition.status, condition.reason.as_str())).unwrap()
}

fn without_ipvs(context: &str) -> Machine {
    let mut machine = machine_of(context);
    let key = oneke_agent::vnf::lvs::PARAMETER;
    machine.facts.sysctls.insert(key.to_owned(), Observed::Absent);
    machine
}

#[test]
fn each_server_is_shown_with_its_source() {
    let mut machine = machine_of(&format!("{CONTEXT}{STATIC}"));
    let mut master = vm_of_role("master", 8);
    let attributes = master.attributes.as_mut().unwrap();
    for (setting, value) in
        [("IP", "<ETH0_EP0>"), ("PORT", "6443"), ("SERVER_HOST", "10.0.0.8"), ("SERVER_PORT", "6443")]
    {
        attributes.insert(format!("ONEGATE_LB0_{setting}"), value.to_owned());
    }
    machine.told(service(vec![master]));
    let expected = [
        "lb0 10.0.0.200:6443 (IPVS) | 10.0.0.8:6443 | checked by Keepalived | VM 8 (service)",
        "lb1 10.0.0.200 (IPVS) | 10.0.0.9 | checked by Keepalived | context",
    ];
    assert_eq!(servers(&machine.settle()), expected);
}

#[test]
fn a_kernel_without_ipvs_is_told() {
    let mut machine = without_ipvs(&format!("{CONTEXT}{STATIC}"));
    // Keepalived loads the module when it starts: before that nothing is missing.
    assert_eq!(addresses(&machine.decide()), (Status::False, "Starting"));
    assert_eq!(addresses(&machine.settle()), (Status::False, "KernelLacksIpvs"));
}

#[test]
fn what_balances_nothing_needs_no_ipvs() {
    assert_eq!(addresses(&without_ipvs(CONTEXT).settle()), (Status::True, "Serving"));
}
