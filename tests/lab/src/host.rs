//! What the lab needs of the machine it runs on, where it keeps its traces, and how it takes all of them away again.
//!
//! Every trace has a name under which it can be found without remembering anything: processes by their cgroup, network
//! namespaces by a prefix, mounts and loop devices by a directory. So [`sweep`] works after any kind of death. All these
//! names begin with the lab's own ([`name`]): labs of different names run beside each other and do not meet.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{run, succeeds};

/// What outlives labs, and all of them share: base file systems, keyed by their content.
pub const CACHE: &str = "/var/cache/oneke-lab";

/// This lab's name: `oneke-lab`, or `oneke-` and what the environment's `ONEKE_LAB` says. [`check`] sees that it is short
/// and without a hyphen, so that no lab's name is the beginning of another's.
static NAME: LazyLock<String> =
    LazyLock::new(|| format!("oneke-{}", std::env::var("ONEKE_LAB").unwrap_or_else(|_| "lab".into())));

/// This lab's name, also that of its directory in every cgroup hierarchy.
pub fn name() -> &'static str {
    &NAME
}

/// Everything that dies with the lab.
pub fn run_directory() -> PathBuf {
    Path::new("/run").join(name())
}

/// Disks of the nodes: a tmpfs, because overlayfs takes no overlay as its upper directory (a lab inside a container).
pub fn disks() -> PathBuf {
    run_directory().join("disks")
}

/// Full name of a namespace or a container of this lab.
pub fn namespace(name: &str) -> String {
    format!("{}-{name}", self::name())
}

/// Whether a namespace or a container is one of this lab's.
fn is_ours(full: &str) -> bool {
    full.strip_prefix(name()).is_some_and(|rest| rest.starts_with('-'))
}

/// Programs used, each with the Debian and Ubuntu package that has it.
const TOOLS: [(&str, &str); 7] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("genisoimage", "genisoimage"),
    ("curl", "curl"),
    ("dpkg-deb", "dpkg"),
];

/// Says what this machine lacks.
///
/// # Errors
/// When the lab cannot run here; the message says what to do.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the lab makes containers and bridges: run it as root (`oneke-lab up --simulate` needs no root)"
        );
    }
    let own = name().trim_start_matches("oneke-");
    if own.is_empty() || own.len() > 8 || !own.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("ONEKE_LAB=\"{own}\": expected one to eight letters and digits, the name of this lab");
    }
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| !succeeds(&["sh", "-c", "command -v \"$1\"", "sh", program]))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!(
            "programs are missing: run `apt-get install {}`, or start the lab by `tests/lab/up`",
            missing.join(" ")
        );
    }
    hierarchies().map(drop)
}

/// Held while a lab runs; a second one finds it taken.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as its open file")] File);

/// Takes the lock and leaves our process ID in it.
///
/// # Errors
/// When another lab runs, with its process ID.
pub fn lock() -> Result<Lock> {
    let (run, path) = (run_directory(), lock_path());
    fs::create_dir_all(&run).with_context(|| format!("could not make {}", run.display()))?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("could not open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "the lab {} runs already (process {}): use it, end it by `oneke-lab down`, or run another one beside \
                 it by ONEKE_LAB=NAME",
                name(),
                read_trimmed(&path)
            )
        }
        Err(TryLockError::Error(error)) => return Err(error).context("could not lock the lab"),
    }
    fs::write(&path, std::process::id().to_string()).context("could not write our process ID")?;
    Ok(Lock(file))
}

/// The process that runs the lab, if one does.
pub fn runner() -> Option<Pid> {
    let file = File::open(lock_path()).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => read_trimmed(&lock_path()).parse().ok().map(Pid::from_raw),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn lock_path() -> PathBuf {
    run_directory().join("lock")
}

fn read_trimmed(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The roots of all cgroup hierarchies: one on a machine with cgroup v2 alone, else each mount of its own.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("could not read /proc/self/mounts")?;
    let found = cgroup_mounts(&mounts);
    if found.is_empty() {
        bail!("no cgroup hierarchy is mounted: systemd cannot run in a container here");
    }
    Ok(found)
}

fn cgroup_mounts(mounts: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.len() > 2 && matches!(fields[2], "cgroup" | "cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .filter(|path| path.starts_with("/sys/fs/cgroup"))
        .collect()
}

/// Makes a fresh cgroup of this name in every hierarchy and returns their directories. A process that is to become
/// systemd must be in one of its own in each of them (it takes over the one it finds itself in).
///
/// # Errors
/// When a directory cannot be made.
pub fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for root in hierarchies()? {
        let parent = root.join(self::name());
        let own = parent.join(name);
        fs::create_dir_all(&own).with_context(|| format!("could not make the cgroup {}", own.display()))?;
        inherit_cpuset(&root, &parent)?;
        inherit_cpuset(&parent, &own)?;
        made.push(own);
    }
    Ok(made)
}

/// In cgroup v1 a new cpuset is empty and takes no process until it is filled.
fn inherit_cpuset(from: &Path, to: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (source, target) = (from.join(file), to.join(file));
        if source.exists() && target.exists() && read_trimmed(&target).is_empty() {
            fs::write(&target, read_trimmed(&source))
                .with_context(|| format!("could not fill {}", target.display()))?;
        }
    }
    Ok(())
}

