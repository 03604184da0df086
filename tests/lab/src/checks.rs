//! The same story as [`crate::story`] with every step asserted, and what only a test does: a full power cycle without OneGate,
//! and a search for secrets in everything that OneGate was sent.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::ask;
use crate::lab::Lab;
use crate::progress::Member;
use crate::secrets::Secrets;
use crate::service::{Size, api};
use crate::story::{self, PATIENCE};

/// Files of a node that hold what nobody else may know.
const SECRET_FILES: [&str; 5] = [
    "/var/lib/rancher/rke2/server/token",
    "/var/lib/rancher/rke2/server/agent-token",
    "/etc/rancher/node/password",
    "/var/lib/rancher/rke2/server/tls/client-admin.key",
    "/var/lib/rancher/rke2/server/tls/server-ca.key",
];

/// Runs all checks on a fresh service.
///
/// # Errors
/// At the first one that does not hold.
pub fn run(lab: &mut Lab, size: &Size) -> Result<()> {
    story::deploy(lab, size)?;
    story::greet(lab)?;
    story::grow(lab, size)?;
    let vms = size.total() + 1;
    if size.vnf > 1 {
        let outage = story::lose_holder(lab, vms)?;
        ensure!(outage.answered > 0, "the client never got an answer");
    }
    power_cycle(lab, vms)?;
    no_secrets(lab)?;
    lab.progress.say("undeploying");
    lab.undeploy()?;
    lab.progress.say("every check holds");
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

/// Nothing that OneGate was ever sent holds a secret of the cluster (invariant 8).
fn no_secrets(lab: &mut Lab) -> Result<()> {
    let members = lab.members();
    let files = members.iter().flat_map(|member| SECRET_FILES.map(|path| lab.machines.read(member.vm, path)));
    let files: Vec<String> = files.flatten().collect();
    ensure!(!files.is_empty(), "no node has a file with a secret: there is nothing to search for");
    let secrets = Secrets::of(&files);
    let received = lab.front.with(|cloud, _| cloud.ledger().received().to_vec());
    for request in &received {
        let found = secrets.found_in(&request.body);
        ensure!(
            found.is_none(),
            "VM {:?} sent a secret ({}) to {}",
            request.vm,
            found.unwrap_or_default(),
            request.path_and_query
        );
    }
    lab.progress
        .say(&format!("none of {} requests with a body held any secret of the cluster", received.len()));
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
