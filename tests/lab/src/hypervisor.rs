//! All machines of the lab, each with a thread of its own that does what the cloud, or the power grid, orders.
//!
//! Orders for one machine are carried out in turn; machines do not wait for each other.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::base::Image;
use crate::machine::{Disc, Machine, Stopped};

/// How often a machine's thread looks whether its guest stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What can be done to a machine from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Give it power, with this context; `fresh` empties its disk first.
    PowerOn {
        /// What oned put on its context disc.
        context: Disc,
        /// A new or recreated VM.
        fresh: bool,
    },
    /// ACPI: ask the guest to shut down.
    PressPowerButton,
    /// Ask the guest to restart, as ctrl-alt-del does.
    AskToReboot,
    /// Another context, in the drive at once; the token stays.
    ChangeContext(String),
    /// Hard reset: die now, start again at once with the same disk and context.
    Reset,
    /// Die now; the disk stays.
    PowerLoss,
    /// Power comes back after a loss: start with the same disk and context.
    PowerReturn,
    /// Die now, and the disk goes as well.
    Destroy,
}

/// A machine as it looks from outside.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// It has power.
    pub on: bool,
    /// The guest's process 1, as seen from here.
    pub leader: Option<i32>,
    /// CLOCK_BOOTTIME in seconds when it last got power: the guest's clock is the same one.
    pub powered_at: f64,
    /// What an order failed with; the machine stays as it was left.
    pub fault: Option<String>,
}

/// All machines.
#[derive(Debug)]
pub struct Hypervisor {
    image: Image,
    seats: Mutex<BTreeMap<u32, Seat>>,
    stops: Sender<(u32, Stopped)>,
}

#[derive(Debug)]
struct Seat {
    orders: Sender<Order>,
    view: Arc<Mutex<View>>,
    thread: JoinHandle<()>,
}

impl Hypervisor {
    /// No machines yet, and where it is told that a guest stopped by itself.
    pub fn new(image: Image) -> (Self, Receiver<(u32, Stopped)>) {
        let (stops, told) = mpsc::channel();
        (Self { image, seats: Mutex::default(), stops }, told)
    }

    /// Queues an order for a machine; a number that was never seen is a new machine.
    ///
    /// # Errors
    /// When its thread cannot be started or has ended.
    pub fn order(&self, id: u32, order: Order) -> Result<()> {
        let mut seats = hold(&self.seats);
        let seat = match seats.entry(id) {
            std::collections::btree_map::Entry::Occupied(seat) => seat.into_mut(),
            std::collections::btree_map::Entry::Vacant(seat) => seat.insert(self.seat(id)?),
        };
        seat.orders.send(order).with_context(|| format!("the thread of VM {id} has ended"))
    }

    fn seat(&self, id: u32) -> Result<Seat> {
        let (orders, queue) = mpsc::channel();
        let view = Arc::new(Mutex::new(View::default()));
        let mut keeper = Keeper {
            id,
            image: self.image.clone(),
            machine: Machine::new(id),
            context: None,
            view: Arc::clone(&view),
            stops: self.stops.clone(),
        };
        let thread = thread::Builder::new()
            .name(format!("vm{id}"))
            .spawn(move || keeper.keep(&queue))
            .with_context(|| format!("could not start the thread of VM {id}"))?;
        Ok(Seat { orders, view, thread })
    }

    /// Every machine as it looks now.
    pub fn views(&self) -> BTreeMap<u32, View> {
        hold(&self.seats).iter().map(|(id, seat)| (*id, hold(&seat.view).clone())).collect()
    }

    /// One machine as it looks now; off if it was never seen.
    pub fn view(&self, id: u32) -> View {
        hold(&self.seats).get(&id).map(|seat| hold(&seat.view).clone()).unwrap_or_default()
    }

    /// A file as the guest sees it, if the guest runs and has it.
    pub fn read(&self, id: u32, path: &str) -> Option<String> {
        let leader = self.view(id).leader?;
        fs::read_to_string(format!("/proc/{leader}/root{path}")).ok()
    }

    /// Takes all power away and empties every disk. Idempotent.
    pub fn shut(&self) {
        let seats = std::mem::take(&mut *hold(&self.seats));
        for seat in seats.values() {
            // A thread that has ended holds no machine any more.
            let _ = seat.orders.send(Order::Destroy);
        }
        for seat in seats.into_values() {
            drop(seat.orders);
            let _ = seat.thread.join();
        }
    }
}

/// A panic elsewhere does not make what is inside wrong: it is replaced whole at each change.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread of one machine.
struct Keeper {
    id: u32,
    image: Image,
    machine: Machine,
    context: Option<Disc>,
    view: Arc<Mutex<View>>,
    stops: Sender<(u32, Stopped)>,
}

impl Keeper {
    fn keep(&mut self, queue: &Receiver<Order>) {
        loop {
            let done = match queue.recv_timeout(LOOK) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut view = hold(&self.view);
            if let Err(error) = done {
                view.fault = Some(format!("{error:#}"));
            }
            view.leader = self.machine.leader().map(Pid::as_raw);
        }
    }

    fn obey(&mut self, order: Order) -> Result<()> {
        match order {
            Order::PowerOn { context, fresh } => {
                if fresh {
                    self.machine.wipe()?;
                }
                self.context = Some(context);
                self.start()
            }
            Order::PressPowerButton => {
                self.machine.press_power_button();
                Ok(())
            }
            Order::AskToReboot => {
                self.machine.ask_to_reboot();
                Ok(())
            }
            Order::ChangeContext(variables) => {
                let context = self.context.as_mut();
                let context = context.with_context(|| format!("VM {} was never given a context", self.id))?;
                context.variables = variables;
                self.machine.change_context(context)
            }
            Order::Reset => {
                self.lose_power()?;
                self.start()
            }
            Order::PowerLoss => self.lose_power(),
            Order::PowerReturn => self.start(),
            Order::Destroy => {
                self.lose_power()?;
                self.machine.wipe()
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        let context =
            self.context.clone().with_context(|| format!("VM {} was never given a context", self.id))?;
        *hold(&self.view) = View { on: true, leader: None, powered_at: uptime(), fault: None };
        let started = self.machine.power_on(&self.image, &context);
        hold(&self.view).on = started.is_ok();
        started
    }

    fn lose_power(&mut self) -> Result<()> {
        hold(&self.view).on = false;
        self.machine.power_loss()
    }

    /// Looks whether the guest stopped by itself: a reboot is the machine's own affair, the rest is the cloud's.
    fn look(&mut self) -> Result<()> {
        match self.machine.stopped()? {
            None => Ok(()),
            Some(Stopped::Reboots) => self.start(),
            Some(stopped) => {
                hold(&self.view).on = false;
                // Nobody listens any more when the lab is being taken down.
                let _ = self.stops.send((self.id, stopped));
                Ok(())
            }
        }
    }
}

/// CLOCK_BOOTTIME in seconds, to a hundredth.
pub fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
