//! A running lab: machines, wires, cloud and one service, from the first mount to the last trace swept away.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use oneke_cloud::{Faults, ServiceId};

use crate::base::{self, Artefacts, Image};
use crate::client::Credentials;
use crate::command::{output, run};
use crate::front::{self, Front};
use crate::hypervisor::{Hypervisor, Order};
use crate::network::{self, Network};
use crate::plain::{self, Plain};
use crate::progress::{Member, Progress, Report};
use crate::service::{ROUTER, Scene};
use crate::{host, machine};

/// Set by SIGINT and SIGTERM; every wait ends when it is.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the agent writes for users, inside a node.
const STATUS_FILE: &str = "/run/oneke-agent/status.json";
/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(250);

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    /// The cloud.
    pub front: Front,
    /// The machines.
    pub machines: Arc<Hypervisor>,
    /// What is shown.
    pub progress: Progress,
    scene: Scene,
    /// None of a virtual router.
    service: Option<ServiceId>,
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
    // Dropped last: the machines are off by then.
    _traces: Traces,
}

impl Lab {
    /// Does something in a fresh lab, and takes the lab away whatever comes of it.
    ///
    /// # Errors
    /// As [`Lab::start`], and those of the work.
    pub fn during<T>(scene: &Scene, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut lab = Self::start(scene)?;
        work(&mut lab)
    }

    /// Makes everything and instantiates the service. The machines start by themselves from here.
    ///
    /// # Errors
    /// When this machine cannot carry a lab, or another lab runs; nothing stays behind then.
    pub fn start(scene: &Scene) -> Result<Self> {
        host::check()?;
        let traces = Traces(host::lock()?);
        host::sweep().context("could not take away what an earlier lab left")?;
        let mut progress = Progress::new();
        let image = make_image(&mut progress)?;
        network::lay()?;
        let front = Front::open(scene)?;
        let plain = Plain::open(scene)?;
        let (machines, stops) = Hypervisor::new(image);
        let (machines, stop) = (Arc::new(machines), Arc::new(AtomicBool::new(false)));
        let service = if scene.router {
            front.place_router(scene)?;
            None
        } else {
            Some(front.instantiate(scene)?)
        };
        let carrier = Some(front.carry(Arc::clone(&machines), plain, stops, Arc::clone(&stop))?);
        Ok(Self { front, machines, progress, scene: scene.clone(), service, stop, carrier, _traces: traces })
    }

    /// Every VM of the service that is not gone, the vnf role first.
    pub fn members(&self) -> Vec<Member> {
        let mut members = self.front.with(|cloud, _| {
            let vms = cloud.vms().filter(|vm| vm.state.numbers().0 != 6);
            let member = |vm: &oneke_cloud::Vm| Member {
                vm: vm.id.0,
                role: front::role(vm),
                state: format!("{:?}", vm.state).to_uppercase(),
                ready: vm.user_template.text("READY") == Some("YES"),
                ..Member::default()
            };
            vms.map(member).collect::<Vec<_>>()
        });
        for member in &mut members {
            if self.is_plain(&member.role) {
                plain::fill(member);
            } else {
                self.look_inside(member);
            }
        }
        members
    }

    fn look_inside(&self, member: &mut Member) {
        let view = self.machines.view(member.vm);
        member.leader = view.leader;
        member.fault = view.fault;
        if !view.on {
            member.phase = "off".into();
            return;
        }
        match self.report(member.vm) {
            Some(report) => {
                member.waits_for = report.waits_for();
                member.well = report.ready;
                member.phase = report.phase;
            }
            None => member.phase = "boots".into(),
        }
    }

    /// What a node's agent says of itself, if it runs and has spoken.
    pub fn report(&self, vm: u32) -> Option<Report> {
        serde_json::from_str(&self.machines.read(vm, STATUS_FILE)?).ok()
    }

