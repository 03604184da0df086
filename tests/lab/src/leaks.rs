//! Searches everything that many can read for what nobody may: the bodies that OneGate received, the journals, the
//! arguments of all processes, and the files that every user of a machine can read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::output;
use crate::lab::Lab;
use crate::progress::Member;
use crate::secrets::Secrets;
use crate::{host, machine};

/// Where on a machine's disk secrets of RKE2 and of the agent are.
const KEPT: [&str; 3] = ["var/lib/rancher", "etc/rancher", "var/lib/oneke-agent"];
/// What a machine holds in memory, and not below its disk's upper directory.
const VOLATILE: [&str; 3] = ["run", "tmp", "dev/shm"];
/// Between two looks at all processes: most of those that the agent starts live longer.
const LOOK: Duration = Duration::from_millis(50);

/// The arguments of every process of every machine that was seen since.
#[derive(Debug)]
pub struct Arguments {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Arguments {
    /// Looks from now on.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch() -> Result<Self> {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let (flag, record) = (Arc::clone(&stop), Arc::clone(&seen));
        let work = move || {
            while !flag.load(Ordering::Relaxed) {
                // A process that has ended since it was listed shows nothing.
                let lines = host::guests()
                    .into_iter()
                    .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
                record.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
                std::thread::sleep(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("arguments".into()).spawn(work);
        Ok(Self {
            stop,
            seen,
            thread: Some(thread.context("could not start the thread that reads arguments")?),
        })
    }

    fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Drop for Arguments {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that died looks no more, which is what is wanted.
            let _ = thread.join();
        }
    }
}

/// What was searched, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Requests to OneGate with a body.
    pub bodies: usize,
    /// Bytes of journals, with all fields.
    pub journals: usize,
    /// Different command lines.
    pub arguments: usize,
    /// Files that everybody can read.
    pub files: usize,
    /// Where what was found, by its first letters.
    pub found: Vec<String>,
}

/// What nobody may know, from the files of all machines that hold it, and the machines' own tokens for OneGate.
pub fn secrets(lab: &Lab, members: &[Member]) -> Secrets {
    let mut held = Vec::new();
    for member in members {
        for directory in KEPT {
            walk(&machine::upper(member.vm).join(directory), false, &mut |path| {
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                held.extend(fs::read_to_string(path).iter().flat_map(|text| secrets_in(&name, text)));
            });
        }
    }
    held.extend(lab.front.with(|cloud, _| cloud.vms().map(|vm| vm.token.clone()).collect::<Vec<_>>()));
    Secrets::of(&held)
}

/// The secret lines of one file: tokens and passwords whole, private keys, what kubeconfigs and settings name so.
fn secrets_in(name: &str, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if ["token", "agent-token", "node-token", "password", "join.key"].contains(&name) {
        lines.extend(text.lines().map(String::from));
    }
    let mut begins = false;
    for line in text.lines() {
        // The first line alone: an elliptic curve's private number is in it; behind it comes the public key, which
        // certificates show as well.
        if std::mem::replace(&mut begins, line.contains("BEGIN") && line.contains("PRIVATE KEY-----")) {
            lines.push(line.to_owned());
        }
        let value = |key: &str| line.trim().strip_prefix(key).map(|value| value.trim().trim_matches('"'));
        if let Some(key) = value("client-key-data:") {
            let pem = STANDARD.decode(key).unwrap_or_default();
            lines.extend(secrets_in("", &String::from_utf8_lossy(&pem)));
        }
        lines.extend(["token:", "agent-token:"].into_iter().filter_map(value).map(String::from));
    }
    lines
}

/// Searches all of it.
///
/// # Errors
/// When a journal cannot be read.
pub fn search(lab: &Lab, members: &[Member], secrets: &Secrets, arguments: &Arguments) -> Result<Search> {
    let mut search = Search::default();
    let received = lab.front.with(|cloud, _| cloud.ledger().received().to_vec());
    search.bodies = received.len();
    for request in received {
        if let Some(secret) = secrets.found_in(request.body.as_bytes()) {
            search.found.push(format!("VM {:?} sent {secret} to {}", request.vm, request.path_and_query));
        }
    }
    for line in arguments.seen() {
        search.arguments += 1;
        if let Some(secret) = secrets.found_in(&line) {
            let program = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default());
            search.found.push(format!("a process {program} had {secret} among its arguments"));
        }
    }
    for member in members.iter().filter(|member| member.leader.is_some()) {
        search_machine(member, secrets, &mut search)?;
    }
    Ok(search)
}

