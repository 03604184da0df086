//! From an attribute in OneGate to the first connection through the vnf that the new server answers, and what OneGate is
//! asked meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use oneke_cloud::{Faults, Kind};

use super::{load, pause, requests_a_minute, set_stage};
use crate::backends::{Place, listener, offer_for};
use crate::figures::{Figures, Table};
use crate::lab::Lab;
use crate::probe::Probe;

/// LB2, which the vnf listens on and no master's agent offers anything for: nobody contradicts what is written there.
const LISTENER: (u8, u16) = (2, 443);
/// A served server is asked at least so often: a connection every 20 ms, a server for each master.
const RATE: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(180);
/// What a real front end takes for a service of this size, in seconds (medians seen on two busy cores).
const ONEGATE_TAKES: [(Kind, f64); 4] =
    [(Kind::OwnRead, 0.012), (Kind::OwnWrite, 0.04), (Kind::ServiceExtended, 0.4), (Kind::OtherWrite, 1.0)];

/// How many servers change.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How many times a server changes its offer.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: u32,
    /// The longest pause between two changes, in seconds: they must not march in step with anybody's polls.
    #[arg(long, default_value_t = 10.0)]
    pub pause: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { samples: 50, pause: 10.0 }
    }
}

/// Each sample writes onto one of the masters, behind its agent's back, that its server is another one. The masters take
/// turns: one of them leads. The old offer is withdrawn and the new one made by the same words.
///
/// # Errors
/// When an offer is not served in three minutes.
pub fn measure(lab: &mut Lab, options: &Options) -> Result<()> {
    let places = set_stage(lab, 3)?;
    let members = lab.members();
    let masters = members.iter().filter(|member| member.role == "master" && !lab.is_plain(&member.role));
    let movers: Vec<(u32, Place)> = masters.map(|master| master.vm).zip(places).collect();
    ensure!(!movers.is_empty(), "there is no real master");
    for (vm, place) in &movers {
        offer_for(lab, *vm, LISTENER, place)?;
    }
    let probe = load(listener(LISTENER.1), RATE)?;
    let began = Instant::now();
    for (_, place) in &movers {
        wait_served(lab, &probe, place, began)?;
    }
    probe.end()?;
    let latency = ONEGATE_TAKES.into();
    lab.set_faults(Faults { latency, ..Faults::default() });
    let measured = sample(lab, options, &movers);
    lab.set_faults(Faults::default());
    for (vm, place) in &movers {
        offer_for(lab, *vm, LISTENER, &Place { port: 0, ..*place })?;
    }
    measured
}

fn sample(lab: &mut Lab, options: &Options, movers: &[(u32, Place)]) -> Result<()> {
    let (before, began) = (lab.front.requests(), Instant::now());
    let probe = load(listener(LISTENER.1), RATE)?;
    let mut times = Vec::new();
    for sample in 1..=options.samples as usize {
        // The golden ratio's fractions are spread evenly, however many are taken.
        pause(lab, Duration::from_secs_f64(options.pause * (sample as f64 * 0.618_034).fract()))?;
        let (vm, place) = movers[sample % movers.len()];
        let (place, told) = (place.at(sample), Instant::now());
        offer_for(lab, vm, LISTENER, &place)?;
        let time = (wait_served(lab, &probe, &place, told)? - told).as_secs_f64();
        lab.progress.say(&format!("sample {sample}, on master-{vm}: {time:.2} s"));
        times.push(time);
    }
    let elapsed = began.elapsed();
    let attempts = probe.end()?;
    let mut table = Table::new("seconds");
    table.row("from OneGate to the first connection", &Figures::of(times), "p99 < 3");
    lab.progress.say(&format!("convergence of a backend\n\n{}", table.text()));
    let requests = requests_a_minute(lab, &before, elapsed);
    lab.progress.say(&format!(
        "requests to OneGate a minute meanwhile, 2 vnf VMs and {} masters together ({} of the OwnWrite were the offers)\n\n{requests}",
        movers.len(),
        options.samples
    ));
    super::judge(lab, &attempts, elapsed)
}

/// When the first connection since `told` ended that the server at this place answered.
fn wait_served(lab: &mut Lab, probe: &Probe, place: &Place, told: Instant) -> Result<Instant> {
    let word = place.word();
    let served = || probe.answered(told, |answer| answer.starts_with(&word));
    lab.wait("the new server is connected to", PATIENCE, |_, _| served().is_some())?;
    Ok(served().context("its answer was just there")?.ended)
}
