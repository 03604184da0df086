//! The agent's package for Debian and Ubuntu: its program, units, kernel parameters, and little else.
//!
//! The same inputs give the same bytes: every file's time is [`Build::epoch`], its owner root, its mode fixed here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Units and drop-ins by their place below `systemd/`. Only the agent's own is enabled by the package.
const UNITS: [(&str, &str); 6] = [
    ("conntrackd.service.d/oneke.conf", include_str!("../../systemd/conntrackd.service.d/oneke.conf")),
    ("oneke-agent.service", include_str!("../../systemd/oneke-agent.service")),
    ("oneke-farewell.service", include_str!("../../systemd/oneke-farewell.service")),
    ("oneke-format@.service", include_str!("../../systemd/oneke-format@.service")),
    ("oneke-grow@.service", include_str!("../../systemd/oneke-grow@.service")),
    ("oneke-nft.service", include_str!("../../systemd/oneke-nft.service")),
];
const SYSCTL: &str = include_str!("../../systemd/sysctl.conf");
const MODULES: &str = include_str!("../../systemd/modules.conf");
const USERS: &str = include_str!("../../systemd/sysusers.conf");
const LICENCE: &str = "Files: *\nCopyright: the OneKE agent's authors\nLicense: Apache-2.0\n \
    On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n";

/// Programs that the agent runs or configures; each is started only on the roles that need it.
const DEPENDS: &[&str] = &[
    "age",
    "conntrack",
    "conntrackd (>= 1:1.4.6)",
    "dbus",
    "e2fsprogs",
    "haproxy (>= 2.4)",
    "iproute2",
    "keepalived (>= 1:2.2)",
    "kmod",
    "libc6",
    "nftables",
    "systemd (>= 249)",
    "unbound",
    "util-linux",
    "xfsprogs",
];

/// Enables, but never starts: the image is built on a machine that has no context. An upgrade restarts what runs.
const POSTINST: &str = "#!/bin/sh\nset -e\n\
    if [ \"$1\" = configure ]; then\n\
    \x20   systemd-sysusers oneke.conf\n\
    \x20   systemctl --quiet enable oneke-agent.service\n\
    \x20   if [ -d /run/systemd/system ]; then\n\
    \x20       systemctl daemon-reload\n\
    \x20       systemctl try-restart oneke-agent.service\n\
    \x20   fi\n\
    fi\n";

const PRERM: &str = "#!/bin/sh\nset -e\n\
    if [ \"$1\" = remove ]; then\n\
    \x20   systemctl --quiet disable oneke-agent.service\n\
    \x20   if [ -d /run/systemd/system ]; then\n\
    \x20       systemctl stop oneke-agent.service\n\
    \x20   fi\n\
    fi\n";

/// The identity goes only when the administrator asks for it: without it the node would take itself for a new one.
const POSTRM: &str = "#!/bin/sh\nset -e\n\
    if [ \"$1\" = purge ]; then\n\
    \x20   rm -rf /var/lib/oneke-agent\n\
    fi\n\
    if [ -d /run/systemd/system ]; then\n\
    \x20   systemctl daemon-reload\n\
    fi\n";

/// What to pack.
#[derive(Clone, Debug)]
pub struct Build {
    /// The agent's program.
    pub binary: PathBuf,
    /// The package's version.
    pub version: String,
    /// Debian's word for the architecture of `binary`.
    pub architecture: String,
    /// The time of every file in the package, seconds since 1970 (SOURCE_DATE_EPOCH).
    pub epoch: u64,
}

