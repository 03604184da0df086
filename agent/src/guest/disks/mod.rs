//! Decides for the data disks of a node: found, formatted if they may be, mounted, grown; RKE2 waits for them.
//!
//! ```text
//!  New ──blank, or wiped by name──▶ Recorded ──oneke-format@PURPOSE──▶ Done ──┐
//!   │                                  ▲  └─ power loss: formatted again ─┘   ├──▶ Established ──▶ Mounted
//!   └──has xfs or ext4: as it is ─────────────────────────────────────────────┘    (unit file)    grows with its disk
//! ```
//!
//! What is never done here: format a disk that holds anything and is not named in ONEAPP_STORAGE_WIPE; replace the disk
//! of an established mount by another, however blank; mount over files. Whatever could not be seen is waited for.
//! systemd mounts at boot without the agent; the agent only makes the mount, and explains.

mod record;
mod select;
mod units;

use std::time::Duration;

use crate::context::{Config, Purpose, Wish};
use crate::driver::Interests;
use crate::facts::{Active, Disk, Disks, Facts, Observed, Place};
use crate::plan::{Condition, Content, Decision, Effect, FileSpec, Load};
use crate::service::Role;

pub use record::{Record, Stage, own_uuid};
use select::{Choice, Choosing, Refusal};
pub use units::{format_unit, grow_unit, mount_path, mount_unit};

/// RKE2's configuration: the node is new until it is there.
const CONFIG: &str = "/etc/rancher/rke2/config.yaml";
/// How often it is looked while something of the disks is waited for.
const LOOK: Duration = Duration::from_secs(2);

/// How often this VM is looked up while RKE2 is held.
const ASK_OWN: Duration = Duration::from_secs(10);

/// Whether RKE2 may be thought of in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Every disk that it needs is mounted.
    Free,
    /// Not yet; the conditions say why.
    Held,
}

/// What is looked at for the disks.
pub fn interests(config: &Config, role: &Role, interests: &mut Interests) {
    let wishes = config.node.storage.wishes(role);
    if wishes.is_empty() {
        return;
    }
    interests.files.extend([CONFIG.to_owned(), units::drop_in_path(role)]);
    interests.units.push(units::rke2_unit(role).to_owned());
    for wish in wishes {
        interests.mountpoints.push(wish.mountpoint.to_owned());
        interests.files.extend([mount_path(wish.mountpoint), Record::path(wish.purpose.name())]);
        interests.units.extend([
            mount_unit(wish.mountpoint),
            format_unit(wish.purpose),
            grow_unit(wish.mountpoint),
        ]);
    }
    // Other deciders look at some of these as well.
    interests.files.sort();
    interests.files.dedup();
    interests.units.sort();
    interests.units.dedup();
}

/// What the disks need.
pub fn decide(config: &Config, facts: &Facts, role: &Role, decision: &mut Decision) -> Passage {
    let wishes = config.node.storage.wishes(role);
    if wishes.is_empty() {
        return Passage::Free;
    }
    let drop_in = public(units::drop_in_path(role), units::drop_in_text(&wishes));
    write_if_different(facts, drop_in, decision);
    let is_new = facts.file(CONFIG).is_absent();
    let runs = facts.unit(units::rke2_unit(role)).known().is_some_and(|unit| unit.active == Active::Active);
    let taken = taken(&wishes, facts);
    let mut pass = Pass { config, facts, wishes: &wishes, is_new, taken, waiting: Vec::new() };
    let mut passage = Passage::Free;
    for wish in &wishes {
        let condition = pass.one(wish, decision);
        if condition.status != crate::plan::Status::True {
            pass.waiting.push(wish.mountpoint);
            decision.look_again_within(LOOK);
            if is_new || (wish.purpose != Purpose::Storage && lacks_its_disk(wish, facts, runs)) {
                passage = Passage::Held;
            }
        }
        decision.conditions.push(condition);
    }
    if passage == Passage::Held {
        decision.reads.me = ASK_OWN;
    }
    passage
}

/// True if what RKE2 keeps at this mountpoint is on a disk, and that is not mounted: for RKE2 it is as if it had never
/// been. A disk that is only wished for yet holds nothing of it.
fn lacks_its_disk(wish: &Wish<'_>, facts: &Facts, runs: bool) -> bool {
    let is_established = !facts.file(&mount_path(wish.mountpoint)).is_absent();
    // RKE2 does not start without it, so while RKE2 runs it is there, seen or not.
    let is_unseen = matches!(place(wish, facts), Observed::Unknown(_));
    is_established && !(is_unseen && runs)
}

