//! The vnf VM that holds the virtual addresses goes, again and again, while a client outside and servers inside keep
//! asking: TCP through LB1, a masqueraded connection out, a name. The outage is the longest time without an answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use oneke_cloud::{VmId, VmState};

use super::pause;
use crate::backends::{self, Behind, offer};
use crate::figures::{Figures, Table};
use crate::lab::Lab;
use crate::plain::OUTSIDE;
use crate::probe::{Attempt, Probe, Question, longest_gap};
use crate::service::{Scene, Size};
use crate::{machine, network, story};

/// Between two attempts of one kind.
const PACE: Duration = Duration::from_millis(10);
/// One attempt; those begun when somebody serves again do not wait for those lost before.
const PATIENCE: Duration = Duration::from_millis(900);
/// A vnf VM that came back is worth as much as its fellow once Keepalived saw its HAProxy answer three times, a second
/// apart.
const WARM: Duration = Duration::from_secs(4);

/// How often, and what.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How many times each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Seconds between two adverts.
    #[arg(long, value_delimiter = ',', default_values = ["0.1", "1"])]
    pub intervals: Vec<String>,
    /// What happens to the holder.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["power", "poweroff", "eth0"])]
    pub events: Vec<Blow>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 20,
            intervals: ["0.1", "1"].map(String::from).into(),
            events: [Blow::Power, Blow::Poweroff, Blow::Eth0].into(),
        }
    }
}

/// What happens to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Blow {
    /// Its host loses power: silence at once, and every process is gone.
    Power,
    /// It is asked to power off.
    Poweroff,
    /// Its public NIC loses its carrier.
    Eth0,
}

impl Blow {
    fn name(self) -> &'static str {
        match self {
            Self::Power => "power lost",
            Self::Poweroff => "graceful stop",
            Self::Eth0 => "eth0 lost",
        }
    }

    fn target(self, interval: &str) -> &'static str {
        match (self, interval) {
            (Self::Poweroff, _) => "< 0.3 (median)",
            (_, "0.1") => "< 0.5 (median)",
            (_, "1") => "< 4",
            _ => "",
        }
    }
}

/// What one round cost.
#[derive(Clone, Copy, Debug)]
struct Outage {
    address: Duration,
    nat: Duration,
    names: Duration,
}

impl Outage {
    fn all(&self) -> Duration {
        self.address.max(self.nat).max(self.names)
    }
}

/// Measures each blow at each interval, and prints one table for all.
///
/// # Errors
/// When a service does not come up, or nobody takes over.
pub fn measure(options: &Options) -> Result<()> {
    let mut table = Table::new("outage in seconds");
    for interval in &options.intervals {
        Lab::during(&scene(interval), |lab| {
            set_up(lab)?;
            for blow in &options.events {
                let outages: Result<Vec<Outage>> =
                    (1..=options.rounds).map(|round| self::round(lab, *blow, round)).collect();
                let outages =
                    outages.with_context(|| format!("adverts every {interval} s, {}", blow.name()))?;
                let name = |what: &str| format!("adverts {interval} s, {}: {what}", blow.name());
                let row = |of: fn(&Outage) -> Duration| {
                    Figures::of(outages.iter().map(|outage| of(outage).as_secs_f64()))
                };
                table.row(&name("all"), &row(Outage::all), blow.target(interval));
                table.row("    address (TCP through LB1)", &row(|outage| outage.address), "");
                table.row("    NAT (new connection out)", &row(|outage| outage.nat), "");
                table.row("    names (query to the VIP)", &row(|outage| outage.names), "");
            }
            lab.undeploy()
        })?;
    }
    println!("\nfailover: the longest time without an answer\n\n{}", table.text());
    Ok(())
}

/// Real vnf VMs before a plain master: nothing but the failover costs time.
fn scene(interval: &str) -> Scene {
    let size = Size { vnf: 2, masters: 1, workers: 0, storage: 0 };
    Scene::of(size).plain("master").with("ONEAPP_VNF_KEEPALIVED_INTERVAL", interval)
}

