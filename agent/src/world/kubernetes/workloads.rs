//! The add-ons' workloads: how many of their Pods are available.

use std::collections::BTreeMap;

use super::answers::WorkloadAnswer;
use super::{Background, Cluster, SERVER, get};
use crate::facts::{Moment, Observed, Replicas, Workload};
use crate::plan::Reads;

type Seen = BTreeMap<Workload, Observed<Replicas>>;

/// What was seen last, and the question that is on its way.
pub struct Workloads {
    background: Background<Seen>,
    last: Option<(Moment, Seen)>,
}

impl Workloads {
    /// Not asked yet.
    pub fn new(background: Background<Seen>) -> Self {
        Self { background, last: None }
    }
}

impl Cluster {
    /// The named workloads, asked again if the last look is older than `reads` allows. Only an administrator may: agents
    /// see nothing.
    pub async fn workloads(&mut self, names: &[Workload], reads: &Reads, now: Moment) -> Seen {
        let Some(limit) = reads.addons.filter(|_| !names.is_empty()) else { return Seen::new() };
        if let Some((at, seen)) = &self.workloads.last
            && now.saturating_sub(*at) < limit
            && names.iter().all(|name| seen.contains_key(name))
        {
            return seen.clone();
        }
        let client = match self.connect().await {
            Ok(Some((client, source))) if source.path == SERVER => client,
            Ok(_) | Err(_) => return Seen::new(),
        };
        let names = names.to_vec();
        let question = || -> Box<dyn Future<Output = Seen> + Send> { Box::new(ask(client, names)) };
        if let Some(seen) = self.workloads.background.ask(super::PATIENCE, question).await {
            self.workloads.last = Some((now, seen));
        }
        self.workloads.last.as_ref().map(|(_, seen)| seen.clone()).unwrap_or_default()
    }
}

/// One after another: nobody is in a hurry, and the API is busy while add-ons come up.
async fn ask(client: kube::Client, names: Vec<Workload>) -> Seen {
    let mut seen = Seen::new();
    for workload in names {
        let plural = format!("{}s", workload.kind.to_ascii_lowercase());
        let path = format!("/apis/apps/v1/namespaces/{}/{plural}", workload.namespace);
        let answer = get::<WorkloadAnswer>(&client, &path, &workload.name).await;
        seen.insert(workload.clone(), answer.map(|answer| answer.into_replicas(&workload.kind)));
    }
    seen
}