/// Where a wish stands, read off the machine.
enum Standing {
    /// Something is mounted there: in people's words, and what of it can grow.
    Mounted { what: String, filesystem: String, size: Option<u64> },
    /// There is a unit that mounts it; its UUID, unless an administrator's unit names the disk otherwise.
    Established(Option<String>),
    /// It is, or was, being formatted.
    Recorded(Record),
    /// Nothing was done for it yet.
    New,
    /// It cannot be told.
    Unclear(String),
}

struct Pass<'a> {
    config: &'a Config,
    facts: &'a Facts,
    wishes: &'a [Wish<'a>],
    is_new: bool,
    /// Identities and UUIDs of disks that have their purpose already.
    taken: Vec<(Purpose, String)>,
    /// Mountpoints that still lack their disk.
    waiting: Vec<&'a str>,
}

impl<'a> Pass<'a> {
    fn one(&mut self, wish: &Wish<'_>, decision: &mut Decision) -> Condition {
        match standing(wish, self.facts) {
            Standing::Mounted { what, filesystem, size } => {
                let grown = self.grow(wish, &filesystem, size, decision);
                let message = format!("{what} is mounted at {}{grown}", wish.mountpoint);
                Condition::met(kind(wish), "Mounted", message)
            }
            Standing::Established(uuid) => self.mount(wish, uuid.as_deref(), decision),
            Standing::Recorded(record) if record.stage == Stage::Done => {
                establish(wish, &record.uuid, &record.filesystem, decision)
            }
            Standing::Recorded(record) => self.format(wish, &record, decision),
            Standing::New => self.begin(wish, decision),
            Standing::Unclear(why) => Condition::unknown(kind(wish), "DisksNotSeen", why),
        }
    }

    /// Nothing was done for this wish yet: choose its disk.
    fn begin(&mut self, wish: &Wish<'_>, decision: &mut Decision) -> Condition {
        let below = |upper: &&&str| wish.mountpoint.starts_with(&format!("{upper}/"));
        if let Some(upper) = self.waiting.iter().find(below) {
            let message = format!("waiting for the disk of {upper}, below which this one is mounted");
            return Condition::unmet(kind(wish), "UpperMountMissing", message);
        }
        if let Observed::Known(Place::Holds(file)) = place(wish, self.facts) {
            let message = format!(
                "{} holds files already ({file}), which a new mount would hide: move them away, or take {} out of the context",
                wish.mountpoint,
                wish.purpose.variable()
            );
            return Condition::unmet(kind(wish), "MountpointHoldsFiles", message);
        }
        let Observed::Known(disks) = &self.facts.disks else {
            return Condition::unknown(kind(wish), "DisksNotSeen", "the disks were not seen");
        };
        match self.choosing(wish, disks).choose(wish) {
            Ok(Choice::Mount { disk, uuid, filesystem }) => {
                self.taken.push((wish.purpose, disk.identity()));
                establish(wish, uuid, filesystem, decision)
            }
            Ok(Choice::Format { disk, wipe }) => {
                let record = Record {
                    disk: disk.identity(),
                    path: disk.path(),
                    filesystem: self.config.node.storage.filesystem.clone(),
                    uuid: self.own_uuid(wish),
                    label: wish.purpose.name().into(),
                    wipe,
                    stage: Stage::Chosen,
                };
                self.taken.push((wish.purpose, disk.identity()));
                decision.effects.push(Effect::WriteFile(record.file(wish.purpose.name())));
                decision.effects.push(Effect::StartUnit(format_unit(wish.purpose)));
                Condition::unmet(kind(wish), "Formatting", formatting(&record, &disk.path()))
            }
            Err(Refusal { is_unknown: true, reason, message }) => {
                Condition::unknown(kind(wish), reason, message)
            }
            Err(Refusal { reason, message, .. }) => Condition::unmet(kind(wish), reason, message),
        }
    }