fn set_up(lab: &mut Lab) -> Result<()> {
    lab.wait_running(3, story::PATIENCE)?;
    let place = *backends::all(lab).first().context("there is no plain master")?;
    offer(lab, &place, true)?;
    lab.wait("both vnf VMs serve the plain master", story::PATIENCE, |lab, members| {
        let mut vnf = members.iter().filter(|member| member.role == "vnf");
        vnf.all(|member| Behind::ask(lab, member.vm).is_ok_and(|behind| behind.serves(&place)))
    })
}

fn round(lab: &mut Lab, blow: Blow, number: u32) -> Result<Outage> {
    lab.wait("both vnf VMs are warm, and one holds the address", story::PATIENCE, |lab, members| {
        let is_warm = |vm: u32| Behind::ask(lab, vm).is_ok_and(|behind| !behind.serving.is_empty());
        members.iter().filter(|member| member.role == "vnf").all(|member| member.well && is_warm(member.vm))
            && lab.holder().is_some()
    })?;
    pause(lab, WARM)?;
    let holder = lab.holder().context("nobody holds the virtual address")?;
    let probes = [
        Probe::start("client", Question::Tcp(backends::api()), PACE, PATIENCE)?,
        Probe::start("servers", Question::Tcp(OUTSIDE), PACE, PATIENCE)?,
        Probe::start("servers", Question::Dns(backends::names()), PACE, PATIENCE)?,
    ];
    std::thread::sleep(Duration::from_millis(500));
    let struck = Instant::now();
    strike(lab, holder, blow)?;
    let back = lab.wait("somebody else serves all of it", Duration::from_secs(60), |lab, _| {
        let taken = lab.holder().filter(|now| *now != holder);
        taken.is_some() && struck.elapsed() > Duration::from_secs(1) && serve(&probes)
    });
    let attempts: Result<Vec<Vec<Attempt>>> = probes.into_iter().map(Probe::end).collect();
    back?;
    let gaps: Vec<Duration> = attempts?.iter().map(|attempts| longest_gap(attempts)).collect();
    let [address, nat, names] = gaps[..] else { unreachable!("there are three probes") };
    let outage = Outage { address, nat, names };
    lab.progress.say(&format!(
        "round {number}, {} on vnf-{holder}: address {:.3} s, NAT {:.3} s, names {:.3} s",
        blow.name(),
        address.as_secs_f64(),
        nat.as_secs_f64(),
        names.as_secs_f64()
    ));
    repair(lab, holder, blow)?;
    Ok(outage)
}

/// Each was answered within the last half second.
fn serve(probes: &[Probe]) -> bool {
    let recently = Instant::now() - Duration::from_millis(500);
    probes.iter().all(|probe| probe.answered(recently, |_| true).is_some())
}

fn strike(lab: &Lab, holder: u32, blow: Blow) -> Result<()> {
    match blow {
        Blow::Power => lab.set_power(holder, false),
        Blow::Poweroff => {
            let refused = lab.front.with(|cloud, now| cloud.poweroff(now, VmId(holder), false));
            refused.context("the cloud refused to power off")
        }
        Blow::Eth0 => network::set_carrier(&machine::name(holder), 0, false),
    }
}

fn repair(lab: &mut Lab, holder: u32, blow: Blow) -> Result<()> {
    match blow {
        Blow::Power => {
            lab.wait("the machine is off", Duration::from_secs(60), |lab, _| !lab.machines.view(holder).on)?;
            lab.set_power(holder, true)
        }
        Blow::Poweroff => {
            let state = |lab: &Lab| lab.front.with(|cloud, _| cloud.vm(VmId(holder)).map(|vm| vm.state));
            lab.wait("the VM is POWEROFF", Duration::from_secs(90), |lab, _| {
                state(lab) == Some(VmState::Poweroff)
            })?;
            let refused = lab.front.with(|cloud, now| cloud.resume(now, VmId(holder)));
            refused.context("the cloud refused to resume")?;
            lab.wait("the VM is RUNNING", Duration::from_secs(90), |lab, _| {
                state(lab) == Some(VmState::Running)
            })
        }
        Blow::Eth0 => network::set_carrier(&machine::name(holder), 0, true),
    }?;
    ensure!(lab.machines.view(holder).fault.is_none(), "VM {holder}: {:?}", lab.machines.view(holder).fault);
    Ok(())
}
