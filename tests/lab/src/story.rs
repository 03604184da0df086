//! The main job, shown live: a service comes up, answers through its virtual address, grows, survives the death of the node
//! that holds that address, and ends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::{Outage, Probe, ask};
use crate::lab::Lab;
use crate::service::{Size, api};

/// How long a whole service may take; the default one needs about a minute on two cores.
pub const PATIENCE: Duration = Duration::from_secs(480);

/// Plays all of it and leaves the service as it is at the end, one worker larger.
///
/// # Errors
/// At the first step that does not come to its end.
pub fn play(lab: &mut Lab, size: &Size) -> Result<()> {
    deploy(lab, size)?;
    greet(lab)?;
    grow(lab, size)?;
    if size.vnf > 1 {
        lose_holder(lab, size.total() + 1)?;
    } else {
        lab.progress.say("one vnf node only: nobody could take over from it, so it is spared");
    }
    Ok(())
}

/// From the first power-on to RUNNING.
///
/// # Errors
/// When the service does not get there.
pub fn deploy(lab: &mut Lab, size: &Size) -> Result<()> {
    let began = Instant::now();
    lab.wait_running(size.total(), PATIENCE)?;
    lab.progress.say(&format!(
        "the service is RUNNING, all {} VMs are READY, {:.1} s after it was instantiated",
        size.total(),
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A client on the public network asks the Kubernetes API through the virtual address.
///
/// # Errors
/// When it gets no verified answer.
pub fn greet(lab: &mut Lab) -> Result<()> {
    let url = format!("{}/readyz", api());
    let answer = ask(&url, &lab.credentials()?)?;
    ensure!(answer.trim() == "ok", "{url} answered: {answer}");
    lab.progress.say(&format!("GET {url} with the cluster's CA: {}", answer.trim()));
    Ok(())
}

/// One worker more.
///
/// # Errors
/// When OneFlow refuses, or the new worker does not become ready.
pub fn grow(lab: &mut Lab, size: &Size) -> Result<()> {
    let began = Instant::now();
    lab.progress.say(&format!("scaling the workers from {} to {}", size.workers, size.workers + 1));
    lab.scale("worker", size.workers + 1)?;
    lab.wait_running(size.total() + 1, PATIENCE)?;
    lab.progress.say(&format!("the new worker is READY after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// The host of the vnf node that holds the virtual address dies; a client keeps asking. Afterwards the host comes back.
///
/// # Errors
/// When no other node takes the address, or the old one does not come back.
pub fn lose_holder(lab: &mut Lab, vms: u32) -> Result<Outage> {
    let url = format!("{}/readyz", api());
    let credentials = lab.credentials()?;
    lab.wait("a vnf node holds the virtual address", Duration::from_secs(30), |lab, _| {
        lab.holder().is_some()
    })?;
    let Some(holder) = lab.holder() else { anyhow::bail!("no vnf node holds the virtual address") };
    lab.progress.say(&format!(
        "vnf-{holder} holds the virtual address: its host loses power, while a client asks on"
    ));
    let probe = Probe::start(&url, &credentials)?;
    std::thread::sleep(Duration::from_secs(1));
    lab.set_power(holder, false)?;
    let taken = lab.wait("another vnf node holds the address", Duration::from_secs(60), |lab, _| {
        lab.holder().is_some_and(|now| now != holder) && ask(&url, &credentials).is_ok()
    });
    // A second more, so that the answer after the gap is in the figures.
    std::thread::sleep(Duration::from_secs(1));
    let outage = probe.end()?;
    taken?;
    lab.progress.say(&format!(
        "vnf-{} took over: the client saw an outage of {:.2} s ({} requests lost, {} answered)",
        lab.holder().map_or_else(|| "?".into(), |now| now.to_string()),
        outage.longest.as_secs_f64(),
        outage.failed,
        outage.answered
    ));
    lab.progress.say(&format!("power returns to vnf-{holder}"));
    lab.set_power(holder, true)?;
    lab.wait_running(vms, PATIENCE)?;
    Ok(outage)
}
