//! What is proved, a function each. What was seen is printed; what is wrong ends the scenario.

use std::fs;

use anyhow::{Result, ensure};

use crate::command::run;
use crate::context;
use crate::image::Image;
use crate::ipvs;
use crate::machine::{Disk, Machine, SOON};

/// Proves something in machines of its own.
pub type Scenario = fn(&Image) -> Result<()>;

/// By name.
pub const ALL: [(&str, Scenario); 5] = [
    ("storage", storage),
    ("selectors", selectors),
    ("power", power),
    ("foreign", foreign),
    ("ipvs", ipvs::prove),
];

const STORAGE: &str = "oneke.role=storage";
const MASTER: &str = "oneke.role=master";
const LONGHORN: &str = "findmnt -no SOURCE,FSTYPE,SIZE /var/lib/longhorn";

/// Tells what was seen.
pub fn seen(what: &str) {
    println!("    {}", what.trim().replace('\n', "\n    "));
}

/// One data disk through its life: made, mounted by systemd alone, grown, missing, plugged in.
fn storage(image: &Image) -> Result<()> {
    let context = context::storage(&[("ONEAPP_STORAGE_DEVICE", "/dev/vdb")]);
    let mut machine = Machine::new("storage", image, &context)?;
    let disk = machine.disk("data", Some("41-2"), 512)?;
    let disks = [disk.clone()];

    seen(&format!("a blank disk: up in {:.0?}", machine.power_on(&disks, STORAGE)?));
    seen(&machine.until_condition(SOON, "StorageMounted", "True Mounted")?);
    let uuid = machine.ask("findmnt -no UUID /var/lib/longhorn")?;
    seen(&machine.ask("cat /var/lib/oneke-agent/disks/storage.toml")?);
    ensure!(machine.ask("cat /var/lib/oneke-agent/disks/storage.toml")?.contains("stage = \"done\""));
    ensure!(machine.ask("cat /etc/systemd/system/var-lib-longhorn.mount")?.contains(&uuid));
    formatted(&mut machine, 1)?;
    machine.ask("echo kept >/var/lib/longhorn/file && sync")?;
    sandboxed(&mut machine)?;
    seen(&format!("ACPI shutdown in {:.1?}", machine.power_off()?));

    run(&["qemu-img", "resize", "-q", "-f", "raw", &disk.file.display().to_string(), "1G"])?;
    machine.power_on(&disks, &format!("{STORAGE} oneke.agent=off"))?;
    machine.until(SOON, LONGHORN, |text| text.starts_with("/dev/vdb"))?;
    ensure!(machine.ask("systemctl is-active oneke-agent || true")? == "inactive", "the agent runs");
    seen(&format!("without the agent: {}", machine.ask(LONGHORN)?));
    machine.ask("rm -r /etc/systemd/system/oneke-agent.service.d && systemctl daemon-reload && systemctl start oneke-agent")?;
    machine.until(SOON, "findmnt -bno SIZE /var/lib/longhorn", is_grown)?;
    seen(&format!("a disk twice as large: {}", machine.ask(LONGHORN)?));
    ensure!(
        machine.ask("findmnt -no UUID /var/lib/longhorn; cat /var/lib/longhorn/file")?
            == format!("{uuid}\nkept")
    );
    formatted(&mut machine, 0)?;
    machine.until_condition(SOON, "StorageMounted", "True Mounted")?;
    seen(&format!("ACPI shutdown in {:.1?}", machine.power_off()?));

    seen(&format!("without the disk: answers after {:.0?}", machine.power_on(&[], STORAGE)?));
    seen(&machine.until_condition(SOON, "StorageMounted", "False DiskMissing")?);
    machine.until(SOON, "systemctl is-active multi-user.target", |text| text == "active")?;
    seen(&machine.ask("systemd-analyze time | head -1; systemctl is-system-running || true; systemctl --failed --plain --no-legend")?);
    ensure!(machine.condition("StorageMounted")?.starts_with("False DiskMissing"));
    machine.plug(&disk)?;
    seen(&format!("plugged in: {}", machine.until_condition(SOON, "StorageMounted", "True Mounted")?));
    ensure!(
        machine.ask("findmnt -no UUID /var/lib/longhorn; cat /var/lib/longhorn/file")?
            == format!("{uuid}\nkept")
    );
    formatted(&mut machine, 0)?;
    machine.power_off().map(drop)
}

/// Of the gibibyte that a disk has after it grew, a file system keeps some for itself.
fn is_grown(size: &str) -> bool {
    size.trim().parse().is_ok_and(|size: u64| size > 850 << 20)
}

/// How often a format job ran in this boot.
fn formatted(machine: &mut Machine, times: usize) -> Result<()> {
    let count = "journalctl -b -q --no-pager -o cat _PID=1 | grep -c '^Starting oneke-format@' || true";
    let journal = machine.ask(count)?;
    ensure!(journal == times.to_string(), "formatted {journal} times, expected {times}");
    Ok(())
}

