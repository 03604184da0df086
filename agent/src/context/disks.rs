//! What nodes read of the context about data disks: which disk is for what, and which may lose what it holds.

use std::fmt;

use super::forms;
use super::node::choice;
use super::reader::Reader;
use super::table::Roles;
use crate::service::Role;

const NODES: Roles = Roles::NODES;

/// Names a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `/dev/vdb`, `/dev/disk/by-id/...`, `/dev/mapper/...`.
    Path(String),
    /// `serial:XYZ`: the serial number or the World Wide Name that the disk itself tells.
    Serial(String),
    /// `disk:2`: OpenNebula's DISK_ID. The guest sees it in the serial number `VMID-DISK_ID` that OpenNebula 7.0 gives
    /// to a disk with `SERIAL = "auto"`.
    DiskId(u32),
    /// `label:NAME`: the file system with this label.
    Label(String),
    /// `blank`: the only disk that holds nothing.
    Blank,
}

impl Selector {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let word = |text: &str| forms::line(text).filter(|word| !word.contains(char::is_whitespace));
        match text.split_once(':') {
            Some(("serial", serial)) => word(serial).map(Self::Serial),
            Some(("disk", id)) => forms::number(id, 0, u32::MAX).map(Self::DiskId),
            Some(("label", label)) => word(label).map(Self::Label),
            _ if text.eq_ignore_ascii_case("blank") => Some(Self::Blank),
            _ => forms::device(text).map(Self::Path),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::DiskId(id) => write!(f, "disk:{id}"),
            Self::Label(label) => write!(f, "label:{label}"),
            Self::Blank => f.write_str("blank"),
        }
    }
}

/// What a data disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Everything of RKE2, `/var/lib/rancher`.
    Rancher,
    /// The cluster's database.
    Etcd,
    /// Images and containers.
    Containerd,
    /// The data of storage nodes: Longhorn's.
    Storage,
}

impl Purpose {
    /// All of them; where one is mounted below another, the upper one comes first.
    pub const ALL: [Self; 4] = [Self::Rancher, Self::Etcd, Self::Containerd, Self::Storage];

    /// One word; also the label of a file system that is made for it (12 bytes at most: XFS).
    pub fn name(self) -> &'static str {
        match self {
            Self::Rancher => "rancher",
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::Storage => "storage",
        }
    }

    /// The variable that names its disk.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Rancher => "ONEAPP_K8S_RANCHER_DEVICE",
            Self::Etcd => "ONEAPP_K8S_ETCD_DEVICE",
            Self::Containerd => "ONEAPP_K8S_CONTAINERD_DEVICE",
            Self::Storage => "ONEAPP_STORAGE_DEVICE",
        }
    }
}

/// A disk that the context wants mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// What for.
    pub purpose: Purpose,
    /// Which disk.
    pub device: &'a Selector,
    /// Where.
    pub mountpoint: &'a str,
}

/// The data disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// `ONEAPP_STORAGE_DEVICE`.
    pub device: Option<Selector>,
    /// `ONEAPP_STORAGE_FILESYSTEM`: xfs or ext4; of every disk that is formatted.
    pub filesystem: String,
    /// `ONEAPP_STORAGE_MOUNTPOINT`.
    pub mountpoint: String,
    /// `ONEAPP_STORAGE_WIPE`: disks that may lose what they hold.
    pub wipe: Vec<Selector>,
    /// `ONEAPP_K8S_RANCHER_DEVICE`.
    pub rancher: Option<Selector>,
    /// `ONEAPP_K8S_ETCD_DEVICE`.
    pub etcd: Option<Selector>,
    /// `ONEAPP_K8S_CONTAINERD_DEVICE`.
    pub containerd: Option<Selector>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            device: None,
            filesystem: "xfs".into(),
            mountpoint: "/var/lib/longhorn".into(),
            wipe: Vec::new(),
            rancher: None,
            etcd: None,
            containerd: None,
        }
    }
}

