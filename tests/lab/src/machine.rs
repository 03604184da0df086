//! One node: a container with its own systemd that stands for a virtual machine, with its power button.
//!
//! ```text
//!   power_on ──▶ runs ──▶ guest powers off, or is asked to (ACPI) ──▶ off, disk kept
//!                 │ ├───▶ guest reboots ──▶ off; the hypervisor starts it again
//!                 │ └───▶ power_loss: dies at this instant, silent on the wire
//! ```

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::base::{Image, mount_overlay};
use crate::command::{command, run};
use crate::network::{Port, namespace};
use crate::{guest, host, network};

/// The context disc that a machine is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disc {
    /// `context.sh` as oned writes it.
    pub variables: String,
    /// `token.txt`.
    pub token: String,
}

/// How a machine came to a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The guest powered itself off, by itself or because it was asked to.
    PoweredOff,
    /// The guest wants to be started again.
    Reboots,
    /// It was killed, or never came up.
    Died,
}

/// A machine, on or off.
#[derive(Debug)]
pub struct Machine {
    id: u32,
    directory: PathBuf,
    ports: Vec<Port>,
    device: Option<String>,
    running: Option<Child>,
}

impl Machine {
    /// A machine that is off and has an empty disk.
    pub fn new(id: u32) -> Self {
        let directory = host::disks().join(name(id));
        Self { id, directory, ports: Vec::new(), device: None, running: None }
    }

    /// Starts it with this context. Its disk stays as it was left; [`Machine::wipe`] gives a fresh one.
    ///
    /// # Errors
    /// When the disk, the wires, the context or the container cannot be made.
    pub fn power_on(&mut self, image: &Image, context: &Disc) -> Result<()> {
        self.clean_up()?;
        let variables = guest::variables(&context.variables);
        self.ports = guest::ports(&variables);
        network::plug(&name(self.id), &self.ports)?;
        let root = self.mount(image)?;
        guest::configure(&root, &name(self.id), &variables)?;
        let bind = self.insert_context(context, &root)?;
        let cgroups = host::cgroups(&name(self.id))?;
        self.running = Some(self.start(&root, &bind, &cgroups)?);
        Ok(())
    }

