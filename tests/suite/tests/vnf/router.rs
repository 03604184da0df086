//! A virtual router as Cluster API's OpenNebula provider deploys one, against the simulated cloud: what the real client
//! reads of its networks, at which cost, and what the real deciders make of it.

use std::collections::BTreeMap;
use std::time::Duration;

use oneke_agent::context::OneGateConfig;
use oneke_agent::facts::{FaultKind, Moment};
use oneke_agent::plan::{Attributes, Reads, Secret};
use oneke_agent::service::{AttributeName, AttributeValue, VmId};
use oneke_agent::world::onegate::{Client, Limits, Readings};
use oneke_cloud::server::Server;
use oneke_cloud::{Cloud, Faults, Kind, NicRequest, Options, Templates, VmTemplate};
use tokio::net::TcpListener;

use super::machine::Machine;

/// Long enough for any answer on loopback, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(60);
const PUBLIC: u32 = 0;
const PRIVATE: u32 = 1;

fn template(variables: &[(&str, &str)]) -> VmTemplate {
    let always = [("NETWORK", "YES"), ("TOKEN", "YES")];
    let context = always.iter().chain(variables).map(|(name, value)| ((*name).into(), (*value).into()));
    VmTemplate { context: context.collect(), ..VmTemplate::default() }
}

/// VMs 0 and 1 are the router, 2 and 3 control planes behind it, 4 is somebody else on the same network.
struct Scene {
    server: Server,
    endpoint: String,
    readings: Readings,
    machine: Machine,
}

impl Scene {
    async fn new() -> Self {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let (onegate, admin) = (listen().await, listen().await);
        let endpoint = format!("http://{}", onegate.local_addr().expect("it is bound"));
        let mut cloud = Cloud::new(Options { endpoint: endpoint.clone(), ..Options::default() });
        let router = template(&[
            ("REPORT_READY", "YES"),
            ("ONEAPP_VNF_HAPROXY_ENABLED", "YES"),
            ("ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED", "YES"),
            ("ONEAPP_VNF_HAPROXY_LB0_IP", "<ETH0_EP0>"),
            ("ONEAPP_VNF_HAPROXY_LB0_PORT", "6443"),
            ("ONEAPP_VNF_KEEPALIVED_UNICAST", "YES"),
        ]);
        let now = Duration::ZERO;
        let networks = [("public", true), ("private", true)];
        cloud
            .create_virtual_router(now, "control-plane", &router, &networks, 2)
            .expect("there are addresses");
        for backend in ["YES", "YES", ""] {
            let nic = NicRequest { network: "private".into(), ..NicRequest::default() };
            let vm = template(&[("BACKEND", backend)]);
            cloud.create_vm(now, "node", &vm, vec![nic]).expect("there are addresses");
        }
        let context = &cloud.vm(oneke_cloud::VmId(0)).expect("it was created").context;
        let lines: String = context.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        let machine = Machine::new(&lines).expect("a good context");
        let server = Server::new(cloud, Templates::oneke(), 1.0);
        tokio::spawn(server.clone().run(onegate, admin));
        Self { server, endpoint, readings: Readings::default(), machine }
    }

    fn client(&self, vm: u32) -> Client {
        let token = self
            .server
            .with(|cloud, _| cloud.vm(oneke_cloud::VmId(vm)).expect("it was created").token.clone());
        let config = OneGateConfig { endpoint: Some(self.endpoint.clone()), ca: None, verify: true };
        let limits = Limits { pause: Duration::from_millis(1), ..Limits::default() };
        Client::new(&config, VmId(vm), &Secret::new(token), limits).expect("a plain endpoint")
    }

    async fn publish(&self, vm: u32, pairs: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| {
            (AttributeName::new(*name).expect("a name"), AttributeValue::new(*value).expect("a value"))
        };
        let attributes: Attributes = pairs.iter().map(pair).collect();
        self.client(vm).put_vm(&attributes).await.expect("it is stored");
    }

    /// As the provider does: the server, for the listener that the router's context names by its place.
    async fn offer(&self, vm: u32, port: &str) {
        let host = format!("172.20.0.{}", 101 + vm);
        self.publish(
            vm,
            &[
                ("ONEGATE_HAPROXY_LB0_IP", "<ETH0_EP0>"),
                ("ONEGATE_HAPROXY_LB0_PORT", "6443"),
                ("ONEGATE_HAPROXY_LB0_SERVER_HOST", &host),
                ("ONEGATE_HAPROXY_LB0_SERVER_PORT", port),
            ],
        )
        .await;
    }

    fn faults(&self, faults: Faults) {
        self.server.with(|cloud, now| cloud.set_faults(now, faults));
    }

    /// Takes a VM away, and its leases with it.
    fn delete(&self, vm: u32) {
        self.server.with(|cloud, now| {
            cloud.delete(now, oneke_cloud::VmId(vm)).expect("it is there");
            cloud.tick(now + Duration::from_secs(60));
        });
    }

