//! The two long jobs on disks, each started as a systemd unit of its own: format and grow. They outlive the agent.
//!
//! Formatting looks again with the disk locked, right before its first write, by the same rule by which the disk was
//! chosen ([`Record::may_format`]). Beyond that `mkfs` opens the disk exclusively: the kernel refuses it whatever is
//! mounted, swapped to or assembled, also in a mount namespace that is not seen from here.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::{command, disks, files};
use crate::facts::{Contents, Disks, Observed, Place};
use crate::guest::disks::{Record, Stage};

/// Nothing waits for a job; what is stuck for a day will not get loose.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Formats the disk that the record at `path` names, unless that is done.
///
/// # Errors
/// Why it was not formatted; the record then says whether it may be tried again.
pub async fn format(path: &Path) -> anyhow::Result<()> {
    let mut record = match files::read(path) {
        Observed::Known(file) => Record::parse(file.content.expose()).map_err(anyhow::Error::msg)?,
        Observed::Absent => bail!("there is no {}: nothing is to be formatted", path.display()),
        Observed::Unknown(why) => bail!("{why}"),
    };
    if record.stage == Stage::Done {
        return Ok(());
    }
    let device = record.disk(&seen().await?).map_err(anyhow::Error::msg)?.path();
    let lock = lock(Path::new(&device))?;
    let disks = seen().await?;
    let disk = record.may_format(&disks).map_err(anyhow::Error::msg)?;
    ensure!(disk.path() == device, "{device} became {} meanwhile", disk.path());
    let is_blank = disk.contents.known() == Some(&Contents::Blank);
    record.stage = Stage::Begun;
    save(path, &record).await?;
    if !is_blank {
        run("wipefs", &["--all", &device]).await?;
    }
    make(&record, &device).await?;
    lock.sync_all().with_context(|| format!("could not sync {device}"))?;
    check(&record, &device).await?;
    record.stage = Stage::Done;
    save(path, &record).await
}

async fn seen() -> anyhow::Result<Disks> {
    match disks::look(&[]).await {
        Observed::Known(disks) => Ok(disks),
        Observed::Absent => bail!("there are no disks"),
        Observed::Unknown(why) => bail!("{why}"),
    }
}

/// Keeps udev, and a second job, off the disk (systemd's "Locking Block Device Access"). Opened for writing: its close
/// tells udev to look at the disk anew.
fn lock(device: &Path) -> anyhow::Result<Flock<File>> {
    let opened = OpenOptions::new().read(true).write(true).open(device);
    let file = opened.with_context(|| format!("could not open {}", device.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("could not lock {}: something else works on it", device.display()))
}

async fn save(path: &Path, record: &Record) -> anyhow::Result<()> {
    let file = record.file("");
    files::replace(path, file.mode, file.content.as_str(), async |_| Ok(())).await
}

/// Never forced: `mkfs` itself refuses a disk with a signature. Nothing is discarded: a new disk has nothing to
/// discard, and on a large one it can take minutes.
async fn make(record: &Record, device: &str) -> anyhow::Result<()> {
    let Record { uuid, label, .. } = record;
    match record.filesystem.as_str() {
        "xfs" => run("mkfs.xfs", &["-q", "-K", "-L", label, "-m", &format!("uuid={uuid}"), device]).await,
        "ext4" => run("mkfs.ext4", &["-q", "-E", "nodiscard", "-L", label, "-U", uuid, device]).await,
        other => bail!("{other} is none of xfs, ext4"),
    }
}

/// The disk holds what was made, and nothing else.
async fn check(record: &Record, device: &str) -> anyhow::Result<()> {
    let disks = seen().await?;
    let disk = disks.devices.iter().find(|disk| disk.path() == device).context("the disk went away")?;
    let made = disk.contents.known().and_then(Contents::only);
    let is_ours = made.is_some_and(|made| {
        made.kind == record.filesystem && made.uuid.as_deref() == Some(record.uuid.as_str())
    });
    ensure!(is_ours, "{device} does not hold the file system that was made: {:?}", disk.contents);
    Ok(())
}

/// Lets the file system that is mounted at `mountpoint` fill its device; does nothing if it does.
///
/// # Errors
/// What was tried and why it failed.
pub async fn grow(mountpoint: &str) -> anyhow::Result<()> {
    let disks = match disks::look(&[mountpoint.to_owned()]).await {
        Observed::Known(disks) => disks,
        Observed::Absent => bail!("there are no disks"),
        Observed::Unknown(why) => bail!("{why}"),
    };
    match disks.places.get(mountpoint) {
        Some(Observed::Known(Place::Mounted { filesystem, device, .. })) => match filesystem.as_str() {
            "xfs" => run("xfs_growfs", &["-d", mountpoint]).await,
            "ext4" => run("resize2fs", &[device]).await,
            other => bail!("{mountpoint} is {other}, which is not grown here"),
        },
        _ => bail!("nothing is mounted at {mountpoint}"),
    }
}

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let outcome = command::run(program, arguments, LIMIT).await?;
    ensure!(outcome.code == Some(0), "{program} {}: {}", arguments.join(" "), outcome.said);
    Ok(())
}
