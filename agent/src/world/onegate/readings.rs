//! What OneGate said last, and when: the observation's part of the cloud.
//!
//! A question is asked only when its last answer is older than a decider allows. It is asked in the background: a slow
//! front end makes answers old, it never holds the loop. While this VM's own cheap question fails, the dear one about the
//! service is not asked.
//!
//! ```text
//!            due                      answer                  older than allowed, or written to
//!  resting ───────▶ asked ──────────────────────▶ resting ◀──────────────────────────────────┐
//!                     │ fault: the answer stays, the fault is told                             │
//!                     └──────────▶ backing off (0.5 s, doubling, with jitter) ─────────────────┘
//! ```

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Client, OneGateError, transport};
use crate::facts::{Fault, FaultKind, Moment, Reading};
use crate::plan::{Attributes, Reads};
use crate::service::{Networks, Service, Vm, VmId};

/// The pause after a first fault, on average.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before this VM's own question is asked again: the boot waits for it, and it is cheap.
const OWN_SLOWEST: Duration = Duration::from_secs(5);
/// The same for what is dear: the service, a virtual router's networks.
const DEAR_SLOWEST: Duration = Duration::from_secs(60);
/// A virtual router's NICs hardly ever change, and what is new on a NIC that was attached meanwhile can wait so long.
const ROUTER_KEPT: Duration = Duration::from_secs(600);

/// The last answers to `/vm`, `/service?extended`, and about a virtual router's networks. Losing them costs the requests.
#[derive(Debug)]
pub struct Readings {
    me: Question<Vm>,
    service: Question<Service>,
    networks: Question<Networks>,
    /// When [`Networks::router`] was asked for.
    router_at: Moment,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            me: Question::new(OWN_SLOWEST),
            service: Question::new(DEAR_SLOWEST),
            networks: Question::new(DEAR_SLOWEST),
            router_at: Moment::ZERO,
        }
    }
}

impl Readings {
    /// This VM.
    pub fn me(&self) -> &Reading<Vm> {
        &self.me.reading
    }

    /// Its service, extended.
    pub fn service(&self) -> &Reading<Service> {
        &self.service.reading
    }

    /// The networks of the virtual router that it is of.
    pub fn networks(&self) -> &Reading<Networks> {
        &self.networks.reading
    }

    /// True while an answer is on its way: the next call should come soon.
    pub fn is_waiting(&self) -> bool {
        !self.me.asked.is_empty() || !self.service.asked.is_empty() || !self.networks.asked.is_empty()
    }

    /// Asks what is due and takes what has come, waiting at most for `patience`. What comes later is taken by a later
    /// call. Must be called within a tokio runtime; may be dropped at any time.
    pub async fn refresh(
        &mut self,
        client: Result<&Client, &OneGateError>,
        reads: &Reads,
        now: Moment,
        patience: Duration,
    ) {
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                self.me.fail(now, error);
                self.networks.fail(now, error);
                return self.service.fail(now, error);
            }
        };
        let until = Instant::now() + patience;
        if self.me.is_due(now, Some(reads.me)) {
            let client = client.clone();
            self.me.ask(now, async move { client.get_vm().await });
        }
        // The dear question waits for the cheap one if that failed last time, and else goes along with it.
        if self.me.failures > 0 {
            self.take_own(now, until).await;
        }
        if self.me.failures == 0 && self.service.is_due(now, reads.service) {
            let client = client.clone();
            self.service.ask(now, async move { client.get_service(true).await });
        }
        if let Some(allowed) = reads.networks.filter(|_| self.me.failures == 0) {
            self.ask_networks(client, allowed, now);
        }
        self.take_own(now, until).await;
        self.service.take(now, until).await;
        self.networks.take(now, until).await;
    }

    /// The router itself is asked again when its answer is old, or when something was wrong since.
    fn ask_networks(&mut self, client: &Client, allowed: Duration, now: Moment) {
        // All VMs of a router are of one age: a tenth more for some keeps them from asking together for ever.
        let allowed = allowed.mul_f64(0.95 + 0.1 * self.networks.jitter);
        if !self.networks.is_due(now, Some(allowed)) {
            return;
        }
        let is_young = now.saturating_sub(self.router_at) < ROUTER_KEPT && self.networks.failures == 0;
        let last = self.networks.reading.last.known().filter(|last| is_young && last.unread.is_empty());
        let router = last.and_then(|last| last.router.clone());
        if router.is_none() {
            self.router_at = now;
        }
        let client = client.clone();
        self.networks.ask(now, async move { client.get_networks(router).await });
    }

    /// Publishes on this VM, or on another one of the service; afterwards this VM is read anew.
    ///
    /// # Errors
    /// What OneGate or the way to it refused.
    pub async fn publish(
        &mut self,
        client: Result<&Client, &OneGateError>,
        vm: Option<VmId>,
        attributes: &Attributes,
    ) -> Result<(), OneGateError> {
        let client = client.map_err(Clone::clone)?;
        match vm {
            Some(vm) => {
                // What was read, or is being read, does not show this yet: whoever acted on it would act twice.
                self.service.outdate();
                client.put_vms(vm, attributes).await
            }
            None => {
                // Even if the answer is lost or nobody waits for it: the write may have happened.
                self.me.stale = true;
                client.put_vm(attributes).await
            }
        }
    }

    /// Publishes on several other VMs of the service at the same time. One outcome for each, in their order.
    pub async fn publish_on(
        &mut self,
        client: Result<&Client, &OneGateError>,
        others: &[(VmId, &Attributes)],
    ) -> Vec<Result<(), OneGateError>> {
        let client = match client {
            Ok(client) => client,
            Err(error) => return others.iter().map(|_| Err(error.clone())).collect(),
        };
        self.service.outdate();
        let mut sent = JoinSet::new();
        for (at, (vm, attributes)) in others.iter().enumerate() {
            let (client, vm, attributes) = (client.clone(), *vm, (*attributes).clone());
            sent.spawn(async move { (at, client.put_vms(vm, &attributes).await) });
        }
        let mut outcomes = sent.join_all().await;
        outcomes.sort_by_key(|(at, _)| *at);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    async fn take_own(&mut self, now: Moment, until: Instant) {
        let was_away = self.me.reading.fault.is_some();
        self.me.take(now, until).await;
        if was_away && self.me.reading.fault.is_none() {
            // OneGate is back: what was told of the way is over, and the dear question need not wait.
            self.service.is_back();
            self.networks.is_back();
        }
        let away = self.me.reading.fault.as_ref().filter(|fault| is_of_the_way(fault.kind));
        if let Some(fault) = away {
            self.service.is_away(fault);
            self.networks.is_away(fault);
        }
    }
}

