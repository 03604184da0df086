//! Data disks for real: loop devices, `wipefs`, `mkfs`, the kernel's mounts; systemd alone is played.
//!
//! That needs root, loop devices and the programs; without them the tests are left out, and say so, unless
//! `ONEKE_OWNERS=1` makes that a failure.
#![expect(clippy::disallowed_methods, reason = "makes disks and runs their tools")]
#![expect(clippy::unwrap_used, reason = "a test; clippy sees only functions with #[test] as such")]

mod machine;
mod signatures;

use std::process::{Command, Stdio};
use std::time::Duration;

use machine::{Disk, Machine, able, may_resize, ran};
use oneke_agent::guest::disks::{Record, Stage};

const KINDS: [&str; 2] = ["xfs", "ext4"];

#[test]
fn a_blank_disk_is_formatted_mounted_and_found_again() {
    for kind in KINDS.into_iter().filter(|_| able()) {
        let disk = Disk::blank();
        let mut machine = Machine::new(&disk, &format!("ONEAPP_STORAGE_FILESYSTEM='{kind}'\n"));
        assert_eq!(machine.settle(), "True Mounted");
        assert_eq!(machine.mounted().as_deref(), Some(kind));
        std::fs::write(machine.mountpoint().join("data"), "precious").unwrap();
        machine.power_off();
        assert_eq!(machine.mounted(), None);
        assert_eq!(machine.settle(), "True Mounted");
        assert_eq!(std::fs::read_to_string(machine.mountpoint().join("data")).unwrap(), "precious");
        // The root disk is lost with all records; what is left of the context says wipe.
        let wipe = format!("ONEAPP_STORAGE_WIPE='{}'\n", disk.path());
        drop(machine);
        let mut again = Machine::new(&disk, &wipe);
        assert_eq!(again.settle(), "True Mounted");
        assert_eq!(std::fs::read_to_string(again.mountpoint().join("data")).unwrap(), "precious");
    }
}

#[test]
fn whatever_a_disk_holds_not_a_byte_is_written() {
    for (what, make) in signatures::FOREIGN.into_iter().filter(|_| able()) {
        let disk = Disk::blank();
        make(&disk);
        let before = disk.fingerprint();
        let mut machine = Machine::new(&disk, "");
        assert_eq!(machine.settle(), "False DiskHoldsData", "{what}");
        // Another disk is named, and this one too: but not as what may be wiped.
        let mut machine = Machine::new(&disk, "ONEAPP_STORAGE_WIPE='/dev/vdz,serial:none'\n");
        assert_eq!(machine.settle(), "False DiskHoldsData", "{what}");
        assert!(disk.fingerprint() == before, "{what}: the disk was written to");
    }
}

#[test]
fn the_named_disk_is_wiped_and_no_other() {
    for (what, make) in signatures::FOREIGN.into_iter().filter(|_| able()) {
        let (disk, other) = (Disk::blank(), Disk::blank());
        make(&disk);
        make(&other);
        let before = other.fingerprint();
        let mut machine = Machine::new(&disk, &format!("ONEAPP_STORAGE_WIPE='{}'\n", disk.path()));
        assert_eq!(machine.settle(), "True Mounted", "{what}");
        assert!(other.fingerprint() == before, "{what}: the other disk was written to");
    }
}

#[test]
fn a_disk_with_a_file_system_is_mounted_as_it_is() {
    if !able() {
        return;
    }
    let disk = Disk::blank();
    ran("mkfs.ext4", &["-q", "-L", "theirs", &disk.path()]);
    let mut machine = Machine::new(&disk, "ONEAPP_STORAGE_FILESYSTEM='xfs'\n");
    assert_eq!(machine.settle(), "True Mounted");
    assert_eq!(machine.mounted().as_deref(), Some("ext4"));
    machine.power_off();
    let mut by_label = Machine::named("label:theirs", "");
    assert_eq!(by_label.settle(), "True Mounted");
}

