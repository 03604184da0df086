//! How many pods a PodDisruptionBudget lets go.

use serde_json::{Value, json};

use super::object;
use super::query::label_selector_matches;

/// The budget with its status as the pods in its namespace make it. Real Kubernetes asks the pods' controllers how many
/// there should be; here it is the most that there ever were.
pub fn refreshed<'a>(budget: &Value, pods: impl Iterator<Item = &'a Value>) -> Value {
    let covered: Vec<&Value> = pods.filter(|pod| covers(budget, pod)).collect();
    let healthy =
        covered.iter().filter(|pod| object::is_ready(pod) && !object::is_leaving(pod)).count() as u64;
    let seen = budget["status"]["expectedPods"].as_u64().unwrap_or(0);
    let expected = seen.max(covered.len() as u64);
    let desired = match (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]) {
        (Value::Null, Value::Null) => 0,
        (Value::Null, most) => expected.saturating_sub(scaled(most, expected)),
        (least, _) => scaled(least, expected),
    };
    let mut changed = budget.clone();
    changed["status"] = json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "disruptionsAllowed": healthy.saturating_sub(desired),
    });
    changed
}

/// Whether the budget is about that pod.
pub fn covers(budget: &Value, pod: &Value) -> bool {
    budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && label_selector_matches(&budget["spec"]["selector"], pod)
}

/// A number, or a percentage rounded up (policy/v1).
fn scaled(amount: &Value, of: u64) -> u64 {
    let percent =
        amount.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<u64>().ok());
    percent.map_or_else(|| amount.as_u64().unwrap_or(0), |percent| (percent * of).div_ceil(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(spec: Value, ready: &[bool]) -> u64 {
        let mut budget = json!({"metadata": {"namespace": "x"}, "spec": spec});
        budget["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
        let pod = |ready: &bool| {
            let status = if *ready { "True" } else { "False" };
            json!({"metadata": {"namespace": "x", "labels": {"app": "a"}},
                "status": {"conditions": [{"type": "Ready", "status": status}]}})
        };
        let pods: Vec<Value> = ready.iter().map(pod).collect();
        refreshed(&budget, pods.iter())["status"]["disruptionsAllowed"].as_u64().unwrap()
    }

    #[test]
    fn budgets_count_ready_pods() {
        assert_eq!(allowed(json!({"minAvailable": 2}), &[true, true, true]), 1);
        assert_eq!(allowed(json!({"minAvailable": 2}), &[true, true, false]), 0);
        assert_eq!(allowed(json!({"maxUnavailable": 1}), &[true, true, true]), 1);
        assert_eq!(allowed(json!({"maxUnavailable": 1}), &[true, true, false]), 0);
        assert_eq!(allowed(json!({"minAvailable": "50%"}), &[true, true, true]), 1);
        assert_eq!(allowed(json!({"maxUnavailable": 0}), &[true]), 0);
    }
}
