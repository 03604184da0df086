//! The few fields of Kubernetes' objects that the agent reads and writes, as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::facts::{KubernetesNode, Replicas};
use crate::service::told::ANNOTATION;

/// The Lease's name; its name space is kube-system.
pub const LEASE: &str = "oneke-agent";
/// For other readers of the Lease only: its watchers age it by their own clocks.
const LEASE_SECONDS: u32 = 30;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A Node, as far as it is read.
#[derive(Deserialize)]
pub struct NodeAnswer {
    metadata: Metadata,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<NodeCondition>,
}

#[derive(Deserialize)]
struct NodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl NodeAnswer {
    /// A node whose kubelet has told nothing yet is not ready.
    pub fn into_node(self) -> KubernetesNode {
        let find = |kind: &str| self.status.conditions.iter().find(|condition| condition.kind == kind);
        let ready = find("Ready");
        let message = ready
            .map_or("the kubelet has not reported yet".into(), |it| format!("{}: {}", it.reason, it.message));
        // The kubelet's own words while no CNI has come up ("container runtime network not ready"); networks that
        // program routes say it in a condition of their own.
        let no_cni = ready.filter(|it| it.status != "True" && it.message.contains("NetworkReady=false"));
        let unavailable = find("NetworkUnavailable").filter(|it| it.status == "True");
        KubernetesNode {
            ready: ready.is_some_and(|it| it.status == "True"),
            silent: ready.is_some_and(|it| it.status == "Unknown"),
            no_network: no_cni.or(unavailable).map(|it| it.message.clone()),
            voter: find("EtcdIsVoter").map(|it| it.status == "True"),
            told: self.metadata.annotations.get(ANNOTATION).cloned(),
            name: self.metadata.name.clone(),
            message,
        }
    }
}

/// A Deployment, StatefulSet or DaemonSet, as far as it is read.
#[derive(Deserialize)]
pub struct WorkloadAnswer {
    #[serde(default)]
    metadata: Generation,
    #[serde(default)]
    spec: WorkloadSpec,
    #[serde(default)]
    status: WorkloadStatus,
}

#[derive(Deserialize, Default)]
struct Generation {
    #[serde(default)]
    generation: i64,
}

