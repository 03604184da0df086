//! Keeps a file as it must be and its daemon running with it: emits only what is missing.

use crate::facts::{Active, Facts, Observed};
use crate::plan::{Condition, Content, Decision, Effect, FileSpec, Load, digest};

/// Adds the effect that makes the file so, unless it is. `Err` if it could not be seen: then it is left alone.
pub fn keep_file(file: FileSpec, facts: &Facts, decision: &mut Decision) -> Result<(), String> {
    match facts.file(&file.path) {
        Observed::Unknown(why) => {
            return Err(format!("could not read {}: {why}; it is left as it is", file.path));
        }
        Observed::Known(there)
            if there.mode == file.mode && there.content.expose() == file.content.as_str() => {}
        Observed::Known(_) | Observed::Absent => decision.effects.push(Effect::WriteFile(file)),
    }
    Ok(())
}

/// Adds what makes the unit run at every boot, and run now with `content` loaded, which it takes by `how`.
pub fn keep_running(
    unit: &str,
    content: &Content,
    how: Load,
    facts: &Facts,
    decision: &mut Decision,
) -> Standing {
    let wanted = digest(content.as_str());
    let found = facts.unit(unit);
    let is_loaded = found.known().is_some_and(|found| found.loaded.as_ref() == Some(&wanted));
    keep_loaded(unit, &Loading { digest: &wanted, is_loaded, how }, facts, decision)
}

/// A configuration and how a unit takes it.
pub struct Loading<'a> {
    /// Remembered once it is loaded.
    pub digest: &'a str,
    /// The unit runs with it.
    pub is_loaded: bool,
    /// How it takes it.
    pub how: Load,
}

/// The same for a unit of which is known otherwise what it has loaded.
pub fn keep_loaded(unit: &str, loading: &Loading<'_>, facts: &Facts, decision: &mut Decision) -> Standing {
    let found = match facts.unit(unit) {
        Observed::Known(found) => found,
        Observed::Absent => return Standing::Missing,
        Observed::Unknown(why) => return Standing::Unseen(why),
    };
    if !found.enabled {
        decision.effects.push(Effect::EnableUnit(unit.into()));
    }
    let Loading { digest, is_loaded, how } = *loading;
    match found.active {
        Active::Activating | Active::Deactivating | Active::Reloading => return Standing::Moving,
        _ if !is_loaded => {
            let load = Effect::LoadConfig { unit: unit.into(), how, digest: digest.into() };
            decision.effects.push(load);
        }
        Active::Inactive | Active::Failed => decision.effects.push(Effect::StartUnit(unit.into())),
        Active::Active => {}
    }
    match found.active {
        Active::Active if is_loaded => Standing::Serving,
        Active::Active if found.loaded.is_some() => Standing::Reloading,
        Active::Active => Standing::Loading,
        Active::Failed => Standing::Failed,
        _ => Standing::Moving,
    }
}

/// Adds what stops the unit for good, if this machine has it.
pub fn retire(unit: &str, facts: &Facts, decision: &mut Decision) {
    if let Observed::Known(found) = facts.unit(unit) {
        if found.enabled {
            decision.effects.push(Effect::DisableUnit(unit.into()));
        }
        if matches!(found.active, Active::Active | Active::Activating | Active::Reloading) {
            decision.effects.push(Effect::StopUnit(unit.into()));
        }
    }
}

/// Where a daemon stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs with the configuration that it shall have.
    Serving,
    /// It serves, with an older one that it replaces in a moment.
    Reloading,
    /// It runs with one that this agent has not given it.
    Loading,
    /// It is on its way.
    Moving,
    /// systemd gave it up.
    Failed,
    /// There is no such unit.
    Missing,
    /// systemd could not be asked.
    Unseen(String),
}

impl Standing {
    /// The condition, in the operator's words.
    pub fn condition(&self, kind: &str, unit: &str, serving: impl Into<String>) -> Condition {
        match self {
            Self::Serving => Condition::met(kind, "Serving", serving),
            Self::Reloading => {
                Condition::met(kind, "Reloading", format!("{unit} serves, and takes its new configuration"))
            }
            Self::Loading => {
                Condition::unmet(kind, "Loading", format!("{unit} is taking its new configuration"))
            }
            Self::Moving => Condition::unmet(kind, "Starting", format!("waiting for {unit} to run")),
            Self::Failed => Condition::unmet(
                kind,
                "Failed",
                format!("{unit} failed and is started again; see journalctl -u {unit}"),
            ),
            Self::Missing => Condition::unmet(
                kind,
                "NotInstalled",
                format!(
                    "there is no {unit} on this machine: deploy the VM from the OneKE image, or install its package"
                ),
            ),
            Self::Unseen(why) => Condition::unknown(
                kind,
                "SystemdSilent",
                format!("could not ask systemd about {unit}: {why}"),
            ),
        }
    }
}
