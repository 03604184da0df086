//! Figures, printed beside what is wanted. No time is asserted; what is wrong whatever the time (a lost connection, a
//! live backend removed) is an error, here as in `oneke-lab test`, which runs the same benchmarks shorter.

pub mod churn;
pub mod convergence;
pub mod failover;
pub mod lies;
pub mod ready;
pub mod topologies;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Subcommand;
use oneke_cloud::Kind;

use crate::backends::{self, Behind, Place, offer};
use crate::lab::Lab;
use crate::probe::{Attempt, Probe, Question};
use crate::service::{Scene, Size};
use crate::{router, story};

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// How long each node waits for the agent itself, requests per minute when all is quiet, memory.
    Ready {
        /// Of which service.
        #[command(flatten)]
        size: Size,
    },
    /// How long clients lose the virtual address, NAT and DNS when the vnf VM that holds them goes.
    Failover(failover::Options),
    /// From an offer in OneGate to the first connection that is served.
    Convergence(convergence::Options),
    /// Connections lost while backends come and go and HAProxy is reloaded.
    Churn(churn::Options),
    /// Connections and backends lost while OneGate is down, and while it tells half.
    Lies(lies::Options),
    /// How long each topology takes to RUNNING.
    Topologies(topologies::Options),
    /// How soon a virtual router serves the VMs behind it, and takes over.
    Router,
    /// All of them, as long as they take: about two hours.
    All,
}

/// Measures, and prints the figures.
///
/// # Errors
/// When a service does not come up, or something is wrong whatever the time it takes.
pub fn run(what: What) -> Result<()> {
    match what {
        What::Ready { size } => Lab::during(&Scene::of(size), |lab| ready::measure(lab, &size)),
        What::Failover(options) => failover::measure(&options),
        What::Convergence(options) => Lab::during(&stage(), |lab| convergence::measure(lab, &options)),
        What::Churn(options) => Lab::during(&stage(), |lab| churn::measure(lab, &options)),
        What::Lies(options) => Lab::during(&stage(), |lab| lies::measure(lab, &options)),
        What::Topologies(options) => topologies::measure(&options),
        What::Router => router::play(),
        What::All => {
            let size = Size { vnf: 2, masters: 3, workers: 2, storage: 1 };
            Lab::during(&Scene::of(size), |lab| ready::measure(lab, &size))?;
            failover::measure(&failover::Options::default())?;
            Lab::during(&stage(), |lab| {
                convergence::measure(lab, &convergence::Options::default())?;
                churn::measure(lab, &churn::Options::default())?;
                lies::measure(lab, &lies::Options::default())
            })?;
            topologies::measure(&topologies::Options::default())?;
            router::play()
        }
    }
}

/// Real vnf VMs and real masters, of which one leads, before eight plain servers.
pub fn stage() -> Scene {
    Scene::of(Size { vnf: 2, masters: 3, workers: 8, storage: 0 }).plain("worker")
}

/// Requests to OneGate by kind since `before`, scaled to a minute.
fn requests_a_minute(lab: &Lab, before: &BTreeMap<Kind, u64>, elapsed: Duration) -> String {
    let minutes = elapsed.as_secs_f64() / 60.0;
    let mut text = String::new();
    for (kind, after) in lab.front.requests() {
        let count = after - before.get(&kind).copied().unwrap_or_default();
        let _ = writeln!(text, "  {:<20}{:>8.1}", format!("{kind:?}"), count as f64 / minutes);
    }
    text
}

/// The service is up, and so many plain servers stand behind both vnf VMs. May be called again on the same lab.
fn set_stage(lab: &mut Lab, standing: usize) -> Result<Vec<Place>> {
    lab.wait_running(stage().size.total(), story::PATIENCE)?;
    let places = backends::all(lab);
    for (number, place) in places.iter().enumerate() {
        offer(lab, place, number < standing)?;
    }
    lab.wait(
        "both vnf VMs have the plain servers that stand, and no others",
        story::PATIENCE,
        |lab, members| {
            let vnf = members.iter().filter(|member| member.role == "vnf");
            vnf.map(|member| Behind::ask(lab, member.vm)).all(|behind| {
                behind.is_ok_and(|behind| {
                    let mut numbered = places.iter().enumerate();
                    numbered.all(
                        |(n, place)| if n < standing { behind.serves(place) } else { !behind.serves(place) },
                    )
                })
            }) && lab.holder().is_some()
        },
    )?;
    Ok(places)
}

/// So many new connections a second through a listener, from the public network.
fn load(listener: std::net::SocketAddr, rate: u32) -> Result<Probe> {
    let patience = Duration::from_secs(5);
    Probe::start("client", Question::Tcp(listener), Duration::from_secs(1) / rate, patience)
}

/// Prints how many connections there were and how long they took.
///
/// # Errors
/// When one failed: no backend was down, so none may.
fn judge(lab: &mut Lab, attempts: &[Attempt], elapsed: Duration) -> Result<()> {
    let times = attempts.iter().map(|attempt| (attempt.ended - attempt.began).as_secs_f64());
    let mut table = crate::figures::Table::new("seconds");
    table.row("one connection, from SYN to answer", &crate::figures::Figures::of(times), "");
    let mut failures: BTreeMap<&str, u32> = BTreeMap::new();
    for why in attempts.iter().filter_map(|attempt| attempt.outcome.as_ref().err()) {
        *failures.entry(why).or_default() += 1;
    }
    let failed: u32 = failures.values().sum();
    lab.progress.say(&format!(
        "{} connections in {:.0} s ({:.0} a second), {failed} failed (target: 0)\n\n{}",
        attempts.len(),
        elapsed.as_secs_f64(),
        attempts.len() as f64 / elapsed.as_secs_f64(),
        table.text()
    ));
    ensure!(!attempts.is_empty(), "not one connection was tried");
    ensure!(failed == 0, "{failed} connections failed though no backend was down: {failures:?}");
    Ok(())
}

/// Sleeps, but not through an interruption.
fn pause(lab: &mut Lab, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    lab.wait("time passes", length + Duration::from_secs(60), |_, _| Instant::now() >= end)
}