    fn mount(&self, image: &Image) -> Result<PathBuf> {
        let [upper, work, root] = ["upper", "work", "root"].map(|name| self.directory.join(name));
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory)
                .with_context(|| format!("could not make {}", directory.display()))?;
        }
        mount_overlay(&image.lower, &upper, &work, &root)?;
        Ok(root)
    }

    /// Gives the guest its context as the CD-ROM that oned makes, or as a directory where there are no loop devices.
    fn insert_context(&mut self, context: &Disc, root: &Path) -> Result<String> {
        let disc = self.directory.join("context.iso");
        self.burn(context, &disc)?;
        let files = self.directory.join("context").display().to_string();
        match run(&["losetup", "--find", "--show", "--read-only", &disc.display().to_string()]) {
            Ok(device) => {
                let device = device.trim().to_owned();
                let rule = root.join("etc/tmpfiles.d/context.conf");
                // No udev in a container: the link that it would make is made by hand, as early as udev is.
                fs::write(rule, "L /dev/disk/by-label/CONTEXT - - - - /dev/sr0\n")
                    .context("could not write the link's rule")?;
                self.device = Some(device.clone());
                Ok(format!("--bind-ro={device}:/dev/sr0"))
            }
            Err(_) => Ok(format!("--bind-ro={files}:/context")),
        }
    }

    /// Makes the image of a context disc.
    fn burn(&self, context: &Disc, disc: &Path) -> Result<()> {
        let files = self.directory.join("context");
        fs::create_dir_all(&files).context("could not make the context's directory")?;
        fs::write(files.join("context.sh"), &context.variables).context("could not write context.sh")?;
        fs::write(files.join("token.txt"), &context.token).context("could not write token.txt")?;
        let (files, disc) = (files.display().to_string(), disc.display().to_string());
        // oned's own options: a label, Joliet and Rock Ridge (src/tm_mad/common/context).
        run(&["genisoimage", "-quiet", "-o", &disc, "-V", "CONTEXT", "-J", "-R", &files]).map(drop)
    }

    /// Puts another context into the drive of a machine that runs; one that is off gets it when it starts.
    ///
    /// # Errors
    /// When the disc cannot be made or changed.
    pub fn change_context(&self, context: &Disc) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        let image = self.directory.join("changed.iso");
        self.burn(context, &image)?;
        let Some(device) = &self.device else { return Ok(()) };
        // Into the file that the drive has open; what the kernel kept of the old one is forgotten.
        fs::copy(&image, self.directory.join("context.iso"))
            .context("could not change the context's disc")?;
        run(&["losetup", "--set-capacity", device])?;
        run(&["blockdev", "--flushbufs", device]).map(drop)
    }

    fn start(&self, root: &Path, bind: &str, cgroups: &[PathBuf]) -> Result<Child> {
        // The shell moves itself into its cgroups and then becomes nspawn: nothing starts outside of them.
        let script =
            "while [ \"$1\" != -- ]; do echo $$ >\"$1/cgroup.procs\"; shift; done; shift; exec \"$@\"";
        let mut argv: Vec<String> = ["sh", "-e", "-c", script, "sh"].map(String::from).into();
        argv.extend(cgroups.iter().map(|path| path.display().to_string()));
        let name = name(self.id);
        let owned = [
            format!("--directory={}", root.display()),
            // The container's name is the machine's affair, the host name the guest's.
            format!("--machine={}", namespace(&name)),
            format!("--hostname={name}"),
            format!("--network-namespace-path=/run/netns/{}", namespace(&name)),
            bind.to_owned(),
        ];
        argv.extend(["--", "systemd-nspawn", "--quiet", "--boot", "--private-network"].map(String::from));
        argv.extend(owned);
        argv.extend(
            // Not registered: there may be no machined. SIGTERM to nspawn becomes systemd's power-off signal.
            [
                "--register=no",
                "--keep-unit",
                "--resolv-conf=off",
                "--timezone=off",
                "--link-journal=no",
                "--console=pipe",
                "--kill-signal=SIGRTMIN+3",
            ]
            .map(String::from),
        );
        let console = File::options().create(true).append(true).open(self.directory.join("console"));
        let console = console.context("could not open the console's file")?;
        let errors = console.try_clone().context("could not open the console's file twice")?;
        command(&argv)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("could not start the container of VM {}", self.id))
    }

    /// Presses the power button: the guest is asked to shut down. Nothing happens to a machine that is off.
    pub fn press_power_button(&self) {
        if let Some(child) = &self.running {
            let pid = Pid::from_raw(child.id().cast_signed());
            // It may have ended by itself just now, which is what was asked for.
            let _ = kill(pid, Signal::SIGTERM);
        }
    }

    /// Presses ctrl-alt-del, which systemd takes as a wish to restart.
    pub fn ask_to_reboot(&self) {
        if let Some(leader) = self.leader() {
            // systemd(1): SIGINT to process 1 starts ctrl-alt-del.target. It may have ended just now.
            let _ = kill(leader, Signal::SIGINT);
        }
    }

    /// Takes the power away: first the wires, so that nothing it still says gets out, then every process at once.
    ///
    /// # Errors
    /// When a process survives.
    pub fn power_loss(&mut self) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        network::cut(&name(self.id), &self.ports)?;
        if let Some(leader) = self.leader() {
            let _ = kill(leader, Signal::SIGKILL);
        }
        self.clean_up()
    }

    /// How it stopped, once it has.
    ///
    /// # Errors
    /// When the container's process cannot be asked.
    pub fn stopped(&mut self) -> Result<Option<Stopped>> {
        let Some(child) = &mut self.running else { return Ok(None) };
        let Some(status) = child.try_wait().context("could not ask for the container's end")? else {
            return Ok(None);
        };
        self.clean_up()?;
        Ok(Some(how(status)))
    }

    /// The guest's process 1 as this machine sees it, while it runs.
    pub fn leader(&self) -> Option<Pid> {
        let nspawn = self.running.as_ref()?.id();
        leader_below(nspawn)
    }

    /// Empties the disk of a machine that is off.
    ///
    /// # Errors
    /// When it runs, or the disk cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("VM {} runs: its disk cannot be wiped", self.id);
        }
        self.clean_up()?;
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory).context("could not remove the machine's disk")?;
        }
        Ok(())
    }

    /// Ends what is left of the container and gives back what it held; the disk stays.
    fn clean_up(&mut self) -> Result<()> {
        for cgroup in host::cgroups(&name(self.id))? {
            host::end_processes(&cgroup, Duration::from_secs(10))?;
        }
        if let Some(mut child) = self.running.take() {
            child.wait().context("could not wait for the container")?;
        }
        network::unplug(&name(self.id), &self.ports)?;
        host::unmount_below(&self.directory)?;
        if let Some(device) = self.device.take() {
            run(&["losetup", "--detach", &device])?;
        }
        Ok(())
    }
}

