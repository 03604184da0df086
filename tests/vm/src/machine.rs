//! One virtual machine: QEMU, its disks, its power button, and a shell in it over the second serial port.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::command::run;
use crate::image::{Image, PLACE};

/// Until a machine answers; emulated ones take 20 s to a minute, and ten times as long on a host that has other work.
const BOOT: Duration = Duration::from_secs(600);
/// Until something comes about in a machine that runs: seconds, and ten times as long likewise.
pub const SOON: Duration = Duration::from_secs(600);

/// A data disk: a sparse raw file.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its file.
    pub file: PathBuf,
    /// The serial number that it tells; none for a disk that tells none.
    pub serial: Option<&'static str>,
    /// Bytes a second that it writes at most.
    pub slow: Option<u32>,
}

/// A machine, on or off. Its root disk stays until [`Machine::new`] of the same name.
#[derive(Debug)]
pub struct Machine {
    directory: PathBuf,
    image: Image,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    qemu: Child,
    shell: BufReader<UnixStream>,
    control: BufReader<UnixStream>,
}

impl Machine {
    /// A machine with a fresh root disk and this context.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn new(name: &str, image: &Image, context: &str) -> Result<Self> {
        let directory = Path::new(PLACE).join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).context("could not remove the last run's machine")?;
        }
        fs::create_dir_all(directory.join("context")).context("could not make the machine's directory")?;
        let machine = Self { directory, image: image.clone(), running: None };
        let root = machine.file("root.qcow2");
        let backing = image.root.display().to_string();
        run(&["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", &backing, &root])?;
        machine.give_context(context)?;
        Ok(machine)
    }

    /// Another context from the next power-on.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn give_context(&self, context: &str) -> Result<()> {
        fs::write(self.directory.join("context/context.sh"), context)
            .context("could not write context.sh")?;
        let (iso, files) = (self.file("context.iso"), self.file("context"));
        run(&["genisoimage", "-quiet", "-o", &iso, "-V", "CONTEXT", "-J", "-R", &files]).map(drop)
    }

    /// A blank disk for this machine.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn disk(&self, name: &str, serial: Option<&'static str>, mebibytes: u64) -> Result<Disk> {
        let file = self.directory.join(format!("{name}.raw"));
        let made = File::create(&file).with_context(|| format!("could not make {}", file.display()))?;
        made.set_len(mebibytes << 20).context("could not size a disk")?;
        Ok(Disk { file, serial, slow: None })
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Starts it and waits until it answers; `kernel` is appended to the kernel's command line.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_on(&mut self, disks: &[Disk], kernel: &str) -> Result<Duration> {
        ensure!(self.running.is_none(), "the machine runs already");
        let began = Instant::now();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(
            "-accel tcg,thread=multi,tb-size=256 -cpu max -smp 2 -m 640 -nodefaults -display none".split(' '),
        );
        qemu.arg("-kernel").arg(&self.image.kernel).arg("-initrd").arg(&self.image.initrd);
        qemu.args(["-append", &format!("root=LABEL=root rw console=ttyS0 net.ifnames=0 {kernel}")]);
        for port in ["shell", "control"] {
            // A socket of the last start is in the way.
            fs::remove_file(self.directory.join(port)).ok();
        }
        qemu.args(["-chardev", &format!("file,id=console,append=on,path={}", self.file("console"))]);
        qemu.args(["-serial", "chardev:console"]);
        qemu.args(["-chardev", &format!("socket,id=shell,server=on,wait=off,path={}", self.file("shell"))]);
        qemu.args(["-serial", "chardev:shell"]);
        qemu.args(["-qmp", &format!("unix:{},server=on,wait=off", self.file("control"))]);
        qemu.args(["-cdrom", &self.file("context.iso")]);
        // No way out: OneGate is silent for this machine.
        qemu.args(["-netdev", "user,id=net,restrict=on,net=172.20.0.0/16"]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,mac=02:00:ac:14:00:6c,romfile="]);
        qemu.args(["-drive", &format!("if=none,id=root,format=qcow2,file={}", self.file("root.qcow2"))]);
        qemu.args(["-device", "virtio-blk-pci,drive=root"]);
        for (index, disk) in disks.iter().enumerate() {
            let slow = disk.slow.map(|bytes| format!(",throttling.bps-write={bytes}")).unwrap_or_default();
            let file = disk.file.display();
            qemu.args(["-drive", &format!("if=none,id=data{index},format=raw,file={file}{slow}")]);
            let serial = disk.serial.map(|serial| format!(",serial={serial}")).unwrap_or_default();
            qemu.args(["-device", &format!("virtio-blk-pci,id=disk{index},drive=data{index}{serial}")]);
        }
        let errors = File::create(self.directory.join("qemu.log")).context("could not open QEMU's log")?;
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut qemu = qemu.spawn().context("could not start qemu-system-x86_64")?;
        let connected = self.connect("shell").and_then(|shell| Ok((shell, self.connect("control")?)));
        match connected {
            Ok((shell, control)) => self.running = Some(Running { qemu, shell, control }),
            Err(error) => {
                qemu.kill().ok(); // It may have ended by itself, which is why we are here.
                qemu.wait().context("could not wait for QEMU")?;
                return Err(error);
            }
        }
        self.control("qmp_capabilities", &json!({}))?;
        let running = self.running()?;
        running.shell.get_ref().set_read_timeout(Some(BOOT))?;
        loop {
            let mut line = String::new();
            let read = running.shell.read_line(&mut line).context("the machine does not come up")?;
            ensure!(read > 0, "QEMU ended");
            if line.trim() == "ready" {
                return Ok(began.elapsed());
            }
        }
    }

    fn connect(&self, port: &str) -> Result<BufReader<UnixStream>> {
        let path = self.directory.join(port);
        let began = Instant::now();
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(BufReader::new(stream)),
                Err(_) if began.elapsed() < Duration::from_secs(10) => sleep(Duration::from_millis(50)),
                Err(error) => {
                    let log = fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
                    bail!("could not reach QEMU at {}: {error}: {log}", path.display());
                }
            }
        }
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("the machine is off")
    }

    /// Runs a shell command in the machine: its exit status and what it printed.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn try_ask(&mut self, command: &str) -> Result<(i32, String)> {
        let shell = &mut self.running()?.shell;
        shell.get_ref().set_read_timeout(Some(Duration::from_secs(150)))?;
        writeln!(shell.get_mut(), "{}", BASE64.encode(command))?;
        let mut line = String::new();
        let read = shell.read_line(&mut line).with_context(|| format!("no answer to `{command}`"))?;
        ensure!(read > 0, "the machine ended during `{command}`");
        let answer = BASE64.decode(line.trim()).with_context(|| format!("`{command}` answered {line:?}"))?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (text, status) = answer.trim_end().rsplit_once('=').context("an answer without a status")?;
        Ok((status.parse()?, text.trim_end().to_owned()))
    }

    /// Runs a shell command in the machine and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        let (status, text) = self.try_ask(command)?;
        ensure!(status == 0, "`{command}` in the machine exited with {status}: {text}");
        Ok(text)
    }

    /// Runs a command again and again until its answer is as wanted.
    ///
    /// # Errors
    /// When that does not come about; the last answer is told.
    pub fn until(
        &mut self,
        limit: Duration,
        command: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let (_, text) = self.try_ask(command)?;
            if wanted(&text) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < limit, "after {limit:?} `{command}` still says: {text}");
            sleep(Duration::from_millis(500));
        }
    }

    /// A condition of the agent: `status reason: message`; empty if it has none of this kind.
    ///
    /// # Errors
    /// When the agent does not report.
    pub fn condition(&mut self, kind: &str) -> Result<String> {
        let (_, text) = self.try_ask("cat /run/oneke-agent/status.json")?;
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        let all = report["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|condition| condition["type"] == kind);
        let text = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        Ok(found.map_or_else(String::new, |found| {
            format!("{} {}: {}", text(found, "status"), text(found, "reason"), text(found, "message"))
        }))
    }

    /// Waits until a condition begins like this; returns it whole.
    ///
    /// # Errors
    /// When it does not within the limit.
    pub fn until_condition(&mut self, limit: Duration, kind: &str, wanted: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            let condition = self.condition(kind)?;
            if condition.starts_with(wanted) {
                return Ok(condition);
            }
            if began.elapsed() >= limit {
                let journal = self.ask("journalctl -b -u 'oneke-*' -n 40 --no-pager; lsblk -f")?;
                bail!("{kind} shall be {wanted}, after {limit:?} it is {condition:?}\n{journal}");
            }
            sleep(Duration::from_millis(500));
        }
    }

    /// Asks QEMU itself.
    ///
    /// # Errors
    /// When it refuses.
    pub fn control(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let control = &mut self.running()?.control;
        control.get_ref().set_read_timeout(Some(Duration::from_secs(30)))?;
        writeln!(control.get_mut(), "{}", json!({"execute": command, "arguments": arguments}))?;
        loop {
            let mut line = String::new();
            ensure!(control.read_line(&mut line)? > 0, "QEMU ended during {command}");
            let answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            // Events and the greeting come in between.
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
    }

    /// Plugs a disk into the running machine.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn plug(&mut self, disk: &Disk) -> Result<()> {
        let file = disk.file.display().to_string();
        let node =
            json!({"driver": "raw", "node-name": "plugged", "file": {"driver": "file", "filename": file}});
        self.control("blockdev-add", &node)?;
        let mut device = json!({"driver": "virtio-blk-pci", "id": "plugged", "drive": "plugged"});
        if let Some(serial) = disk.serial {
            device["serial"] = json!(serial);
        }
        self.control("device_add", &device).map(drop)
    }

    /// Presses the power button and waits until the machine is off.
    ///
    /// # Errors
    /// When it stays on.
    pub fn power_off(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.control("system_powerdown", &json!({}))?;
        let mut running = self.running.take().context("the machine is off")?;
        loop {
            if running.qemu.try_wait()?.is_some() {
                return Ok(began.elapsed());
            }
            if began.elapsed() > SOON {
                running.qemu.kill()?;
                running.qemu.wait()?;
                bail!("the machine did not power off within {SOON:?}; see {}", self.file("console"));
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Takes its power away.
    ///
    /// # Errors
    /// When QEMU does not die.
    pub fn power_loss(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.qemu.kill().context("could not kill QEMU")?;
            running.qemu.wait().context("could not wait for QEMU")?;
        }
        Ok(())
    }

    /// What went wrong in this boot, for people: failed units, and lines of warning about our units.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn complaints(&mut self) -> Result<String> {
        let mut text = self.ask("systemctl --failed --no-legend --plain")?;
        let journal = "journalctl -b --no-pager -q -o short-monotonic";
        // An emulated machine on a busy host is slow beyond every time-out of ours; what was tried is tried again.
        let warnings = format!(
            "{journal} -p warning | grep -E 'oneke-|[.]mount' | grep -v 'did not answer within' || true"
        );
        let units = self.ask(&warnings)?;
        let denied = self.ask(&format!("{journal} -k | grep -iE 'type=1326|denied|sigsys' || true"))?;
        write!(text, "\n{units}\n{denied}")?;
        Ok(text.trim().to_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing can be done about a QEMU that cannot be killed.
        self.power_loss().ok();
    }
}
