//! A virtual router in front of plain VMs, outside of every service: what Cluster API's provider deploys. Its addresses
//! answer through HAProxy, and move when the VM that holds them dies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::backends::{self, offer};
use crate::lab::Lab;
use crate::probe::{Probe, Question, longest_gap};
use crate::service::Scene;
use crate::story::PATIENCE;

/// Between two attempts.
const PACE: Duration = Duration::from_millis(20);
/// One attempt.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// Two VMs of a router and two behind it: from power-on to a failover.
///
/// # Errors
/// At the first step that does not come to its end.
pub fn play() -> Result<()> {
    Lab::during(&Scene::router(2, 2), |lab| {
        let vms = 4;
        lab.wait("both VMs of the router are READY", PATIENCE, |lab, members| {
            members.len() == vms
                && members.iter().all(|member| member.ready && member.well)
                && lab.holder().is_some()
        })?;
        serve(lab)?;
        fail_over(lab)
    })
}

/// Each of those behind it says where it serves, and is asked by clients soon after.
fn serve(lab: &mut Lab) -> Result<()> {
    let places = backends::all(lab);
    ensure!(places.len() == 2, "expected two VMs behind the router, found {places:?}");
    let began = Instant::now();
    for place in &places {
        offer(lab, place, true)?;
    }
    let probe = ask(lab)?;
    let answers = |word: &str| probe.answered(began, |answer| answer.starts_with(word)).is_some();
    lab.wait("both VMs behind the router answer at its floating address", PATIENCE, |_, _| {
        places.iter().all(|place| answers(&place.word()))
    })?;
    lab.progress.say(&format!(
        "{} answers for {} VMs, {:.1} s after they said where they serve",
        lab.public_address(),
        places.len(),
        began.elapsed().as_secs_f64()
    ));
    probe.end().map(drop)
}

fn fail_over(lab: &mut Lab) -> Result<()> {
    let holder = lab.holder().context("nobody holds the floating address")?;
    let probe = ask(lab)?;
    std::thread::sleep(Duration::from_millis(500));
    let struck = Instant::now();
    lab.set_power(holder, false)?;
    let taken = lab.wait("the other VM of the router serves", Duration::from_secs(60), |lab, _| {
        lab.holder().is_some_and(|now| now != holder)
            && probe.answered(struck + Duration::from_millis(500), |_| true).is_some()
    });
    let attempts = probe.end()?;
    taken?;
    lab.progress.say(&format!(
        "router-{holder} lost power, the other one took over: {:.2} s without an answer",
        longest_gap(&attempts).as_secs_f64()
    ));
    Ok(())
}

fn ask(lab: &Lab) -> Result<Probe> {
    let to = format!("{}:6443", lab.public_address()).parse().context("an address and a port")?;
    Probe::start("client", Question::Tcp(to), PACE, ANSWER_WITHIN)
}
