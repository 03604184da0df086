//! `oneke-agent check`: every problem of a context.

use super::{Check, Exit, input, print};
use crate::context::show;

/// Prints problems and warnings; the exit status tells whether there are problems.
pub fn check(arguments: &Check) -> anyhow::Result<Exit> {
    let text = input::text(arguments.context.as_deref())?;
    let found = show::Check::of(text.expose(), arguments.role.clone());
    print(&if arguments.json { found.json() + "\n" } else { found.to_string() })?;
    Ok(if found.problems.is_empty() { Exit::Done } else { Exit::Context })
}
