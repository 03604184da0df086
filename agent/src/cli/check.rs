//! `oneke-agent check`: every problem of a context.

use std::fmt::Write;

use super::text::count;
use super::{Check, Exit, input, print};
use crate::context::Config;

/// Prints problems and warnings; the exit status tells whether there are problems.
pub fn check(arguments: &Check) -> anyhow::Result<Exit> {
    let file = arguments.context.as_deref();
    let text = input::text(file)?;
    let (problems, warnings) = match input::vars(&text, file) {
        Err(problem) => (vec![problem], Vec::new()),
        Ok(vars) => match Config::read(&vars, arguments.role.clone()) {
            Ok(config) => (Vec::new(), config.warnings.iter().map(ToString::to_string).collect()),
            Err(problems) => (problems.iter().map(ToString::to_string).collect(), Vec::new()),
        },
    };
    let rules = arguments.role.as_ref().map_or("every role".into(), |role| format!("role {role}"));
    print(&page(&rules, &problems, &warnings))?;
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Context })
}

fn page(rules: &str, problems: &[String], warnings: &[String]) -> String {
    let mut page = String::new();
    for problem in problems {
        writeln!(page, "problem  {problem}").expect("writing to a String cannot fail");
    }
    for warning in warnings {
        writeln!(page, "warning  {warning}").expect("writing to a String cannot fail");
    }
    let (problems, warnings) = (count(problems.len(), "problem"), count(warnings.len(), "warning"));
    writeln!(page, "{problems}, {warnings} by the rules of {rules}")
        .expect("writing to a String cannot fail");
    page
}
