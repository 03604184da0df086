//! What of the time to READY is our agent's own, what it asks of OneGate when all is quiet, and what it costs in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::run;
use crate::lab::Lab;
use crate::progress::Member;
use crate::rke2::NODE_READY_DELAY;
use crate::service::Size;
use crate::story;

/// How long requests are counted when all is quiet.
const QUIET: Duration = Duration::from_secs(60);

/// Brings the service up and prints the figures.
///
/// # Errors
/// When the service does not come up, or a node cannot be asked.
pub fn measure(lab: &mut Lab, size: &Size) -> Result<()> {
    story::deploy(lab, size)?;
    let members = lab.members();
    let text = to_ready(lab, &members)?;
    lab.progress.say(&format!("from power-on to READY, in seconds\n\n{text}"));
    lab.progress.say(&format!("counting requests for {} s", QUIET.as_secs()));
    let text = quiet_requests(lab);
    lab.progress
        .say(&format!("requests to OneGate per minute, all {} VMs together\n\n{text}", members.len()));
    let text = memory(lab, &members)?;
    lab.progress.say(&format!("memory of each idle agent, resident\n\n{text}"));
    lab.progress
        .say(&format!("`oneke-agent --version`: {:.1} ms (median of 21 runs)", version_time()? * 1000.0));
    Ok(())
}

/// When things happened in one node, in CLOCK_BOOTTIME seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stamps {
    power: f64,
    agent: f64,
    /// RKE2's unit was started, and was up; none on a vnf node.
    rke2: Option<(f64, f64)>,
    ready: f64,
}

/// The parts of a node's way to READY, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Split {
    boot: f64,
    parent: f64,
    rke2: f64,
    agent: f64,
    total: f64,
}

impl Split {
    /// `parent`: when what this node joins through was ready; a founder and a vnf node wait for nobody.
    fn of(stamps: &Stamps, parent: Option<f64>) -> Self {
        let boot = stamps.agent - stamps.power;
        let total = stamps.ready - stamps.power;
        let end = stamps.rke2.map_or(stamps.ready, |(started, _)| started);
        let parent =
            parent.map_or(0.0, |parent| (parent - stamps.agent).clamp(0.0, (end - stamps.agent).max(0.0)));
        let delay = NODE_READY_DELAY.as_secs_f64();
        let rke2 = stamps.rke2.map_or(0.0, |(started, up)| (up - started) + delay);
        Self { boot, parent, rke2, agent: total - boot - parent - rke2, total }
    }
}

fn to_ready(lab: &Lab, members: &[Member]) -> Result<String> {
    let ready = lab.front.ready_times();
    let mut stamps = BTreeMap::new();
    for member in members {
        let power = lab.machines.view(member.vm).powered_at;
        let ready = ready.get(&member.vm).copied().unwrap_or_default();
        stamps.insert(member.vm, stamp(lab, member, power, ready)?);
    }
    let masters: Vec<Started> = members
        .iter()
        .filter(|member| member.role == "master")
        .filter_map(|member| stamps[&member.vm].rke2.map(|(at, up)| Started { vm: member.vm, at, up }))
        .collect();
    let founder = masters.iter().min_by(|one, other| one.at.total_cmp(&other.at)).map(|master| master.vm);
    let mut text =
        format!("  {:<12}{:>8}{:>8}{:>8}{:>8}{:>8}\n", "node", "boot", "parent", "RKE2", "agent", "total");
    for member in members {
        let parent = if member.role == "vnf" { None } else { parent(member.vm, &masters) };
        let split = Split::of(&stamps[&member.vm], parent);
        let role = if founder == Some(member.vm) { " (founder)" } else { "" };
        let _ = writeln!(
            text,
            "  {:<12}{:>8.2}{:>8.2}{:>8.2}{:>8.2}{:>8.2}{role}",
            member.name(),
            split.boot,
            split.parent,
            split.rke2,
            split.agent,
            split.total
        );
    }
    let _ = writeln!(
        text,
        "\n  boot: container to agent's start. parent: until the founder's RKE2 was up; for masters until the Node of the\n  \
         one before was Ready, as they join one at a time. RKE2: from its unit's start until it was up, and the\n  \
         stand-in's {} s from there to a Ready Node. agent: the rest, the time waited for us; on a vnf VRRP's first\n  \
         election is in it.",
        NODE_READY_DELAY.as_secs_f64()
    );
    Ok(text)
}

