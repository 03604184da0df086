//! The disk labelled CONTEXT: which one it is, what it looks like from outside, and how to read one that is no image.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::iso9660::Image;

/// The label that oned gives its disk.
pub(super) const LABEL: &str = "CONTEXT";
/// How much of a file system that is no image its look from outside covers.
const PROBED: u64 = 64 << 10;

/// The device with the label; the error is of a device that could not be asked, if no other has it.
pub(super) fn find(link: &Path, blocks: &Path, devices: &Path) -> anyhow::Result<Option<PathBuf>> {
    if let Ok(device) = link.canonicalize() {
        return Ok(Some(device));
    }
    let Ok(entries) = blocks.read_dir() else { return Ok(None) };
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| !["loop", "ram", "zram"].iter().any(|kind| name.starts_with(kind)));
    names.sort();
    let mut unseen = None;
    for name in names {
        let device = devices.join(name);
        match label(&device) {
            Ok(label) if label.as_deref() == Some(LABEL) => return Ok(Some(device)),
            Ok(_) => {}
            Err(error) => unseen = Some(error),
        }
    }
    unseen.map_or(Ok(None), Err)
}

/// The label of the file system on a device, of the kinds that are probed here. A drive without a medium and a device
/// without a node (another container's) have none.
fn label(device: &Path) -> anyhow::Result<Option<String>> {
    let looking = || format!("could not look for a label on {}", device.display());
    let mut file = match File::open(device) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(looking),
    };
    if let Some(label) = ext_label(&mut file).with_context(looking)? {
        return Ok(Some(label));
    }
    Ok(Image::open(file).with_context(looking)?.map(|image| image.label()))
}

fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    error.kind() == io::ErrorKind::NotFound || matches!(code, Some(Errno::ENOMEDIUM | Errno::ENXIO))
}

/// `s_volume_name` of an ext2, ext3 or ext4 superblock (linux/Documentation/filesystems/ext4/super.rst).
fn ext_label(file: &mut File) -> io::Result<Option<String>> {
    let mut superblock = Vec::new();
    file.seek(SeekFrom::Start(1024))?;
    file.take(1024).read_to_end(&mut superblock)?;
    if superblock.get(0x38..0x3a) != Some(&[0x53, 0xef]) {
        return Ok(None);
    }
    let name = superblock.get(0x78..0x88).unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()))
}

/// An image by its description and root directory; another file system by its first part, which holds the times of
/// ext's superblock and the root directory of a small FAT: without a mount.
pub(super) fn outside(device: &Path) -> anyhow::Result<String> {
    let looking = || format!("could not read the context disk {}", device.display());
    let file = File::open(device).with_context(looking)?;
    let bytes = match Image::open(file).with_context(looking)? {
        Some(mut image) => image.fingerprint().with_context(looking)?,
        None => {
            let mut bytes = Vec::new();
            File::open(device)
                .with_context(looking)?
                .take(PROBED)
                .read_to_end(&mut bytes)
                .with_context(looking)?;
            bytes
        }
    };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{} {hex}", device.display()))
}

/// A file system that is mounted read-only in a private directory until this is dropped.
pub(super) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Kinds that oned or people put a context on; the kernel tells which it is.
    const KINDS: [(&str, Option<&str>); 4] =
        // Without `noload` even a read-only mount replays the journal, that is, writes to the disk.
        [("ext4", Some("noload")), ("vfat", None), ("xfs", Some("norecovery")), ("udf", None)];

    pub(super) fn new(device: &Path) -> anyhow::Result<Self> {
        let directory =
            tempfile::tempdir_in("/run").context("could not make a directory for the context disk")?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let mut faults = Vec::new();
        for (kind, options) in Self::KINDS {
            match mount(Some(device), directory.path(), Some(kind), flags, options) {
                Ok(()) => return Ok(Self(directory)),
                Err(error) => faults.push(format!("{kind}: {error}")),
            }
        }
        bail!("could not mount the context disk {} ({})", device.display(), faults.join("; "))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A lazy unmount fails only if nothing is mounted, and then there is nothing to undo.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}