/// Packs it into `out` and returns the package's path.
///
/// # Errors
/// When the binary is missing, a file cannot be written, or `dpkg-deb` refuses.
pub fn pack(build: &Build, out: &Path) -> Result<PathBuf> {
    let name = format!("oneke-agent_{}_{}", build.version, build.architecture);
    let tree = out.join(&name);
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("could not remove {}", tree.display()))?;
    }
    let binary =
        fs::read(&build.binary).with_context(|| format!("could not read {}", build.binary.display()))?;
    let mut size = 0;
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        size += content.len();
        write(&tree.join(path), mode, content)
    };
    put("usr/bin/oneke-agent", 0o755, &binary)?;
    for (unit, content) in UNITS {
        put(&format!("usr/lib/systemd/system/{unit}"), 0o644, content.as_bytes())?;
    }
    put("usr/lib/sysctl.d/60-oneke.conf", 0o644, SYSCTL.as_bytes())?;
    put("usr/lib/modules-load.d/oneke.conf", 0o644, MODULES.as_bytes())?;
    put("usr/lib/sysusers.d/oneke.conf", 0o644, USERS.as_bytes())?;
    put("usr/share/doc/oneke-agent/copyright", 0o644, LICENCE.as_bytes())?;
    write(&tree.join("DEBIAN/control"), 0o644, control(build, size).as_bytes())?;
    for (script, content) in [("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)] {
        write(&tree.join("DEBIAN").join(script), 0o755, content.as_bytes())?;
    }
    let package = out.join(format!("{name}.deb"));
    assemble(&tree, &package, build.epoch)?;
    fs::remove_dir_all(&tree).with_context(|| format!("could not remove {}", tree.display()))?;
    Ok(package)
}

fn control(build: &Build, size: usize) -> String {
    format!(
        "Package: oneke-agent\nVersion: {}\nArchitecture: {}\nMaintainer: OneKE <oneke@opennebula.invalid>\n\
         Installed-Size: {}\nDepends: {}\nSection: admin\nPriority: optional\n\
         Description: agent of OneKE, OpenNebula's Kubernetes appliance\n \
         Brings a VM of a OneFlow service into its RKE2 cluster or makes it the service's\n \
         virtual router, reports its readiness to OneGate, and explains what it waits for.\n",
        build.version,
        build.architecture,
        size.div_ceil(1024),
        DEPENDS.join(", ")
    )
}

fn write(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let directory = path.parent().context("a packed file lies in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("could not make {}", directory.display()))?;
    fs::write(path, content).with_context(|| format!("could not write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("could not set the mode of {}", path.display()))
}

fn assemble(tree: &Path, package: &Path, epoch: u64) -> Result<()> {
    // Directories come out with our umask: fixed too, so that it makes no difference.
    run(Command::new("find").arg(tree).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zzstd", "--build"])
        .arg(tree)
        .arg(package)
        .env("SOURCE_DATE_EPOCH", epoch.to_string()))
}

/// Debian's word for this machine's architecture.
///
/// # Errors
/// When `dpkg` cannot be asked.
pub fn architecture() -> Result<String> {
    let output = Command::new("dpkg").arg("--print-architecture").output().context("could not start dpkg")?;
    let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if word.is_empty() {
        bail!("dpkg --print-architecture printed nothing");
    }
    Ok(word)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("could not start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(directory: &Path) -> PathBuf {
        let binary = directory.join("program");
        fs::write(&binary, "#!/bin/sh\n").unwrap();
        let build =
            Build { binary, version: "1.2.3".into(), architecture: "amd64".into(), epoch: 1_700_000_000 };
        pack(&build, directory).unwrap()
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (packed(one.path()), packed(other.path()));
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "two builds of one package differ");
    }

    #[test]
    fn dpkg_reads_what_we_packed() {
        let directory = tempfile::tempdir().unwrap();
        let package = packed(directory.path());
        let ask = |option: &str| {
            let output = Command::new("dpkg-deb").arg(option).arg(&package).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(ask("--field").contains("\nVersion: 1.2.3\n"));
        let contents = ask("--contents");
        let line = contents.lines().find(|line| line.ends_with("./usr/bin/oneke-agent")).unwrap();
        assert!(line.starts_with("-rwxr-xr-x root/root") && line.contains("2023-11-14"), "{line}");
    }

    #[test]
    fn every_ordering_line_of_our_units_says_why_and_none_holds_up_rke2() {
        let orders = ["After=", "Before=", "Wants=", "Requires=", "BindsTo=", "PartOf="];
        for (unit, content) in UNITS {
            let lines: Vec<&str> = content.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                if orders.iter().any(|order| line.starts_with(order)) {
                    assert!(lines[number - 1].starts_with('#'), "{unit}: no reason above: {line}");
                    let waits_for_rke2 = unit == "oneke-farewell.service" && line.starts_with("After=");
                    let is_free = !line.contains("rke2") || waits_for_rke2;
                    assert!(
                        is_free,
                        "{unit}: RKE2's start must not depend on us, nor the agent on it: {line}"
                    );
                }
            }
        }
    }
}
