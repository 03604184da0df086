//! What is mounted where, and whether files lie where something shall be mounted.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

use super::sysfs;
use crate::facts::{Observed, Place};

/// The mounts of this machine.
pub(super) struct Mounts {
    /// By mountpoint, the upmost: device number and kind of file system.
    by_path: BTreeMap<String, (String, String)>,
    /// Kernel names of what is swapped to.
    pub(super) swaps: Vec<String>,
}

impl Mounts {
    pub(super) fn read() -> anyhow::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("could not read the mounts")?;
        // A kernel without swap has no such file.
        let swaps = match std::fs::read_to_string("/proc/swaps") {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("could not read the swaps"),
        };
        Ok(Self::parse(&mounts, &swaps))
    }

    fn parse(mountinfo: &str, swaps: &str) -> Self {
        // 36 35 98:0 /root /mount/point options [tag]... - type source superoptions (proc(5))
        let mount = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ');
            let number = fields.nth(2)?.to_owned();
            let path = unescaped(fields.nth(1)?);
            Some((path, (number, after.split(' ').next()?.to_owned())))
        };
        let swap = |line: &str| Some(line.split_whitespace().next()?.strip_prefix("/dev/")?.to_owned());
        Self {
            by_path: mountinfo.lines().filter_map(mount).collect(),
            swaps: swaps.lines().filter_map(swap).collect(),
        }
    }

    /// Where the device with this number is mounted.
    pub(super) fn of<'a>(&'a self, number: &'a str) -> impl Iterator<Item = &'a str> {
        self.by_path.iter().filter(move |(_, mount)| mount.0 == number).map(|(path, _)| path.as_str())
    }
}

/// `\040` and the like stand for characters (proc(5)).
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, character)| text.replace(escaped, character))
}

/// What stands at a mountpoint.
pub(super) fn place(path: &str, mounts: &Mounts) -> Observed<Place> {
    if let Some((number, filesystem)) = mounts.by_path.get(path) {
        let name = sysfs::name_of(number);
        return Observed::Known(Place::Mounted {
            size: name.as_ref().and_then(|name| sysfs::size_of(name)),
            device: name.map_or_else(|| filesystem.clone(), |name| format!("/dev/{name}")),
            filesystem: filesystem.clone(),
        });
    }
    match first_file(Path::new(path)) {
        Ok(None) => Observed::Known(Place::Empty),
        Ok(Some(file)) => Observed::Known(Place::Holds(file)),
        Err(error) => Observed::Unknown(format!("could not look into {path}: {error}")),
    }
}

/// A file, link or anything else that is no directory, at or below a path.
fn first_file(path: &Path) -> std::io::Result<Option<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            return Ok(Some(entry.path().to_string_lossy().into_owned()));
        }
        if let Some(file) = first_file(&entry.path())? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mounts_and_swaps() {
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            30 22 254:16 / /var/lib/longhorn rw - xfs /dev/vdb rw,attr2\n\
            31 22 254:32 /sub /mnt/a\\040b rw shared:3 master:2 - ext4 /dev/vdc rw\n";
        let swaps =
            "Filename\tType\tSize\tUsed\tPriority\n/dev/vdd    partition 1 0 -2\n/swapfile file 1 0 -3\n";
        let read = Mounts::parse(mounts, swaps);
        assert_eq!(read.by_path["/var/lib/longhorn"], ("254:16".into(), "xfs".into()));
        assert_eq!(read.of("254:32").collect::<Vec<_>>(), ["/mnt/a b"]);
        assert_eq!(read.swaps, ["vdd"]);
    }

    #[test]
    fn empty_directories_are_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let first = |name: &str| first_file(&directory.path().join(name)).unwrap();
        std::fs::create_dir_all(directory.path().join("a/b/c")).unwrap();
        assert_eq!((first("a"), first("none")), (None, None));
        std::fs::write(directory.path().join("a/b/file"), "").unwrap();
        assert!(first("a").is_some_and(|file| file.ends_with("/a/b/file")));
    }
}
