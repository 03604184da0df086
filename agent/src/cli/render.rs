//! `oneke-agent render`: every file that a VM would get, written into a directory.
//!
//! The real driver and deciders run against a machine of paper ([`paper::Paper`]): an image that has just booted, whose
//! files and units follow what is decided, until nothing is left to do. Nothing but the directory is touched.

mod paper;
mod recorded;

use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

use self::paper::Paper;
use self::recorded::Recorded;
use super::text::count;
use super::{Exit, Render, input, print};
use crate::context::{Config, Vars};
use crate::driver::{Driver, Report};
use crate::plan::{Effect, Status};
use crate::service::Role;
use crate::world::files;

/// Passes without an effect after which nothing more is expected; time moves between them as the deciders wish.
const CALM: u32 = 4;
/// A decision that never comes to rest is cut off here.
const MOST_PASSES: u32 = 200;

/// Renders, writes, and prints what is not a file.
pub fn render(arguments: &Render) -> anyhow::Result<Exit> {
    let text = input::text(Some(&arguments.context))?;
    let recorded = Recorded::read(arguments.onegate.as_deref())?;
    let vars = Vars::parse(text.expose()).ok();
    let routes = || vars.as_ref().is_some_and(Vars::is_virtual_router).then_some(Role::Vnf);
    let Some(role) = arguments.role.clone().or_else(routes).or_else(|| recorded.role()) else {
        bail!(
            "no role: name one with --role, or record OneGate's answer for this VM as vm.json (--onegate DIR)"
        );
    };
    // What does not parse, or is wrong for the role, is listed; nothing is written then.
    let config = vars.and_then(|vars| Config::read(&vars, Some(role.clone())).ok());
    let Some(config) = config else { return input::refuse(&text, Some(role)) };
    let out = std::path::absolute(&arguments.out)
        .with_context(|| format!("could not tell where {} is", arguments.out.display()))?;
    let mut paper = Paper::new(text, &config, &role, recorded);
    let report = super::runtime()?.block_on(settle(&mut paper));
    for (path, file) in paper.files() {
        let target = beneath(&out, path)?;
        super::runtime()?.block_on(files::replace(
            &target,
            file.mode,
            file.content.expose(),
            async |_| Ok(()),
        ))?;
    }
    print(&page(&paper, &report, &arguments.out))?;
    Ok(Exit::Done)
}

/// Runs passes until the paper machine stays as it is.
async fn settle(paper: &mut Paper) -> Report {
    let mut driver = Driver::default();
    let (mut calm, mut passes) = (0, 0);
    while calm < CALM && passes < MOST_PASSES {
        let before = paper.effects().len();
        let delay = driver.pass(paper).await;
        paper.advance(delay);
        calm = if paper.effects().len() == before { calm + 1 } else { 0 };
        passes += 1;
    }
    paper.last_report()
}

/// An absolute path, under the directory.
fn beneath(out: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let inner = Path::new(path).strip_prefix("/").with_context(|| format!("{path} is no absolute path"))?;
    if inner.components().any(|part| !matches!(part, Component::Normal(_))) {
        bail!("{path} leads out of the directory");
    }
    Ok(out.join(inner))
}

fn page(paper: &Paper, report: &Report, out: &Path) -> String {
    let mut page = format!("{} under {}:\n", count(paper.files().len(), "file"), out.display());
    write_page(&mut page, paper, report).expect("writing to a String cannot fail");
    page
}

fn write_page(page: &mut String, paper: &Paper, report: &Report) -> std::fmt::Result {
    for (path, file) in paper.files() {
        writeln!(page, "  {:04o} {path}", file.mode)?;
    }
    let others: Vec<_> =
        paper.effects().iter().filter(|effect| !matches!(effect, Effect::WriteFile(_))).collect();
    if !others.is_empty() {
        writeln!(page, "\nBesides, in this order:")?;
        others.iter().try_for_each(|effect| writeln!(page, "  {effect}"))?;
    }
    let unmet: Vec<_> = report.conditions.iter().filter(|s| s.condition.status != Status::True).collect();
    if !unmet.is_empty() {
        writeln!(page, "\nThen it would wait for:")?;
        unmet.iter().try_for_each(|standing| writeln!(page, "  {}", standing.condition))?;
    }
    report.warnings.iter().try_for_each(|warning| writeln!(page, "\nwarning: {warning}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Secret;

    /// Apply, observe, decide again: no effects left.
    #[tokio::test]
    async fn a_node_comes_to_rest_with_its_machine_prepared() {
        let context = include_str!("../../../tests/cases/node/addon-everything-airgapped/context.sh");
        let config = Config::read(&Vars::parse(context).unwrap(), Some(Role::Master)).unwrap();
        let mut paper = Paper::new(Secret::new(context), &config, &Role::Master, Recorded::default());
        settle(&mut paper).await;
        let told: Vec<String> = paper.effects().iter().map(ToString::to_string).collect();
        let place = |what: &str| told.iter().position(|told| told.contains(what));
        assert!(place("restart systemd-modules-load.service") > place("/etc/modules-load.d/"), "{told:#?}");
        assert!(place("set net.ipv4.ip_forward = 1").is_some(), "{told:#?}");
        let links = told.iter().filter(|told| told.starts_with("link ")).count();
        assert_eq!(links, 14, "{told:#?}");
        assert!(place("link ") < place("start rke2-server.service"), "{told:#?}");
        let once: std::collections::BTreeSet<&String> = told.iter().collect();
        assert_eq!(once.len(), told.len(), "nothing is done twice: {told:#?}");
    }

    #[test]
    fn nothing_is_written_outside() {
        assert_eq!(beneath(Path::new("out"), "/etc/x").unwrap(), Path::new("out/etc/x"));
        assert!(beneath(Path::new("out"), "/etc/../../x").is_err());
        assert!(beneath(Path::new("out"), "etc/x").is_err());
    }
}
