//! What a kubelet does that others can see: it registers the Node, reports, and starts and stops its pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::api::access::kubelet_may_label;
use crate::api::object;
use crate::client::ApiClient;
use crate::config::Config;
use crate::knobs::Knobs;
use crate::{log, version};

/// How often the kubelet looks at its pods.
const POD_LOOK: Duration = Duration::from_secs(1);

/// What the node tells about itself when it registers.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
    provider: Option<String>,
    addresses: Vec<Value>,
}

impl Node {
    /// What the configuration says about this node.
    ///
    /// # Errors
    /// A label or a taint that a kubelet would refuse, in its words.
    pub fn new(name: &str, address: IpAddr, config: &Config) -> Result<Self> {
        let mut labels = BTreeMap::from([
            ("kubernetes.io/hostname".to_owned(), name.to_owned()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
            ("node.kubernetes.io/instance-type".to_owned(), "rke2".to_owned()),
        ]);
        for label in config.many("node-label") {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if !kubelet_may_label(key) {
                bail!("unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{key}]");
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        let taints = config.many("node-taint").iter().map(|text| taint(text)).collect::<Result<_>>()?;
        let mut addresses = vec![json!({"type": "InternalIP", "address": address.to_string()})];
        let more = config.list("node-ip").into_iter().skip(1);
        addresses.extend(more.map(|ip| json!({"type": "InternalIP", "address": ip})));
        let external = config.list("node-external-ip");
        addresses.extend(external.iter().map(|ip| json!({"type": "ExternalIP", "address": ip})));
        addresses.push(json!({"type": "Hostname", "address": name}));
        let provider = config.kubelet_argument("provider-id");
        Ok(Self { name: name.to_owned(), labels, taints, provider, addresses })
    }

    fn object(&self) -> Value {
        let mut taints = self.taints.clone();
        taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
        let mut spec = json!({"taints": taints});
        if let Some(provider) = &self.provider {
            spec["providerID"] = json!(provider);
        }
        let annotations: Map<String, Value> =
            [("rke2.io/hostname", &self.name), ("rke2.io/node-config-hash", &self.name)]
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .into_iter()
                .collect();
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": self.name, "labels": self.labels, "annotations": annotations,
                "finalizers": ["wrangler.cattle.io/node"],
            },
            "spec": spec, "status": self.status(false),
        })
    }

    fn status(&self, ready: bool) -> Value {
        let now = object::now();
        let fine = |kind: &str, reason: &str| {
            json!({"type": kind, "status": "False", "reason": reason, "message": "kubelet is fine",
                "lastHeartbeatTime": now})
        };
        let (status, reason, message) = if ready {
            ("True", "KubeletReady", "kubelet is posting ready status")
        } else {
            ("False", "KubeletNotReady", "container runtime network not ready: cni plugin not initialized")
        };
        let resources =
            json!({"cpu": "2", "memory": "4028440Ki", "pods": "110", "ephemeral-storage": "20Gi"});
        json!({
            "addresses": self.addresses, "capacity": resources, "allocatable": resources,
            "conditions": [
                fine("MemoryPressure", "KubeletHasSufficientMemory"),
                fine("DiskPressure", "KubeletHasNoDiskPressure"),
                fine("PIDPressure", "KubeletHasSufficientPID"),
                {"type": "Ready", "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "bootID": "", "machineID": "", "systemUUID": "",
                "containerRuntimeVersion": "containerd://2.0.5-k3s2", "kernelVersion": "", "osImage": "stand-in",
                "kubeProxyVersion": "", "kubeletVersion": version::RKE2,
            },
        })
    }
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Result<Value> {
    let Some((rest, effect)) = text.rsplit_once(':') else { bail!("invalid taint spec: {text}") };
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        bail!("invalid taint effect: {effect}, unsupported taint effect");
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Ok(json!({"key": key, "value": value, "effect": effect}))
}

/// Runs until the process ends. `registered` becomes true when the Node is known to the API.
pub async fn run(node: Node, api: ApiClient, knobs: Knobs, registered: watch::Sender<bool>) {
    let mut kubelet =
        Kubelet { node, api, knobs, started: Instant::now(), ready: false, stopping: BTreeMap::new() };
    while let Err(error) = kubelet.register().await {
        log::error(&format!("Unable to register node with API server: {error:#}"));
        tokio::time::sleep(kubelet.knobs.retry()).await;
    }
    log::info(&format!("Successfully registered node {}", kubelet.node.name));
    kubelet.started = Instant::now();
    registered.send_replace(true);
    let mut beat = None::<Instant>;
    loop {
        let due = Duration::from_millis(kubelet.knobs.heartbeat_ms);
        if beat.is_none_or(|last| last.elapsed() >= due) || kubelet.becomes_ready() {
            // A failed report is tried again at the next look: the Node gets stale meanwhile, as it should.
            beat = kubelet.report().await.is_ok().then(Instant::now);
        }
        let _ = kubelet.look_after_pods().await; // The same: the next look finds the same pods.
        tokio::time::sleep(POD_LOOK.min(due)).await;
    }
}

struct Kubelet {
    node: Node,
    api: ApiClient,
    knobs: Knobs,
    started: Instant,
    ready: bool,
    stopping: BTreeMap<String, Instant>,
}

impl Kubelet {
    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.node.name)
    }

