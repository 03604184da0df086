//! The kernel's list of block devices, and what it uses each for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::places::Mounts;
use crate::facts::{Disk, Observed, Use};

const CLASS: &str = "/sys/class/block";
/// Kernel names of what is no disk of the machine itself: loop, RAM, network, optical, floppy, assembled, mapped.
const NOT_PLAIN: [&str; 10] = ["loop", "ram", "zram", "nbd", "sr", "fd", "dm-", "md", "bcache", "rbd"];
/// The kernel counts sizes in these, whatever the disk's own are.
const SECTOR: u64 = 512;

/// Every device that has a size and a node in `/dev`; a container sees others' in `/sys` as well.
pub(super) fn devices(mounts: &Mounts) -> anyhow::Result<Vec<Disk>> {
    let links = links();
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(CLASS).with_context(|| format!("could not list {CLASS}"))? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    let seen =
        |name: &String| Path::new("/dev").join(name).exists() && size_of(name).is_some_and(|size| size > 0);
    Ok(names.into_iter().filter(seen).map(|name| disk(name, &links, mounts)).collect())
}

fn disk(name: String, links: &[(String, String)], mounts: &Mounts) -> Disk {
    let directory = Path::new(CLASS).join(&name);
    let is_partition = directory.join("partition").exists();
    Disk {
        links: links.iter().filter(|(_, target)| *target == name).map(|(link, _)| link.clone()).collect(),
        is_plain: !is_partition && !NOT_PLAIN.iter().any(|kind| name.starts_with(kind)),
        serial: serial(&directory),
        wwn: attribute(&directory, "wwid").or_else(|| attribute(&directory, "device/wwid")),
        position: position(&directory, is_partition),
        size: size_of(&name).unwrap_or_default(),
        read_only: attribute(&directory, "ro").as_deref() == Some("1"),
        uses: uses(&directory, &name, mounts),
        contents: Observed::default(),
        name,
    }
}

/// One line of a device's directory; `None` if there is none, or it is empty.
fn attribute(directory: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(directory.join(name)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim().trim_matches('\0').trim().to_owned()).filter(|text| !text.is_empty())
}

/// Of virtio disks, NVMe, and SCSI disks by their page 0x80, whose text starts after four bytes (SPC-4, 7.8.15).
fn serial(directory: &Path) -> Option<String> {
    attribute(directory, "serial").or_else(|| attribute(directory, "device/serial")).or_else(|| {
        let page = fs::read(directory.join("device/vpd_pg80")).ok()?;
        let text = String::from_utf8_lossy(page.get(4..)?).trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    })
}

fn position(directory: &Path, is_partition: bool) -> String {
    let plugged = directory.join("device").canonicalize().or_else(|_| directory.canonicalize());
    // A partition is plugged in where its disk is; its number tells it apart.
    let (plugged, part) = match (is_partition, directory.canonicalize()) {
        (true, Ok(own)) => (
            own.parent().and_then(|disk| disk.join("device").canonicalize().ok()).or(Some(own)),
            attribute(directory, "partition").map(|number| format!("/partition {number}")),
        ),
        (true | false, _) => (plugged.ok(), None),
    };
    let plugged = plugged.unwrap_or_else(|| PathBuf::from(directory));
    let plugged = plugged.strip_prefix("/sys/devices").unwrap_or(&plugged);
    format!("{}{}", plugged.display(), part.unwrap_or_default())
}

fn uses(directory: &Path, name: &str, mounts: &Mounts) -> Vec<Use> {
    let number = attribute(directory, "dev").unwrap_or_default();
    let mut uses: Vec<Use> = mounts.of(&number).map(|path| Use::Mounted(path.to_owned())).collect();
    uses.extend(mounts.swaps.iter().any(|swap| swap == name).then_some(Use::Swap));
    uses.extend(children(&directory.join("holders")).map(Use::Held));
    let partitions = children(directory).filter(|child| directory.join(child).join("partition").exists());
    uses.extend(partitions.map(Use::Partition));
    uses
}

fn children(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names.into_iter()
}

/// Links below `/dev` with the kernel name that each leads to.
fn links() -> Vec<(String, String)> {
    let kinds = children(Path::new("/dev/disk")).map(|kind| Path::new("/dev/disk").join(kind));
    let mut links = Vec::new();
    for directory in kinds.chain(["/dev/mapper".into()]) {
        for link in children(&directory).map(|name| directory.join(name)) {
            let target = link.canonicalize().ok();
            let name =
                target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            links.extend(name.map(|name| (link.to_string_lossy().into_owned(), name)));
        }
    }
    links
}

/// The kernel name of a device number, if it is a block device's.
pub(super) fn name_of(number: &str) -> Option<String> {
    let directory = Path::new("/sys/dev/block").join(number).canonicalize().ok()?;
    Some(directory.file_name()?.to_string_lossy().into_owned())
}

/// Bytes.
pub(super) fn size_of(name: &str) -> Option<u64> {
    attribute(&Path::new(CLASS).join(name), "size")?.parse::<u64>().ok().map(|sectors| sectors * SECTOR)
}