#[test]
fn what_changed_since_the_choice_is_left_alone() {
    if !able() {
        return;
    }
    let disk = Disk::blank();
    let mut machine = Machine::new(&disk, "");
    machine.choose();
    ran("mkfs.ext4", &["-q", &disk.path()]);
    let before = disk.fingerprint();
    let error = machine.format().unwrap_err();
    assert!(error.ends_with("holds ext4 now"), "{error}");
    assert!(disk.fingerprint() == before);
    assert_eq!(machine.settle(), "False FormatRefused");
}

#[test]
fn a_disk_that_is_mounted_is_not_wiped() {
    if !able() {
        return;
    }
    let disk = Disk::blank();
    ran("mkfs.ext4", &["-q", &disk.path()]);
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().to_str().unwrap();
    ran("mount", &[&disk.path(), place]);
    let mut machine = Machine::new(&disk, &format!("ONEAPP_STORAGE_WIPE='{}'\n", disk.path()));
    assert_eq!(machine.settle(), "False DiskInUse");
    ran("umount", &[place]);
    // Where nobody sees it but the kernel.
    machine.choose();
    let script = format!("mount {} {place} && echo mounted && exec sleep 600", disk.path());
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c", &script]).stdout(Stdio::piped());
    let mut hidden = hidden.spawn().unwrap();
    let mut line = [0; 8];
    std::io::Read::read_exact(hidden.stdout.as_mut().unwrap(), &mut line).unwrap();
    let error = machine.format().unwrap_err();
    assert!(error.contains("busy"), "{error}");
    hidden.kill().unwrap();
    hidden.wait().unwrap();
    assert_eq!(machine.contents(), "ext4");
}

#[test]
fn a_cut_mkfs_is_done_again() {
    for kind in KINDS.into_iter().filter(|_| able()) {
        for delay in [0, 1, 2, 4, 8, 16] {
            let disk = Disk::blank();
            let mut machine = Machine::new(&disk, &format!("ONEAPP_STORAGE_FILESYSTEM='{kind}'\n"));
            machine.choose();
            let record = machine.set_stage(Stage::Begun);
            // Without its laziness it writes long enough to be cut.
            let (program, arguments): (_, &[&str]) = match kind {
                "xfs" => ("mkfs.xfs", &["-q", "-K", "-m"]),
                _ => ("mkfs.ext4", &["-q", "-E", "nodiscard,lazy_itable_init=0", "-U"]),
            };
            let uuid = if kind == "xfs" { format!("uuid={}", record.uuid) } else { record.uuid.clone() };
            let mut making = Command::new(program);
            let mut making = making.args(arguments).args([&uuid, &disk.path()]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            making.kill().unwrap();
            making.wait().unwrap();
            assert_eq!(machine.settle(), "True Mounted", "{kind} cut after {delay} ms");
        }
    }
}

#[test]
fn every_part_of_a_cut_mkfs_is_known_as_ones_own_by_the_record_alone() {
    for kind in KINDS.into_iter().filter(|_| able()) {
        for keep in [0..4096, 4096..(64 << 10), (64 << 10)..(1 << 20), 0..(256 << 10)] {
            let disk = Disk::blank();
            let mut machine = Machine::new(&disk, &format!("ONEAPP_STORAGE_FILESYSTEM='{kind}'\n"));
            machine.choose();
            let record: Record = machine.set_stage(Stage::Chosen);
            machine.format().unwrap();
            disk.keep_only(keep.clone());
            machine.set_stage(Stage::Begun);
            assert_eq!(machine.settle(), "True Mounted", "{kind} {keep:?}");
            assert_eq!(machine.uuid().as_deref(), Some(record.uuid.as_str()));
        }
    }
}

#[test]
fn a_file_system_grows_with_its_disk() {
    for kind in KINDS.into_iter().filter(|_| able()) {
        let disk = Disk::blank();
        let mut machine = Machine::new(&disk, &format!("ONEAPP_STORAGE_FILESYSTEM='{kind}'\n"));
        machine.settle();
        let before = machine.size();
        assert_eq!((machine.settle(), machine.size()), ("True Mounted".into(), before));
        disk.grow();
        assert_eq!(machine.settle(), "True Mounted");
        if kind == "ext4" && !may_resize() {
            println!("left out: this container may not resize ext4");
            continue;
        }
        assert!(machine.size() > before + (200 << 20), "{kind}: {before} became {}", machine.size());
    }
}
