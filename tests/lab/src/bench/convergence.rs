//! From an attribute in OneGate to the first connection through LB1 that the new server answers, and what OneGate is
//! asked meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use super::{load, pause, requests_a_minute, set_stage};
use crate::backends::offer;
use crate::figures::{Figures, Table};
use crate::lab::Lab;

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

/// Each sample moves one plain server to another port, by its VM's attributes alone: the old offer is withdrawn and the
/// new one made by the same words.
///
/// # Errors
/// When an offer is not served in three minutes.
pub fn measure(lab: &mut Lab, options: &Options) -> Result<()> {
    let places = set_stage(lab, 3)?;
    let movers = &places[..3];
    let (before, began) = (lab.front.requests(), Instant::now());
    let probe = load(50)?;
    let mut times = Vec::new();
    for sample in 1..=options.samples as usize {
        // The golden ratio's fractions are spread evenly, however many are taken.
        pause(lab, Duration::from_secs_f64(options.pause * (sample as f64 * 0.618_034).fract()))?;
        let place = movers[sample % movers.len()].at(sample);
        let (word, told) = (place.word(), Instant::now());
        offer(lab, &place, true)?;
        let served = |word: &str| probe.answered(told, |answer| answer.starts_with(word));
        lab.wait("the new server is connected to", Duration::from_secs(180), |_, _| served(&word).is_some())?;
        let time = served(&word).context("its answer was just there")?.ended - told;
        lab.progress.say(&format!("sample {sample}: {:.2} s", time.as_secs_f64()));
        times.push(time.as_secs_f64());
    }
    let elapsed = began.elapsed();
    let attempts = probe.end()?;
    let mut table = Table::new("seconds");
    table.row("from OneGate to the first connection", &Figures::of(times), "p99 < 3");
    lab.progress.say(&format!("convergence of a backend\n\n{}", table.text()));
    let requests = requests_a_minute(lab, &before, elapsed);
    lab.progress.say(&format!(
        "requests to OneGate a minute meanwhile, 2 vnf VMs and 1 master together ({} of the OwnWrite were the offers)\n\n{requests}",
        options.samples
    ));
    super::judge(lab, &attempts, elapsed)
}