/// A machine's name in namespaces, cgroups and directories.
pub fn name(id: u32) -> String {
    format!("vm{id}")
}

/// What the journal on a machine's disk says last of our agent, of RKE2, and of whatever went wrong; also of a machine
/// that is off.
pub fn journal(id: u32) -> String {
    let directory = journals(id).display().to_string();
    let read = |filter: &[&str]| {
        let common =
            ["journalctl", "--directory", &directory, "--no-pager", "--quiet", "--output=short-precise"];
        run(&[&common, filter].concat()).unwrap_or_else(|error| format!("{error:#}\n"))
    };
    let ours = read(&["--unit=oneke-agent", "--unit=rke2-server", "--unit=rke2-agent", "--lines=30"]);
    let wrong = read(&["--priority=warning", "--lines=15"]);
    format!("{ours}... warnings and errors of all:\n{wrong}")
}

/// Every line of the journal on a machine's disk about a unit; none if it cannot be read.
pub fn lines(id: u32, unit: &str) -> Vec<String> {
    let directory = journals(id).display().to_string();
    let unit = format!("--unit={unit}");
    let read = run(&["journalctl", "--directory", &directory, "--no-pager", "--quiet", &unit]);
    read.unwrap_or_default().lines().map(String::from).collect()
}

/// Where a machine's journals are, also while it is off.
pub fn journals(id: u32) -> PathBuf {
    upper(id).join("var/log/journal")
}

/// Everything that a machine wrote to its disk.
pub fn upper(id: u32) -> PathBuf {
    host::disks().join(name(id)).join("upper")
}

fn how(status: ExitStatus) -> Stopped {
    match (status.code(), status.signal()) {
        (Some(0), _) => Stopped::PoweredOff,
        // systemd-nspawn(1): a guest that rebooted ends it with 133 when it may not start it again itself.
        (Some(133), _) => Stopped::Reboots,
        _ => Stopped::Died,
    }
}

/// The child that is process 1 of its own process namespace: nspawn has helpers too, for a moment.
fn leader_below(nspawn: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let is_first = |pid: &&str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.is_some_and(|ids| {
            ids.split_whitespace().count() > 1 && ids.split_whitespace().last() == Some("1")
        })
    };
    let leader = children.split_whitespace().find(is_first)?;
    leader.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_nspawn_tells_how_the_guest_stopped() {
        assert_eq!(how(ExitStatus::from_raw(0)), Stopped::PoweredOff);
        assert_eq!(how(ExitStatus::from_raw(133 << 8)), Stopped::Reboots);
        assert_eq!(how(ExitStatus::from_raw(255 << 8)), Stopped::Died);
        assert_eq!(how(ExitStatus::from_raw(9)), Stopped::Died);
    }
}
