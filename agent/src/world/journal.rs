//! What the operator reads in the journal: each effect once, each change of a condition once, never every pass.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{debug, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::driver::Report;
use crate::facts::Moment;
use crate::plan::{Effect, Status};

/// An effect that comes again within this time is the same story (a Lease is renewed every few seconds).
const SAME_STORY: Duration = Duration::from_secs(120);

/// Sends log lines to journald with their fields; to standard error where there is no journal.
pub fn open(verbose: bool) {
    let own = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let levels = Targets::new().with_default(LevelFilter::WARN).with_target("oneke_agent", own);
    let registry = tracing_subscriber::registry();
    match tracing_journald::layer() {
        Ok(journald) => {
            let layer = journald.with_field_prefix(None).with_syslog_identifier("oneke-agent".into());
            registry.with(layer.with_filter(levels)).init();
        }
        Err(_) => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .with_target(false);
            registry.with(layer.with_filter(levels)).init();
        }
    }
}

/// Remembers what was told.
#[derive(Default)]
pub struct Journal {
    effects: BTreeMap<String, Moment>,
    conditions: BTreeMap<String, (Status, String)>,
    problems: Vec<String>,
    warnings: Vec<String>,
    unwritten: Option<String>,
}

impl Journal {
    /// Tells an effect and what came of it.
    pub fn effect(&mut self, effect: &Effect, outcome: &Result<(), String>, now: Moment) {
        let text = match outcome {
            Ok(()) => effect.to_string(),
            Err(why) => format!("could not {effect}: {why}"),
        };
        self.effects.retain(|_, told| now.saturating_sub(*told) < SAME_STORY);
        if self.effects.insert(text.clone(), now).is_some() {
            debug!("{text}, again");
            return;
        }
        let (unit, file) = subject(effect);
        match outcome {
            Ok(()) => info!(UNIT = unit, FILE = file, "{text}"),
            Err(_) => warn!(UNIT = unit, FILE = file, REASON = "ApplyFailed", "{text}"),
        }
    }

    /// Tells why the report could not be written, once.
    pub fn status_file(&mut self, written: Result<(), String>) {
        let why = written.err();
        if why != self.unwritten
            && let Some(why) = &why
        {
            warn!(REASON = "StatusUnwritten", "{why}: oneke-agent status shows an older state");
        }
        self.unwritten = why;
    }

    /// Tells what changed since the last report.
    pub fn report(&mut self, report: &Report) {
        if self.problems != report.problems {
            report.problems.iter().for_each(|problem| warn!(REASON = "ContextRefused", "{problem}"));
            self.problems.clone_from(&report.problems);
        }
        if self.warnings != report.warnings {
            report.warnings.iter().for_each(|warning| warn!(REASON = "ContextOdd", "{warning}"));
            self.warnings.clone_from(&report.warnings);
        }
        let mut now = BTreeMap::new();
        for condition in report.conditions.iter().map(|standing| &standing.condition) {
            let stands = (condition.status, condition.reason.clone());
            if self.conditions.get(&condition.kind) != Some(&stands) {
                info!(CONDITION = %condition.kind, REASON = %condition.reason, PHASE = %report.phase, "{condition}");
            }
            now.insert(condition.kind.clone(), stands);
        }
        self.conditions = now;
    }
}

/// The unit and the file that an effect is about.
fn subject(effect: &Effect) -> (Option<&str>, Option<&str>) {
    match effect {
        Effect::WriteFile(file) => (None, Some(&file.path)),
        Effect::RemoveFile { path } | Effect::Link { path, .. } => (None, Some(path)),
        Effect::EnableUnit(unit)
        | Effect::DisableUnit(unit)
        | Effect::StartUnit(unit)
        | Effect::StopUnit(unit)
        | Effect::RestartUnit(unit)
        | Effect::LoadConfig { unit, .. } => (Some(unit), None),
        Effect::SetSysctl { .. }
        | Effect::LinkUp { .. }
        | Effect::Publish { .. }
        | Effect::PublishSealed(_)
        | Effect::SetDefaultRoute { .. }
        | Effect::RemoveDefaultRoute { .. }
        | Effect::SetServers { .. }
        | Effect::HoldLease { .. }
        | Effect::AnnotateNode { .. } => (None, None),
    }
}
