//! `oneke-agent status`: what this VM has reached and what it waits for, from the agent's last report.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::text::{count, spoken};
use super::{Exit, Status, print};
use crate::driver::{Report, Standing};
use crate::plan;
use crate::world::clock;
use crate::world::status_file::{DIRECTORY, Lock, last};

/// The driver looks at least every 30 s and confirms its report each time, and slows down to 60 s when it repeats
/// itself; a silence of three looks means that something is wrong.
const STALE: Duration = Duration::from_secs(180);
/// `--watch` looks so often for a new report.
const WATCH: Duration = Duration::from_secs(1);

/// Whether the agent behind a report is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    Runs,
    Silent,
    Gone,
}

/// What was found in `/run`.
struct Found {
    report: Option<(Report, Duration)>,
    agent: Agent,
}

/// Prints the state, once or for ever.
pub fn status(arguments: &Status) -> anyhow::Result<Exit> {
    let directory = Path::new(DIRECTORY);
    let mut shown = None;
    loop {
        let found = look(directory)?;
        if arguments.json {
            // Its age alone is no news to a program.
            let news = Some((found.report.as_ref().map(|(report, _)| report.clone()), found.agent));
            if news != shown {
                print(&json(&found)?)?;
                shown = news;
            }
        } else {
            let clear = if arguments.watch { "\x1b[2J\x1b[H" } else { "" };
            print(&format!("{clear}{}", page(&found, clock::wall())))?;
        }
        if !arguments.watch {
            return Ok(exit(&found));
        }
        std::thread::sleep(WATCH);
    }
}

fn look(directory: &Path) -> anyhow::Result<Found> {
    let report = last(directory)?;
    let agent = match &report {
        _ if !Lock::is_held(directory) => Agent::Gone,
        Some((_, age)) if *age > STALE => Agent::Silent,
        _ => Agent::Runs,
    };
    Ok(Found { report, agent })
}

fn exit(found: &Found) -> Exit {
    match (found.agent, &found.report) {
        (Agent::Gone | Agent::Silent, _) => Exit::NotRunning,
        (Agent::Runs, Some((report, _))) if report.ready => Exit::Done,
        (Agent::Runs, _) => Exit::NotReady,
    }
}