    /// What a choice of this wish's disk goes by.
    fn choosing(&self, wish: &Wish<'_>, disks: &'a Disks) -> Choosing<'a> {
        let others = self.wishes.iter().filter(|other| other.purpose != wish.purpose);
        let taken = self.taken.iter().filter(|taken| taken.0 != wish.purpose);
        Choosing {
            disks,
            vm: self.config.vm,
            wipe: &self.config.node.storage.wipe,
            is_new: self.is_new,
            own_uuid: self.own_uuid(wish),
            taken: taken.map(|taken| taken.1.clone()).collect(),
            named: others.map(|other| other.device).collect(),
        }
    }

    fn own_uuid(&self, wish: &Wish<'_>) -> String {
        own_uuid(self.config.service, self.config.vm.map(|vm| vm.0), wish.purpose)
    }

    /// A disk was chosen: the job runs, or is started (again).
    fn format(&self, wish: &Wish<'_>, record: &Record, decision: &mut Decision) -> Condition {
        let unit = format_unit(wish.purpose);
        let failed = match self.facts.unit(&unit) {
            Observed::Known(state) => match state.active {
                Active::Activating | Active::Active | Active::Reloading | Active::Deactivating => {
                    return Condition::unmet(kind(wish), "Formatting", formatting(record, &record.path));
                }
                Active::Inactive => false,
                Active::Failed => true,
            },
            Observed::Absent => {
                let message = format!("there is no {unit}: install the agent's package again");
                return Condition::unmet(kind(wish), "NotInstalled", message);
            }
            Observed::Unknown(why) => return Condition::unknown(kind(wish), "SystemdSilent", why),
        };
        let Observed::Known(disks) = &self.facts.disks else {
            return Condition::unknown(kind(wish), "DisksNotSeen", "the disks were not seen");
        };
        // Until it is begun, what the disk holds is given up only as long as the context says so.
        let named = |disk| self.choosing(wish, disks).may_wipe(disk);
        let wipe = record.wipe && (record.stage == Stage::Begun || record.disk(disks).is_ok_and(named));
        match (Record { wipe, ..record.clone() }).may_format(disks) {
            Ok(disk) => {
                decision.effects.push(Effect::StartUnit(unit.clone()));
                if failed {
                    let message = format!(
                        "formatting {} failed and is tried again; see: journalctl -u {unit}",
                        disk.path()
                    );
                    return Condition::unmet(kind(wish), "FormatFailed", message);
                }
                Condition::unmet(kind(wish), "Formatting", formatting(record, &disk.path()))
            }
            Err(why) => {
                let path = Record::path(wish.purpose.name());
                let message = format!(
                    "{why}: it was chosen but is not formatted like this; to choose again remove {path}"
                );
                Condition::unmet(kind(wish), "FormatRefused", message)
            }
        }
    }

    /// Its unit is there: it is mounted, if its disk is there.
    fn mount(&self, wish: &Wish<'_>, uuid: Option<&str>, decision: &mut Decision) -> Condition {
        let unit = mount_unit(wish.mountpoint);
        let state = match self.facts.unit(&unit) {
            Observed::Known(state) => Some(state),
            // Its file was written, but systemd has not read it yet.
            Observed::Absent => None,
            Observed::Unknown(why) => return Condition::unknown(kind(wish), "SystemdSilent", why),
        };
        let active = state.map_or(Active::Inactive, |state| state.active);
        if !matches!(active, Active::Inactive | Active::Failed) {
            let message = format!("{unit} is being mounted");
            return Condition::unmet(kind(wish), "Mounting", message);
        }
        if let (Some(uuid), Observed::Known(disks)) = (uuid, &self.facts.disks)
            && !may_hold(disks, uuid)
        {
            let message = format!(
                "the disk of {} (file system {uuid}) is not attached, and no other takes its place: attach it, or to begin with another remove {} and {}",
                wish.mountpoint,
                mount_path(wish.mountpoint),
                Record::path(wish.purpose.name())
            );
            return Condition::unmet(kind(wish), "DiskMissing", message);
        }
        if state.is_none_or(|state| !state.enabled) {
            decision.effects.push(Effect::EnableUnit(unit.clone()));
        }
        decision.effects.push(Effect::StartUnit(unit.clone()));
        if active == Active::Failed {
            let message = format!("{unit} failed and is tried again; see: journalctl -u {unit}");
            return Condition::unmet(kind(wish), "MountFailed", message);
        }
        Condition::unmet(kind(wish), "Mounting", format!("{unit} is being mounted"))
    }

    /// The file system follows its disk; once in each boot it is tried for nothing. Returns what is to be said of it.
    fn grow(&self, wish: &Wish<'_>, filesystem: &str, size: Option<u64>, decision: &mut Decision) -> String {
        let (Some(size), "xfs" | "ext4") = (size, filesystem) else { return String::new() };
        let unit = grow_unit(wish.mountpoint);
        let Observed::Known(state) = self.facts.unit(&unit) else { return String::new() };
        let digest = size.to_string();
        let failed = state.active == Active::Failed;
        if state.active != Active::Activating && (failed || state.loaded.as_ref() != Some(&digest)) {
            // An aside: a file system that stays small holds up nothing.
            decision.asides.push(Effect::LoadConfig { unit: unit.clone(), how: Load::Restart, digest });
        }
        if failed {
            format!(", but could not grow to its disk's size; see: journalctl -u {unit}")
        } else {
            String::new()
        }
    }
}

