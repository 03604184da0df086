//! The Kubernetes API, as the `kube` client sees it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Event, Node, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::machine::{Machine, Network, code, founder, http_get, is_ready, node, until};

fn pod(name: &str, on: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"nodeName": on, "containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap()
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let network = Network::new();
    let first = founder(&network).await;
    let admin = first.admin().await;
    let pods: Api<Pod> = Api::default_namespaced(admin.clone());
    for name in ["p1", "p2"] {
        pods.create(&PostParams::default(), &pod(name, "a")).await.unwrap();
    }
    let running = ListParams::default().fields("spec.nodeName=a,status.phase=Running");
    until("both to run", || async { (pods.list(&running).await.ok()?.items.len() == 2).then_some(()) }).await;
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(admin);
    let budget = serde_json::from_value(json!({
        "metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    }));
    budgets.create(&PostParams::default(), &budget.unwrap()).await.unwrap();

    pods.evict("p1", &EvictParams::default()).await.unwrap();
    assert_eq!(code(pods.evict("p2", &EvictParams::default()).await), 429);
    until("the evicted one to stop", || async { pods.get_opt("p1").await.ok()?.is_none().then_some(()) })
        .await;
    assert_eq!(code(pods.evict("p1", &EvictParams::default()).await), 404);
    assert_eq!(code(pods.evict("p2", &EvictParams::default()).await), 429);
    budgets.delete("x", &DeleteParams::default()).await.unwrap();
    pods.evict("p2", &EvictParams::default()).await.unwrap();
}

#[tokio::test]
async fn leases_cordons_and_secrets_work_as_in_kubernetes() {
    let network = Network::new();
    let first = founder(&network).await;
    let admin = first.admin().await;
    let leases: Api<Lease> = Api::namespaced(admin.clone(), "kube-system");
    let lease = |holder: &str, version: Option<String>| Lease {
        metadata: ObjectMeta {
            name: Some("oneke".into()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec { holder_identity: Some(holder.into()), ..LeaseSpec::default() }),
    };
    let made = leases.create(&PostParams::default(), &lease("a", None)).await.unwrap();
    assert_eq!(code(leases.create(&PostParams::default(), &lease("b", None)).await), 409);
    let version = made.metadata.resource_version;
    leases.replace("oneke", &PostParams::default(), &lease("b", version.clone())).await.unwrap();
    assert_eq!(code(leases.replace("oneke", &PostParams::default(), &lease("c", version)).await), 409);
    assert_eq!(leases.get("oneke").await.unwrap().spec.unwrap().holder_identity.unwrap(), "b");

    let nodes: Api<Node> = Api::all(admin.clone());
    nodes.cordon("a").await.unwrap();
    assert_eq!(nodes.get("a").await.unwrap().spec.unwrap().unschedulable, Some(true));
    nodes.uncordon("a").await.unwrap();
    assert_ne!(nodes.get("a").await.unwrap().spec.unwrap().unschedulable, Some(true));
    let patch = Patch::Strategic(json!({"spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]}}));
    let patched = nodes.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.spec.unwrap().taints.unwrap()[0].key, "t");

    let secrets: Api<Secret> = Api::namespaced(admin.clone(), "kube-system");
    let own = secrets.get("a.node-password.rke2").await.unwrap();
    assert!(own.data.unwrap().contains_key("hash"));
    let nowhere: Api<Secret> = Api::namespaced(admin.clone(), "nowhere");
    let secret = Secret {
        metadata: ObjectMeta { name: Some("s".into()), ..ObjectMeta::default() },
        string_data: Some([("k".to_owned(), "v".to_owned())].into()),
        ..Secret::default()
    };
    assert_eq!(code(nowhere.create(&PostParams::default(), &secret).await), 404);
    let stored = secrets.create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(stored.data.unwrap()["k"].0, b"v");
    assert!(admin.apiserver_version().await.unwrap().git_version.contains("+rke2r1"));
    assert_eq!(code(admin.request::<serde_json::Value>(http_get("/api/v1/nonsense")).await), 404);
}

/// What the watcher is told while a node is cordoned and a pod comes and goes.
#[tokio::test]
async fn a_watcher_is_told_what_changes() {
    let network = Network::new();
    let first = founder(&network).await;
    let admin = first.admin().await;
    let nodes: Api<Node> = Api::all(admin.clone());
    let from = nodes.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    nodes.cordon("a").await.unwrap();
    let path = format!("/api/v1/nodes?watch=true&timeoutSeconds=2&resourceVersion={from}");
    let told = admin.request_text(http_get(&path)).await.unwrap();
    let cordoned = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let cordoned = cordoned.filter(|event| event["object"]["spec"]["unschedulable"] == true);
    assert!(
        cordoned.into_iter().all(|event| event["type"] == "MODIFIED")
            && told.contains("\"unschedulable\":true")
    );
    let all = admin.request_text(http_get("/api/v1/nodes?watch=true&timeoutSeconds=1")).await.unwrap();
    assert!(all.starts_with("{\"object\"") && all.contains("\"type\":\"ADDED\""), "{all}");
}

#[tokio::test]
async fn manifests_are_applied_and_broken_ones_are_told() {
    let network = Network::new();
    let first = founder(&network).await;
    let admin = first.admin().await;
    let two = "apiVersion: v1\nkind: Secret\nmetadata: {name: one, namespace: kube-system}\n---\n\
               apiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\nmetadata:\n  name: rke2-cilium\n  \
               namespace: kube-system\nspec: {valuesContent: \"a: b\"}\n";
    first.write("var/lib/rancher/rke2/server/manifests/two.yaml", two);
    first.write("var/lib/rancher/rke2/server/manifests/broken.yaml", "kind: Secret\n  metadata: [\n");
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), "kube-system");
    until("the secret to be applied", || async { secrets.get_opt("one").await.ok().flatten() }).await;
    let chart = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs/rke2-cilium";
    assert!(admin.request_text(http_get(chart)).await.unwrap().contains("a: b"));
    let applied =
        until("the report", || async { Some(report(&first)).filter(|report| report.len() == 2) }).await;
    assert!(applied.values().any(|entry| entry["documents"] == 2 && entry["sha256"].is_string()));
    let events: Api<Event> = Api::namespaced(admin.clone(), "kube-system");
    let seen = events.list(&ListParams::default()).await.unwrap();
    assert!(seen.items.iter().any(|event| event.reason.as_deref() == Some("ApplyManifestFailed")));
    first.says("Failed to process config").await;
}

fn report(machine: &Machine) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(&machine.read("var/lib/rancher/rke2/server/standin/applied.json"))
        .unwrap_or_default()
}

/// Without a certificate the API says nothing, not even its health: RKE2 runs with anonymous-auth=false.
#[tokio::test]
async fn strangers_are_not_answered() {
    let network = Network::new();
    let first = founder(&network).await;
    node(&first.admin().await, "a", is_ready).await;
    let mut config = kube::Config::new(format!("https://{}:6443", first.ip).parse().unwrap());
    config.accept_invalid_certs = true;
    config.connect_timeout = Some(Duration::from_secs(3));
    let stranger = kube::Client::try_from(config).unwrap();
    for path in ["/readyz", "/version", "/api/v1/nodes"] {
        let answer = stranger.request_text(http_get(path)).await;
        assert!(answer.is_err(), "{path}: {answer:?}");
    }
}
