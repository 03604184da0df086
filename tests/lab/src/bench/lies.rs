//! OneGate goes away, then tells half, under load: no live backend may be removed, no connection may fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use oneke_cloud::{Faults, Kind, VmId};

use super::{judge, load, set_stage};
use crate::backends::{self, Behind, Place};
use crate::lab::{Lab, onegate_down};

/// How long, and under which load.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How long all faults together last, in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(7..))]
    pub seconds: u64,
    /// New connections a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: 600, rate: 200 }
    }
}

/// One fault after the other, each as long as the others; both vnf VMs' HAProxies are watched.
///
/// # Errors
/// When a connection fails, or a live backend is gone from a HAProxy.
pub fn measure(lab: &mut Lab, options: &Options) -> Result<()> {
    let places = set_stage(lab, usize::MAX)?;
    let vnf: Vec<u32> =
        lab.members().iter().filter(|member| member.role == "vnf").map(|member| member.vm).collect();
    let faults = faults(&places);
    let length = Duration::from_secs(options.seconds) / u32::try_from(faults.len()).unwrap_or(u32::MAX);
    let (began, probe, mut looks) = (Instant::now(), load(backends::api(), options.rate)?, 0);
    let mut outcome = Ok(());
    for (name, fault) in faults {
        let asked = service_reads(lab);
        lab.set_faults(fault);
        outcome = watch(lab, &vnf, &places, length, &mut looks);
        lab.progress.say(&format!(
            "OneGate {name}: {:.0} s; the service was read {} times",
            length.as_secs_f64(),
            service_reads(lab) - asked
        ));
        if outcome.is_err() {
            break;
        }
    }
    lab.set_faults(Faults::default());
    let elapsed = began.elapsed();
    let attempts = probe.end()?;
    outcome?;
    lab.progress.say(&format!(
        "{} live backends in {} HAProxies, looked at {looks} times: none was removed (target: 0)",
        places.len(),
        vnf.len()
    ));
    judge(lab, &attempts, elapsed)
}

/// What real front ends were seen to do, or can be made to: see `Faults`.
fn faults(places: &[Place]) -> Vec<(&'static str, Faults)> {
    let half: BTreeSet<VmId> = places.iter().step_by(2).map(|place| VmId(place.vm)).collect();
    let nothing = Faults::default;
    vec![
        ("refuses every connection", onegate_down()),
        ("lists half of the VMs, always the same half", Faults { missing_nodes: half.clone(), ..nothing() }),
        ("lists every other VM, by chance", Faults { missing_node_one_in: 2, ..nothing() }),
        ("says vm_info null of half of the VMs", Faults { null_vm_info: half.clone(), ..nothing() }),
        (
            "shows half of the VMs without their attributes",
            Faults { missing_user_template: half, ..nothing() },
        ),
        (
            "answers half, late, with 500 or 401",
            Faults { error_one_in: 3, unauthorized_one_in: 3, cut_one_in: 3, ..nothing() },
        ),
        ("knows no service", Faults { oneflow_down: true, ..nothing() }),
    ]
}

fn service_reads(lab: &Lab) -> u64 {
    let requests = lab.front.requests();
    [Kind::Service, Kind::ServiceExtended].iter().filter_map(|kind| requests.get(kind)).sum()
}

fn watch(lab: &mut Lab, vnf: &[u32], places: &[Place], length: Duration, looks: &mut u32) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        super::pause(lab, Duration::from_secs(1).min(end - Instant::now()))?;
        for vm in vnf {
            let behind = Behind::ask(lab, *vm)?;
            let lost: Vec<&Place> = places.iter().filter(|place| !behind.serves(place)).collect();
            ensure!(lost.is_empty(), "the HAProxy of VM {vm} lost live backends: {lost:?}");
        }
        *looks += 1;
    }
    Ok(())
}
