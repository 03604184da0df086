//! Contexts that change while their VMs run: a vnf VM takes a listener up without losing any, a master writes what counts
//! from RKE2's next start and says so.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use oneke_cloud::VmId;

use crate::client::ask;
use crate::lab::Lab;
use crate::network::Network;
use crate::progress::Member;
use crate::service::virtual_address;
use crate::story::PATIENCE;

/// The listener that comes.
const PORT: &str = "8443";

/// Both.
///
/// # Errors
/// When an agent does not follow.
pub fn follow(lab: &mut Lab) -> Result<()> {
    let members = lab.members();
    let of = |role: &'static str| members.iter().filter(move |member| member.role == role);
    let master = of("master").next_back().context("there is no master")?;
    if of("vnf").next().is_some() {
        new_listener(lab, &of("vnf").collect::<Vec<_>>(), master)?;
    }
    new_name(lab, master)
}

/// A further listener with a server of its own, on every vnf VM.
fn new_listener(lab: &mut Lab, vnf: &[&Member], master: &Member) -> Result<()> {
    let began = Instant::now();
    let ip = lab.front.with(|cloud, _| Some(cloud.vm(VmId(master.vm))?.nics.first()?.ip));
    let ip = ip.context("the master has no address")?.to_string();
    for member in vnf {
        let variables = [
            ("ONEAPP_VNF_HAPROXY_LB7_IP", "<ETH0_EP0>"),
            ("ONEAPP_VNF_HAPROXY_LB7_PORT", PORT),
            ("ONEAPP_VNF_HAPROXY_LB7_SERVER0_HOST", &ip),
            ("ONEAPP_VNF_HAPROXY_LB7_SERVER0_PORT", "6443"),
        ];
        update(lab, member, &variables)?;
    }
    let url = format!("https://{}:{PORT}/readyz", virtual_address(Network::Public));
    let credentials = lab.credentials()?;
    lab.wait("the new listener answers", PATIENCE, |_, _| {
        ask(&url, &credentials).is_ok_and(|answer| answer.trim() == "ok")
    })?;
    let seconds = began.elapsed().as_secs_f64();
    lab.progress.say(&format!("{url} answers, {seconds:.1} s after the vnf VMs' contexts changed"));
    Ok(())
}

/// A further name for the API's certificate: written at once, known to RKE2 from its next start.
fn new_name(lab: &mut Lab, master: &Member) -> Result<()> {
    let (vm, name) = (master.vm, "k8s.lab.example");
    update(lab, master, &[("ONEAPP_K8S_EXTRA_SANS", name)])?;
    lab.wait("the master says RestartNeeded", PATIENCE, |lab, _| followed(lab, vm) == "RestartNeeded")?;
    let config = lab.machines.read(vm, "/etc/rancher/rke2/config.yaml").unwrap_or_default();
    anyhow::ensure!(
        config.contains(name),
        "{} says RestartNeeded and has no {name} in its config.yaml",
        master.name()
    );
    lab.run_inside(vm, &["systemctl", "restart", "rke2-server.service"])?;
    lab.wait("RKE2 was restarted, and the master is content", PATIENCE, |lab, members| {
        let well = members.iter().any(|member| member.vm == vm && member.well);
        well && !["", "RestartNeeded"].contains(&followed(lab, vm).as_str())
    })?;
    let said =
        format!("{} says RestartNeeded for a further name, and no more once it was restarted", master.name());
    lab.progress.say(&said);
    Ok(())
}

/// The reason of a node's condition `ContextFollowed`; empty without one.
fn followed(lab: &Lab, vm: u32) -> String {
    let conditions = lab.report(vm).map(|report| report.conditions).unwrap_or_default();
    let condition = conditions.into_iter().find(|condition| condition.kind == "ContextFollowed");
    condition.map(|condition| condition.reason).unwrap_or_default()
}

fn update(lab: &Lab, member: &Member, variables: &[(&str, &str)]) -> Result<()> {
    lab.front
        .with(|cloud, now| cloud.update_context(now, VmId(member.vm), variables.iter().copied()))
        .map_err(|refused| anyhow!("the cloud refused another context of {}: {refused}", member.name()))
}
