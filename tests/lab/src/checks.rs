//! The same story as [`crate::story`] with every step asserted, and what only a test does: a full power cycle without OneGate,
//! and a search for secrets in everything that many can read. Then each benchmark, short: what it asserts holds.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench;
use crate::bench::topologies::no_failed_start;
use crate::client::ask;
use crate::lab::Lab;
use crate::leaks::{self, Arguments};
use crate::progress::Member;
use crate::service::{Scene, Size, api};
use crate::story::{self, PATIENCE};
use crate::{change, router};

/// Runs all checks: the story on a service of this size, then every benchmark, short.
///
/// # Errors
/// At the first one that does not hold.
pub fn run(size: &Size) -> Result<()> {
    let mut parts = Parts::default();
    Lab::during(&Scene::of(*size), |lab| service(lab, size, &mut parts))?;
    parts.end("undeployed");
    Lab::during(&bench::stage(), |lab| {
        bench::convergence::measure(lab, &bench::convergence::Options { samples: 2, pause: 1.0 })?;
        parts.end("bench convergence");
        bench::churn::measure(lab, &bench::churn::Options { changes: 8, reloads: 4, rate: 200 })?;
        parts.end("bench churn");
        bench::lies::measure(lab, &bench::lies::Options { seconds: 28, rate: 200 })
    })?;
    parts.end("bench lies");
    bench::failover::measure(&bench::failover::Options {
        rounds: 1,
        intervals: ["0.1".to_owned()].into(),
        ..bench::failover::Options::default()
    })?;
    parts.end("bench failover");
    bench::topologies::measure(&bench::topologies::Options { names: ["single".to_owned()].into() })?;
    parts.end("bench topologies");
    router::play()?;
    parts.end("virtual router");
    println!("\n{}\nevery check holds", parts.text());
    Ok(())
}

/// How long each part took.
struct Parts {
    began: Instant,
    ended: Vec<(&'static str, Instant)>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { began: Instant::now(), ended: Vec::new() }
    }
}

impl Parts {
    /// A part that began when the one before ended.
    fn end(&mut self, name: &'static str) {
        self.ended.push((name, Instant::now()));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut began = self.began;
        for (name, ended) in &self.ended {
            let _ = writeln!(text, "  {name:<24}{:>7.1} s", (*ended - began).as_secs_f64());
            began = *ended;
        }
        let _ = writeln!(text, "  {:<24}{:>7.1} s", "all", (began - self.began).as_secs_f64());
        text
    }
}

fn service(lab: &mut Lab, size: &Size, parts: &mut Parts) -> Result<()> {
    let arguments = Arguments::watch()?;
    story::deploy(lab, size)?;
    no_failed_start(lab)?;
    members_vote(lab)?;
    parts.end("deployed");
    story::greet(lab)?;
    story::grow(lab, size)?;
    parts.end("one worker more");
    let vms = size.total() + 1;
    if size.vnf > 1 {
        let outage = story::lose_holder(lab, vms)?;
        ensure!(outage.answered > 0, "the client never got an answer");
        parts.end("holder lost");
    }
    power_cycle(lab, vms)?;
    parts.end("power cycle");
    change::follow(lab)?;
    parts.end("contexts changed");
    no_secrets(lab, &arguments)?;
    parts.end("no secrets");
    lab.progress.say("undeploying");
    lab.undeploy()
}

/// Every master's agent sees its etcd member vote, and one of them lead.
fn members_vote(lab: &mut Lab) -> Result<()> {
    let reasons = |lab: &Lab, members: &[Member]| -> Vec<String> {
        let masters = members.iter().filter(|member| member.role == "master" && !lab.is_plain(&member.role));
        let conditions = masters.flat_map(|master| lab.report(master.vm).unwrap_or_default().conditions);
        conditions.filter(|condition| condition.kind == "EtcdMember").map(|member| member.reason).collect()
    };
    let masters = lab.members().iter().filter(|member| member.role == "master").count();
    lab.wait("etcd's members vote, and one of them leads", Duration::from_secs(60), |lab, members| {
        let reasons = reasons(lab, members);
        let count = |reason: &str| reasons.iter().filter(|said| *said == reason).count();
        (count("Leader"), count("Follower")) == (1, masters - 1)
    })?;
    lab.progress.say(&format!("{masters} etcd members vote, one of them leads, say their agents"));
    Ok(())
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