    async fn register(&self) -> Result<()> {
        if self.api.create("/api/v1/nodes", &self.node.object()).await?.is_some() {
            return Ok(());
        }
        let mut patch = json!({"metadata": {"labels": self.node.labels}});
        if let Some(provider) = &self.node.provider {
            patch["spec"] = json!({"providerID": provider});
        }
        self.api.patch(&self.path(), &patch).await?;
        let status = json!({"status": self.node.status(false)});
        self.api.patch(&format!("{}/status", self.path()), &status).await?;
        Ok(())
    }

    fn becomes_ready(&self) -> bool {
        !self.ready && self.started.elapsed() >= Duration::from_millis(self.knobs.node_ready_delay_ms)
    }

    /// Renews the lease and, when it changed or is old, the status. A Node that was deleted stays so until a restart.
    async fn report(&mut self) -> Result<()> {
        let ready = self.ready || self.becomes_ready();
        let status = json!({"status": self.node.status(ready)});
        if self.api.patch(&format!("{}/status", self.path()), &status).await?.is_none() {
            log::error(&format!(
                "Error getting node {}: nodes \"{}\" not found",
                self.node.name, self.node.name
            ));
            return Ok(());
        }
        self.ready = ready;
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let path = format!("{leases}/{}", self.node.name);
        let spec = json!({
            "holderIdentity": self.node.name, "leaseDurationSeconds": 40, "renewTime": object::now_micro(),
        });
        match self.api.get(&path).await? {
            Some(mut lease) => {
                lease["spec"] = spec;
                self.api.update(&path, &lease).await?;
            }
            None => {
                let lease = json!({"metadata": {"name": self.node.name}, "spec": spec});
                self.api.create(leases, &lease).await?;
            }
        }
        Ok(())
    }

    /// New pods run at once; deleted ones take their time and go.
    async fn look_after_pods(&mut self) -> Result<()> {
        let list = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node.name);
        let pods = self.api.get(&list).await?.unwrap_or_default();
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        self.stopping.retain(|uid, _| pods.iter().any(|pod| pod["metadata"]["uid"] == *uid));
        for pod in pods {
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
            let path = format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"));
            if object::is_leaving(&pod) {
                let since = *self.stopping.entry(text("uid")).or_insert_with(Instant::now);
                if since.elapsed() >= self.stop_time(&pod) {
                    self.api.delete(&path, &json!({"gracePeriodSeconds": 0})).await?;
                }
            } else if self.ready && pod["status"]["phase"] == "Pending" {
                let conditions = [json!({"type": "Ready", "status": "True"})];
                let status = json!({"status": {"phase": "Running", "conditions": conditions}});
                self.api.patch(&format!("{path}/status"), &status).await?;
            }
        }
        Ok(())
    }

    /// The time that a pod takes to stop, at most its grace period.
    fn stop_time(&self, pod: &Value) -> Duration {
        let asked =
            pod["metadata"]["annotations"]["standin/stop-ms"].as_str().and_then(|text| text.parse().ok());
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
        Duration::from_millis(asked.unwrap_or(self.knobs.pod_stop_ms)).min(Duration::from_secs(grace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_and_refused_as_a_kubelet_does() {
        assert_eq!(
            taint("a/b=c:NoExecute").unwrap(),
            json!({"key": "a/b", "value": "c", "effect": "NoExecute"})
        );
        assert_eq!(taint("a:NoSchedule").unwrap()["value"], "");
        assert!(taint("a=b").is_err() && taint("a=b:Never").is_err());
    }
}
