//! A machine with one loop device for a disk. The agent's files are kept in memory, its record in a directory; starting
//! a unit does at once what the unit would do.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use oneke_agent::context::{Config, Vars};
use oneke_agent::driver::Interests;
use oneke_agent::facts::{self, Active, Contents, Disks, Facts, Observed, Place, Unit};
use oneke_agent::guest::disks::{self, Record, Stage, mount_path};
use oneke_agent::plan::{Decision, Effect, Secret};
use oneke_agent::service::Role;
use oneke_agent::world;

const TOOLS: [&str; 9] = [
    "losetup",
    "wipefs",
    "mkfs.xfs",
    "mkfs.ext4",
    "mkfs.ext2",
    "mkswap",
    "xfs_growfs",
    "resize2fs",
    "unshare",
];

/// Whether disks can be made here.
pub fn able() -> bool {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |program: &&str| places.iter().any(|place| Path::new(place).join(program).exists());
    let missing =
        TOOLS.iter().find(|program| !is_there(program)).map(|tool| format!("{tool} is not installed"));
    let probe = || Command::new("losetup").arg("--find").output();
    let refused =
        || (!probe().is_ok_and(|found| found.status.success())).then(|| "no loop device".to_owned());
    let Some(why) = missing.or_else(refused) else { return true };
    assert!(std::env::var_os("ONEKE_OWNERS").is_none(), "ONEKE_OWNERS is set, but {why}");
    println!("left out: {why}");
    false
}

/// Whether the kernel lets root resize ext4: some containers lack CAP_SYS_RESOURCE (24, linux/capability.h).
pub fn may_resize() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(effective, 16).unwrap() & (1 << 24) != 0
}

/// Runs a program that must succeed.
pub fn ran(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A loop device; detached when it is dropped.
pub struct Disk {
    device: String,
    image: tempfile::NamedTempFile,
}

impl Disk {
    /// XFS takes no less than 300 MiB.
    pub const SIZE: u64 = 320 << 20;

    pub fn blank() -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(Self::SIZE).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { device: String::from_utf8(output.stdout).unwrap().trim().to_owned(), image }
    }

    pub fn path(&self) -> String {
        self.device.clone()
    }

    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.device).unwrap()
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        let file = self.open();
        file.write_all_at(bytes, at).unwrap();
        file.sync_all().unwrap();
    }

    /// Its ends, and how much was ever written to it.
    pub fn fingerprint(&self) -> (Vec<u8>, u64) {
        let file = self.open();
        file.sync_all().unwrap();
        let mut bytes = vec![0; 8 << 20];
        let (first, last) = bytes.split_at_mut(4 << 20);
        file.read_exact_at(first, 0).unwrap();
        file.read_exact_at(last, Self::SIZE - (4 << 20)).unwrap();
        (bytes, self.image.as_file().metadata().unwrap().blocks())
    }

    /// As if only this part had reached the disk.
    pub fn keep_only(&self, range: Range<u64>) {
        let file = self.open();
        let mut kept = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut kept, range.start).unwrap();
        let zeros = vec![0; 1 << 20];
        for at in (0..Self::SIZE).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).unwrap();
        }
        file.write_all_at(&kept, range.start).unwrap();
        file.sync_all().unwrap();
    }

    pub fn grow(&self) {
        self.image.as_file().set_len(Self::SIZE * 2).unwrap();
        ran("losetup", &["--set-capacity", &self.device]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that failed may have left it mounted; then it goes with the mount.
        Command::new("losetup").args(["--detach", &self.device]).output().ok();
    }
}

pub struct Machine {
    config: Config,
    device: String,
    directory: tempfile::TempDir,
    files: BTreeMap<String, facts::File>,
    loaded: Option<String>,
    format_failed: bool,
    last: Decision,
}

impl Machine {
    pub fn new(disk: &Disk, variables: &str) -> Self {
        Self::named(&disk.path(), variables)
    }

