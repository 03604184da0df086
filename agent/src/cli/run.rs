//! `oneke-agent run`: the loop, for ever.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Exit, Run};
use crate::driver::{Driver, Event, FAREWELL_LASTS};
use crate::world::status_file::{DIRECTORY, Lock, last};
use crate::world::{ContextReader, Machine, journal};

/// `status` holds the lock for an instant while it looks.
const LOCK_ATTEMPTS: u32 = 20;

/// Runs until it is told to stop.
pub fn run(arguments: &Run) -> anyhow::Result<Exit> {
    let directory = Path::new(DIRECTORY);
    let _lock = lock(directory)?;
    journal::open(arguments.verbose);
    // Only the times of conditions are continued from it: a report that does not read costs those.
    let earlier = last(directory).ok().flatten().map(|(report, _)| report);
    let runtime = super::runtime()?;
    let outcome = runtime.block_on(async {
        let context = ContextReader::new(arguments.context.as_deref());
        let mut machine = Machine::new(context);
        machine.listen().context("could not take over the process's signals")?;
        tracing::info!("oneke-agent {} starts", env!("CARGO_PKG_VERSION"));
        let mut driver = Driver::resume(earlier);
        if driver.run(&mut machine).await == Event::GoesDown {
            tracing::info!("the machine goes down: saying farewell");
            let farewell = driver.farewell(&mut machine);
            if tokio::time::timeout(FAREWELL_LASTS, farewell).await.is_err() {
                tracing::warn!("not all was told within {} s", FAREWELL_LASTS.as_secs());
            }
        }
        tracing::info!("oneke-agent stops: it was asked to");
        Ok(Exit::Done)
    });
    // A name that is still being resolved, or a disk that hangs, holds up nobody's shutdown.
    runtime.shutdown_background();
    outcome
}

fn lock(directory: &Path) -> anyhow::Result<Lock> {
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(lock) = Lock::take(directory)? {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "another oneke-agent runs already (see systemctl status oneke-agent): two would undo each other's work"
    )
}
