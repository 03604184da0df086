//! `oneke-bench-joins`: workers join a master in batches, all of them in this process against RKE2's stand-in; prints
//! how fast and what it costs the master's API. See `docs/measurements.md`, and [`oneke_suite::joins`] for what is real.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use oneke_suite::joins::{Service, run};

const USAGE: &str = "usage: oneke-bench-joins [--workers N]... [--batch N] [--node-ready SECONDS], by default --workers 10 --workers 100";

fn main() -> Result<()> {
    let (mut sizes, mut batch, mut node_ready) = (Vec::new(), 50, 10);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u32>().ok()).context(USAGE)?;
        match name.as_str() {
            "--workers" => sizes.push(value),
            "--batch" => batch = value,
            "--node-ready" => node_ready = value,
            _ => bail!(USAGE),
        }
    }
    if sizes.is_empty() {
        sizes = vec![10, 100];
    }
    for workers in sizes {
        let joined = run(&Service {
            workers,
            batch,
            node_ready: Duration::from_secs(node_ready.into()),
            slow_onegate: true,
            patience: Duration::from_secs(600),
        })?;
        print!("{joined}");
        joined.check()?;
    }
    Ok(())
}