/// The units verify, the agent is in its sandbox, has told systemd that it is ready and feeds its watchdog; no complaints.
fn sandboxed(machine: &mut Machine) -> Result<()> {
    let units = "cd /usr/lib/systemd/system && systemd-analyze verify oneke-agent.service oneke-format@storage.service \
        oneke-grow@var-lib-longhorn.service oneke-nft.service /etc/systemd/system/var-lib-longhorn.mount";
    let verdict = machine.ask(units)?;
    ensure!(verdict.is_empty(), "systemd-analyze verify: {verdict}");
    let show = "systemctl show oneke-agent -p ActiveState -p Type -p NRestarts -p WatchdogTimestampMonotonic -p StatusText -p MemoryCurrent -p NoNewPrivileges";
    let first = machine.ask(show)?;
    seen(&first);
    ensure!(first.contains("ActiveState=active") && first.contains("NRestarts=0"), "{first}");
    let fed = |text: &str| text.lines().find(|line| line.starts_with("Watchdog")).map(str::to_owned);
    machine.until(SOON, show, |later| fed(later) != fed(&first))?;
    seen(&format!("exposure: {}", machine.ask("systemd-analyze security oneke-agent --no-pager | tail -1")?));
    let complaints = machine.complaints()?;
    ensure!(complaints.is_empty(), "complaints:\n{complaints}");
    Ok(())
}

/// A master's disks by every kind of name, one below another, and grown as ext4.
fn selectors(image: &Image) -> Result<()> {
    let context = context::master(&[
        ("ONEAPP_K8S_RANCHER_DEVICE", "serial:rancher-1"),
        ("ONEAPP_K8S_ETCD_DEVICE", "disk:3"),
        ("ONEAPP_K8S_CONTAINERD_DEVICE", "/dev/disk/by-id/virtio-images"),
        ("ONEAPP_STORAGE_DEVICE", "blank"),
        ("ONEAPP_STORAGE_FILESYSTEM", "ext4"),
    ]);
    let mut machine = Machine::new("selectors", image, &context)?;
    let mut disks = Vec::new();
    for (name, serial) in
        [("data", None), ("etcd", Some("41-3")), ("rancher", Some("rancher-1")), ("images", Some("images"))]
    {
        disks.push(machine.disk(name, serial, 512)?);
    }
    seen(&format!("up in {:.0?}", machine.power_on(&disks, MASTER)?));
    let kinds = ["RancherDiskMounted", "EtcdDiskMounted", "ContainerdDiskMounted", "StorageMounted"];
    for kind in kinds {
        seen(&format!("{kind} {}", machine.until_condition(SOON, kind, "True Mounted")?));
    }
    let devices = "for at in rancher rancher/rke2/server/db rancher/rke2/agent/containerd longhorn; do \
        findmnt -no SOURCE,FSTYPE /var/lib/$at | tr -s ' '; done";
    let expected = "/dev/vdd ext4\n/dev/vdc ext4\n/dev/vde ext4\n/dev/vdb ext4";
    ensure!(machine.ask(devices)? == expected, "{}", machine.ask(devices)?);
    formatted(&mut machine, 4)?;
    let complaints = machine.complaints()?;
    ensure!(complaints.is_empty(), "complaints:\n{complaints}");
    machine.power_off()?;

    for disk in &disks {
        run(&["qemu-img", "resize", "-q", "-f", "raw", &disk.file.display().to_string(), "1G"])?;
    }
    // The kernel's names change as well; the mounts go by UUID, the records by serial number or place.
    let turned: Vec<Disk> =
        [3, 2, 1, 0].into_iter().filter_map(|index: usize| disks.get(index).cloned()).collect();
    machine.power_on(&turned, MASTER)?;
    for kind in kinds {
        seen(&format!("{kind} {}", machine.until_condition(SOON, kind, "True Mounted")?));
    }
    let expected = "/dev/vdc ext4\n/dev/vdd ext4\n/dev/vdb ext4\n/dev/vde ext4";
    ensure!(machine.ask(devices)? == expected, "{}", machine.ask(devices)?);
    let sizes = "for at in rancher rancher/rke2/server/db rancher/rke2/agent/containerd longhorn; do \
        findmnt -bno SIZE /var/lib/$at; done";
    machine.until(SOON, sizes, |text| text.lines().all(is_grown))?;
    seen(&machine.ask("findmnt -t ext4 -no SOURCE,TARGET,SIZE")?);
    formatted(&mut machine, 0)?;
    machine.power_off().map(drop)
}

