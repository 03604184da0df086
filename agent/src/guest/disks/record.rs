//! The record of a disk that is being formatted: what the agent leaves before it starts, and the job goes by.
//!
//! ```text
//!  Chosen ──the job, just before its first write──▶ Begun ──mkfs done and synced──▶ Done
//!  only a blank disk, or one      after a power loss: what a cut mkfs left     mounted by its UUID;
//!  that the context lets wipe     on this same disk is formatted again         never formatted again
//! ```
//!
//! A half-made file system cannot be told from somebody's damaged one by looking at it. The record can: it names the
//! disk by its identity, and the UUID that the file system will have.

use serde::{Deserialize, Serialize};

use crate::context::Purpose;
use crate::facts::{Contents, Disk, Disks, Observed};
use crate::plan::{Content, FileSpec};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing has been written to the disk.
    Chosen,
    /// Perhaps something has.
    Begun,
    /// The file system is whole.
    Done,
}

/// Which disk becomes what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`Disk::identity`].
    pub disk: String,
    /// Its path when it was chosen: for people.
    pub path: String,
    /// `xfs` or `ext4`.
    pub filesystem: String,
    /// The UUID that the file system gets.
    pub uuid: String,
    /// The label that it gets.
    pub label: String,
    /// The context let this disk be wiped.
    pub wipe: bool,
    /// How far it is.
    pub stage: Stage,
}

impl Record {
    /// Where the record of a purpose lies.
    pub fn path(purpose: &str) -> String {
        format!("/var/lib/oneke-agent/disks/{purpose}.toml")
    }

    /// Reads one.
    ///
    /// # Errors
    /// If the text is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| format!("it is damaged: {}", error.message()))
    }

    /// The file that holds it.
    pub fn file(&self, purpose: &str) -> FileSpec {
        let text = toml::to_string(self).expect("a record is a flat table of strings");
        FileSpec { path: Self::path(purpose), mode: 0o644, content: Content::Public(text), checker: None }
    }

    /// The recorded disk, whatever it is called now.
    ///
    /// # Errors
    /// If it is not attached, or not the only one with this identity.
    pub fn disk<'a>(&self, disks: &'a Disks) -> Result<&'a Disk, String> {
        let mut same = disks.devices.iter().filter(|disk| disk.identity() == self.disk);
        match (same.next(), same.next()) {
            (Some(disk), None) => Ok(disk),
            (None, _) => Err(format!("the disk ({}, was {}) is not attached", self.disk, self.path)),
            (Some(one), Some(two)) => {
                Err(format!("{} and {} both call themselves {}", one.path(), two.path(), self.disk))
            }
        }
    }

    /// The recorded disk, if it may be formatted as it stands: asked when it is chosen, when a job resumes, and by the
    /// job itself with the disk locked, right before its first write.
    ///
    /// # Errors
    /// Why not.
    pub fn may_format<'a>(&self, disks: &'a Disks) -> Result<&'a Disk, String> {
        let disk = self.disk(disks)?;
        let path = disk.path();
        if disk.read_only {
            return Err(format!("{path} takes no writes"));
        }
        if let Some(busy) = disks.busy(disk, self.wipe) {
            return Err(busy);
        }
        let ours = |contents: &Contents| match contents {
            Contents::Blank => true,
            Contents::Unmarked => self.stage == Stage::Begun,
            Contents::Marked(signatures) => {
                let own = |uuid: &Option<String>| uuid.as_deref() == Some(self.uuid.as_str());
                self.stage == Stage::Begun && signatures.iter().all(|signature| own(&signature.uuid))
            }
        };
        match &disk.contents {
            _ if self.stage == Stage::Done => Err(format!("{path} was formatted already")),
            Observed::Known(contents) if self.wipe || ours(contents) => Ok(disk),
            Observed::Known(contents) => Err(format!("{path} holds {contents} now")),
            Observed::Absent => Err(format!("{path} went away")),
            Observed::Unknown(why) => Err(why.clone()),
        }
    }
}

/// The UUID of what this VM formats for a purpose, always the same: so it knows its own data again when its root disk
/// is new, and a wish to wipe that is still in the context does not reach it.
pub fn own_uuid(service: Option<u32>, vm: Option<u32>, purpose: Purpose) -> String {
    let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    let seed = format!("oneke-agent disk {} {} {}", number(service), number(vm), purpose.name());
    let mut hex: Vec<char> = crate::plan::digest(&seed).chars().take(32).collect();
    // A UUID of one's own making: version 8, variant 10 (RFC 9562, 5.8).
    (hex[12], hex[16]) = ('8', 'a');
    let part = |from: usize, to: usize| hex[from..to].iter().collect::<String>();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_belongs_to_one_vm_and_purpose() {
        let own = own_uuid(Some(4), Some(7), Purpose::Storage);
        assert_eq!(own, own_uuid(Some(4), Some(7), Purpose::Storage));
        assert_ne!(own, own_uuid(Some(4), Some(7), Purpose::Etcd));
        assert_ne!(own, own_uuid(Some(47), None, Purpose::Storage));
        assert_eq!((own.len(), own.chars().nth(14), own.chars().nth(19)), (36, Some('8'), Some('a')));
    }

    #[test]
    fn a_record_reads_back() {
        let record = Record {
            disk: "serial 7-2".into(),
            path: "/dev/vdb".into(),
            filesystem: "xfs".into(),
            uuid: own_uuid(None, Some(7), Purpose::Storage),
            label: "storage".into(),
            wipe: false,
            stage: Stage::Chosen,
        };
        assert_eq!(Record::parse(record.file("storage").content.as_str()), Ok(record));
        assert!(Record::parse("disk = 1").is_err());
    }
}
