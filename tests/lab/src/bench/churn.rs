//! Connections through LB1 while backends come and go by their VMs' attributes, and HAProxy is reloaded. Every server
//! lives all the time; only what OneGate says of them changes. So no connection may fail.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{judge, load, set_stage};
use crate::backends::{self, Behind, Place, offer};
use crate::lab::Lab;

/// How much happens, and under which load.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How many times a backend is added or removed.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub changes: u32,
    /// How many times HAProxy is reloaded meanwhile.
    #[arg(long, default_value_t = 10)]
    pub reloads: u32,
    /// New connections a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { changes: 100, reloads: 10, rate: 200 }
    }
}

/// Half of the servers stand all the time, the others come and go together; each change is waited for in the HAProxy
/// that holds the address.
///
/// # Errors
/// When a connection fails, or a change does not arrive in three minutes.
pub fn measure(lab: &mut Lab, options: &Options) -> Result<()> {
    let places = set_stage(lab, 4)?;
    let holder = lab.holder().context("nobody holds the virtual address")?;
    let (began, probe) = (Instant::now(), load(backends::api(), options.rate)?);
    let outcome = change(lab, &places[4..], holder, options);
    let elapsed = began.elapsed();
    let attempts = probe.end()?;
    outcome?;
    lab.progress.say(&format!(
        "backends added and removed {} times, HAProxy reloaded {} times",
        options.changes, options.reloads
    ));
    judge(lab, &attempts, elapsed)?;
    ensure!(
        lab.holder() == Some(holder),
        "the virtual address moved meanwhile: the figures are not of one HAProxy"
    );
    Ok(())
}

/// All movers at once: what one pass of the agent has to do at a time.
fn change(lab: &mut Lab, movers: &[Place], holder: u32, options: &Options) -> Result<()> {
    let mut done = 0;
    while done < options.changes {
        let stands = (done as usize / movers.len()).is_multiple_of(2);
        let now: Vec<Place> = movers.iter().take((options.changes - done) as usize).copied().collect();
        for place in &now {
            offer(lab, place, stands)?;
        }
        lab.wait("the change is in HAProxy", Duration::from_secs(180), |lab, _| {
            Behind::ask(lab, holder)
                .is_ok_and(|behind| now.iter().all(|place| behind.serves(place) == stands))
        })?;
        // Reloads are spread evenly over the changes.
        let due = |changes: u32| changes * options.reloads / options.changes;
        let before = done;
        done += now.len() as u32;
        for _ in due(before)..due(done) {
            lab.run_inside(holder, &["systemctl", "reload", "haproxy"])?;
        }
        lab.progress.say(&format!("{done} changes"));
    }
    Ok(())
}
