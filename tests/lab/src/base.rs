//! The file systems under every node: a base from the distribution, kept between runs, and an image on top of it with
//! what this build made, as the appliance's image is made.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::run;
use crate::host::{self, CACHE};
use crate::rke2;

/// What the base holds beside the essential packages. The agent's own dependencies come first: its package is
/// installed without a network, so they must be there.
const PACKAGES: &[&str] = &[
    "age",
    "ca-certificates",
    "conntrack",
    "conntrackd",
    "curl",
    "dbus",
    "e2fsprogs",
    "haproxy",
    "iproute2",
    "iputils-ping",
    "keepalived",
    "kmod",
    "nftables",
    "openssl",
    "procps",
    "systemd",
    "systemd-sysv",
    "udev",
    "unbound",
    "xfsprogs",
];

/// Left out to keep the base small: nobody reads manuals in a node.
const EXCLUDED: &[&str] = &["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"];

/// Counts what [`tidy`] does, so that a base which an earlier version of it made is not taken.
const TIDINESS: u32 = 2;

/// The distribution of this machine; the base is of the same one, because its package sources are known to work here.
/// The environment's `ONEKE_LAB_SUITE` names another of its suites (`trixie`), for the daemons' versions there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suite {
    name: String,
    components: &'static str,
}

impl Suite {
    fn parse(os_release: &str) -> Result<Self> {
        let value = |key: &str| {
            let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|text| text.trim_matches('"').to_owned())
        };
        let components = match value("ID").as_deref() {
            Some("debian") => "main",
            Some("ubuntu") => "main,universe",
            other => {
                bail!("the lab knows Debian and Ubuntu, and this machine says ID={}", other.unwrap_or(""))
            }
        };
        let name = value("VERSION_CODENAME").context("/etc/os-release has no VERSION_CODENAME")?;
        Ok(Self { name, components })
    }

    fn or_named(self) -> Self {
        let name = std::env::var("ONEKE_LAB_SUITE").unwrap_or(self.name);
        Self { name, ..self }
    }
}

/// The base file system's directory; makes it (half a minute and 300 MB) unless an earlier run has.
///
/// # Errors
/// When the machine is neither Debian nor Ubuntu, or the packages cannot be fetched.
pub fn ensure(say: &dyn Fn(&str)) -> Result<PathBuf> {
    let os_release = fs::read_to_string("/etc/os-release").context("could not read /etc/os-release")?;
    let suite = Suite::parse(&os_release)?.or_named();
    let mut key = DefaultHasher::new();
    (TIDINESS, PACKAGES, EXCLUDED, suite.components).hash(&mut key);
    let base = Path::new(CACHE).join(format!("{}-{:016x}", suite.name, key.finish()));
    if base.exists() {
        return Ok(base);
    }
    say(&format!(
        "making the nodes' base file system in {} ({}, once; about half a minute)",
        base.display(),
        suite.name
    ));
    // Two labs may make it at the same time.
    let unfinished = base.with_extension(host::name());
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("could not remove an unfinished base")?;
    }
    fs::create_dir_all(CACHE).with_context(|| format!("could not make {CACHE}"))?;
    bootstrap(&suite, &unfinished)?;
    tidy(&unfinished)?;
    match fs::rename(&unfinished, &base) {
        Err(_) if base.exists() => {
            fs::remove_dir_all(&unfinished).context("could not remove a second base")?
        }
        renamed => renamed.context("could not put the base in its place")?,
    }
    Ok(base)
}

