//! The service that the lab brings up: which roles, how many of each, on which addresses, from the marketplace's templates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use oneke_cloud::{Instantiate, NetworkSpec, Options, Templates, Timing, VmTemplate};

use crate::network::{Network, ONEGATE};

/// How many VMs of each role the service begins with.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual routers; they share the virtual addresses. Without any there are no such addresses.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=9))]
    pub vnf: u32,
    /// Masters; an odd number, for etcd's quorum.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub masters: u32,
    /// Workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=50))]
    pub workers: u32,
    /// Storage nodes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub storage: u32,
}

impl Size {
    /// All VMs.
    pub fn total(&self) -> u32 {
        self.vnf + self.masters + self.workers + self.storage
    }
}

/// What a lab brings up, and what of it is not as the marketplace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// How many VMs of each role.
    pub size: Size,
    /// More context for every VM, as inputs of the service.
    pub inputs: BTreeMap<String, String>,
    /// Roles whose VMs are no machines but plain servers ([`crate::plain`]): many of them cost nothing.
    pub plain: BTreeSet<String>,
    /// No service, but a virtual router with the vnf's number of VMs, and the workers' number of plain ones behind it.
    pub router: bool,
}

/// The role, as the lab calls it, of the VMs of a virtual router; they have none.
pub const ROUTER: &str = "router";
/// The same of those that belong to nothing.
pub const BACKEND: &str = "backend";
/// The first address of each network that the cloud leases.
const FIRST: u8 = 100;

impl Scene {
    /// The marketplace's service in this size.
    pub fn of(size: Size) -> Self {
        Self { size, inputs: BTreeMap::new(), plain: BTreeSet::new(), router: false }
    }

    /// A virtual router, and plain VMs behind it.
    pub fn router(routers: u32, backends: u32) -> Self {
        let size = Size { vnf: routers, masters: 0, workers: backends, storage: 0 };
        Self { router: true, plain: [BACKEND.to_owned()].into(), ..Self::of(size) }
    }

    /// The address at which clients on a network find what is balanced: a router's is floating, the first that is leased.
    pub fn address(&self, network: Network) -> String {
        if self.router { format!("{}.{FIRST}", network.prefix()) } else { virtual_address(network) }
    }

    /// The same with one more input.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.inputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with a role of plain servers. A client's word is no TLS, so the API's listener is checked by TCP alone.
    pub fn plain(mut self, role: &str) -> Self {
        self.plain.insert(role.to_owned());
        self.with("ONEAPP_VNF_HAPROXY_LB1_CHECK", "TCP")
    }
}

/// The virtual address on a network.
pub fn virtual_address(network: Network) -> String {
    format!("{}.10", network.prefix())
}

/// The Kubernetes API as clients reach it.
pub fn api() -> String {
    format!("https://{}:6443", virtual_address(Network::Public))
}

/// The cloud's networks, endpoint and pace. Steps that only copy disks are short: nobody learns from waiting for them.
pub fn options() -> Options {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut public = network("public", Network::Public);
    public.gateway = Some([10, 77, 0, 1].into());
    let quick = Duration::from_millis(200);
    let timing = Timing {
        pending: quick,
        prolog: quick,
        boot: quick,
        epilog: quick,
        // Long enough for any orderly shutdown here, short enough to notice one that hangs.
        shutdown: Duration::from_secs(60),
        ..Timing::default()
    };
    Options {
        seed: unix.as_secs(),
        epoch: unix.as_secs(),
        endpoint: format!("http://{ONEGATE}"),
        networks: vec![public, network("private", Network::Private)],
        timing,
        ..Options::default()
    }
}

fn network(name: &str, network: Network) -> NetworkSpec {
    let address = |last: u8| {
        format!("{}.{last}", network.prefix()).parse().expect("a prefix and a byte are an address")
    };
    NetworkSpec {
        name: name.into(),
        first: address(FIRST),
        size: 100,
        address: address(0),
        mask: [255, 255, 255, 0].into(),
        gateway: None,
        dns: String::new(),
        bridge: name.into(),
        external: false,
        ipv6: None,
    }
}

/// The marketplace's templates, with a cooldown that a spectator can sit through.
pub fn templates(scene: &Scene) -> Templates {
    let mut templates = Templates::oneke();
    for vm in templates.vms.values_mut() {
        // A container has neither disks of its own nor udev, which systemd's mount units need.
        vm.context.remove("ONEAPP_STORAGE_DEVICE");
    }
    for role in &mut templates.service.roles {
        role.cooldown = Some(5);
        if role.name == "vnf" {
            // A single node needs none; the autoscaler would see to the template's one.
            role.min_vms = role.min_vms.map(|least| least.min(scene.size.vnf));
        }
    }
    for vm in templates.vms.values_mut() {
        // A container has no disk of its own to attach; a storage node would wait for it.
        vm.context.remove("ONEAPP_STORAGE_DEVICE");
    }
    let input = |name: &String| (name.clone(), "O|text|||".to_owned());
    templates.service.user_inputs.extend(scene.inputs.keys().map(input));
    templates
}

/// What the lab's user answers when the service is instantiated; all other inputs keep their defaults.
pub fn request(scene: &Scene) -> Instantiate {
    let Size { vnf, masters, workers, storage } = scene.size;
    let mut inputs = scene.inputs.clone();
    if vnf > 0 {
        inputs.insert("ONEAPP_VROUTER_ETH0_VIP0".into(), virtual_address(Network::Public));
        inputs.insert("ONEAPP_VROUTER_ETH1_VIP0".into(), virtual_address(Network::Private));
    }
    let cardinality = [("vnf", vnf), ("master", masters), ("worker", workers), ("storage", storage)];
    Instantiate {
        inputs,
        cardinality: cardinality.map(|(role, count)| (role.to_owned(), count)).into(),
        networks: BTreeMap::from([("Public".into(), "public".into()), ("Private".into(), "private".into())]),
        ..Instantiate::default()
    }
}

/// The template of a virtual router's VMs: it balances what the VMs on its networks say.
pub fn router_template() -> VmTemplate {
    template(&[
        ("REPORT_READY", "YES"),
        ("ONEAPP_VNF_KEEPALIVED_INTERVAL", "0.1"),
        ("ONEAPP_VNF_HAPROXY_ENABLED", "YES"),
        ("ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED", "YES"),
        ("ONEAPP_VNF_HAPROXY_LB1_IP", "<ETH0_EP0>"),
        ("ONEAPP_VNF_HAPROXY_LB1_PORT", "6443"),
        // The plain VMs behind it speak no TLS, as the API would.
        ("ONEAPP_VNF_HAPROXY_LB1_CHECK", "TCP"),
    ])
}

/// The template of a VM whose attributes OneGate shows to routers on its network.
pub fn backend_template() -> VmTemplate {
    template(&[("BACKEND", "YES")])
}

fn template(variables: &[(&str, &str)]) -> VmTemplate {
    let common = [("NETWORK", "YES"), ("TOKEN", "YES")];
    let context = common.iter().chain(variables).map(|(name, value)| (name.to_string(), value.to_string()));
    VmTemplate { context: context.collect(), disks: 1, ..VmTemplate::default() }
}
