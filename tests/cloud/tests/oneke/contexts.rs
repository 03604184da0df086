//! What OneKE's guests find on their context CDs.

use std::collections::{BTreeMap, BTreeSet};

use oneke_cloud::{Instantiate, NicRequest, Options, Templates, UserInputs, VmId, VmTemplate};

use crate::world::World;

fn deployed(options: Options, inputs: &[(&str, &str)]) -> World {
    let mut request = Instantiate::oneke();
    request.inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    request.cardinality = BTreeMap::from([("vnf".to_owned(), 2), ("storage".to_owned(), 1)]);
    let mut world = World::with(options, &Templates::oneke(), &request);
    world.pass(10);
    world.ready(0);
    world.ready(1);
    world.pass(10);
    world
}

fn context(world: &World, vm: u32) -> &BTreeMap<String, String> {
    &world.cloud.vm(VmId(vm)).expect("it was deployed").context
}

#[test]
fn parents_are_looked_up_and_unknown_ones_are_nothing() {
    let world = deployed(Options::default(), &[]);
    let (vnf, master, worker) = (context(&world, 0), context(&world, 2), context(&world, 3));
    assert_eq!(vnf["ETH1_IP"], "172.20.0.100");
    assert_eq!(
        (&master["FALLBACK_GW"], &worker["FALLBACK_DNS"]),
        (&vnf["ETH1_IP"], &vnf["ETH1_IP"]),
        "the first vnf's"
    );
    assert_eq!(master["ONEAPP_K8S_EXTRA_SANS"], "localhost,127.0.0.1,ep0.eth0.vr,10.0.0.100");
    assert_eq!(vnf["ONEAPP_K8S_EXTRA_SANS"], "localhost,127.0.0.1,ep0.eth0.vr,");
    assert_eq!(master["ETH0_GATEWAY"], "");
    assert_eq!((master["SERVICE_ID"].as_str(), master["DISK_ID"].as_str()), ("1", "1"));
}

#[test]
fn inputs_reach_all_roles_or_those_that_name_them() {
    let inputs = [("ONEAPP_K8S_CNI_PLUGIN", "calico"), ("ONEAPP_K8S_STORAGE_DEVICE", "/dev/vdc")];
    let newer = deployed(Options::default(), &inputs);
    let older = deployed(Options { user_inputs: UserInputs::Named, ..Options::default() }, &inputs);
    for world in [&newer, &older] {
        let (master, storage) = (context(world, 2), context(world, 4));
        assert_eq!(master["ONEAPP_K8S_CNI_PLUGIN"], "calico");
        assert_eq!(storage["ONEAPP_STORAGE_DEVICE"], "/dev/vdc", "under the VM template's own name");
        assert_eq!(master["ONEAPP_VNF_HAPROXY_LB0_IP"], "<ETH0_EP0>");
        assert_eq!(master.get("ONEAPP_VNF_HAPROXY_LB2_IP").map(String::as_str), Some(""), "not a master's");
    }
    assert_eq!(context(&newer, 0)["ONEAPP_K8S_CNI_PLUGIN"], "calico");
    assert!(!context(&older, 0).contains_key("ONEAPP_K8S_CNI_PLUGIN"));
    let names = |world: &World| context(world, 0).keys().cloned().collect::<BTreeSet<_>>();
    assert!(names(&older).is_subset(&names(&newer)));
}

#[test]
fn keys_of_the_user_are_whole() {
    let mut options = Options::default();
    let keys = "ssh-ed25519 AAAA alice\nssh-rsa BBBB bob";
    options.owner.attributes.insert("SSH_PUBLIC_KEY".to_owned(), keys.to_owned());
    assert_eq!(context(&deployed(options, &[]), 2)["SSH_PUBLIC_KEY"], keys);
}

#[test]
fn what_is_not_in_the_template_is_refused() {
    let mut cloud = oneke_cloud::Cloud::new(Options::default());
    let mut refused = |change: &dyn Fn(&mut Instantiate)| {
        let mut request = Instantiate::oneke();
        change(&mut request);
        let result = cloud.instantiate(std::time::Duration::ZERO, &Templates::oneke(), &request);
        result.expect_err("it asks for what is not there").to_string()
    };
    let input = refused(&|request| request.inputs.extend([("NOPE".to_owned(), "1".to_owned())]));
    assert_eq!(input, "the service template has no user input \"NOPE\"");
    assert_eq!(refused(&|request| request.networks.clear()), "no network was given for \"Private\"");
    let role = refused(&|request| request.cardinality.extend([("queen".to_owned(), 1)]));
    assert_eq!(role, "the service template has no role \"queen\"");
    let network = refused(&|request| request.networks.extend([("Public".to_owned(), "dmz".to_owned())]));
    assert_eq!(network, "there is no network \"dmz\"");
    assert_eq!(cloud.services().count(), 0);
}

#[test]
fn a_network_without_addresses_fails_the_deployment() {
    let mut options = Options::default();
    options.networks[1].size = 1;
    let mut world = World::new(options, 1);
    world.pass(10);
    world.ready(0);
    world.pass(2);
    assert!(
        world.shape().starts_with("FailedDeploying vnf:Running[0] master:FailedDeploying[]"),
        "{}",
        world.shape()
    );
}

#[test]
fn who_asks_for_nothing_gets_nothing() {
    let mut cloud = oneke_cloud::Cloud::new(Options::default());
    let nic = NicRequest { network: "private".to_owned(), ..NicRequest::default() };
    let vm = cloud.create_vm(std::time::Duration::ZERO, "bare", &VmTemplate::default(), vec![nic]);
    let context = &cloud.vm(vm.expect("there are addresses")).expect("it was just made").context;
    assert_eq!(context.keys().collect::<Vec<_>>(), ["DISK_ID", "TARGET"], "neither network nor token");
}
