//! What a cloud is set up with, and how long its steps take.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::network::NetworkSpec;

/// What a cloud is set up with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Makes tokens, UUIDs and the chance of faults.
    pub seed: u64,
    /// The Unix time of time zero, in seconds.
    pub epoch: u64,
    /// What VMs are told to call: `http://169.254.16.9:5030`.
    pub endpoint: String,
    /// The virtual networks, numbered in this order.
    pub networks: Vec<NetworkSpec>,
    /// Who owns all VMs.
    pub owner: Owner,
    /// How long things take.
    pub timing: Timing,
    /// Which user inputs reach which role.
    pub user_inputs: UserInputs,
    /// Whether an address that was given back is leased again before a new one.
    pub reuse_addresses: bool,
}

/// Which user inputs of a service reach the context of a role's VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserInputs {
    /// All of them, in every role: front ends since 7.3.
    #[default]
    All,
    /// Those that the role's template names: older front ends.
    Named,
}

/// The user whose VMs these are.
#[derive(Clone, Debug)]
pub struct Owner {
    /// `UID`.
    pub id: u32,
    /// `GID`.
    pub group_id: u32,
    /// `UNAME`.
    pub name: String,
    /// `GNAME`.
    pub group: String,
    /// What `$USER[SSH_PUBLIC_KEY]` and the like stand for.
    pub attributes: BTreeMap<String, String>,
}

/// How long things take. The defaults are what was measured, where it was.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From creation to a host (2 s).
    pub pending: Duration,
    /// Copying a disk (1 s).
    pub prolog: Duration,
    /// From power-on to RUNNING (1 s).
    pub boot: Duration,
    /// Removing or moving a disk (1 s).
    pub epilog: Duration,
    /// How long a guest has after ACPI before it is destroyed (180 s: SHUTDOWN_TIMEOUT in kvmrc).
    pub shutdown: Duration,
    /// Until monitoring notices a guest that powered itself off unasked (10 s).
    pub monitoring: Duration,
    /// Until OneFlow reacts to an event (1 s).
    pub reaction: Duration,
    /// How often OneFlow looks at stored values and failures while it waits (30 s).
    pub scan: Duration,
    /// How often the autoscaler looks (90 s).
    pub autoscaler: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            pending: seconds(2),
            prolog: seconds(1),
            boot: seconds(1),
            epilog: seconds(1),
            shutdown: seconds(180),
            monitoring: seconds(10),
            reaction: seconds(1),
            scan: seconds(30),
            autoscaler: seconds(90),
        }
    }
}

impl Default for Options {
    /// A public network 10.0.0.0/24 and a private one 172.20.0.0/16 without a gateway, as OneKE wants them.
    fn default() -> Self {
        let network =
            |name: &str, first: [u8; 4], address: [u8; 4], mask: [u8; 4], bridge: &str| NetworkSpec {
                name: name.to_owned(),
                first: first.into(),
                size: 150,
                address: address.into(),
                mask: mask.into(),
                gateway: None,
                dns: String::new(),
                bridge: bridge.to_owned(),
                external: false,
                ipv6: None,
            };
        let mut public = network("public", [10, 0, 0, 100], [10, 0, 0, 0], [255, 255, 255, 0], "br1");
        public.gateway = Some([10, 0, 0, 1].into());
        public.dns = "10.0.0.1".to_owned();
        let private = network("private", [172, 20, 0, 100], [172, 20, 0, 0], [255, 255, 0, 0], "br0");
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAR5lewF9ny1vcWt96kQ/x9h5BTrUdHsFb+QzudWTW0y alice@example";
        Self {
            seed: 0,
            epoch: 1_795_243_183,
            endpoint: "http://127.0.0.1:5030".to_owned(),
            networks: vec![public, private],
            owner: Owner {
                id: 2,
                group_id: 1,
                name: "tenant".to_owned(),
                group: "users".to_owned(),
                attributes: BTreeMap::from([("SSH_PUBLIC_KEY".to_owned(), key.to_owned())]),
            },
            timing: Timing::default(),
            user_inputs: UserInputs::All,
            reuse_addresses: false,
        }
    }
}
