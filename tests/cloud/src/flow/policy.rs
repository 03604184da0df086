//! Policies of a role, and the new cardinality that one asks for.

use serde::Deserialize;

use crate::calendar::Moment;

/// How a policy reads its `adjust`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Adjustment {
    /// So many VMs more or fewer.
    #[serde(rename = "CHANGE")]
    Change,
    /// So many VMs in all.
    #[serde(rename = "CARDINALITY")]
    Cardinality,
    /// So many percent more or fewer, at least one VM, at least `min_adjust_step`.
    #[serde(rename = "PERCENTAGE_CHANGE")]
    Percentage,
}

/// Scale when an expression has held for a while.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ElasticityPolicy {
    /// `ATT > 80`.
    pub expression: String,
    /// How `adjust` is read.
    #[serde(rename = "type")]
    pub kind: Adjustment,
    /// See [`Adjustment`].
    pub adjust: i64,
    /// For percentages.
    #[serde(default)]
    pub min_adjust_step: Option<i64>,
    /// How often in a row it must hold; unset or 0 is at once.
    #[serde(default)]
    pub period_number: u32,
    /// Seconds between two evaluations, at least; unset is every round of the autoscaler.
    #[serde(default)]
    pub period: u64,
    /// Seconds; takes the place of the role's for good.
    #[serde(default)]
    pub cooldown: Option<u64>,
}

/// Scale at a time.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ScheduledPolicy {
    /// How `adjust` is read.
    #[serde(rename = "type")]
    pub kind: Adjustment,
    /// See [`Adjustment`].
    pub adjust: i64,
    /// For percentages.
    #[serde(default)]
    pub min_adjust_step: Option<i64>,
    /// `minute hour day month weekday`, each `*`, `*/N` or numbers with commas between.
    #[serde(default)]
    pub recurrence: Option<String>,
    /// Unix seconds; fires once.
    #[serde(default)]
    pub start_time: Option<u64>,
    /// Seconds; takes the place of the role's for good.
    #[serde(default)]
    pub cooldown: Option<u64>,
}

impl ScheduledPolicy {
    /// Whether it is due after `last` and up to `now`, both in Unix seconds.
    pub(crate) fn is_due(&self, last: u64, now: u64) -> bool {
        let once = self.start_time.is_some_and(|start| last < start && start <= now);
        let minutes = (last / 60 + 1)..=(now / 60);
        let again =
            self.recurrence.as_deref().is_some_and(|cron| minutes.into_iter().any(|m| matches(cron, m * 60)));
        once || again
    }
}

fn matches(cron: &str, unix: u64) -> bool {
    let moment = Moment::of(unix);
    let values = [moment.minute, moment.hour, moment.day, moment.month, moment.weekday];
    let fields: Vec<&str> = cron.split_whitespace().collect();
    fields.len() == 5
        && fields.iter().zip(values).all(|(field, value)| {
            field.split(',').any(|item| match item.strip_prefix("*/") {
                Some(step) => step.parse::<u32>().is_ok_and(|step| step != 0 && value.is_multiple_of(step)),
                None => item == "*" || item.parse() == Ok(value),
            })
        })
}

/// What a policy may move within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub cardinality: u32,
    pub min: Option<u32>,
    pub max: Option<u32>,
}

/// The cardinality that a policy asks for, within bounds: upwards an unset maximum counts as 0, so
/// that nothing grows; downwards an unset minimum is 0.
pub(crate) fn wanted(kind: Adjustment, adjust: i64, step: Option<i64>, bounds: Bounds) -> u32 {
    let current = i64::from(bounds.cardinality);
    let asked = match kind {
        Adjustment::Change => current + adjust,
        Adjustment::Cardinality => adjust,
        Adjustment::Percentage => {
            let change = (current * adjust.abs() / 100).max(1).max(step.unwrap_or(0));
            current + change * adjust.signum()
        }
    };
    let (min, max) = (i64::from(bounds.min.unwrap_or(0)), i64::from(bounds.max.unwrap_or(0)));
    let bounded = if asked > current { asked.min(current.max(max)) } else { asked.max(min.min(current)) };
    u32::try_from(bounded).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_policy() {
        let bounds = |cardinality, min, max| Bounds { cardinality, min, max };
        let change = |adjust, bounds| wanted(Adjustment::Change, adjust, None, bounds);
        assert_eq!(change(2, bounds(1, None, None)), 1, "without a maximum nothing grows");
        assert_eq!(change(2, bounds(1, None, Some(2))), 2);
        assert_eq!(change(-5, bounds(3, None, None)), 0, "without a minimum a role goes to zero");
        assert_eq!(change(-5, bounds(3, Some(1), None)), 1);
        assert_eq!(wanted(Adjustment::Percentage, 10, None, bounds(3, None, Some(9))), 4, "at least one");
        assert_eq!(wanted(Adjustment::Percentage, -10, Some(2), bounds(9, None, None)), 7);
        assert_eq!(wanted(Adjustment::Cardinality, 5, None, bounds(2, None, Some(4))), 4);
    }

    #[test]
    fn times_of_a_policy() {
        let mut policy = ScheduledPolicy {
            kind: Adjustment::Change,
            adjust: 1,
            min_adjust_step: None,
            recurrence: None,
            start_time: Some(100),
            cooldown: None,
        };
        assert!(policy.is_due(10, 100) && !policy.is_due(100, 190));
        policy.start_time = None;
        // 1,795,246,307 is Sat Nov 21 07:31:47 2026.
        policy.recurrence = Some("30,32 7 * 11 6".into());
        assert!(policy.is_due(1_795_246_307, 1_795_246_397));
        assert!(!policy.is_due(1_795_246_397, 1_795_246_487));
        policy.recurrence = Some("*/5 * * * *".into());
        assert!(policy.is_due(1_795_246_307, 1_795_246_307 + 300));
    }
}