    /// Whether the VMs of a role are plain servers.
    pub fn is_plain(&self, role: &str) -> bool {
        self.scene.plain.contains(role)
    }

    /// The address at which clients outside find what is balanced.
    pub fn public_address(&self) -> String {
        self.scene.address(Network::Public)
    }

    /// The service's state in OneFlow's words; `DONE` once it is gone, `NONE` of a virtual router.
    pub fn service_state(&self) -> String {
        let Some(service) = self.service else { return "NONE".into() };
        let state = self.front.with(|cloud, _| cloud.service(service).map(|service| service.state));
        state.map_or_else(|| "DONE".into(), |state| format!("{state:?}").to_uppercase())
    }

    /// Shows the service until something holds.
    ///
    /// # Errors
    /// When it does not in time, with what every VM waits for and the journals of those that are not ready; or when the
    /// lab is interrupted.
    pub fn wait(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Self, &[Member]) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let members = self.members();
            self.progress.show(&self.service_state(), &members);
            write_members(&members)?;
            if holds(self, &members) {
                return Ok(());
            }
            if INTERRUPTED.load(Ordering::Relaxed) {
                bail!("interrupted while waiting for: {what}");
            }
            if Instant::now() > deadline {
                bail!("waited {} s in vain for: {what}\n{}", patience.as_secs(), autopsy(&members));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until OneFlow calls the service RUNNING, so many VMs are there, and all are ready and wait for nothing.
    ///
    /// # Errors
    /// As [`Lab::wait`].
    pub fn wait_running(&mut self, vms: u32, patience: Duration) -> Result<()> {
        self.wait("the service is RUNNING and every VM is READY", patience, |lab, members| {
            let well = |member: &Member| member.ready && member.well && member.state == "RUNNING";
            lab.service_state() == "RUNNING" && members.len() == vms as usize && members.iter().all(well)
        })
    }

    /// Asks OneFlow for another cardinality of a role.
    ///
    /// # Errors
    /// When it refuses.
    pub fn scale(&self, role: &str, cardinality: u32) -> Result<()> {
        let service = self.service.context("a virtual router has no roles to scale")?;
        self.front
            .with(|cloud, now| cloud.scale(now, service, role, cardinality))
            .map_err(|refused| anyhow!("OneFlow refused to scale {role} to {cardinality}: {refused}"))
    }

    /// Makes OneGate refuse every connection, or answer again.
    pub fn set_onegate_down(&self, down: bool) {
        self.set_faults(if down { onegate_down() } else { Faults::default() });
    }

    /// What goes wrong in the cloud from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.front.with(|cloud, now| cloud.set_faults(now, faults));
    }

    /// The vnf or router VM that holds the public virtual address, as the guests' own kernels say.
    pub fn holder(&self) -> Option<u32> {
        let address = format!(" {}/", self.public_address());
        let holds = |member: &Member| {
            let namespace = network::namespace(&machine::name(member.vm));
            run(&["ip", "-n", &namespace, "-4", "-o", "address"]).is_ok_and(|said| said.contains(&address))
        };
        self.members()
            .iter()
            .find(|member| {
                ["vnf", ROUTER].contains(&member.role.as_str()) && member.leader.is_some() && holds(member)
            })
            .map(|m| m.vm)
    }

