//! The front end of the lab's cloud: the simulated OneGate, OneFlow and oned with a real clock, and between them and the
//! machines a thread that carries orders one way and what guests do the other way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use oneke_cloud::{Cloud, Event, ServiceId, VmId};

use crate::hypervisor::{Hypervisor, Order, uptime};
use crate::machine::{Disc, Stopped};
use crate::service::{self, Size};

/// Between two looks at the clock for what is due.
const BEAT: Duration = Duration::from_millis(20);

/// The cloud, shared with the thread that serves HTTP and the one that carries orders.
#[derive(Clone, Debug)]
pub struct Front {
    cloud: Arc<Mutex<Cloud>>,
    began: Instant,
    ready: Arc<Mutex<BTreeMap<u32, f64>>>,
}

impl Front {
    /// An empty cloud, now.
    pub fn new() -> Self {
        Self {
            cloud: Arc::new(Mutex::new(Cloud::new(service::options()))),
            began: Instant::now(),
            ready: Arc::default(),
        }
    }

    /// Does something with the cloud at this moment.
    pub fn with<T>(&self, work: impl FnOnce(&mut Cloud, Duration) -> T) -> T {
        // What a panicking thread left is still what the cloud knows.
        let mut cloud = self.cloud.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut cloud, self.began.elapsed())
    }

    /// listen
    pub fn listen(&self) -> Result<()> {
        Ok(())
    }

    /// Instantiates the service.
    ///
    /// # Errors
    /// When the cloud refuses it.
    pub fn instantiate(&self, size: &Size) -> Result<ServiceId> {
        self.with(|cloud, now| cloud.instantiate(now, &service::templates(), &service::request(size)))
            .map_err(|refused| anyhow!("the cloud refused the service: {refused}"))
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
        stops: Receiver<(u32, Stopped)>,
        stop: Arc<AtomicBool>,
    ) -> Result<JoinHandle<()>> {
        let front = self.clone();
        let carrier = std::thread::Builder::new().name("carrier".into());
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                front.beat(&machines, &stops);
                std::thread::sleep(BEAT);
            }
        };
        carrier.spawn(work).context("could not start the carrier")
    }

    fn beat(&self, machines: &Hypervisor, stops: &Receiver<(u32, Stopped)>) {
        for (vm, _) in stops.try_iter() {
            self.with(|cloud, now| cloud.guest_stopped(now, VmId(vm)));
        }
        let (events, ready) = self.with(|cloud, now| {
            cloud.tick(now);
            let says_ready = |text: Option<&str>| text == Some("YES");
            let ready = cloud.vms().filter(|vm| says_ready(vm.user_template.text("READY")));
            let ready: Vec<u32> = ready.map(|vm| vm.id.0).collect();
            (cloud.take_events(), ready)
        });
        let mut times = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        for vm in ready {
            times.entry(vm).or_insert_with(uptime);
        }
        for event in events {
            let (vm, order) = order(event);
            // A machine whose thread has ended shows it in its view.
            let _ = machines.order(vm.0, order);
        }
    }
}

impl Default for Front {
    fn default() -> Self {
        Self::new()
    }
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
