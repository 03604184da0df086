//! Disks and mountpoints as the kernel and `wipefs` show them. Reads only.
//!
//! What is in use is not opened. A disk that hangs hangs beside the loop: its facts come late, nothing else does.

mod contents;
mod places;
mod sysfs;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use self::contents::contents;
use self::places::{Mounts, place};
use super::background::Background;
use crate::facts::{Disk, Disks, Observed, Place, Use};

/// A look takes some milliseconds a disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The disks, as the agent meets them.
pub struct BlockDevices {
    looks: Background<Observed<Disks>>,
}

impl BlockDevices {
    /// Not looked at yet; a late answer notifies `wake`.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { looks: Background::new(wake) }
    }

    /// The disks and what stands at these mountpoints; nothing if there are none.
    pub async fn observe(&mut self, mountpoints: &[String]) -> Observed<Disks> {
        if mountpoints.is_empty() {
            return Observed::default();
        }
        let wanted = mountpoints.to_vec();
        let look =
            move || -> Box<dyn Future<Output = _> + Send> { Box::new(async move { look(&wanted).await }) };
        let answer = self.looks.ask(PATIENCE, look).await;
        answer.unwrap_or_else(|| Observed::Unknown("a disk does not answer".into()))
    }
}

/// One look. Contents are read only while a mountpoint lacks its disk, and only of disks that are not in use.
pub async fn look(mountpoints: &[String]) -> Observed<Disks> {
    match try_look(mountpoints).await {
        Ok(disks) => Observed::Known(disks),
        Err(error) => Observed::Unknown(format!("could not look at the disks: {error:#}")),
    }
}

async fn try_look(mountpoints: &[String]) -> anyhow::Result<Disks> {
    let mounts = Mounts::read()?;
    let places: BTreeMap<String, Observed<Place>> =
        mountpoints.iter().map(|path| (path.clone(), place(path, &mounts))).collect();
    let all_mounted = places.values().all(|place| matches!(place, Observed::Known(Place::Mounted { .. })));
    let mut devices = sysfs::devices(&mounts)?;
    for disk in &mut devices {
        disk.contents = if all_mounted && !mountpoints.is_empty() {
            Observed::Unknown("nothing is to be mounted".into())
        } else {
            contents_of(disk).await
        };
    }
    Ok(Disks { devices, places })
}

async fn contents_of(disk: &Disk) -> Observed<crate::facts::Contents> {
    match disk.uses.first() {
        // A disk with partitions is told apart by its table all the same; a mounted or assembled one is not touched.
        Some(using @ (Use::Mounted(_) | Use::Swap | Use::Held(_))) => {
            Observed::Unknown(format!("it {using}"))
        }
        Some(Use::Partition(_)) | None => contents(Path::new(&disk.path())).await,
    }
}