    /// Takes the power of a VM's host away, or gives it back. The cloud is not told: real ones learn it late, or never.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn set_power(&self, vm: u32, on: bool) -> Result<()> {
        self.machines.order(vm, if on { Order::PowerReturn } else { Order::PowerLoss })
    }

    /// What an administrator's kubeconfig holds, copied out of a master once and kept.
    ///
    /// # Errors
    /// When no running master has it.
    pub fn credentials(&self) -> Result<Credentials> {
        let place = |name: &str| host::disks().join("credentials").join(name);
        let kept = Credentials { ca: place("ca"), certificate: place("certificate"), key: place("key") };
        if kept.key.exists() {
            return Ok(kept);
        }
        let tls = "/var/lib/rancher/rke2/server/tls";
        let members = self.members();
        let copies = members.iter().filter(|member| member.role == "master").find_map(|member| {
            let read = |name: &str| self.machines.read(member.vm, &format!("{tls}/{name}"));
            Some([read("server-ca.crt")?, read("client-admin.crt")?, read("client-admin.key")?])
        });
        let copies = copies
            .with_context(|| format!("no running master has an administrator's credentials in {tls}"))?;
        fs::create_dir_all(place("")).context("could not make the credentials' directory")?;
        for (path, text) in [&kept.ca, &kept.certificate, &kept.key].into_iter().zip(copies) {
            fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(kept)
    }

    /// Runs a program in a node, as its systemd would, and returns what it printed.
    ///
    /// # Errors
    /// When the node is off or the program fails.
    pub fn run_inside(&self, vm: u32, argv: &[&str]) -> Result<String> {
        let leader = self.machines.view(vm).leader.with_context(|| format!("VM {vm} is off"))?.to_string();
        let output = output(&[&["nsenter", "-t", &leader, "-a"], argv].concat())?;
        if !output.status.success() {
            bail!("`{}` in VM {vm}: {}", argv.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Shows the service until the lab is interrupted.
    ///
    /// # Errors
    /// When the nodes cannot be written down for `status`.
    pub fn stay(&mut self) -> Result<()> {
        while !INTERRUPTED.load(Ordering::Relaxed) {
            let members = self.members();
            self.progress.show(&self.service_state(), &members);
            write_members(&members)?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Undeploys the service, as its owner would, and waits until every VM is gone.
    ///
    /// # Errors
    /// When a guest does not stop.
    pub fn undeploy(&mut self) -> Result<()> {
        let service = self.service.context("a virtual router is no service to undeploy")?;
        self.front
            .with(|cloud, now| cloud.delete_service(now, service))
            .map_err(|refused| anyhow!("OneFlow refused to undeploy: {refused}"))?;
        let patience = Duration::from_secs(120);
        self.wait("every VM is gone", patience, |lab, members| {
            members.is_empty() && lab.service_state() == "DONE"
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            // A carrier that died carries nothing any more.
            let _ = carrier.join();
        }
        self.machines.shut();
    }
}

/// OneGate refuses every connection until something else is said.
pub fn onegate_down() -> Faults {
    // A year is for ever here.
    Faults { refuse_until: 31_536_000.0, ..Faults::default() }
}

/// What a lab leaves on this machine; taken away with this value, whatever went before.
#[derive(Debug)]
struct Traces(#[expect(dead_code, reason = "held as long as there are traces")] host::Lock);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = host::sweep() {
            eprintln!("oneke-lab: {error:#}; `oneke-lab down` tries again");
        }
    }
}

fn make_image(progress: &mut Progress) -> Result<Image> {
    let base = base::ensure(&|line| println!("{line}"))?;
    base::mount_disks()?;
    let image = Image::make(&base, &Artefacts::beside_us()?)?;
    progress.say("the image is made: RKE2's stand-in, and the agent from its own package");
    Ok(image)
}

fn write_members(members: &[Member]) -> Result<()> {
    let text = serde_json::to_string(members).context("could not write the members as JSON")?;
    let (path, unfinished) = (members_file(), members_file().with_extension("new"));
    // Whole or not at all: somebody may read it at this moment.
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("could not write {}", path.display()))
}

/// Where `status` and `shell` find who is who.
pub fn members_file() -> PathBuf {
    host::run_directory().join("members.json")
}

/// The end of the journal of every VM that is not ready.
fn autopsy(members: &[Member]) -> String {
    let mut text = crate::progress::table(members, 400);
    for member in members.iter().filter(|member| !member.ready || !member.well) {
        text.push_str(&format!("\n--- journal of {}\n{}", member.name(), machine::journal(member.vm)));
    }
    text
}