/// The start of a master's RKE2, in CLOCK_BOOTTIME seconds.
#[derive(Clone, Copy, Debug)]
struct Started {
    vm: u32,
    at: f64,
    up: f64,
}

/// When what a node joins through was ready; a founder joins through nothing.
fn parent(vm: u32, masters: &[Started]) -> Option<f64> {
    let founder = masters.iter().min_by(|one, other| one.at.total_cmp(&other.at))?;
    let Some(own) = masters.iter().find(|master| master.vm == vm) else { return Some(founder.up) };
    let earlier = masters.iter().filter(|master| master.at < own.at);
    let ready = earlier.map(|master| {
        if master.vm == founder.vm { master.up } else { master.up + NODE_READY_DELAY.as_secs_f64() }
    });
    ready.max_by(f64::total_cmp)
}

fn stamp(lab: &Lab, member: &Member, power: f64, ready: f64) -> Result<Stamps> {
    let moment = |unit: &str, property: &str| -> Result<f64> {
        let said =
            lab.run_inside(member.vm, &["systemctl", "show", unit, "--value", "--property", property])?;
        let micros: f64 = said.trim().parse().with_context(|| format!("{unit} has no {property}: {said}"))?;
        Ok(micros / 1e6)
    };
    let unit = match member.role.as_str() {
        "vnf" => None,
        "master" => Some("rke2-server.service"),
        _ => Some("rke2-agent.service"),
    };
    let rke2 = unit.map(|unit| {
        Ok::<_, anyhow::Error>((
            moment(unit, "InactiveExitTimestampMonotonic")?,
            moment(unit, "ActiveEnterTimestampMonotonic")?,
        ))
    });
    let agent = moment("oneke-agent.service", "ExecMainStartTimestampMonotonic")?;
    Ok(Stamps { power, agent, rke2: rke2.transpose()?, ready })
}

fn quiet_requests(lab: &Lab) -> String {
    let before = lab.front.requests();
    std::thread::sleep(QUIET);
    super::requests_a_minute(lab, &before, QUIET)
}

fn memory(lab: &Lab, members: &[Member]) -> Result<String> {
    let question = "grep VmRSS /proc/$(systemctl show oneke-agent --value --property MainPID)/status";
    let mut text = String::new();
    for member in members {
        let said = lab.run_inside(member.vm, &["sh", "-c", question])?;
        let kib: f64 = said.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
        let _ = writeln!(text, "  {:<12}{:>8.1} MiB", member.name(), kib / 1024.0);
    }
    Ok(text)
}

fn version_time() -> Result<f64> {
    let own = std::env::current_exe().context("could not find our own program")?;
    let agent = own.with_file_name("oneke-agent").display().to_string();
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        run(&[&agent, "--version"])?;
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_whole() {
        let delay = NODE_READY_DELAY.as_secs_f64();
        let stamps =
            Stamps { power: 10.0, agent: 11.0, rke2: Some((15.5, 18.0)), ready: 18.0 + delay + 0.25 };
        let split = Split::of(&stamps, Some(15.0));
        assert_eq!((split.boot, split.parent, split.rke2), (1.0, 4.0, 2.5 + delay));
        assert!((split.agent - 0.75).abs() < 1e-9, "{split:?}");
        let founder = Split::of(&stamps, None);
        assert_eq!(founder.parent, 0.0);
        assert!((founder.agent - 4.75).abs() < 1e-9, "{founder:?}");
    }

    #[test]
    fn masters_wait_for_the_one_before_and_workers_for_the_founder() {
        let started = |vm, at, up| Started { vm, at, up };
        let masters = [started(2, 10.0, 11.0), started(4, 20.0, 22.0), started(3, 12.0, 15.0)];
        assert_eq!(parent(2, &masters), None);
        assert_eq!(parent(3, &masters), Some(11.0));
        assert_eq!(parent(4, &masters), Some(15.0 + NODE_READY_DELAY.as_secs_f64()));
        assert_eq!(parent(7, &masters), Some(11.0));
    }

    #[test]
    fn a_parent_that_was_ready_before_costs_nothing() {
        let stamps = Stamps { power: 10.0, agent: 11.0, rke2: None, ready: 12.0 };
        let split = Split::of(&stamps, Some(3.0));
        assert_eq!((split.parent, split.agent, split.total), (0.0, 1.0, 2.0));
    }
}
