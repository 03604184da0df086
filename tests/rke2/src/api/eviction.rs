//! Evictions (policy/v1): deletions that ask the disruption budgets first.

use hyper::{Response, StatusCode};
use serde_json::Value;

use super::changes::removal;
use super::resources::Resource;
use super::status::Refusal;
use super::{Api, Asked, access, budget, json_answer, success};
use crate::http::Body;
use crate::store::state::{Change, Record, State};
use crate::store::{StoreError, Transaction};

/// How often an eviction is tried anew when others evict from the same budget meanwhile.
const TRIES: usize = 10;

impl Api {
    pub(super) async fn evict(&self, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default(); // Without a body: no options.
        for _ in 0..TRIES {
            let pod = self.find(asked).await?;
            access::check_change(&asked.caller, &asked.target, Some(&pod.value), None)?;
            let budgets = self.store.read(|state| covering(state, &pod.value)).await?;
            if budgets.len() > 1 {
                let mut refusal = Refusal::bad("This pod has more than one PodDisruptionBudget");
                refusal.code = StatusCode::INTERNAL_SERVER_ERROR;
                return Err(refusal);
            }
            let grace = body["deleteOptions"]["gracePeriodSeconds"].as_i64();
            let mut transaction = Transaction {
                guards: vec![(asked.target.key().ok_or_else(Refusal::method)?, pod.modified)],
                changes: vec![removal(asked, &pod.value, grace)],
            };
            if let Some((key, record, now)) = budgets.into_iter().next() {
                check(&pod.value, &now)?;
                // The guard makes two evictions at once see each other.
                transaction.guards.push((key.clone(), record.modified));
                transaction.changes.push(Change::Put(key, now));
            }
            match self.store.write(transaction).await {
                Ok(_) => return Ok(json_answer(StatusCode::CREATED, &success())),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::conflict(&asked.target))
    }
}

/// A pod that is not ready is no loss (unhealthyPodEvictionPolicy IfHealthyBudget); any other needs an allowance.
fn check(pod: &Value, budget: &Value) -> Result<(), Refusal> {
    let status = &budget["status"];
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
    if finished || super::object::is_leaving(pod) || status["disruptionsAllowed"].as_u64().unwrap_or(0) > 0 {
        return Ok(());
    }
    let text = format!(
        "The disruption budget {} needs {} healthy pods and has {} currently",
        budget["metadata"]["name"].as_str().unwrap_or_default(),
        status["desiredHealthy"],
        status["currentHealthy"]
    );
    Err(Refusal::too_many_requests(text))
}

/// The budgets about a pod, each with its key, its record, and itself as it is now.
fn covering(state: &State, pod: &Value) -> Vec<(String, Record, Value)> {
    let namespace = pod["metadata"]["namespace"].as_str();
    let prefix = |group, plural| Resource::named(group, plural).map(|resource| resource.prefix(namespace));
    let budgets = prefix("policy", "poddisruptionbudgets").unwrap_or_default();
    let pods = prefix("", "pods").unwrap_or_default();
    let about = state.range(&budgets).filter(|(_, record)| budget::covers(&record.value, pod));
    let now = |(key, record): (&String, &Record)| {
        let value = budget::refreshed(&record.value, state.range(&pods).map(|(_, record)| &record.value));
        (key.clone(), record.clone(), value)
    };
    about.map(now).collect()
}