impl StorageConfig {
    /// What shall be mounted on a node of this role, in the order in which it is.
    pub fn wishes(&self, role: &Role) -> Vec<Wish<'_>> {
        let wish = |purpose| {
            let (device, mountpoint) = match purpose {
                Purpose::Rancher => (self.rancher.as_ref(), "/var/lib/rancher"),
                Purpose::Etcd => {
                    (self.etcd.as_ref().filter(|_| *role == Role::Master), "/var/lib/rancher/rke2/server/db")
                }
                Purpose::Containerd => (self.containerd.as_ref(), "/var/lib/rancher/rke2/agent/containerd"),
                Purpose::Storage => (self.device.as_ref(), self.mountpoint.as_str()),
            };
            Some(Wish { purpose, device: device?, mountpoint })
        };
        Purpose::ALL.into_iter().filter_map(wish).collect()
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let [rancher, etcd, containerd, device] = Purpose::ALL.map(|purpose| {
            let name = purpose.variable();
            // What is no device was no disk to the old scripts, which went on without. A colon is of our own forms.
            let old =
                purpose == Purpose::Storage && !reader.text(name).is_some_and(|text| text.contains(':'));
            match old {
                true => reader.forgiving(name, NODES, "nothing is mounted", Selector::parse),
                false => reader.value(name, NODES, Selector::parse),
            }
        });
        let input = reader.text("ONEAPP_K8S_STORAGE_DEVICE");
        if let (None, Some(input), Some(Role::Storage)) = (&device, input, reader.role()) {
            let message = format!(
                "is unset, although the user input ONEAPP_K8S_STORAGE_DEVICE is {input:?}: the storage VM template must pass it on"
            );
            reader.warn(Purpose::Storage.variable(), message);
        }
        refuse_twice(reader);
        let given = [&rancher, &etcd, &containerd, &device].iter().any(|disk| disk.is_some());
        reader.only_if(given, |reader| Self {
            filesystem: choice(reader, "ONEAPP_STORAGE_FILESYSTEM").unwrap_or_default(),
            mountpoint: reader.value("ONEAPP_STORAGE_MOUNTPOINT", NODES, forms::path).unwrap_or_default(),
            wipe: reader.value("ONEAPP_STORAGE_WIPE", NODES, named_disks).unwrap_or_default(),
            device,
            rancher,
            etcd,
            containerd,
        })
    }
}

/// One disk cannot be two.
fn refuse_twice(reader: &mut Reader<'_>) {
    for (index, second) in Purpose::ALL.into_iter().enumerate() {
        let Some(text) = reader.text(second.variable()).map(str::trim) else { continue };
        let first = Purpose::ALL[..index]
            .iter()
            .find(|first| reader.text(first.variable()).map(str::trim) == Some(text));
        if let Some(first) = first {
            let expected = format!("expected another disk than that of {}", first.variable());
            reader.problem(second.variable(), text, expected);
        }
    }
}

/// Disks by name, separated by commas. `YES` and `blank` are refused: what is to be destroyed has a name.
fn named_disks(text: &str) -> Option<Vec<Selector>> {
    let named = |item| Selector::parse(item).filter(|selector| *selector != Selector::Blank);
    text.split(',').map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_it_is_written() {
        for text in ["/dev/vdb", "/dev/disk/by-id/wwn-0x5000", "serial:7-2", "disk:2", "label:data", "blank"]
        {
            assert_eq!(Selector::parse(text).map(|selector| selector.to_string()).as_deref(), Some(text));
        }
        for wrong in ["vdb", "YES", "serial:", "disk:x", "disk:-1", "label:a b", "/etc/passwd", "uuid:1"] {
            assert_eq!(Selector::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_names_may_be_wiped() {
        assert_eq!(named_disks("/dev/vdb, disk:2").map(|disks| disks.len()), Some(2));
        for wrong in ["YES", "blank", "/dev/vdb,blank", ","] {
            assert_eq!(named_disks(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_masters_have_a_database() {
        let etcd = Some(Selector::Blank);
        let config = StorageConfig { etcd, ..StorageConfig::default() };
        assert_eq!(config.wishes(&Role::Master).len(), 1);
        assert_eq!(config.wishes(&Role::Storage), []);
    }
}
