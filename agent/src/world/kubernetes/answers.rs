//! The few fields of Kubernetes' objects that the agent reads and writes, as JSON.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::facts::KubernetesNode;

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
        let name = self.metadata.name;
        match self.status.conditions.into_iter().find(|condition| condition.kind == "Ready") {
            Some(condition) => {
                let ready = condition.status == "True";
                KubernetesNode {
                    name,
                    ready,
                    message: format!("{}: {}", condition.reason, condition.message),
                }
            }
            None => KubernetesNode { name, ready: false, message: "the kubelet has not reported yet".into() },
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