fn json(found: &Found) -> anyhow::Result<String> {
    let mut value = match &found.report {
        Some((report, _)) => serde_json::to_value(report)?,
        None => serde_json::json!({}),
    };
    value["running"] = (found.agent == Agent::Runs).into();
    value["age"] = found.report.as_ref().map(|(_, age)| age.as_secs()).into();
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn page(found: &Found, now: u64) -> String {
    let mut page = String::new();
    match (found.agent, &found.report) {
        (Agent::Gone, None) => {
            page += "the agent does not run, and has not run since this machine booted: systemctl start oneke-agent\n";
        }
        (Agent::Gone, Some((_, age))) => {
            let age = spoken(*age);
            page += &format!(
                "THE AGENT DOES NOT RUN: this is what it said {age} ago; systemctl start oneke-agent\n\n"
            );
        }
        (Agent::Silent, Some((_, age))) => {
            let age = spoken(*age);
            page +=
                &format!("THE AGENT IS STUCK: this is what it said {age} ago; journalctl -u oneke-agent\n\n");
        }
        (Agent::Runs | Agent::Silent, None) => {
            page += "the agent has said nothing yet: it has just started, or cannot write to /run: journalctl -u oneke-agent\n"
        }
        (Agent::Runs, Some(_)) => {}
    }
    if let Some((report, _)) = &found.report {
        body(&mut page, report, now).expect("writing to a String cannot fail");
    }
    page
}

fn body(page: &mut String, report: &Report, now: u64) -> std::fmt::Result {
    let vm = report.vm.map_or("this VM".into(), |vm| format!("VM {vm}"));
    let role = report.role.as_deref().unwrap_or("role not known yet");
    let ready = if report.ready { "ready" } else { "not ready" };
    writeln!(page, "{vm}, {role}: {}, {ready}", report.phase)?;
    if !report.problems.is_empty() {
        writeln!(
            page,
            "\nThe context has {}; until it is corrected nothing is changed, and what runs goes on by the last good one:",
            count(report.problems.len(), "problem")
        )?;
        report.problems.iter().try_for_each(|problem| writeln!(page, "  {problem}"))?;
    }
    if !report.warnings.is_empty() {
        writeln!(page, "\nOdd in the context:")?;
        report.warnings.iter().try_for_each(|warning| writeln!(page, "  {warning}"))?;
    }
    if !report.conditions.is_empty() {
        writeln!(page)?;
    }
    let width =
        report.conditions.iter().map(|standing| standing.condition.kind.len()).max().unwrap_or_default();
    for Standing { condition, since } in &report.conditions {
        let mark = match condition.status {
            plan::Status::True => "yes",
            plan::Status::False => "NO",
            plan::Status::Unknown => "?",
        };
        let age = spoken(Duration::from_secs(now.saturating_sub(*since)));
        writeln!(page, "{mark:<4} {:<width$}  {}, for {age}", condition.kind, condition.reason)?;
        if condition.status != plan::Status::True || !condition.message.is_empty() {
            writeln!(page, "     {}", condition.message)?;
        }
    }
    report.tables.iter().try_for_each(|shown| table(page, shown))?;
    if !report.effects.is_empty() {
        writeln!(page, "\nDone in the last pass:")?;
        report.effects.iter().try_for_each(|effect| writeln!(page, "  {effect}"))?;
    }
    Ok(())
}

/// Columns as wide as their widest cell, two blanks apart.
fn table(page: &mut String, table: &plan::Table) -> std::fmt::Result {
    let lines = || std::iter::once(&table.columns).chain(&table.rows);
    let width = |at: usize| lines().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    writeln!(page, "\n{}:", table.name)?;
    for line in lines() {
        let mut text = String::from(" ");
        for (at, cell) in line.iter().enumerate() {
            write!(text, " {cell:<width$} ", width = width(at).unwrap_or_default())?;
        }
        writeln!(page, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Condition;

    fn report() -> Report {
        let standing = |condition, since| Standing { condition, since };
        Report {
            at: 1000,
            vm: Some(7),
            role: Some("master".into()),
            phase: "joining".into(),
            conditions: vec![
                standing(Condition::met("ContextRead", "Read", ""), 400),
                standing(
                    Condition::unmet(
                        "ClusterJoined",
                        "NoToken",
                        "waiting for a token from VM 5, see its status",
                    ),
                    960,
                ),
                standing(Condition::unknown("NodeReady", "ApiSilent", "no answer"), 990),
            ],
            effects: vec!["start rke2-server.service".into()],
            ..Report::default()
        }
    }

    #[test]
    fn each_wait_is_explained() {
        let found = Found { report: Some((report(), Duration::ZERO)), agent: Agent::Runs };
        let expected = "\
VM 7, master: joining, not ready

yes  ContextRead    Read, for 10 min
NO   ClusterJoined  NoToken, for 40 s
     waiting for a token from VM 5, see its status
?    NodeReady      ApiSilent, for 10 s
     no answer

Done in the last pass:
  start rke2-server.service
";
        assert_eq!(page(&found, 1000), expected);
        assert_eq!(exit(&found), Exit::NotReady);
    }

    #[test]
    fn tables_are_aligned() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = vec![row(["10.0.0.200/24", "eth0", "this VM"]), row(["10.0.0.1/8", "eth10", "nobody"])];
        let shown = plan::Table::new("Virtual addresses", &["address", "interface", "held by"], rows);
        let mut page = String::new();
        table(&mut page, &shown).unwrap();
        let expected = "
Virtual addresses:
  address        interface  held by
  10.0.0.200/24  eth0       this VM
  10.0.0.1/8     eth10      nobody
";
        assert_eq!(page, expected);
        let report = Report { tables: vec![shown], ..report() };
        let found = Found { report: Some((report, Duration::ZERO)), agent: Agent::Runs };
        assert!(json(&found).unwrap().contains("\"held by\""));
    }

    #[test]
    fn a_dead_agent_is_said_first() {
        let home = tempfile::tempdir().unwrap();
        let found = look(home.path()).unwrap();
        assert_eq!(exit(&found), Exit::NotRunning);
        assert!(page(&found, 0).starts_with("the agent does not run"));
        let ready = Report { ready: true, ..report() };
        let found = Found { report: Some((ready, Duration::from_secs(600))), agent: Agent::Silent };
        assert_eq!(exit(&found), Exit::NotRunning);
        assert!(page(&found, 0).starts_with("THE AGENT IS STUCK: this is what it said 10 min ago"));
        assert!(json(&found).unwrap().contains("\"running\": false"));
    }
}
