//! `oneke-agent context`: every variable as it is.

use std::fmt::Write;

use super::{Context, Exit, input, print};
use crate::context::{Vars, table};

/// Stands for a value that is not shown.
const MASK: &str = "(secret)";

/// Prints the variables; secrets only if that was asked for.
pub fn context(arguments: &Context) -> anyhow::Result<Exit> {
    let file = arguments.context.as_deref();
    let text = input::text(file)?;
    let vars = match input::vars(&text, file) {
        Ok(vars) => vars,
        Err(problem) => {
            print(&format!("problem  {problem}\n"))?;
            return Ok(Exit::Context);
        }
    };
    print(&if arguments.json {
        json(&vars, arguments.show_secrets)?
    } else {
        lines(&vars, arguments.show_secrets)
    })?;
    Ok(Exit::Done)
}

fn shown<'v>(name: &str, value: &'v str, secrets: bool) -> &'v str {
    if !secrets && !value.is_empty() && table::is_secret(name) { MASK } else { value }
}

fn lines(vars: &Vars, secrets: bool) -> String {
    let mut lines = String::new();
    for (name, value) in vars.iter() {
        writeln!(lines, "{name}={}", shown(name, value, secrets)).expect("writing to a String cannot fail");
    }
    lines
}

fn json(vars: &Vars, secrets: bool) -> anyhow::Result<String> {
    let object: serde_json::Map<String, serde_json::Value> =
        vars.iter().map(|(name, value)| (name.to_owned(), shown(name, value, secrets).into())).collect();
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}
