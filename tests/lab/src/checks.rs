//! The same story as [`crate::story`] with every step asserted, and what only a test does: a full power cycle without OneGate,
//! and a search for secrets in everything that many can read. Then each benchmark, short: what it asserts holds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench;
use crate::bench::topologies::no_failed_start;
use crate::client::ask;
use crate::lab::Lab;
use crate::leaks::{self, Arguments};
use crate::progress::Member;
use crate::service::{Scene, Size, api};
use crate::story::{self, PATIENCE};

/// Runs all checks: the story on a service of this size, then every benchmark, short.
///
/// # Errors
/// At the first one that does not hold.
pub fn run(size: &Size) -> Result<()> {
    Lab::during(&Scene::of(*size), |lab| service(lab, size))?;
    Lab::during(&bench::stage(), |lab| {
        bench::convergence::measure(lab, &bench::convergence::Options { samples: 2, pause: 1.0 })?;
        bench::churn::measure(lab, &bench::churn::Options { changes: 8, reloads: 4, rate: 200 })?;
        bench::lies::measure(lab, &bench::lies::Options { seconds: 70, rate: 200 })
    })?;
    bench::failover::measure(&bench::failover::Options {
        rounds: 1,
        intervals: ["0.1".to_owned()].into(),
        ..bench::failover::Options::default()
    })?;
    bench::topologies::measure(&bench::topologies::Options { names: ["single".to_owned()].into() })?;
    println!("every check holds");
    Ok(())
}

fn service(lab: &mut Lab, size: &Size) -> Result<()> {
    let arguments = Arguments::watch()?;
    story::deploy(lab, size)?;
    no_failed_start(lab)?;
    story::greet(lab)?;
    story::grow(lab, size)?;
    let vms = size.total() + 1;
    if size.vnf > 1 {
        let outage = story::lose_holder(lab, vms)?;
        ensure!(outage.answered > 0, "the client never got an answer");
    }
    power_cycle(lab, vms)?;
    no_secrets(lab, &arguments)?;
    lab.progress.say("undeploying");
    lab.undeploy()
}

/// All hosts lose power at once, OneGate is gone, power returns: the cluster must come back by itself (invariant 2).
fn power_cycle(lab: &mut Lab, vms: u32) -> Result<()> {
    lab.progress.say("all hosts lose power, and OneGate is down when it returns");
    let members = lab.members();
    lab.set_onegate_down(true);
    for member in &members {
        lab.set_power(member.vm, false)?;
    }
    let off = |lab: &Lab, members: &[Member]| members.iter().all(|member| !lab.machines.view(member.vm).on);
    lab.wait("every machine is off", Duration::from_secs(60), off)?;
    for member in &members {
        lab.set_power(member.vm, true)?;
    }
    let credentials = lab.credentials()?;
    let url = format!("{}/readyz", api());
    lab.wait("the API answers through the virtual address without OneGate", PATIENCE, |_, _| {
        ask(&url, &credentials).is_ok_and(|answer| answer.trim() == "ok")
    })?;
    let nodes: Vec<&Member> = members.iter().filter(|member| member.role != "vnf").collect();
    let list = format!("{}/api/v1/nodes", api());
    lab.wait("RKE2 runs on every node, and all are Ready, without OneGate", PATIENCE, |lab, _| {
        // Kubernetes calls a node Ready for a while after its death: only its own systemd tells that it is back.
        nodes.iter().all(|node| rke2_runs(lab, node))
            && ask(&list, &credentials).is_ok_and(|answer| ready_nodes(&answer) == nodes.len())
    })?;
    lab.progress
        .say(&format!("RKE2 runs again on all {} nodes without OneGate, and all are Ready", nodes.len()));
    lab.set_onegate_down(false);
    lab.wait_running(vms, PATIENCE)
}

fn rke2_runs(lab: &Lab, node: &Member) -> bool {
    let unit = if node.role == "master" { "rke2-server.service" } else { "rke2-agent.service" };
    lab.run_inside(node.vm, &["systemctl", "is-active", unit]).is_ok()
}

/// How many nodes of a NodeList have the condition Ready with status True.
fn ready_nodes(list: &str) -> usize {
    let list: serde_json::Value = serde_json::from_str(list).unwrap_or_default();
    let is_ready =
        |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
    let nodes = list["items"].as_array().into_iter().flatten();
    nodes.filter(|node| node["status"]["conditions"].as_array().into_iter().flatten().any(is_ready)).count()
}

/// Nothing that many can read holds a secret of the cluster (invariant 8); and a secret that was put there is found.
fn no_secrets(lab: &mut Lab, arguments: &Arguments) -> Result<()> {
    let members = lab.members();
    let secrets = leaks::secrets(lab, &members);
    let clean = leaks::search(lab, &members, &secrets, arguments)?;
    ensure!(
        clean.found.is_empty(),
        "secrets of the cluster can be read by many:\n{}",
        clean.found.join("\n")
    );
    ensure!(
        clean.bodies > 0 && clean.journals > 0 && clean.arguments > 0 && clean.files > 0,
        "a part of the search had nothing to look at: {clean:?}"
    );
    lab.progress.say(&format!(
        "no secret of the cluster in {} requests to OneGate, {:.1} MB of journals, {} command lines, {} files that \
         every user can read",
        clean.bodies,
        clean.journals as f64 / 1e6,
        clean.arguments,
        clean.files
    ));
    let master = members.iter().find(|member| member.role == "master").context("there is no master")?;
    leaks::plant(lab, master.vm, "/var/lib/rancher/rke2/server/token")?;
    let found = leaks::search(lab, &members, &secrets, arguments)?.found;
    for part in ["the journal of", "among its arguments", "/var/tmp/planted"] {
        ensure!(
            found.iter().any(|line| line.contains(part)),
            "a planted token was not found ({part}): {found:?}"
        );
    }
    lab.progress.say("the search finds a token that is put into a journal, an argument and a file");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_true_ready_counts() {
        let list = r#"{"items":[
            {"status":{"conditions":[{"type":"MemoryPressure","status":"True"},{"type":"Ready","status":"True"}]}},
            {"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}},
            {"status":{}}]}"#;
        assert_eq!(ready_nodes(list), 1);
        assert_eq!(ready_nodes("<html>"), 0);
    }
}