/// Takes every trace of a lab away: processes, namespaces, mounts, loop devices, cgroups, files. Idempotent.
///
/// # Errors
/// Names what could not be removed.
pub fn sweep() -> Result<()> {
    for root in hierarchies()? {
        end_processes(&root.join(name()), Duration::from_secs(10))?;
    }
    for namespace in run(&["ip", "netns", "list"])?.lines().filter_map(|line| line.split(' ').next()) {
        if is_ours(namespace) {
            run(&["ip", "netns", "delete", namespace])?;
        }
    }
    detach_loops()?;
    unmount_below(&run_directory())?;
    for root in hierarchies()? {
        remove_cgroup(&root.join(name()))?;
    }
    // nspawn leaves a directory per container in each of these when it is killed.
    for parent in ["/run/systemd/nspawn/propagate", "/run/systemd/nspawn/unix-export"] {
        for left in subdirectories(Path::new(parent)) {
            if left.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())) {
                unmount_below(&left)?;
                fs::remove_dir_all(&left).with_context(|| format!("could not remove {}", left.display()))?;
            }
        }
    }
    let disks = disks();
    if disks.exists() {
        fs::remove_dir_all(&disks).with_context(|| format!("could not remove {}", disks.display()))?;
    }
    Ok(())
}

/// Kills what is in a cgroup and below until nothing is.
///
/// # Errors
/// When something survives.
pub fn end_processes(cgroup: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let pids = processes(cgroup);
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {pids:?} in {} survive SIGKILL", cgroup.display());
        }
        for pid in pids {
            // It may have ended since it was listed: the next look tells.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every process of every machine, as far as they can be listed.
pub fn guests() -> Vec<i32> {
    hierarchies().unwrap_or_default().first().map(|root| processes(&root.join(name()))).unwrap_or_default()
}

/// Every process in a cgroup and below.
pub fn processes(cgroup: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> =
        read_trimmed(&cgroup.join("cgroup.procs")).lines().filter_map(|line| line.parse().ok()).collect();
    for child in subdirectories(cgroup) {
        pids.extend(processes(&child));
    }
    pids
}

fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for child in subdirectories(cgroup) {
        remove_cgroup(&child)?;
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove the cgroup {}", cgroup.display()))
        }
        _ => Ok(()),
    }
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Unmounts everything at and below a directory, the deepest first.
///
/// # Errors
/// When a mount stays.
pub fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("could not read /proc/self/mounts")?;
    let mut points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        // Lazily: a zombie of the container can hold it for a second or two.
        run(&["umount", "--lazy", point])?;
    }
    Ok(())
}

fn detach_loops() -> Result<()> {
    for line in run(&["losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"])?.lines() {
        if let Some((device, file)) = line.split_once(' ')
            && Path::new(file).starts_with(run_directory())
        {
            run(&["losetup", "--detach", device])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_kinds_of_machines_are_found() {
        let unified = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(cgroup_mounts(unified), [PathBuf::from("/sys/fs/cgroup")]);
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup2 /somewhere/else cgroup2 rw 0 0\n";
        assert_eq!(
            cgroup_mounts(hybrid),
            [PathBuf::from("/sys/fs/cgroup/cpu"), PathBuf::from("/sys/fs/cgroup/unified")]
        );
    }

    #[test]
    fn a_lab_beside_ours_is_not_ours() {
        assert!(is_ours(&namespace("vm1")));
        assert!(!is_ours(&format!("{}2-vm1", name())) && !is_ours(name()));
    }

    #[test]
    fn processes_below_are_counted_too() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("cgroup.procs"), "").unwrap();
        fs::write(root.path().join("a/b/cgroup.procs"), "12\n13\n").unwrap();
        assert_eq!(processes(root.path()), [12, 13]);
    }
}