    pub fn named(device: &str, variables: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Each disk has a VM of its own, and so a UUID: the kernel mounts no XFS twice.
        let vm = device.strip_prefix("/dev/loop").unwrap_or("1000");
        let context = format!(
            "VMID='{vm}'\nSERVICE_ID='4'\nONEAPP_STORAGE_DEVICE='{device}'\nONEAPP_STORAGE_MOUNTPOINT='{}/mnt'\n{variables}",
            directory.path().display()
        );
        Self {
            config: Config::read(&Vars::parse(&context).unwrap(), Some(Role::Storage)).unwrap(),
            device: device.to_owned(),
            directory,
            files: BTreeMap::new(),
            loaded: None,
            format_failed: false,
            last: Decision::default(),
        }
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    fn record_path(&self) -> PathBuf {
        self.directory.path().join("storage.toml")
    }

    fn look(&self) -> Disks {
        let mountpoint = self.mountpoint().to_str().unwrap().to_owned();
        match runtime().block_on(world::disks::look(&[mountpoint])) {
            Observed::Known(disks) => disks,
            other => panic!("{other:?}"),
        }
    }

    fn facts(&self) -> Facts {
        let mut interests = Interests::default();
        disks::interests(&self.config, &Role::Storage, &mut interests);
        let mut facts = Facts { disks: Observed::Known(self.look()), ..Facts::default() };
        for path in interests.files {
            let file = if path == Record::path("storage") {
                std::fs::read_to_string(self.record_path())
                    .ok()
                    .map(|text| facts::File { mode: 0o644, content: Secret::new(text) })
            } else {
                self.files.get(&path).cloned()
            };
            facts.files.insert(path, file.map_or(Observed::Absent, Observed::Known));
        }
        for name in interests.units {
            let failed = self.format_failed && name.starts_with("oneke-format@");
            let unit = Unit {
                active: if failed { Active::Failed } else { Active::Inactive },
                enabled: false,
                restarts: 0,
                status: String::new(),
                loaded: self.loaded.clone(),
            };
            facts.units.insert(name, Observed::Known(unit));
        }
        facts
    }

    fn pass(&mut self) -> Vec<Effect> {
        self.last = Decision::default();
        disks::decide(&self.config, &self.facts(), &Role::Storage, &mut self.last);
        [self.last.asides.clone(), self.last.effects.clone()].concat()
    }

    /// Applies and decides until nothing is left to do; the condition's status and reason.
    pub fn settle(&mut self) -> String {
        for _ in 0..10 {
            let effects = self.pass();
            if effects.is_empty() {
                let condition = &self.last.conditions[0];
                return format!("{:?} {}", condition.status, condition.reason);
            }
            effects.iter().for_each(|effect| self.apply(effect));
        }
        panic!("still deciding: {:?}", self.last);
    }

    /// Goes on until a disk was chosen, and no further.
    pub fn choose(&mut self) {
        for effect in self.pass() {
            if matches!(effect, Effect::WriteFile(_)) {
                self.apply(&effect);
            }
        }
        assert!(self.record_path().exists(), "{:?}", self.last.conditions);
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::WriteFile(file) if file.path == Record::path("storage") => {
                std::fs::write(self.record_path(), file.content.as_str()).unwrap();
            }
            Effect::WriteFile(file) => {
                let written = facts::File { mode: file.mode, content: Secret::new(file.content.as_str()) };
                self.files.insert(file.path.clone(), written);
            }
            Effect::EnableUnit(_) => {}
            Effect::StartUnit(unit) if unit.starts_with("oneke-format@") => {
                self.format_failed = self.format().is_err();
            }
            Effect::StartUnit(_) => self.mount(),
            Effect::LoadConfig { digest, .. } => {
                let mountpoint = self.mountpoint();
                let grown = runtime().block_on(world::grow(mountpoint.to_str().unwrap()));
                grown.unwrap_or_else(|error| assert!(!may_resize(), "{error:#}"));
                self.loaded = Some(digest.clone());
            }
            other => panic!("a disk is not asked to {other}"),
        }
    }

    /// What oneke-format@storage.service does.
    pub fn format(&self) -> Result<(), String> {
        runtime().block_on(world::format(&self.record_path())).map_err(|error| format!("{error:#}"))
    }

    fn mount(&self) {
        let text = self.files[&mount_path(self.mountpoint().to_str().unwrap())].content.expose().to_owned();
        let uuid = text.lines().find_map(|line| line.strip_prefix("What=/dev/disk/by-uuid/")).unwrap();
        let disks = self.look();
        let disk = disks.devices.iter().find(|disk| {
            disk.uses.is_empty()
                && disk.path() == self.path_of(&disks)
                && disk.contents.known().and_then(Contents::only).and_then(|only| only.uuid.as_deref())
                    == Some(uuid)
        });
        std::fs::create_dir_all(self.mountpoint()).unwrap();
        ran("mount", &[&disk.expect("the file system is there").path(), self.mountpoint().to_str().unwrap()]);
    }

    /// The device, if it was named otherwise than by its path.
    fn path_of(&self, disks: &Disks) -> String {
        let label = self.device.strip_prefix("label:");
        let labelled = disks.devices.iter().find(|disk| {
            let only = disk.contents.known().and_then(Contents::only);
            label.is_some() && only.and_then(|only| only.label.as_deref()) == label
        });
        labelled.map_or_else(|| self.device.clone(), facts::Disk::path)
    }

    pub fn power_off(&mut self) {
        if self.mounted().is_some() {
            ran("umount", &[self.mountpoint().to_str().unwrap()]);
        }
        self.loaded = None;
    }

    /// The kind of file system that is mounted.
    pub fn mounted(&self) -> Option<String> {
        match self.look().places.into_values().next() {
            Some(Observed::Known(Place::Mounted { filesystem, .. })) => Some(filesystem),
            _ => None,
        }
    }

    /// What the disk holds, in the agent's words.
    pub fn contents(&self) -> String {
        let disks = self.look();
        let disk = disks.devices.iter().find(|disk| disk.path() == self.device).unwrap();
        disk.contents.known().map(ToString::to_string).unwrap_or_default()
    }

    pub fn set_stage(&self, stage: Stage) -> Record {
        let mut record = Record::parse(&std::fs::read_to_string(self.record_path()).unwrap()).unwrap();
        record.stage = stage;
        std::fs::write(self.record_path(), record.file("storage").content.as_str()).unwrap();
        record
    }

    /// The UUID that `blkid` sees.
    pub fn uuid(&self) -> Option<String> {
        let output = Command::new("blkid").args(["-p", "-s", "UUID", "-o", "value", &self.device]).output();
        Some(String::from_utf8(output.ok()?.stdout).ok()?.trim().to_owned())
    }

    /// Bytes of the mounted file system.
    pub fn size(&self) -> u64 {
        let output = Command::new("stat")
            .args(["--file-system", "--format=%b %S"])
            .arg(self.mountpoint())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.mounted().is_some() {
            Command::new("umount").arg(self.mountpoint()).output().ok();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
