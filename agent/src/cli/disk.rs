//! `oneke-agent disk`: what the units oneke-format@ and oneke-grow@ run.

use std::path::Path;

use anyhow::Context;

use super::{Disk, Exit, runtime};
use crate::context::Purpose;
use crate::guest::disks::Record;
use crate::world;

/// Does the job.
pub fn disk(job: &Disk) -> anyhow::Result<Exit> {
    match job {
        Disk::Format { purpose } => {
            let known = Purpose::ALL.into_iter().find(|known| known.name() == purpose);
            let purpose = known.with_context(|| format!("{purpose} is no purpose of a disk"))?;
            runtime()?.block_on(world::format(Path::new(&Record::path(purpose.name()))))?;
        }
        Disk::Grow { mountpoint } => runtime()?.block_on(world::grow(mountpoint))?,
    }
    Ok(Exit::Done)
}
