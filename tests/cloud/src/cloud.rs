//! The cloud itself: everything it knows, and its only clock, the times that callers pass in.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::chance::Chance;
use crate::event::Event;
use crate::faults::Faults;
use crate::flow::service::Service;
use crate::gate::history::History;
use crate::id::{ServiceId, VmId};
use crate::ledger::Ledger;
use crate::network::Network;
use crate::options::Options;
use crate::virtual_router::VirtualRouter;
use crate::vm::{Vm, VmState};

/// What a caller asked for and the cloud does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// One front end: oned, OneGate and OneFlow, with its VMs and services.
///
/// Nothing in here reads a clock, opens a socket or rolls a die of its own. Times are since the
/// cloud's start and must not go back; every call first does what was due until then, in order.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    pub(crate) chance: Chance,
    pub(crate) vms: BTreeMap<VmId, Vm>,
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) virtual_routers: BTreeMap<u32, VirtualRouter>,
    pub(crate) networks: Vec<Network>,
    pub(crate) ledger: Ledger,
    pub(crate) history: History,
    pub(crate) next_vm: u32,
    pub(crate) next_service: u32,
    timers: BTreeMap<(Duration, u64), Timer>,
    sequence: u64,
    events: Vec<Event>,
}

/// What is due at a time.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// The VM goes on, if nothing else happened to it.
    VmGoesOn { vm: VmId, generation: u64, to: VmState },
    /// The guest has not stopped in time.
    Deadline { vm: VmId, generation: u64 },
    /// OneFlow reacts to events of a service.
    Look(ServiceId),
    /// OneFlow looks at stored values while it waits.
    Scan { service: ServiceId, generation: u64 },
    /// A service may scale again.
    CooldownEnds { service: ServiceId, generation: u64 },
    /// The autoscaler's round.
    Autoscale,
    /// OneFlow does what its autoscaler decided.
    ScaleRole { service: ServiceId, role: usize, cardinality: u32 },
    /// An erase that read the attributes earlier writes them back.
    FinishErase { vm: VmId, rest: crate::attributes::Attributes },
}

impl Timer {
    fn is_oneflows(&self) -> bool {
        !matches!(self, Self::VmGoesOn { .. } | Self::Deadline { .. } | Self::FinishErase { .. })
    }
}

impl Cloud {
    /// An empty cloud at time zero.
    pub fn new(options: Options) -> Self {
        let networks =
            options.networks.iter().cloned().zip(0..).map(|(spec, id)| Network::new(id, spec)).collect();
        let first_round = options.timing.autoscaler;
        let mut cloud = Self {
            chance: Chance::new(options.seed),
            options,
            faults: Faults::default(),
            vms: BTreeMap::new(),
            services: BTreeMap::new(),
            virtual_routers: BTreeMap::new(),
            networks,
            ledger: Ledger::default(),
            history: History::default(),
            next_vm: 0,
            next_service: 1,
            timers: BTreeMap::new(),
            sequence: 0,
            events: Vec::new(),
        };
        cloud.at(first_round, Timer::Autoscale);
        cloud
    }

    /// Does everything that is due until `now`, in order.
    pub fn tick(&mut self, now: Duration) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((due, _), timer) = entry.remove_entry();
            self.run(due, timer);
            self.remember(due);
        }
    }

    /// When [`Cloud::tick`] next has something to do.
    pub fn next_due(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// What happened to guests since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Every VM that ever was, by number.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vms.values()
    }

    /// A VM, gone or not.
    pub fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(&id)
    }

    /// Every service that is there.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// A service, while it is there.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id)
    }

    /// Who asked for what, and everything that was ever sent.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&mut self, now: Duration, faults: Faults) {
        self.tick(now);
        self.faults = faults;
        self.history.forget();
        self.remember(now);
    }

    /// What goes wrong at present.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What the cloud was set up with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn at(&mut self, due: Duration, timer: Timer) {
        self.sequence += 1;
        self.timers.insert((due, self.sequence), timer);
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Unix seconds at a time.
    pub(crate) fn unix(&self, at: Duration) -> u64 {
        self.options.epoch + at.as_secs()
    }

    /// A token as OneGate makes them: one AES block in base64, 24 characters.
    pub(crate) fn new_token(&mut self) -> String {
        STANDARD.encode(self.chance.block())
    }

    fn run(&mut self, at: Duration, timer: Timer) {
        match timer {
            // It does nothing while it is down, and goes on where it was.
            timer if self.faults.oneflow_down && timer.is_oneflows() => {
                self.at(at + self.options.timing.reaction, timer);
            }
            Timer::VmGoesOn { vm, generation, to } if self.is_generation(vm, generation) => {
                self.enter(at, vm, to)
            }
            Timer::Deadline { vm, generation } if self.is_generation(vm, generation) => {
                self.emit(Event::Destroy { vm });
                self.stopped(at, vm);
            }
            Timer::VmGoesOn { .. } | Timer::Deadline { .. } => {}
            Timer::Look(service) => self.look(at, service),
            Timer::Scan { service, generation } => self.scan(at, service, generation),
            Timer::CooldownEnds { service, generation } => self.cooldown_ends(at, service, generation),
            Timer::Autoscale => {
                self.autoscale(at);
                self.at(at + self.options.timing.autoscaler, Timer::Autoscale);
            }
            Timer::ScaleRole { service, role, cardinality } => {
                self.scale_as_decided(at, service, role, cardinality)
            }
            Timer::FinishErase { vm, rest } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.user_template = rest;
                }
            }
        }
    }

    fn is_generation(&self, vm: VmId, generation: u64) -> bool {
        self.vms.get(&vm).is_some_and(|vm| vm.generation == generation)
    }
}