    /// So many seconds later: one look by what was decided, decisions until nothing is left to do, and the servers.
    async fn later(&mut self, seconds: u64) -> Vec<String> {
        self.machine.later(seconds);
        let reads = self.machine.settle().reads;
        self.look(&reads).await;
        self.machine.settle();
        self.machine.servers().into_iter().map(str::to_owned).collect()
    }

    async fn look(&mut self, reads: &Reads) {
        let now: Moment = self.machine.facts.now;
        self.readings.refresh(Ok(&self.client(0)), reads, now, PATIENT).await;
        self.machine.facts.me = self.readings.me().clone();
        self.machine.facts.networks = self.readings.networks().clone();
    }

    /// Requests about the router and its networks so far.
    fn asked(&self) -> u64 {
        self.server.with(|cloud, _| cloud.ledger().count(oneke_cloud::VmId(0), Kind::VirtualRouter))
    }

    fn fault(&self) -> Option<FaultKind> {
        self.readings.networks().fault.as_ref().map(|fault| fault.kind)
    }
}

#[tokio::test]
async fn servers_come_and_go_with_their_leases() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.later(0).await, [""; 0]);
    for vm in [2, 3, 4] {
        scene.offer(vm, "6443").await;
    }
    let both = ["vm2_172.20.0.103_6443", "vm3_172.20.0.104_6443"];
    assert_eq!(scene.later(15).await, both);
    let keepalived = scene.machine.file("/etc/keepalived/keepalived.conf");
    assert!(keepalived.contains("10.0.0.100/24 dev eth0"), "{keepalived}");
    let peers: Vec<&str> =
        keepalived.split("unicast_peer {").skip(1).flat_map(|rest| rest.lines().nth(1)).collect();
    assert_eq!(peers, ["        10.0.0.102"], "one group, one instance");

    // Taken back by its owner.
    scene.offer(2, "0").await;
    assert_eq!(scene.later(40).await, both[1..]);
    scene.offer(2, "6443").await;
    assert_eq!(scene.later(40).await, both);
    // Gone with its VM.
    scene.delete(3);
    assert_eq!(scene.later(40).await, both[..1]);
}

#[tokio::test]
async fn a_network_that_is_not_shown_proves_nothing() {
    let mut scene = Scene::new().await;
    scene.offer(2, "6443").await;
    scene.offer(3, "6443").await;
    let both = ["vm2_172.20.0.103_6443", "vm3_172.20.0.104_6443"];
    assert_eq!(scene.later(0).await, both);

    let unreadable = |network| Faults { unreadable_networks: [network].into(), ..Faults::default() };
    scene.faults(unreadable(PRIVATE));
    assert_eq!(scene.later(40).await, both);
    assert_eq!(scene.fault(), None);
    let told = &scene.machine.decide().conditions;
    let known = told.iter().find(|condition| condition.kind == "BackendsKnown").expect("it is told");
    assert!(known.message.contains("/vnet/1?extended=true: 500"), "{known}");

    // What the other network shows is not the whole.
    scene.faults(unreadable(PUBLIC));
    scene.delete(3);
    assert_eq!(scene.later(40).await, both);
    for faults in [
        Faults { oned_down: true, ..Faults::default() },
        Faults { error_one_in: 1, error_kinds: [Kind::VirtualRouter].into(), ..Faults::default() },
        Faults {
            error_one_in: 1,
            error_status: Some(404),
            error_kinds: [Kind::VirtualRouter].into(),
            ..Faults::default()
        },
        Faults { cut_one_in: 1, ..Faults::default() },
    ] {
        scene.faults(faults.clone());
        assert_eq!(scene.later(200).await, both, "{faults:?}");
        assert!(scene.readings.networks().last.known().is_some());
    }
    scene.faults(Faults::default());
    scene.later(200).await;
    assert_eq!(scene.later(200).await, both[..1]);
}

#[tokio::test]
async fn looking_around_costs_one_request_a_network() {
    let mut scene = Scene::new().await;
    scene.offer(2, "6443").await;
    scene.later(0).await;
    assert_eq!(scene.asked(), 3, "the router, and two networks");
    scene.later(20).await;
    assert_eq!(scene.asked(), 3, "not before the refresh rate");
    scene.later(20).await;
    assert_eq!(scene.asked(), 5, "the router is known");
    scene.later(600).await;
    assert_eq!(scene.asked(), 8, "the router is asked again");
    let counts: BTreeMap<Kind, u64> = scene.server.with(|cloud, _| {
        let of = |kind| (kind, cloud.ledger().count(oneke_cloud::VmId(0), kind));
        [Kind::Service, Kind::ServiceExtended, Kind::OtherRead].map(of).into()
    });
    assert!(counts.values().all(|count| *count == 0), "{counts:?}");
}

#[tokio::test]
async fn a_passing_fault_is_asked_through() {
    let scene = Scene::new().await;
    scene.faults(Faults { unauthorized_one_in: 2, ..Faults::default() });
    let client = scene.client(0);
    let mut whole = 0;
    for _ in 0..20 {
        whole +=
            usize::from(client.get_networks(None).await.is_ok_and(|networks| networks.unread.is_empty()));
    }
    // Three attempts each: about two in three of the looks, where a single attempt would make one in eight.
    assert!(whole >= 7, "{whole}");
}
