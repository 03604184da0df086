//! `oneke-agent docs`: the manual's page of variables; CI holds `docs/context-variables.md` against it.

use super::{Exit, print};
use crate::context::table;

/// Prints the page.
pub fn docs() -> anyhow::Result<Exit> {
    print(&table::markdown())?;
    Ok(Exit::Done)
}
