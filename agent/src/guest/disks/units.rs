//! systemd's files for disks: the mount, and what RKE2 waits for.

use crate::context::{Purpose, Wish};
use crate::service::Role;

/// `var-lib-longhorn.mount`.
pub fn mount_unit(mountpoint: &str) -> String {
    format!("{}.mount", escaped(mountpoint))
}

/// Where [`mount_unit`]'s file lies.
pub fn mount_path(mountpoint: &str) -> String {
    format!("/etc/systemd/system/{}", mount_unit(mountpoint))
}

/// Formats by the [record](super::Record) of a purpose.
pub fn format_unit(purpose: Purpose) -> String {
    format!("oneke-format@{}.service", purpose.name())
}

/// Lets the file system at a mountpoint grow to its disk's size.
pub fn grow_unit(mountpoint: &str) -> String {
    format!("oneke-grow@{}.service", escaped(mountpoint))
}

/// Mounts the file system with this UUID, whatever its disk is called.
pub fn mount_text(mountpoint: &str, uuid: &str, filesystem: &str) -> String {
    // `nofail` keeps the mount out of local-fs.target (systemd.mount(5)), so that a disk that is gone ends no boot in
    // an emergency shell; the job's time-out is for a disk that does not appear, and none limits a log's replay.
    format!(
        "# A data disk that the context names; made by oneke-agent, which leaves it alone from now on.\n\
         [Unit]\nJobTimeoutSec=90\n\n\
         [Mount]\nWhat={BY_UUID}{uuid}\nWhere={mountpoint}\nType={filesystem}\nOptions=nofail\nTimeoutSec=0\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

const BY_UUID: &str = "/dev/disk/by-uuid/";

/// The UUID that a mount's file names; `None` if it names something else.
pub fn uuid_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix("What=")?.trim().strip_prefix(BY_UUID))
}

/// The drop-in of a role's RKE2.
pub fn drop_in_path(role: &Role) -> String {
    format!("/etc/systemd/system/{}.d/oneke-disks.conf", rke2_unit(role))
}

/// RKE2's unit on a node of this role.
pub fn rke2_unit(role: &Role) -> &'static str {
    if *role == Role::Master { "rke2-server.service" } else { "rke2-agent.service" }
}

/// What RKE2 waits for at boot, whatever becomes of the agent.
pub fn drop_in_text(wishes: &[Wish<'_>]) -> String {
    let mut text = "# The disks of this node; kept by oneke-agent.\n[Unit]\n".to_owned();
    for wish in wishes {
        let Wish { mountpoint, .. } = wish;
        let unit = mount_unit(mountpoint);
        text += &if wish.purpose == Purpose::Storage {
            // Longhorn knows its disk by a file on it and takes no other (longhorn-disk.cfg), so a node whose data disk
            // died comes back without it. The node's first start is held by the agent.
            format!("Wants={unit}\nAfter={unit}\n")
        } else {
            // On the root file system RKE2 would find nothing and take this for a new node of a new cluster.
            format!("RequiresMountsFor={mountpoint}\n")
        };
    }
    text
}

/// systemd's name for a path (systemd.unit(5), "String escaping").
fn escaped(path: &str) -> String {
    let character = |(index, byte): (usize, u8)| match byte {
        b'/' => "-".to_owned(),
        b'.' if index == 0 => "\\x2e".to_owned(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    path.trim_matches('/').bytes().enumerate().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_systemd_escapes_them() {
        // As `systemd-escape --path` answers.
        for (path, name) in [
            ("/var/lib/longhorn", "var-lib-longhorn"),
            ("/mnt/my-data", "mnt-my\\x2ddata"),
            ("/.hidden/a.b:c_d", "\\x2ehidden-a.b:c_d"),
            ("/ä", "\\xc3\\xa4"),
        ] {
            assert_eq!(escaped(path), name);
        }
    }

    #[test]
    fn a_mount_tells_its_uuid() {
        let uuid = "52e4c438-8ed2-8103-a710-22d421120efc";
        let text = mount_text("/var/lib/longhorn", uuid, "xfs");
        assert_eq!(uuid_of(&text), Some(uuid));
        assert_eq!(uuid_of("[Mount]\nWhat=/dev/vdb\n"), None);
    }
}
