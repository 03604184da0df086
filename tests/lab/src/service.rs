//! The service that the lab brings up: which roles, how many of each, on which addresses, from the marketplace's templates.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use oneke_cloud::{Instantiate, NetworkSpec, Options, Templates, Timing};

use crate::network::{Network, ONEGATE};

/// How many VMs of each role the service begins with.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual routers; they share the virtual addresses.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=9))]
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
        first: address(100),
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
pub fn templates() -> Templates {
    let mut templates = Templates::oneke();
    for role in &mut templates.service.roles {
        role.cooldown = Some(5);
    }
    templates
}

/// What the lab's user answers when the service is instantiated; all other inputs keep their defaults.
pub fn request(size: &Size) -> Instantiate {
    let inputs = [
        ("ONEAPP_VROUTER_ETH0_VIP0", virtual_address(Network::Public)),
        ("ONEAPP_VROUTER_ETH1_VIP0", virtual_address(Network::Private)),
    ];
    let cardinality =
        [("vnf", size.vnf), ("master", size.masters), ("worker", size.workers), ("storage", size.storage)];
    Instantiate {
        inputs: inputs.map(|(name, value)| (name.to_owned(), value)).into(),
        cardinality: cardinality.map(|(role, count)| (role.to_owned(), count)).into(),
        networks: BTreeMap::from([("Public".into(), "public".into()), ("Private".into(), "private".into())]),
        ..Instantiate::default()
    }
}
