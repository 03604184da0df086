//! The context that a command is about: a file, or this VM's own.

use std::path::Path;

use anyhow::bail;

use super::{Exit, print};
use crate::context::show;
use crate::facts::Observed;
use crate::plan::Secret;
use crate::service::Role;
use crate::world::ContextReader;

/// The context's text.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn text(file: Option<&Path>) -> anyhow::Result<Secret> {
    match (ContextReader::new(file).read(), file) {
        (Observed::Known(text), _) => Ok(text),
        (Observed::Absent, Some(file)) => bail!("there is no {}", file.display()),
        (Observed::Absent, None) => bail!(
            "this machine has no context: no CONTEXT CD-ROM and no /context directory; name a file with --context"
        ),
        (Observed::Unknown(why), _) => bail!("{why}"),
    }
}

/// Lists what is wrong with a context that a command cannot use.
pub fn refuse(text: &Secret, role: Option<Role>) -> anyhow::Result<Exit> {
    print(&show::Check::of(text.expose(), role).to_string())?;
    Ok(Exit::Context)
}
