//! The block devices of this machine, and what stands where they shall be mounted.

use std::collections::BTreeMap;
use std::fmt;

use super::Observed;

/// What was seen of disks and mountpoints.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Disks {
    /// Every block device with a node in `/dev`, partitions included, by kernel name.
    pub devices: Vec<Disk>,
    /// The mountpoints that deciders named, by path.
    pub places: BTreeMap<String, Observed<Place>>,
}

impl Disks {
    /// What forbids to format a disk: the kernel uses it, or has partitions on it. With `wipe` its partitions may go
    /// with it, unless they are in use themselves.
    pub fn busy(&self, disk: &Disk, wipe: bool) -> Option<String> {
        disk.uses.iter().find_map(|using| match using {
            Use::Partition(name) if wipe => {
                let partition = self.devices.iter().find(|device| device.name == *name);
                let used = partition.map_or(Some(using), |partition| partition.uses.first());
                used.map(|used| format!("{}: its partition /dev/{name} {used}", disk.path()))
            }
            using => Some(format!("{} {using}", disk.path())),
        })
    }

    /// The disks that hold nothing but the file system with this UUID.
    pub fn with_uuid<'a>(&'a self, uuid: &'a str) -> impl Iterator<Item = &'a Disk> {
        self.devices.iter().filter(move |disk| {
            let only = disk.contents.known().and_then(Contents::only);
            only.is_some_and(|only| only.uuid.as_deref() == Some(uuid))
        })
    }

    /// A machine on which everything is mounted already: for the worlds in memory.
    pub fn mounted(mountpoints: &[String]) -> Self {
        let place = |path: &String| {
            let (device, filesystem) = ("/dev/vdb".into(), "xfs".into());
            (path.clone(), Observed::Known(Place::Mounted { device, filesystem, size: None }))
        };
        Self { devices: Vec::new(), places: mountpoints.iter().map(place).collect() }
    }
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name: `vdb`.
    pub name: String,
    /// Links that lead to it: `/dev/disk/by-*/*`, `/dev/mapper/*`.
    pub links: Vec<String>,
    /// A whole disk of the machine: no partition, no loop or RAM disk, no optical drive, nothing mapped or assembled.
    pub is_plain: bool,
    /// The serial number that it tells.
    pub serial: Option<String>,
    /// The World Wide Name that it tells.
    pub wwn: Option<String>,
    /// Where it is plugged in: its path below `/sys/devices`, without the kernel's name.
    pub position: String,
    /// Bytes.
    pub size: u64,
    /// The kernel takes no writes.
    pub read_only: bool,
    /// What it is in use for at this moment.
    pub uses: Vec<Use>,
    /// What it holds; not looked at while it is in use.
    pub contents: Observed<Contents>,
}

impl Disk {
    /// `/dev/vdb`.
    pub fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// What stays the same of this very disk over reboots, while kernel names may change: its own number, else where
    /// it is plugged in and its size.
    pub fn identity(&self) -> String {
        match (&self.wwn, &self.serial) {
            (Some(wwn), _) => format!("wwn {wwn}"),
            (None, Some(serial)) => format!("serial {serial}"),
            (None, None) => format!("{} of {} bytes", self.position, self.size),
        }
    }
}

/// What the kernel uses a disk for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Mounted here.
    Mounted(String),
    /// Swapped to.
    Swap,
    /// Part of this device: LVM, RAID, LUKS, bcache, multipath.
    Held(String),
    /// Has this partition.
    Partition(String),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(path) => write!(f, "is mounted at {path}"),
            Self::Swap => write!(f, "is swapped to"),
            Self::Held(name) => write!(f, "is part of /dev/{name}"),
            Self::Partition(name) => write!(f, "has the partition /dev/{name}"),
        }
    }
}

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// No signature, and its first and last mebibyte are all zero.
    Blank,
    /// No signature that `wipefs` knows, but not zero either: it may be somebody's data.
    Unmarked,
    /// What `wipefs` found: file systems, partition tables, LVM, RAID, LUKS, swap, ...
    Marked(Vec<Signature>),
}

impl Contents {
    /// The one signature, if it is the only one.
    pub fn only(&self) -> Option<&Signature> {
        match self {
            Self::Marked(signatures) => match signatures.as_slice() {
                [only] => Some(only),
                _ => None,
            },
            Self::Blank | Self::Unmarked => None,
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Unmarked => f.write_str("bytes of unknown meaning"),
            Self::Marked(signatures) => {
                let kinds: Vec<&str> = signatures.iter().map(|signature| signature.kind.as_str()).collect();
                f.write_str(&kinds.join(" and "))
            }
        }
    }
}

/// A signature, in the words of `wipefs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `xfs`, `gpt`, `LVM2_member`, `crypto_LUKS`, `swap`, ...
    pub kind: String,
    /// Its UUID, if it has one.
    pub uuid: Option<String>,
    /// Its label, if it has one.
    pub label: Option<String>,
}

/// A mountpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing is mounted, and no file lies there; perhaps there is no directory yet.
    Empty,
    /// Nothing is mounted, and this file lies there.
    Holds(String),
    /// Mounted.
    Mounted {
        /// What is mounted: `/dev/vdb`.
        device: String,
        /// Its kind: `xfs`.
        filesystem: String,
        /// The device's size in bytes, if it is one.
        size: Option<u64>,
    },
}
