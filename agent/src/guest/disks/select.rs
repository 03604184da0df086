//! Which disk a name means, and whether it is mounted as it is, formatted, or left alone.

use crate::context::{Purpose, Selector, Wish};
use crate::facts::{Contents, Disk, Disks, Observed};
use crate::service::VmId;

/// What becomes of the disk that a wish means.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// It has a file system that is mounted as it is.
    Mount {
        /// The disk.
        disk: &'a Disk,
        /// Of its file system.
        uuid: &'a str,
        /// Its kind.
        filesystem: &'a str,
    },
    /// It is formatted.
    Format {
        /// The disk.
        disk: &'a Disk,
        /// It holds something, which the context gives up.
        wipe: bool,
    },
}

/// Why nothing is done: a condition's reason and message.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// True: it could not be seen well enough to decide.
    pub is_unknown: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// For the operator.
    pub message: String,
}

/// Everything that a choice depends on, beside the wish.
pub struct Choosing<'a> {
    /// The disks.
    pub disks: &'a Disks,
    /// This VM.
    pub vm: Option<VmId>,
    /// Disks that the context lets wipe.
    pub wipe: &'a [Selector],
    /// The node has not joined: every blank disk is still the machine's own. Afterwards it may be a volume of a pod.
    pub is_new: bool,
    /// The UUID of what this VM itself would format for this purpose.
    pub own_uuid: String,
    /// Identities and UUIDs of disks that are for another purpose.
    pub taken: Vec<String>,
    /// How the disks of other purposes are named: none of them is the only blank one.
    pub named: Vec<&'a Selector>,
}

impl<'a> Choosing<'a> {
    /// What becomes of the disk that the wish means.
    ///
    /// # Errors
    /// Why it is left alone, and what to do about it.
    pub fn choose(&self, wish: &Wish<'_>) -> Result<Choice<'a>, Refusal> {
        let disk = self.find(wish.device)?;
        let (path, variable) = (disk.path(), wish.purpose.variable());
        if self.taken.contains(&disk.identity()) {
            return Err(refusal(
                "DiskTaken",
                format!("{path} is for another purpose: name another disk in {variable}"),
            ));
        }
        if disk.read_only {
            return Err(refusal(
                "DiskReadOnly",
                format!("{path} takes no writes: attach it without READONLY"),
            ));
        }
        let may_wipe = self.may_wipe(disk);
        if let Some(busy) = self.disks.busy(disk, may_wipe || disk.contents.known().is_some_and(is_marked)) {
            return Err(refusal("DiskInUse", format!("{busy}: name another disk in {variable}")));
        }
        let contents = match &disk.contents {
            Observed::Known(contents) => contents,
            Observed::Unknown(why) => return Err(unknown(format!("what {path} holds is not known: {why}"))),
            Observed::Absent => return Err(unknown(format!("{path} went away"))),
        };
        if *contents == Contents::Blank {
            return Ok(Choice::Format { disk, wipe: false });
        }
        if let Some((uuid, filesystem)) = mountable(contents).filter(|_| wish.purpose == Purpose::Storage) {
            if self.taken.iter().any(|taken| taken == uuid) {
                let message = format!("{path} is for another purpose: name another disk in {variable}");
                return Err(refusal("DiskTaken", message));
            }
            if let Some(twin) = self.disks.with_uuid(uuid).find(|twin| *twin != disk) {
                let message =
                    format!("{path} and {} are copies of one file system ({uuid}): detach one", twin.path());
                return Err(refusal("DiskAmbiguous", message));
            }
            if !may_wipe || uuid == self.own_uuid {
                return Ok(Choice::Mount { disk, uuid, filesystem });
            }
        }
        if may_wipe {
            return Ok(Choice::Format { disk, wipe: true });
        }
        Err(refusal(
            "DiskHoldsData",
            format!(
                "{path} holds {contents} and is left alone: attach a blank disk, or let it be wiped by ONEAPP_STORAGE_WIPE={}",
                if *wish.device == Selector::Blank { path.clone() } else { wish.device.to_string() }
            ),
        ))
    }

    /// True if the context names this very disk as one whose data may go.
    pub fn may_wipe(&self, disk: &Disk) -> bool {
        self.wipe.iter().any(|named| self.find(named).is_ok_and(|named| named == disk))
    }

    /// The disk that a selector means.
    fn find(&self, selector: &Selector) -> Result<&'a Disk, Refusal> {
        let devices = &self.disks.devices;
        let found: Vec<&Disk> = match selector {
            Selector::Path(path) => {
                devices.iter().filter(|disk| disk.path() == *path || disk.links.contains(path)).collect()
            }
            Selector::Serial(serial) => devices.iter().filter(|disk| tells(disk, serial)).collect(),
            Selector::DiskId(id) => {
                let vm = self.vm.ok_or_else(|| {
                    refusal("DiskAbsent", "the context lacks VMID, which disk:N needs".into())
                })?;
                devices.iter().filter(|disk| tells(disk, &format!("{vm}-{id}"))).collect()
            }
            Selector::Label(label) => self.labelled(label)?,
            Selector::Blank => self.blank()?,
        };
        match found.as_slice() {
            [disk] => Ok(disk),
            [] => Err(refusal("DiskAbsent", format!("{}; {}", absent(selector, self.vm), self.there()))),
            [one, two, ..] => Err(refusal(
                "DiskAmbiguous",
                format!(
                    "{selector} means {} and {}: name one of them by its path or serial",
                    one.path(),
                    two.path()
                ),
            )),
        }
    }

