//! Services of every shape, from instantiation to RUNNING with every VM READY, and no RKE2 that failed to start.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::lab::Lab;
use crate::service::{Scene, Size};
use crate::{machine, story};

/// Which.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Names out of: single, 1+2+1, 2+3+2+1, 3+3+2, 5+2; all of them unless told.
    pub names: Vec<String>,
}

/// Masters, workers, storage nodes; the one that is `up`'s default has its vnf VMs in its name.
const ALL: [(&str, Size); 5] = [
    ("single", Size { vnf: 0, masters: 1, workers: 0, storage: 0 }),
    ("1+2+1", Size { vnf: 1, masters: 1, workers: 2, storage: 1 }),
    ("2+3+2+1", Size { vnf: 2, masters: 3, workers: 2, storage: 1 }),
    ("3+3+2", Size { vnf: 2, masters: 3, workers: 3, storage: 2 }),
    ("5+2", Size { vnf: 2, masters: 5, workers: 2, storage: 0 }),
];

/// Brings up one after the other, and prints how long each took.
///
/// # Errors
/// When one does not come up, or an RKE2 failed to start on the way.
pub fn measure(options: &Options) -> Result<()> {
    if let Some(name) = options.names.iter().find(|name| ALL.iter().all(|(known, _)| known != name)) {
        bail!("there is no topology {name:?}: expected one of {}", ALL.map(|(known, _)| known).join(", "));
    }
    let mut table = format!(
        "  {:<10}{:>5}{:>9}{:>9}{:>9}{:>10}\n",
        "topology", "vnf", "masters", "workers", "storage", "seconds"
    );
    for (name, size) in
        ALL.iter().filter(|(name, _)| options.names.is_empty() || options.names.iter().any(|n| n == name))
    {
        let seconds = Lab::during(&Scene::of(*size), |lab| {
            bring_up(lab, size).with_context(|| format!("topology {name}"))
        })?;
        let Size { vnf, masters, workers, storage } = size;
        let _ = writeln!(table, "  {name:<10}{vnf:>5}{masters:>9}{workers:>9}{storage:>9}{seconds:>10.1}");
    }
    println!("\nfrom instantiation to RUNNING, every VM READY, no failed start of RKE2\n\n{table}");
    Ok(())
}

fn bring_up(lab: &mut Lab, size: &Size) -> Result<f64> {
    let began = Instant::now();
    story::deploy(lab, size)?;
    let seconds = began.elapsed().as_secs_f64();
    no_failed_start(lab)?;
    lab.undeploy()?;
    Ok(seconds)
}

/// RKE2 was started once on every node, and came up.
///
/// # Errors
/// Names the node whose systemd had to start it again, with what its journal says.
pub fn no_failed_start(lab: &mut Lab) -> Result<()> {
    let members = lab.members();
    let nodes = members.iter().filter(|member| member.role != "vnf" && !lab.is_plain(&member.role));
    let mut count = 0;
    for node in nodes {
        let unit = if node.role == "master" { "rke2-server.service" } else { "rke2-agent.service" };
        let question = ["systemctl", "show", unit, "--value", "--property=NRestarts,Result"];
        let said = lab.run_inside(node.vm, &question)?;
        let said: Vec<&str> = said.split_whitespace().collect();
        let lines = machine::lines(node.vm, unit);
        let exited =
            |line: &String| line.contains("Failed with result") || line.contains("Main process exited");
        let failure = lines.iter().position(exited);
        if failure.is_some() || said != ["0", "success"] && said != ["success", "0"] {
            // What it said before it failed tells why.
            let end = failure.unwrap_or(lines.len());
            let words = lines[end.saturating_sub(15)..end].join("\n");
            bail!("{unit} failed to start on {}: {said:?}\n{words}", node.name());
        }
        count += 1;
    }
    lab.progress.say(&format!("RKE2 came up at its first start on all {count} nodes"));
    Ok(())
}