/// The power goes in the middle of mkfs.
fn power(image: &Image) -> Result<()> {
    for filesystem in ["xfs", "ext4"] {
        let context = context::storage(&[
            ("ONEAPP_STORAGE_DEVICE", "disk:2"),
            ("ONEAPP_STORAGE_FILESYSTEM", filesystem),
        ]);
        let mut machine = Machine::new("power", image, &context)?;
        let mut disk = machine.disk("data", Some("41-2"), 8192)?;
        disk.slow = Some(1 << 20);
        machine.power_on(&[disk.clone()], STORAGE)?;
        machine
            .until(SOON, "cat /var/lib/oneke-agent/disks/storage.toml", |text| text.contains("\"begun\""))?;
        machine.until(SOON, "pgrep -a mkfs || true", |text| text.contains(filesystem))?;
        // Some of it is on the disk.
        machine.until(SOON, "awk '{print $7}' /sys/block/vdb/stat", |text| {
            text.trim().parse().is_ok_and(|sectors: u64| sectors > 1000)
        })?;
        seen(&machine.condition("StorageMounted")?);
        machine.power_loss()?;
        let found = run(&["wipefs", "--no-act", &disk.file.display().to_string()])?;
        seen(&format!("{filesystem}: the power is gone; wipefs: {found}"));
        disk.slow = None;
        machine.power_on(&[disk], STORAGE)?;
        seen(&machine.until_condition(SOON, "StorageMounted", "True Mounted")?);
        seen(&machine.ask(LONGHORN)?);
        formatted(&mut machine, 1)?;
    }
    Ok(())
}

/// Disks that hold something: mounted as they are where that is wanted, else left alone to the last byte.
fn foreign(image: &Image) -> Result<()> {
    let context = context::master(&[
        ("ONEAPP_K8S_RANCHER_DEVICE", "serial:lvm"),
        ("ONEAPP_K8S_ETCD_DEVICE", "serial:ext4"),
        ("ONEAPP_K8S_CONTAINERD_DEVICE", "serial:xfs"),
        ("ONEAPP_STORAGE_DEVICE", "label:mine"),
    ]);
    let mut machine = Machine::new("foreign", image, &context)?;
    let lvm = machine.disk("lvm", Some("lvm"), 256)?;
    let ext4 = machine.disk("ext4", Some("ext4"), 256)?;
    let xfs = machine.disk("xfs", Some("xfs"), 512)?;
    let mine = machine.disk("mine", Some("mine"), 512)?;
    let path = |disk: &Disk| disk.file.display().to_string();
    run(&["mkfs.ext4", "-q", &path(&ext4)])?;
    run(&["mkfs.xfs", "-q", &path(&xfs)])?;
    run(&["mkfs.xfs", "-q", "-L", "mine", &path(&mine)])?;
    let disks = [lvm, ext4, xfs, mine];
    machine.power_on(&disks, &format!("{MASTER} oneke.agent=off"))?;
    machine.ask("pvcreate -q /dev/vdb && vgcreate -q vg /dev/vdb && lvcreate -q -L 100M -n lv vg && sync")?;
    machine.power_off()?;
    let digest = |disks: &[Disk]| -> Result<Vec<String>> {
        disks.iter().map(|disk| run(&["sha256sum", &path(disk)])).collect()
    };
    let before = digest(&disks[..3])?;
    machine.power_on(&disks, MASTER)?;
    for (kind, wanted) in [
        ("RancherDiskMounted", "False Disk"),
        ("EtcdDiskMounted", "False "),
        ("ContainerdDiskMounted", "False "),
        ("StorageMounted", "True Mounted"),
    ] {
        seen(&format!("{kind} {}", machine.until_condition(SOON, kind, wanted)?));
    }
    formatted(&mut machine, 0)?;
    machine.power_off()?;
    ensure!(digest(&disks[..3])? == before, "a disk that holds something was written to");
    // The upper one goes out of the context: the lower ones speak for themselves.
    let context = context::master(&[
        ("ONEAPP_K8S_ETCD_DEVICE", "serial:ext4"),
        ("ONEAPP_K8S_CONTAINERD_DEVICE", "serial:xfs"),
        ("ONEAPP_STORAGE_DEVICE", "serial:lvm"),
        ("ONEAPP_STORAGE_MOUNTPOINT", "/srv/data"),
    ]);
    machine.give_context(&context)?;
    machine.power_on(&disks, MASTER)?;
    for kind in ["EtcdDiskMounted", "ContainerdDiskMounted"] {
        seen(&format!("{kind} {}", machine.until_condition(SOON, kind, "False DiskHoldsData")?));
    }
    seen(&format!("StorageMounted {}", machine.until_condition(SOON, "StorageMounted", "False Disk")?));
    machine.power_off()?;
    ensure!(digest(&disks[..3])? == before, "a disk that holds something was written to");
    fs::metadata(&disks[0].file).map(drop).map_err(Into::into)
}
