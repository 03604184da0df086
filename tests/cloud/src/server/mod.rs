//! The cloud on the network: OneGate on one port, the operator's side on another.
//!
//! This is the only part that knows a clock and a socket. One lock holds the cloud; it is taken for
//! the length of one call and never across a wait.

mod admin;
mod onegate;

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::event::Event;
use crate::templates::Templates;

/// How often the cloud is looked after even if nothing is due: for what handlers brought about.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// An event with its place in the order of all events, from 1.
#[derive(Clone, Debug, Serialize)]
pub struct Numbered {
    /// Its place.
    pub number: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A cloud that is being served. Clones are the same cloud.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    cloud: Mutex<Cloud>,
    templates: Templates,
    started: Instant,
    speed: f64,
    events: Mutex<Vec<Numbered>>,
    /// How many events there are.
    count: watch::Sender<u64>,
}

impl Server {
    /// A cloud whose time runs from now on, `speed` times as fast as the world's.
    pub fn new(cloud: Cloud, templates: Templates, speed: f64) -> Self {
        let shared = Shared {
            cloud: Mutex::new(cloud),
            templates,
            started: Instant::now(),
            speed,
            events: Mutex::default(),
            count: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves both ports until the future is dropped.
    pub async fn run(self, onegate: TcpListener, admin: TcpListener) {
        let (gate, operator) = (self.clone(), self.clone());
        let gate = accept(onegate, move |stream| onegate::serve(gate.clone(), stream));
        let operator = accept(admin, move |stream| admin::serve(operator.clone(), stream));
        tokio::select! {
            () = gate => {}
            () = operator => {}
            () = self.keep_time() => {}
        }
    }

    /// Calls into the cloud at its present time, and passes on what that brought about.
    pub fn with<T>(&self, call: impl FnOnce(&mut Cloud, Duration) -> T) -> T {
        let mut cloud = lock(&self.shared.cloud);
        let now = self.now();
        cloud.tick(now);
        let result = call(&mut cloud, now);
        let events = cloud.take_events();
        drop(cloud);
        self.publish(events);
        result
    }

    /// Events after the first `after`; waits up to `wait` for one if there is none.
    pub async fn events(&self, after: u64, wait: Duration) -> Vec<Numbered> {
        let mut count = self.shared.count.subscribe();
        // Neither the time running out nor the sender going away is more than "no event".
        tokio::time::timeout(wait, count.wait_for(|count| *count > after)).await.ok();
        let events = lock(&self.shared.events);
        events.iter().skip(usize::try_from(after).unwrap_or(usize::MAX)).cloned().collect()
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed().mul_f64(self.shared.speed)
    }

    fn publish(&self, new: Vec<Event>) {
        if new.is_empty() {
            return;
        }
        let mut events = lock(&self.shared.events);
        for event in new {
            let number = events.len() as u64 + 1;
            events.push(Numbered { number, event });
        }
        self.shared.count.send_replace(events.len() as u64);
    }

    async fn keep_time(&self) {
        loop {
            let due = self.with(|cloud, now| cloud.next_due().map(|due| due.saturating_sub(now)));
            let real = due.map_or(HEARTBEAT, |due| due.div_f64(self.shared.speed));
            tokio::time::sleep(real.clamp(Duration::from_millis(1), HEARTBEAT)).await;
        }
    }
}

/// A panic elsewhere must not hide what the cloud has seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream));
            }
            // Out of descriptors, or a client that left already: the next one may fare better.
            Err(_) => tokio::time::sleep(HEARTBEAT).await,
        }
    }
}

/// Speaks HTTP/1.1 with one client: headers in OneGate's case, and no Date, as Puma sends none.
async fn converse<B, E, F>(stream: TcpStream, answer: impl Fn(hyper::Request<hyper::body::Incoming>) -> F)
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = Result<hyper::Response<B>, E>>,
{
    // Small answers must not wait for more to come.
    stream.set_nodelay(true).ok();
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).auto_date_header(false).timer(TokioTimer::new());
    // A client that goes away, or an answer that was to be cut, ends a conversation; nobody is told.
    builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await.ok();
}

/// A body of one piece.
type Whole = Result<hyper::Response<Full<Bytes>>, Infallible>;