#[derive(Deserialize, Default)]
struct WorkloadSpec {
    replicas: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct WorkloadStatus {
    #[serde(default)]
    observed_generation: i64,
    #[serde(default)]
    available_replicas: u32,
    #[serde(default)]
    desired_number_scheduled: u32,
    #[serde(default)]
    number_available: u32,
}

impl WorkloadAnswer {
    /// How many Pods are wanted and available. A status older than the workload's last change counts nothing: a new
    /// DaemonSet wants no Pod until its controller has looked.
    pub fn into_replicas(self, kind: &str) -> Replicas {
        let Self { metadata, spec, status } = self;
        if status.observed_generation < metadata.generation {
            return Replicas { wanted: 1, available: 0 };
        }
        match kind {
            "DaemonSet" => {
                Replicas { wanted: status.desired_number_scheduled, available: status.number_available }
            }
            // One is what Kubernetes takes for a count that is not given.
            _ => Replicas { wanted: spec.replicas.unwrap_or(1), available: status.available_replicas },
        }
    }
}

/// A Lease, as far as it is read.
#[derive(Deserialize)]
pub struct LeaseAnswer {
    metadata: Metadata,
    #[serde(default)]
    spec: LeaseSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct LeaseSpec {
    holder_identity: Option<String>,
}

impl LeaseAnswer {
    /// Its holder, empty if it was given up, and its version.
    pub fn into_parts(self) -> (String, String) {
        (self.spec.holder_identity.unwrap_or_default(), self.metadata.resource_version)
    }
}

/// The Lease as `holder` writes it at `now`. With a version the API refuses it if it was changed since.
pub fn lease_body(holder: &str, version: Option<&str>, now: Timestamp) -> serde_json::Value {
    let mut metadata = json!({ "name": LEASE, "namespace": "kube-system" });
    if let Some(version) = version {
        metadata["resourceVersion"] = version.into();
    }
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": LEASE_SECONDS,
            // MicroTime: always six digits of the second (k8s.io/apimachinery, micro_time.go).
            "renewTime": format!("{now:.6}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> KubernetesNode {
        serde_json::from_str::<NodeAnswer>(json).unwrap().into_node()
    }

    #[test]
    fn only_a_true_ready_condition_is_ready() {
        let with = |status: &str| {
            node(&format!(
                r#"{{"kind":"Node","metadata":{{"name":"oneke-1","uid":"x","resourceVersion":"9"}},
                "status":{{"conditions":[
                    {{"type":"MemoryPressure","status":"True","reason":"R","message":"M"}},
                    {{"type":"Ready","status":"{status}","reason":"KubeletReady","message":"kubelet is posting"}}]}}}}"#
            ))
        };
        assert!(with("True").ready);
        assert!(!with("False").ready);
        assert!(!with("Unknown").ready);
        assert_eq!(with("True").message, "KubeletReady: kubelet is posting");
        assert!(!node(r#"{"metadata":{"name":"new"}}"#).ready);
        assert!(serde_json::from_str::<NodeAnswer>("{}").is_err());
    }

    #[test]
    fn a_node_tells_of_its_network_its_kubelet_and_etcd() {
        let told = |conditions: &str| {
            node(&format!(r#"{{"metadata":{{"name":"n"}},"status":{{"conditions":[{conditions}]}}}}"#))
        };
        let new = told(
            r#"{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"}"#,
        );
        assert!(new.no_network.is_some() && !new.silent && new.voter.is_none());
        let member = told(
            r#"{"type":"Ready","status":"True","message":"ok"},{"type":"NetworkUnavailable","status":"True","message":"no route"},
               {"type":"EtcdIsVoter","status":"False","message":"learner"}"#,
        );
        assert_eq!(member.no_network.as_deref(), Some("no route"));
        assert_eq!(member.voter, Some(false));
        let gone =
            told(r#"{"type":"Ready","status":"Unknown","message":"Kubelet stopped posting node status."}"#);
        assert!(gone.silent && !gone.ready && gone.no_network.is_none());
    }

    #[test]
    fn pods_are_counted_as_their_controller_saw_them() {
        let replicas = |kind: &str, json: &str| {
            let Replicas { wanted, available } =
                serde_json::from_str::<WorkloadAnswer>(json).unwrap().into_replicas(kind);
            (wanted, available)
        };
        let deployment = r#"{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"availableReplicas":1}}"#;
        assert_eq!(replicas("Deployment", deployment), (2, 1));
        let older = deployment.replace("\"generation\":2", "\"generation\":3");
        assert_eq!(replicas("Deployment", &older), (1, 0));
        let daemons = r#"{"status":{"desiredNumberScheduled":3,"numberAvailable":3}}"#;
        assert_eq!(replicas("DaemonSet", daemons), (3, 3));
        assert_eq!(replicas("StatefulSet", "{}"), (1, 0));
    }

    #[test]
    fn a_lease_is_written_as_it_is_read() {
        let now: Timestamp = "2026-11-21T09:00:00.5Z".parse().unwrap();
        let mut body = lease_body("oneke-1", Some("17"), now);
        assert_eq!(body["spec"]["renewTime"], "2026-11-21T09:00:00.500000Z");
        let read: LeaseAnswer = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(read.into_parts(), ("oneke-1".into(), "17".into()));
        body["spec"] = json!({ "holderIdentity": null });
        let released: LeaseAnswer = serde_json::from_value(body).unwrap();
        assert_eq!(released.into_parts().0, "");
        assert!(lease_body("a", None, now)["metadata"].get("resourceVersion").is_none());
    }
}
