//! The context that a command is about: a file, or this VM's own.

use std::path::Path;

use anyhow::bail;

use crate::context::Vars;
use crate::facts::Observed;
use crate::plan::Secret;
use crate::world::{ContextSource, clock};

/// The context's text.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn text(file: Option<&Path>) -> anyhow::Result<Secret> {
    let read = super::runtime()?.block_on(ContextSource::new(file).read(clock::now()));
    match (read, file) {
        (Observed::Known(text), _) => Ok(text),
        (Observed::Absent, Some(file)) => bail!("there is no {}", file.display()),
        (Observed::Absent, None) => {
            bail!(
                "this machine has no context: no CONTEXT CD-ROM and no /context directory; name a file with --context"
            )
        }
        (Observed::Unknown(why), _) => bail!("{why}"),
    }
}

/// The variables of a context's text; `Err` is for the operator.
pub fn vars(text: &Secret, file: Option<&Path>) -> Result<Vars, String> {
    let name = file.map_or_else(|| "context.sh".into(), |file| file.display().to_string());
    Vars::parse(text.expose()).map_err(|error| format!("{name} is no context file: {error}"))
}