/// True if it says nothing about the question: no other one would fare better.
fn is_of_the_way(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::NoEndpoint | FaultKind::Dns | FaultKind::Tcp | FaultKind::Tls | FaultKind::Timeout
    )
}

/// One question: its last answer, and the one that is on its way.
#[derive(Debug)]
struct Question<T> {
    reading: Reading<T>,
    /// At most one, with the moment when it was asked: an answer is as old as its question.
    asked: JoinSet<(Moment, Result<T, OneGateError>)>,
    /// The last answer is older than what was written since.
    stale: bool,
    /// In a row.
    failures: u32,
    not_before: Moment,
    slowest: Duration,
    /// This agent's share of chance: 0.5 to 1.5.
    jitter: f64,
}

impl<T: Send + 'static> Question<T> {
    fn new(slowest: Duration) -> Self {
        Self {
            reading: Reading::default(),
            asked: JoinSet::new(),
            stale: false,
            failures: 0,
            not_before: Moment::ZERO,
            slowest,
            jitter: transport::jitter(),
        }
    }

    fn is_due(&self, now: Moment, allowed: Option<Duration>) -> bool {
        let Some(allowed) = allowed else { return false };
        let old = self.stale || self.reading.age(now).is_none_or(|age| age > allowed);
        old && self.asked.is_empty() && now >= self.not_before
    }

    fn ask(&mut self, now: Moment, question: impl Future<Output = Result<T, OneGateError>> + Send + 'static) {
        self.stale = false;
        self.asked.spawn(async move { (now, question.await) });
    }

    /// The world was changed: the last answer is of no moment that counts, and the one on its way is not awaited.
    fn outdate(&mut self) {
        self.stale = true;
        self.reading.at = None;
        self.asked = JoinSet::new();
    }

    /// Takes the answer, if it comes in time.
    async fn take(&mut self, now: Moment, until: Instant) {
        match timeout_at(until, self.asked.join_next()).await {
            Ok(Some(Ok((at, Ok(value))))) => {
                self.reading = Reading::of(value, at);
                self.failures = 0;
                self.not_before = Moment::ZERO;
            }
            Ok(Some(Ok((_, Err(error))))) => {
                self.fail(now, &error);
                self.back_off(now);
            }
            Ok(Some(Err(panicked))) => {
                tracing::error!(%panicked, "a question to OneGate was lost");
                self.back_off(now);
            }
            // Nothing was asked, or no answer yet.
            Ok(None) | Err(_) => {}
        }
    }

    fn fail(&mut self, now: Moment, error: &OneGateError) {
        let since = self.reading.fault.as_ref().map_or(now, |fault| fault.since);
        self.reading.fault = Some(Fault { kind: error.kind(), message: error.to_string(), since });
    }

    /// The way to OneGate is broken for every question.
    fn is_away(&mut self, fault: &Fault) {
        let since = self.reading.fault.as_ref().map_or(fault.since, |old| old.since);
        self.reading.fault = Some(Fault { since, ..fault.clone() });
    }

    /// It works again.
    fn is_back(&mut self) {
        self.reading.fault.take_if(|fault| is_of_the_way(fault.kind));
        self.not_before = Moment::ZERO;
    }

    /// The question is still open, and is asked again after a pause.
    fn back_off(&mut self, now: Moment) {
        self.stale = true;
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(self.slowest);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + doubled.mul_f64(transport::jitter());
    }
}
