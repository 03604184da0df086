//! Applying what was decided: in order, as far as it goes.

use std::collections::BTreeSet;

use super::{APPLY_FAILED, Driver, Report, World};
use crate::plan::{Attributes, Checker, Condition, Effect};
use crate::service::VmId;

/// Writes onto other VMs that are on their way at once: each takes about a second (onegate.md, "Cost"), most of it spent
/// in programs that the front end starts; more at once would only wait there.
pub(super) const IN_FLIGHT: usize = 8;

impl Driver {
    /// Applies the effects in order. What the machine refuses ends the pass, for the rest may build on it. What the
    /// network refuses does not: whoever could not be told goes last in the next pass, so that he holds up nobody. Nor
    /// does what one of the daemons refuses that nothing else builds on: a name server that finds its port taken keeps
    /// no address from moving.
    pub(super) async fn apply(
        &mut self,
        world: &mut impl World,
        effects: &[Effect],
        report: &mut Report,
    ) -> Option<Condition> {
        let is_late = |effect: &&Effect| addressee(effect).is_some_and(|vm| self.untold.contains(&vm));
        let (late, first): (Vec<&Effect>, Vec<&Effect>) = effects.iter().partition(is_late);
        let ordered: Vec<&Effect> = first.into_iter().chain(late).collect();
        let (mut failed, mut untold, mut held) = (None, BTreeSet::new(), BTreeSet::new());
        'pass: for group in groups(&ordered) {
            let outcomes = match group {
                [one] if daemon(one).is_some_and(|unit| held.contains(unit)) => continue,
                [one] => vec![world.apply(one).await],
                several => {
                    world.publish_on(&several.iter().filter_map(|e| other(e)).collect::<Vec<_>>()).await
                }
            };
            for (effect, outcome) in group.iter().zip(outcomes) {
                let Err(error) = outcome else {
                    report.effects.push(effect.to_string());
                    continue;
                };
                report.effects.push(format!("failed: {effect}: {error}"));
                failed.get_or_insert_with(|| {
                    Condition::unmet("Applied", APPLY_FAILED, format!("could not {effect}: {error}"))
                });
                if let Some(unit) = daemon(effect) {
                    held.insert(unit);
                    continue;
                }
                match effect {
                    Effect::HoldLease { .. } | Effect::AnnotateNode { .. } | Effect::PublishSealed(_) => {}
                    Effect::Publish { vm, .. } => drop(untold.insert(*vm)),
                    _ => break 'pass,
                }
            }
        }
        if effects.iter().any(|effect| addressee(effect).is_some()) {
            self.untold = untold;
        }
        failed
    }
}

/// The daemon with a checker of its own that this effect is about, and that alone.
fn daemon(effect: &Effect) -> Option<&'static str> {
    let named = |unit: &str| CHECKED.iter().map(|checker| checker.unit()).find(|known| *known == unit);
    match effect {
        Effect::WriteFile(file) => file.checker.map(Checker::unit),
        Effect::LoadConfig { unit, .. } | Effect::StartUnit(unit) | Effect::EnableUnit(unit) => named(unit),
        Effect::SetServers { .. } => Some(Checker::Haproxy.unit()),
        _ => None,
    }
}

const CHECKED: [Checker; 4] = [Checker::Haproxy, Checker::Keepalived, Checker::Nftables, Checker::Unbound];

/// Effects one by one, but writes onto other VMs that follow each other together: none of them needs another.
fn groups<'a, 'e>(effects: &'a [&'e Effect]) -> impl Iterator<Item = &'a [&'e Effect]> {
    let alike = effects.chunk_by(|one, next| other(one).is_some() && other(next).is_some());
    alike.flat_map(|group| group.chunks(IN_FLIGHT))
}

/// A publication on another VM.
fn other(effect: &Effect) -> Option<(VmId, &Attributes)> {
    match effect {
        Effect::Publish { vm: Some(vm), attributes } => Some((*vm, attributes)),
        _ => None,
    }
}

/// Whom a publication is written to.
fn addressee(effect: &Effect) -> Option<Option<VmId>> {
    match effect {
        Effect::Publish { vm, .. } => Some(*vm),
        _ => None,
    }
}