    fn labelled(&self, label: &str) -> Result<Vec<&'a Disk>, Refusal> {
        let has = |contents: &Contents| match contents {
            Contents::Marked(signatures) => signatures.iter().any(|s| s.label.as_deref() == Some(label)),
            Contents::Blank | Contents::Unmarked => false,
        };
        let found: Vec<&Disk> =
            self.disks.devices.iter().filter(|disk| disk.contents.known().is_some_and(has)).collect();
        match self.unseen() {
            // The label may be on the disk that could not be read.
            Some(why) if found.is_empty() => Err(unknown(why)),
            Some(_) | None => Ok(found),
        }
    }

    fn blank(&self) -> Result<Vec<&'a Disk>, Refusal> {
        if !self.is_new {
            let message = "this node has joined, and from then on a blank disk may be a volume of a pod: name the disk by its path or serial";
            return Err(refusal("DiskUnnamed", message.into()));
        }
        // One that could not be read may be blank as well; then there are two.
        if let Some(why) = self.unseen() {
            return Err(unknown(why));
        }
        let is_blank = |disk: &&Disk| disk.contents.known() == Some(&Contents::Blank);
        let named = self.named.iter().filter(|named| ***named != Selector::Blank);
        let named: Vec<&Disk> = named.filter_map(|named| self.find(named).ok()).collect();
        let free = |disk: &&Disk| !self.taken.contains(&disk.identity()) && !named.contains(disk);
        Ok(self.candidates().filter(is_blank).filter(free).collect())
    }

    /// Disks that are not in use.
    fn candidates(&self) -> impl Iterator<Item = &'a Disk> {
        self.disks.devices.iter().filter(|disk| disk.is_plain && !disk.read_only && disk.uses.is_empty())
    }

    fn unseen(&self) -> Option<String> {
        self.candidates().find_map(|disk| match &disk.contents {
            Observed::Known(_) => None,
            Observed::Unknown(why) => Some(format!("what {} holds is not known: {why}", disk.path())),
            Observed::Absent => Some(format!("{} went away", disk.path())),
        })
    }

    /// The disks that there are, for whoever must name one.
    fn there(&self) -> String {
        let described: Vec<String> =
            self.disks.devices.iter().filter(|disk| disk.is_plain).map(describe).collect();
        if described.is_empty() {
            "no disk is attached".into()
        } else {
            format!("there are {}", described.join(", "))
        }
    }
}

fn is_marked(contents: &Contents) -> bool {
    matches!(contents, Contents::Marked(_))
}

/// An only file system of a kind that nodes use.
fn mountable(contents: &Contents) -> Option<(&str, &str)> {
    let only = contents.only().filter(|only| matches!(only.kind.as_str(), "xfs" | "ext4"))?;
    Some((only.uuid.as_deref()?, only.kind.as_str()))
}

fn tells(disk: &Disk, number: &str) -> bool {
    [&disk.serial, &disk.wwn].into_iter().flatten().any(|told| told == number)
}

fn absent(selector: &Selector, vm: Option<VmId>) -> String {
    match (selector, vm) {
        (Selector::DiskId(id), Some(vm)) => format!(
            "waiting for a disk with the serial number {vm}-{id} (disk:{id}; it needs SERIAL=auto on that disk, OpenNebula 7.0)"
        ),
        (Selector::Blank, _) => "waiting for a blank disk".into(),
        _ => format!("waiting for the disk {selector}"),
    }
}

fn describe(disk: &Disk) -> String {
    let serial = disk.serial.as_ref().map(|serial| format!(", serial {serial}")).unwrap_or_default();
    let state = match (disk.uses.first(), &disk.contents) {
        (Some(using), _) => using.to_string(),
        (None, Observed::Known(Contents::Blank)) => "is blank".into(),
        (None, Observed::Known(contents)) => format!("holds {contents}"),
        (None, Observed::Absent | Observed::Unknown(_)) => "could not be read".into(),
    };
    format!("{} ({} MiB{serial}, {state})", disk.path(), disk.size >> 20)
}

fn refusal(reason: &'static str, message: String) -> Refusal {
    Refusal { is_unknown: false, reason, message }
}

fn unknown(message: String) -> Refusal {
    Refusal { is_unknown: true, reason: "DiskUnreadable", message }
}
