//! The disk that every machine boots from: a Debian with a kernel, made once, and this build's agent in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::run;

/// Where everything is kept.
pub const PLACE: &str = "/var/tmp/oneke-vm";
/// Of the base; the agent's own dependencies, then what boots it and what looks at it.
const PACKAGES: &str = "age,ca-certificates,conntrack,conntrackd,dbus,e2fsprogs,haproxy,iproute2,keepalived,kmod,\
    nftables,procps,systemd,systemd-sysv,udev,unbound,util-linux,xfsprogs,\
    linux-image-cloud-amd64,initramfs-tools,zstd,lvm2,ipvsadm";
/// Answers the harness on the second serial port: a line is a command, its answer a line, both in base64.
const PROBE: &str = "#!/bin/bash\nstty -F /dev/ttyS1 raw -echo\nexec 0<>/dev/ttyS1 1>&0\necho ready\n\
    while read -r line; do\n\
    \x20   answer=$(base64 -d <<<\"$line\" | timeout 120 bash 2>&1; echo \"=$?\")\n\
    \x20   base64 -w0 <<<\"$answer\"\n    echo\ndone\n";
const PROBE_UNIT: &str = "[Unit]\nDescription=Answers the harness\n\
    [Service]\nExecStart=/usr/local/sbin/probe\nRestart=always\nTimeoutStopSec=1\n\
    [Install]\nWantedBy=multi-user.target\n";
/// Pins the role that the kernel's command line names, because OneGate is silent for these machines.
const PIN: &str = "#!/bin/sh\nset -e\nfile=/var/lib/oneke-agent/identity.toml\n[ ! -e $file ] || exit 0\n\
    role=$(sed 's/.*oneke.role=//; s/ .*//' /proc/cmdline)\nmkdir -p ${file%/*}\n\
    printf 'vm = 41\\nservice = 3\\nrole = \"%s\"\\n' \"$role\" >$file\n";
const PIN_UNIT: &str = "[Unit]\nDescription=Pins the role\nBefore=oneke-agent.service\n\
    [Service]\nType=oneshot\nExecStart=/usr/local/sbin/pin\n[Install]\nWantedBy=multi-user.target\n";
/// A boot without the agent.
const OFF: &str = "[Unit]\nConditionKernelCommandLine=!oneke.agent=off\n";

/// What a machine boots.
#[derive(Clone, Debug)]
pub struct Image {
    /// The root file system, labelled `root`; never written to.
    pub root: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initrd: PathBuf,
}

/// Makes the image; the base is taken from an earlier run if there is one.
///
/// # Errors
/// When a tool fails.
pub fn make() -> Result<Image> {
    let place = Path::new(PLACE);
    fs::create_dir_all(place).with_context(|| format!("could not make {PLACE}"))?;
    let base = place.join("base.tar");
    if !base.exists() {
        println!("making the base system in {} (once; two minutes)", base.display());
        bootstrap(&base)?;
    }
    let (tree, root) = (place.join("tree"), place.join("root.ext4"));
    if is_newest(&root)? {
        return Ok(Image { root, kernel: newest(&tree, "vmlinuz")?, initrd: newest(&tree, "initrd.img")? });
    }
    if tree.exists() {
        fs::remove_dir_all(&tree).context("could not remove the last run's tree")?;
    }
    fs::create_dir_all(&tree).context("could not make the image's tree")?;
    let text = |path: &Path| path.display().to_string();
    run(&["tar", "-xpf", &text(&base), "-C", &text(&tree), "--numeric-owner"])?;
    fill(&tree)?;
    if root.exists() {
        fs::remove_file(&root).context("could not remove the last run's image")?;
    }
    run(&["mkfs.ext4", "-q", "-L", "root", "-E", "nodiscard", "-d", &text(&tree), &text(&root), "1500M"])?;
    Ok(Image { root, kernel: newest(&tree, "vmlinuz")?, initrd: newest(&tree, "initrd.img")? })
}

fn bootstrap(base: &Path) -> Result<()> {
    let unfinished = base.with_extension("new.tar").display().to_string();
    let include = format!("--include={PACKAGES}");
    let mut argv =
        vec!["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar", &include];
    argv.extend(["man", "doc", "locale"].map(|kind| match kind {
        "man" => "--dpkgopt=path-exclude=/usr/share/man/*",
        "doc" => "--dpkgopt=path-exclude=/usr/share/doc/*",
        _ => "--dpkgopt=path-exclude=/usr/share/locale/*",
    }));
    run(&[&argv[..], &["bookworm", &unfinished]].concat()).context("could not make the base system")?;
    fs::rename(&unfinished, base).context("could not put the base in its place")
}

fn fill(tree: &Path) -> Result<()> {
    let package = package()?;
    fs::copy(&package, tree.join("tmp/oneke-agent.deb")).context("could not stage the package")?;
    let root = tree.display().to_string();
    run(&["chroot", &root, "dpkg", "--install", "/tmp/oneke-agent.deb"])?;
    for unit in ["conntrackd", "haproxy", "keepalived", "nftables", "unbound"] {
        run(&["systemctl", "--quiet", &format!("--root={root}"), "disable", unit])?;
    }
    let put = |path: &str, mode: u32, text: &str| -> Result<()> {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().context("a file of the image has no directory")?)?;
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    };
    put("usr/local/sbin/probe", 0o755, PROBE)?;
    put("etc/systemd/system/probe.service", 0o644, PROBE_UNIT)?;
    put("usr/local/sbin/pin", 0o755, PIN)?;
    put("etc/systemd/system/pin.service", 0o644, PIN_UNIT)?;
    put("etc/systemd/system/oneke-agent.service.d/off.conf", 0o644, OFF)?;
    put("etc/fstab", 0o644, "LABEL=root / ext4 defaults 0 1\n")?;
    put("etc/hostname", 0o644, "vm41\n")?;
    put("etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 vm41\n")?;
    put("etc/machine-id", 0o444, "")?;
    fs::create_dir_all(tree.join("var/log/journal")).context("could not make the journal's directory")?;
    run(&["systemctl", "--quiet", &format!("--root={root}"), "enable", "probe", "pin"]).map(drop)
}

/// True if nothing that goes into it was built since it was made.
fn is_newest(root: &Path) -> Result<bool> {
    let own = std::env::current_exe().context("could not find our own program")?;
    let Ok(made) = fs::metadata(root).and_then(|root| root.modified()) else { return Ok(false) };
    let programs = ["oneke-vm", "oneke-agent", "appliance-build"].map(|name| own.with_file_name(name));
    let older = |program: &PathBuf| {
        fs::metadata(program).and_then(|program| program.modified()).is_ok_and(|time| time < made)
    };
    Ok(programs.iter().all(older))
}

/// This build's package.
fn package() -> Result<PathBuf> {
    let own = std::env::current_exe().context("could not find our own program")?;
    let program = |name: &str| own.with_file_name(name).display().to_string();
    let (builder, agent) = (program("appliance-build"), program("oneke-agent"));
    let printed = run(&[&builder, "deb", "--binary", &agent, "--out", PLACE])?;
    Ok(printed.lines().last().context("`appliance-build deb` named no package")?.into())
}

fn newest(tree: &Path, kind: &str) -> Result<PathBuf> {
    let boot = tree.join("boot");
    let mut found: Vec<PathBuf> = fs::read_dir(&boot)
        .with_context(|| format!("could not list {}", boot.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)))
        .collect();
    found.sort();
    let Some(path) = found.pop() else { bail!("there is no {kind} in {}", boot.display()) };
    Ok(path)
}
