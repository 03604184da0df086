//! `oneke-agent context`: every variable as it is.

use super::{Context, Exit, input, print};
use crate::context::{Vars, show};

/// Prints the variables; secrets only if that was asked for.
pub fn context(arguments: &Context) -> anyhow::Result<Exit> {
    let text = input::text(arguments.context.as_deref())?;
    let vars = match Vars::parse(text.expose()) {
        Ok(vars) => vars,
        Err(_) => return input::refuse(&text, None),
    };
    let secrets = arguments.show_secrets;
    print(&if arguments.json { show::json(&vars, secrets) + "\n" } else { show::text(&vars, secrets) })?;
    Ok(Exit::Done)
}