fn search_machine(member: &Member, secrets: &Secrets, search: &mut Search) -> Result<()> {
    let directory = machine::journals(member.vm).display().to_string();
    let journal = output(&["journalctl", "--directory", &directory, "--output=export", "--all"])?.stdout;
    search.journals += journal.len();
    if let Some(secret) = secrets.found_in(&journal) {
        search.found.push(format!("the journal of {} has {secret}", member.name()));
    }
    let leader = member.leader.with_context(|| format!("{} is off", member.name()))?;
    let live = Path::new("/proc").join(leader.to_string()).join("root");
    let mut roots = vec![machine::upper(member.vm)];
    roots.extend(VOLATILE.map(|directory| live.join(directory)));
    for root in roots {
        walk(&root, true, &mut |path| {
            search.files += 1;
            // It may be gone since it was listed.
            if let Some(secret) = fs::read(path).ok().and_then(|bytes| secrets.found_in(&bytes)) {
                search.found.push(format!(
                    "every user of {} can read {secret} in {}",
                    member.name(),
                    path.display()
                ));
            }
        });
    }
    Ok(())
}

/// Shows every file below a directory; with `public` only those that everybody can read: the file itself, and every
/// directory above it.
fn walk(directory: &Path, public: bool, show: &mut dyn FnMut(&Path)) {
    let allows = |path: &Path, bit: u32| {
        fs::symlink_metadata(path).is_ok_and(|data| !public || data.permissions().mode() & bit == bit)
    };
    if !allows(directory, 0o001) {
        return;
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        if data.is_dir() {
            walk(&path, public, show);
        } else if data.is_file() && allows(&path, 0o004) {
            show(&path);
        }
    }
}

/// Puts a secret of a machine where each part of the search must find it: its journal, a process's arguments, a file.
///
/// # Errors
/// When the machine is off or has no such file.
pub fn plant(lab: &Lab, vm: u32, secret: &str) -> Result<()> {
    let script = "cat \"$0\"; install -m 644 \"$0\" /var/tmp/planted; sh -c 'sleep 1; :' \"$(cat \"$0\")\"";
    let argv = ["systemd-run", "--quiet", "--wait", "--collect", "sh", "-c", script, secret];
    lab.run_inside(vm, &argv).map(drop).context("could not plant a secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, mode: u32) {
        fs::write(path, "s3cr3tpassw0rd").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_public_if_all_directories_above_it_are() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (directory, mode) in [("open", 0o755), ("closed", 0o700)] {
            let directory = root.path().join(directory);
            fs::create_dir(&directory).unwrap();
            write(&directory.join("public"), 0o644);
            write(&directory.join("private"), 0o640);
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut shown = Vec::new();
        walk(root.path(), true, &mut |path| shown.push(path.to_owned()));
        assert_eq!(shown, [root.path().join("open/public")]);
        let mut all = 0;
        walk(root.path(), false, &mut |_| all += 1);
        assert_eq!(all, 4);
    }

    #[test]
    fn secrets_are_taken_out_of_every_kind_of_file() {
        let pem =
            "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBqk\nAwEHoUQDQgAE\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(secrets_in("server-ca.key", pem), ["MHcCAQEEIBqk"]);
        assert_eq!(secrets_in("server-ca.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n"), [""; 0]);
        assert_eq!(secrets_in("token", "K10aa::server:bb\n"), ["K10aa::server:bb"]);
        assert_eq!(secrets_in("config.yaml", "server: https://a\ntoken: \"K10aa\"\n"), ["K10aa"]);
        let kubeconfig = format!("    client-key-data: {}\n", STANDARD.encode(pem));
        assert_eq!(secrets_in("rke2.yaml", &kubeconfig), ["MHcCAQEEIBqk"]);
    }
}