fn bootstrap(suite: &Suite, target: &Path) -> Result<()> {
    let mut argv: Vec<String> =
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"].map(String::from).into();
    argv.extend(EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    argv.push(format!("--components={}", suite.components));
    argv.push(format!("--include={}", PACKAGES.join(",")));
    argv.extend([suite.name.clone(), target.display().to_string()]);
    run(&argv)
        .map(drop)
        .context("could not make the base file system (it needs the distribution's package servers)")
}

/// What makes a tree an image: no identity of its own, a journal that survives boots, the network daemon on.
fn tidy(root: &Path) -> Result<()> {
    let hostname = root.join("etc/hostname");
    if hostname.exists() {
        fs::remove_file(hostname).context("could not remove the base's hostname")?;
    }
    // mmdebstrap leaves this machine's own: its name servers are out of reach in there.
    fs::write(root.join("etc/resolv.conf"), "").context("could not empty the base's resolv.conf")?;
    // Empty, not absent: absent means "first boot" to systemd, and it would enable every unit by preset.
    fs::write(root.join("etc/machine-id"), "").context("could not empty the base's machine-id")?;
    fs::create_dir_all(root.join("var/log/journal")).context("could not make the journal's directory")?;
    run(&["systemctl", "--quiet", &format!("--root={}", root.display()), "enable", "systemd-networkd"])
        .map(drop)
}

/// What this build made and the image gets.
#[derive(Clone, Debug)]
pub struct Artefacts {
    /// The agent's package.
    pub package: PathBuf,
    /// The stand-in's `rke2`.
    pub rke2: PathBuf,
}

impl Artefacts {
    /// Finds the programs beside our own and packs the agent as a release does.
    ///
    /// # Errors
    /// When one was not built, or packing fails.
    pub fn beside_us() -> Result<Self> {
        let own = std::env::current_exe().context("could not find our own program")?;
        let directory = own.parent().context("our program has no directory")?;
        let program = |name: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            if !path.exists() {
                bail!(
                    "{} is missing: build the workspace, or start the lab by `tests/lab/up`",
                    path.display()
                );
            }
            Ok(path)
        };
        let out = host::disks().join("package");
        fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
        let (builder, agent) = (program("appliance-build")?, program("oneke-agent")?);
        let text = |path: &Path| path.display().to_string();
        let printed = run(&[&text(&builder), "deb", "--binary", &text(&agent), "--out", &text(&out)])?;
        let package = printed.lines().last().context("`appliance-build deb` named no package")?;
        Ok(Self { package: package.into(), rke2: program("rke2")? })
    }
}

/// The image: directories for overlayfs, the topmost first.
#[derive(Clone, Debug)]
pub struct Image {
    /// `lowerdir=` of every node.
    pub lower: String,
}

impl Image {
    /// Makes the image on top of the base: the stand-in where RKE2's release would unpack, then the same provisioning
    /// script that Packer runs.
    ///
    /// # Errors
    /// When a mount or the provisioning fails.
    pub fn make(base: &Path, artefacts: &Artefacts) -> Result<Self> {
        let [upper, work, root] =
            ["upper", "work", "root"].map(|name| host::disks().join("image").join(name));
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory)
                .with_context(|| format!("could not make {}", directory.display()))?;
        }
        mount_overlay(&base.display().to_string(), &upper, &work, &root)?;
        let made = fill(&root, artefacts);
        run(&["umount", &root.display().to_string()])?;
        made?;
        Ok(Self { lower: format!("{}:{}", upper.display(), base.display()) })
    }
}

fn fill(root: &Path, artefacts: &Artefacts) -> Result<()> {
    let stage = root.join("tmp/oneke");
    fs::create_dir_all(&stage).context("could not make the staging directory")?;
    rke2::tarball(&artefacts.rke2, &stage)?;
    fs::copy(&artefacts.package, stage.join("oneke-agent.deb")).context("could not stage the package")?;
    fs::write(stage.join("provision.sh"), include_str!("../../../packer/provision.sh"))
        .context("could not stage the provisioning script")?;
    let chroot = |argv: &[&str]| run(&[&["chroot", &root.display().to_string()], argv].concat());
    chroot(&["sh", "/tmp/oneke/provision.sh", "/tmp/oneke"]).context("provisioning the image failed")?;
    rke2::tune(root)?;
    // systemd's own opinion of our units, in the place where they will run.
    chroot(&[
        "systemd-analyze",
        "verify",
        "oneke-agent.service",
        "oneke-farewell.service",
        "oneke-nft.service",
    ])?;
    fs::remove_dir_all(&stage).context("could not remove the staging directory")
}

/// Mounts an overlay at `root`.
///
/// # Errors
/// When the kernel refuses it.
pub fn mount_overlay(lower: &str, upper: &Path, work: &Path, root: &Path) -> Result<()> {
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    run(&["mount", "-t", "overlay", "overlay", "-o", &options, &root.display().to_string()]).map(drop)
}

/// Mounts the tmpfs that holds all disks of the nodes; memory is used as they write.
///
/// # Errors
/// When the kernel refuses it.
pub fn mount_disks() -> Result<()> {
    let disks = host::disks();
    fs::create_dir_all(&disks).with_context(|| format!("could not make {}", disks.display()))?;
    run(&["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", &disks.display().to_string()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_both_distributions_are_read() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(Suite::parse(debian).unwrap(), Suite { name: "bookworm".into(), components: "main" });
        let ubuntu = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=\"noble\"\n";
        assert_eq!(
            Suite::parse(ubuntu).unwrap(),
            Suite { name: "noble".into(), components: "main,universe" }
        );
        let error = Suite::parse("ID=fedora\n").unwrap_err().to_string();
        assert!(error.contains("ID=fedora"), "{error}");
    }
}