/// Writes the unit and mounts.
fn establish(wish: &Wish<'_>, uuid: &str, filesystem: &str, decision: &mut Decision) -> Condition {
    let unit = mount_unit(wish.mountpoint);
    let text = units::mount_text(wish.mountpoint, uuid, filesystem);
    decision.effects.push(Effect::WriteFile(public(mount_path(wish.mountpoint), text)));
    decision.effects.push(Effect::EnableUnit(unit.clone()));
    decision.effects.push(Effect::StartUnit(unit.clone()));
    Condition::unmet(kind(wish), "Mounting", format!("{unit} is being mounted"))
}

fn standing(wish: &Wish<'_>, facts: &Facts) -> Standing {
    match place(wish, facts) {
        Observed::Known(Place::Mounted { device, filesystem, size }) => {
            let (what, filesystem) = (format!("{device} ({filesystem})"), filesystem.clone());
            return Standing::Mounted { what, filesystem, size: *size };
        }
        Observed::Known(Place::Empty | Place::Holds(_)) => {}
        Observed::Absent => return Standing::Unclear(format!("{} was not looked at", wish.mountpoint)),
        Observed::Unknown(why) => return unseen(wish, facts, why),
    }
    match facts.file(&mount_path(wish.mountpoint)) {
        Observed::Known(file) => {
            return Standing::Established(units::uuid_of(file.content.expose()).map(str::to_owned));
        }
        Observed::Absent => {}
        Observed::Unknown(why) => return Standing::Unclear(why),
    }
    let path = Record::path(wish.purpose.name());
    match facts.file(&path) {
        Observed::Known(file) => match Record::parse(file.content.expose()) {
            Ok(record) => Standing::Recorded(record),
            Err(why) => Standing::Unclear(format!("{path}: {why}")),
        },
        Observed::Absent => Standing::New,
        Observed::Unknown(why) => Standing::Unclear(why),
    }
}

/// A look at the disks takes its time while another disk is slow or dead; whether this one is mounted systemd knows.
fn unseen(wish: &Wish<'_>, facts: &Facts, why: String) -> Standing {
    let unit = mount_unit(wish.mountpoint);
    if facts.unit(&unit).known().is_some_and(|unit| unit.active == Active::Active) {
        let what = format!("the disk of {unit} (not seen at present: {why})");
        return Standing::Mounted { what, filesystem: String::new(), size: None };
    }
    Standing::Unclear(why)
}

fn place<'a>(wish: &Wish<'_>, facts: &'a Facts) -> Observed<&'a Place> {
    match &facts.disks {
        Observed::Known(disks) => {
            disks.places.get(wish.mountpoint).map_or(Observed::Absent, Observed::as_ref)
        }
        Observed::Absent => Observed::Absent,
        Observed::Unknown(why) => Observed::Unknown(why.clone()),
    }
}

/// Identities and UUIDs of disks that have their purpose already.
fn taken(wishes: &[Wish<'_>], facts: &Facts) -> Vec<(Purpose, String)> {
    let mut taken = Vec::new();
    for wish in wishes {
        if let Some(file) = facts.file(&mount_path(wish.mountpoint)).known() {
            taken.extend(units::uuid_of(file.content.expose()).map(|uuid| (wish.purpose, uuid.to_owned())));
        }
        let record = facts.file(&Record::path(wish.purpose.name()));
        if let Some(Ok(record)) = record.known().map(|file| Record::parse(file.content.expose())) {
            taken.extend([(wish.purpose, record.disk), (wish.purpose, record.uuid)]);
        }
    }
    taken
}

/// True if a disk has this file system, or could not be read, for it may be that one.
fn may_hold(disks: &Disks, uuid: &str) -> bool {
    let is_unread = |disk: &Disk| disk.uses.is_empty() && matches!(disk.contents, Observed::Unknown(_));
    disks.with_uuid(uuid).next().is_some() || disks.devices.iter().any(is_unread)
}

fn kind(wish: &Wish<'_>) -> &'static str {
    match wish.purpose {
        Purpose::Rancher => "RancherDiskMounted",
        Purpose::Etcd => "EtcdDiskMounted",
        Purpose::Containerd => "ContainerdDiskMounted",
        Purpose::Storage => "StorageMounted",
    }
}

fn formatting(record: &Record, path: &str) -> String {
    format!("{path} is being formatted as {}", record.filesystem)
}

fn public(path: String, text: String) -> FileSpec {
    FileSpec { path, mode: 0o644, content: Content::Public(text), checker: None }
}

/// Writes the file unless it is so already; one that could not be seen is left alone.
fn write_if_different(facts: &Facts, file: FileSpec, decision: &mut Decision) {
    match facts.file(&file.path) {
        Observed::Known(there) if there.content.expose() == file.content.as_str() => {}
        Observed::Known(_) | Observed::Absent => decision.effects.push(Effect::WriteFile(file)),
        Observed::Unknown(_) => {}
    }
}
