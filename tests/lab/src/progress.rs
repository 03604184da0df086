//! What an operator watches: one line per VM with its role, phase and what it waits for. Redrawn in place on a terminal;
//! elsewhere a line is printed when something changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One VM as the cloud, the hypervisor and its own agent see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The VM's number.
    pub vm: u32,
    /// Its role.
    pub role: String,
    /// Its state in the cloud: RUNNING, POWEROFF, ...
    pub state: String,
    /// READY=YES was published, now or by an earlier life of this VM.
    pub ready: bool,
    /// It runs, and its agent says that every condition holds.
    pub well: bool,
    /// The agent's word for where it is; before it speaks, the lab's.
    pub phase: String,
    /// The first condition that does not hold.
    pub waits_for: String,
    /// The guest's process 1, as seen from this machine.
    pub leader: Option<i32>,
    /// What the lab could not do with this machine.
    pub fault: Option<String>,
}

impl Member {
    /// What users call it: `master-2`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.role, self.vm)
    }
}

/// The part of `/run/oneke-agent/status.json` that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Report {
    /// One word.
    pub phase: String,
    /// All conditions hold.
    pub ready: bool,
    /// In the agent's order.
    pub conditions: Vec<Condition>,
    /// Problems of the context.
    pub problems: Vec<String>,
}

/// One thing that must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// CamelCase name.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// CamelCase, why.
    pub reason: String,
    /// For the operator.
    pub message: String,
}

impl Report {
    /// What the agent waits for, in its own words; empty if for nothing.
    pub fn waits_for(&self) -> String {
        if let Some(problem) = self.problems.first() {
            return format!("context: {problem}");
        }
        let waiting = self.conditions.iter().find(|condition| condition.status != "True");
        waiting.map(|condition| format!("{}: {}", condition.kind, condition.message)).unwrap_or_default()
    }
}

/// Shows members as they change.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    terminal: bool,
    drawn: usize,
    told: BTreeMap<u32, Member>,
    service: String,
}

impl Progress {
    /// Draws in place if standard output is a terminal.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            told: BTreeMap::new(),
            service: String::new(),
        }
    }

    /// Shows the service's state and its members.
    pub fn show(&mut self, service: &str, members: &[Member]) {
        let text = if self.terminal { self.screen(service, members) } else { self.changes(service, members) };
        print(&text);
    }

    /// Says something between the views.
    pub fn say(&mut self, line: &str) {
        self.drawn = 0;
        print(&format!("{} {line}\n", stamp(self.began.elapsed())));
    }

    fn screen(&mut self, service: &str, members: &[Member]) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to the first line of the last view, and clear from there.
            let _ = write!(text, "\x1b[{}A\x1b[J", self.drawn);
        }
        let _ = writeln!(text, "\n  service {service}   {}", stamp(self.began.elapsed()).trim());
        text.push_str(&table(members, columns()));
        self.drawn = text.lines().count();
        text
    }

    fn changes(&mut self, service: &str, members: &[Member]) -> String {
        let at = stamp(self.began.elapsed());
        let mut text = String::new();
        if self.service != service {
            let _ = writeln!(text, "{at} service {service}");
            self.service = service.to_owned();
        }
        for member in members {
            if self.told.get(&member.vm).is_none_or(|told| differs(told, member)) {
                let _ =
                    writeln!(text, "{at} {:<10} {:<9} {}", member.name(), member.state, situation(member));
                self.told.insert(member.vm, member.clone());
            }
        }
        text
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// The table of `oneke-lab status` and of the live view, cut to the terminal's width.
pub fn table(members: &[Member], width: usize) -> String {
    let mut text = format!("  {:<10} {:<9} {:<10} WAITS FOR\n", "NODE", "CLOUD", "PHASE");
    for member in members {
        let waits_for = member.fault.as_ref().unwrap_or(&member.waits_for);
        let line = format!("  {:<10} {:<9} {:<10} {waits_for}", member.name(), member.state, phase(member));
        text.extend(line.trim_end().chars().take(width));
        text.push('\n');
    }
    text
}

fn phase(member: &Member) -> &str {
    if member.ready && member.well { "READY" } else { &member.phase }
}

fn situation(member: &Member) -> String {
    let waits_for = member.fault.as_ref().unwrap_or(&member.waits_for);
    if waits_for.is_empty() { phase(member).to_owned() } else { format!("{}: {waits_for}", phase(member)) }
}

/// Messages that count seconds or name passing things change all the time: only the condition's name counts.
fn differs(told: &Member, now: &Member) -> bool {
    let kind = |member: &Member| member.waits_for.split(':').next().unwrap_or_default().to_owned();
    (&told.state, phase(told), kind(told), &told.fault) != (&now.state, phase(now), kind(now), &now.fault)
}

fn stamp(elapsed: Duration) -> String {
    format!("[{:>6.1} s]", elapsed.as_secs_f64())
}

fn columns() -> usize {
    let size = crate::command::run(&["stty", "-F", "/dev/tty", "size"]).unwrap_or_default();
    size.split_whitespace().nth(1).and_then(|columns| columns.parse().ok()).unwrap_or(120)
}

/// A closed pipe (`| head`) ends what is shown, not the lab.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(phase: &str, waits_for: &str, ready: bool) -> Member {
        Member {
            vm: 2,
            role: "master".into(),
            state: "RUNNING".into(),
            ready,
            well: ready,
            phase: phase.into(),
            waits_for: waits_for.into(),
            leader: None,
            fault: None,
        }
    }

    #[test]
    fn the_table_says_what_is_waited_for() {
        assert_eq!(
            table(&[member("joining", "SupervisorUp: waiting for https://10.77.0.10:9345", false)], 60),
            "  NODE       CLOUD     PHASE      WAITS FOR\n  master-2   RUNNING   joining    SupervisorUp: waiting for \n"
        );
        assert!(table(&[member("ready", "", true)], 80).contains("RUNNING   READY\n"));
    }

    #[test]
    fn without_a_terminal_only_changes_are_told() {
        let mut progress = Progress { terminal: false, ..Progress::new() };
        assert_eq!(progress.changes("DEPLOYING", &[member("joining", "A: 1 s", false)]).lines().count(), 2);
        assert_eq!(progress.changes("DEPLOYING", &[member("joining", "A: 2 s", false)]), "");
        assert!(progress.changes("DEPLOYING", &[member("joining", "B: x", false)]).contains("joining: B: x"));
        assert_eq!(progress.changes("RUNNING", &[member("joining", "B: y", false)]).lines().count(), 1);
    }

    #[test]
    fn problems_come_before_conditions() {
        let report: Report = serde_json::from_str(
            r#"{"phase":"waiting","problems":["X=\"1\": expected a port"],
                "conditions":[{"type":"A","status":"True","reason":"R","message":"m","since":1},
                              {"type":"B","status":"Unknown","reason":"R","message":"no answer","since":1}]}"#,
        )
        .unwrap();
        assert_eq!(report.waits_for(), "context: X=\"1\": expected a port");
        let without = Report { problems: Vec::new(), ..report };
        assert_eq!(without.waits_for(), "B: no answer");
    }
}
