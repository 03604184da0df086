//! The front end of the lab's cloud: the simulated OneGate, OneFlow and oned with a real clock, and between them and the
//! machines a thread that carries orders one way and what guests do the other way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use oneke_cloud::server::Server;
use oneke_cloud::{Cloud, Event, Kind, NicRequest, Refused, Request, ServiceId, Vm, VmId};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::hypervisor::{Hypervisor, Order, uptime};
use crate::machine::{Disc, Stopped};
use crate::network::{ONEGATE, inside};
use crate::plain::Plain;
use crate::service::{self, Scene};

/// Where the cloud's operator talks to it, inside its namespace: `ip netns exec oneke-lab-cloud curl ...`.
const OPERATOR: &str = "127.0.0.1:5031";
/// The longest time between two looks at what guests did.
const BEAT: Duration = Duration::from_millis(50);

/// The cloud, shared with the thread that serves HTTP and the one that carries orders.
#[derive(Clone)]
pub struct Front {
    server: Server,
    ready: Arc<Mutex<BTreeMap<u32, f64>>>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Front {
    /// An empty cloud, now, that listens in its own namespace.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn open(scene: &Scene) -> Result<Self> {
        let server = Server::new(Cloud::new(service::options()), service::templates(scene), 1.0);
        let (listens, heard) = mpsc::channel();
        let served = server.clone();
        inside("cloud", move || {
            let listen = async {
                let bind = |address| async move {
                    TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))
                };
                Ok::<_, anyhow::Error>((bind(ONEGATE).await?, bind(OPERATOR).await?))
            };
            let runtime = runtime()?;
            match runtime.block_on(listen) {
                Ok((onegate, operator)) => {
                    listens.send(Ok(())).context("nobody waits for the cloud")?;
                    // Until the process ends.
                    runtime.block_on(served.run(onegate, operator));
                }
                Err(error) => listens.send(Err(error)).context("nobody waits for the cloud")?,
            }
            Ok(())
        })?;
        heard.recv().context("the cloud's thread died")??;
        Ok(Self { server, ready: Arc::default() })
    }

    /// Does something with the cloud at this moment.
    pub fn with<T>(&self, work: impl FnOnce(&mut Cloud, Duration) -> T) -> T {
        self.server.with(work)
    }

    /// Instantiates the service.
    ///
    /// # Errors
    /// When the cloud refuses it.
    pub fn instantiate(&self, scene: &Scene) -> Result<ServiceId> {
        self.with(|cloud, now| cloud.instantiate(now, &service::templates(scene), &service::request(scene)))
            .map_err(|refused| anyhow!("the cloud refused the service: {refused}"))
    }

    /// Makes a virtual router and the VMs behind it.
    ///
    /// # Errors
    /// When the cloud refuses one of them.
    pub fn place_router(&self, scene: &Scene) -> Result<()> {
        let networks = [("public", true), ("private", true)];
        let nic = NicRequest { network: "private".into(), ..NicRequest::default() };
        self.with(|cloud, now| {
            let routers = scene.size.vnf as usize;
            cloud.create_virtual_router(now, "lab", &service::router_template(), &networks, routers)?;
            for number in 0..scene.size.workers {
                let name = format!("{}-{number}", service::BACKEND);
                cloud.create_vm(now, &name, &service::backend_template(), vec![nic.clone()])?;
            }
            Ok(())
        })
        .map_err(|refused: Refused| anyhow!("the cloud refused the virtual router: {refused}"))
    }

    /// Tells OneGate attributes of a VM in that VM's own name.
    ///
    /// # Errors
    /// When there is no such VM, or OneGate does not take them.
    pub fn say_as(&self, vm: u32, attributes: &[(String, String)]) -> Result<()> {
        let lines: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let status = self.with(|cloud, now| {
            let token = cloud.vm(VmId(vm)).map(|vm| vm.token.clone()).unwrap_or_default();
            let headers = [("X-ONEGATE-VMID", vm.to_string()), ("X-ONEGATE-TOKEN", token)];
            let request = Request {
                method: "PUT".into(),
                path_and_query: "/vm".into(),
                headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
                body: lines.join("\n").into_bytes(),
            };
            cloud.handle(now, &request).status
        });
        ensure!(status == 200, "OneGate answered {status} to {lines:?} of VM {vm}");
        Ok(())
    }

    /// How many requests of each kind were ever made.
    pub fn requests(&self) -> BTreeMap<Kind, u64> {
        self.with(|cloud, _| {
            let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
            for (_, kind, count) in cloud.ledger().counts() {
                *kinds.entry(kind).or_default() += count;
            }
            kinds
        })
    }

    /// When each VM was first seen with READY=YES, in CLOCK_BOOTTIME seconds.
    pub fn ready_times(&self) -> BTreeMap<u32, f64> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts carrying: the cloud's orders to the machines, and their guests' ends to the cloud.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn carry(
        &self,
        machines: Arc<Hypervisor>,
        mut plain: Plain,
        stops: Receiver<(u32, Stopped)>,
        stop: Arc<AtomicBool>,
    ) -> Result<JoinHandle<()>> {
        let (front, runtime) = (self.clone(), runtime()?);
        let work = move || {
            let mut carried = 0;
            while !stop.load(Ordering::Relaxed) {
                for (vm, _) in stops.try_iter() {
                    front.with(|cloud, now| cloud.guest_stopped(now, VmId(vm)));
                }
                for event in runtime.block_on(front.server.events(carried, BEAT)) {
                    carried = event.number;
                    if plain.takes(&event.event, &front) {
                        continue;
                    }
                    let (vm, order) = order(event.event);
                    // A machine whose thread has ended shows it in its view.
                    let _ = machines.order(vm.0, order);
                }
                plain.speak(&front);
                front.note_ready();
            }
        };
        std::thread::Builder::new().name("carrier".into()).spawn(work).context("could not start the carrier")
    }

    fn note_ready(&self) {
        let ready = self.with(|cloud, _| {
            let says = cloud.vms().filter(|vm| vm.user_template.text("READY") == Some("YES"));
            says.map(|vm| vm.id.0).collect::<Vec<_>>()
        });
        let mut times = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        for vm in ready {
            times.entry(vm).or_insert_with(uptime);
        }
    }
}

/// A VM's role in its service; those without a service get words of ours.
pub fn role(vm: &Vm) -> String {
    let own = if vm.virtual_router.is_some() { service::ROUTER } else { service::BACKEND };
    vm.membership.as_ref().map_or_else(|| own.to_owned(), |(_, role)| role.clone())
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("could not make a runtime")
}

fn order(event: Event) -> (VmId, Order) {
    match event {
        Event::PowerOn(start) => {
            let context = Disc { variables: start.context_sh, token: format!("{}\n", start.token) };
            (start.vm, Order::PowerOn { context, fresh: start.fresh_disk })
        }
        Event::AcpiShutdown { vm } => (vm, Order::PressPowerButton),
        Event::AcpiReboot { vm } => (vm, Order::AskToReboot),
        Event::Reset { vm } => (vm, Order::Reset),
        Event::Destroy { vm } => (vm, Order::PowerLoss),
        Event::ContextChanged { vm, context_sh } => (vm, Order::ChangeContext(context_sh)),
    }
}
