//! `oneke-agent plan`: what would be done now, with the differences of files. Changes nothing.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::{Exit, Plan, diff, print};
use crate::driver::{Driver, Report};
use crate::facts::Observed;
use crate::plan::{Content, Effect, FileSpec};
use crate::world::{ContextReader, Machine, files};

/// Observes and decides, and prints the decision.
pub fn plan(arguments: &Plan) -> anyhow::Result<Exit> {
    let (decision, report) = super::runtime()?.block_on(async {
        let mut machine = Machine::new(ContextReader::new(arguments.context.as_deref()));
        Driver::default().plan(&mut machine).await
    });
    let steps: Vec<Step> = decision.asides.iter().chain(&decision.effects).map(Step::of).collect();
    print(&if arguments.json { json(&steps, &report)? } else { page(&steps, &report) })?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Context })
}

/// An effect, in words, and how a file would change by it.
struct Step {
    what: String,
    diff: String,
}

impl Step {
    fn of(effect: &Effect) -> Self {
        let diff = match effect {
            Effect::WriteFile(file) => difference(file, &files::read(Path::new(&file.path))),
            _ => String::new(),
        };
        Self { what: effect.to_string(), diff }
    }
}

/// The difference between a file and what it shall be; of a secret one only whether there is a difference.
fn difference(file: &FileSpec, now: &Observed<crate::facts::File>) -> String {
    let old = match now {
        Observed::Known(old) => Some(old),
        Observed::Absent => None,
        Observed::Unknown(why) => return format!("({why}: the difference is not known)\n"),
    };
    let same = old.is_some_and(|old| old.content.expose() == file.content.as_str());
    let mode = old
        .filter(|old| old.mode != file.mode)
        .map_or_else(String::new, |old| format!("(mode {:04o} becomes {:04o})\n", old.mode, file.mode));
    let text = match &file.content {
        _ if same => String::new(),
        Content::Secret(_) => "(it holds secrets: its content is not shown)\n".into(),
        Content::Public(new) => match old {
            // What others may not read is not shown to them here either.
            Some(old) if old.mode & 0o004 == 0 => {
                "(others may not read what is there: it is not shown)\n".to_owned()
                    + &diff::unified(&file.path, None, new)
            }
            _ => diff::unified(&file.path, old.map(|old| old.content.expose()), new),
        },
    };
    mode + &text
}

fn page(steps: &[Step], report: &Report) -> String {
    let mut page = String::new();
    for problem in &report.problems {
        writeln!(page, "problem: {problem}").expect("writing to a String cannot fail");
    }
    for standing in &report.conditions {
        writeln!(page, "{}", standing.condition).expect("writing to a String cannot fail");
    }
    if steps.is_empty() {
        page += "\nnothing to do\n";
    }
    for (number, step) in steps.iter().enumerate() {
        write!(page, "\n{}. {}\n{}", number + 1, step.what, step.diff)
            .expect("writing to a String cannot fail");
    }
    page
}

fn json(steps: &[Step], report: &Report) -> anyhow::Result<String> {
    let effects: Vec<_> =
        steps.iter().map(|step| json!({ "effect": step.what, "diff": step.diff })).collect();
    let value = json!({
        "vm": report.vm, "role": report.role, "phase": report.phase,
        "conditions": report.conditions, "problems": report.problems, "warnings": report.warnings,
        "effects": effects,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::File;
    use crate::plan::Secret;

    fn spec(content: Content, mode: u32) -> FileSpec {
        FileSpec { path: "/etc/x".into(), mode, content, checker: None }
    }

    fn there(content: &str, mode: u32) -> Observed<File> {
        Observed::Known(File { mode, content: Secret::new(content) })
    }

    #[test]
    fn a_public_file_is_shown_by_lines() {
        let file = spec(Content::Public("a\nb\n".into()), 0o644);
        assert_eq!(
            difference(&file, &there("a\n", 0o644)),
            "--- /etc/x\n+++ /etc/x\n@@ -1,1 +1,2 @@\n a\n+b\n"
        );
        assert_eq!(difference(&file, &there("a\nb\n", 0o600)), "(mode 0600 becomes 0644)\n");
        let unknown = Observed::Unknown("could not read /etc/x: permission denied".into());
        assert!(difference(&file, &unknown).contains("permission denied"));
    }

    #[test]
    fn no_secret_is_shown_old_or_new() {
        let new = spec(Content::Secret(Secret::new("new-token")), 0o600);
        for now in [Observed::Absent, there("old-token", 0o600), there("old-token", 0o644)] {
            let text = difference(&new, &now);
            assert!(!text.contains("token") && text.contains("holds secrets"), "{text}");
        }
        assert_eq!(difference(&new, &there("new-token", 0o600)), "");
        let public = spec(Content::Public("public\n".into()), 0o644);
        assert!(!difference(&public, &there("old-token", 0o600)).contains("old-token"));
    }
}
