//! Leaving the cluster, and being thought dead by it.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::machine::{Network, annotation, condition, founder, is_ready, joiner, node, until, worker};

const REMOVE: &str = "etcd.rke2.cattle.io/remove";
const REMOVED: &str = "etcd.rke2.cattle.io/removed-node-name";

#[tokio::test]
async fn a_member_leaves_when_its_node_is_annotated_and_may_come_back() {
    let network = Network::new();
    let first = founder(&network).await;
    let mut second = joiner(&network, "b", &first).await;
    let admin = first.admin().await;
    let nodes: Api<Node> = Api::all(admin.clone());
    let was = node(&admin, "b", |node| annotation(node, "etcd.rke2.cattle.io/node-name").is_some()).await;
    let member = annotation(&was, "etcd.rke2.cattle.io/node-name").unwrap().to_owned();
    let patch = json!({"metadata": {"annotations": {REMOVE: "true"}}});
    nodes.patch("b", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    node(&admin, "b", |node| annotation(node, REMOVED) == Some(&member)).await;
    // Two to one: the one that stays can write alone.
    second.says("this node has been removed from the cluster").await;
    until("the removed member's API to stop", || async { (!second.is_ready().await).then_some(()) }).await;
    assert!(first.is_ready().await);

    // Started again it joins as another member, and the old request is forgotten.
    second.stop();
    std::fs::remove_file(second.path("log")).unwrap();
    second.start("server");
    second.is_up().await;
    let back = node(&admin, "b", |node| annotation(node, REMOVE).is_none() && is_ready(node)).await;
    assert_ne!(annotation(&back, "etcd.rke2.cattle.io/node-name"), Some(member.as_str()));

    // Deleting the Node removes the member as well.
    let mut third = joiner(&network, "c", &first).await;
    nodes.delete("b", &DeleteParams::default()).await.unwrap();
    until("the node to go", || async { nodes.get_opt("b").await.ok()?.is_none().then_some(()) }).await;
    second.says("this node has been removed from the cluster").await;
    third.stop();
    until("one of two to lose its majority", || async { (!first.is_ready().await).then_some(()) }).await;
}

#[tokio::test]
async fn a_silent_node_becomes_not_ready_and_comes_back() {
    let network = Network::new();
    let first = founder(&network).await;
    let mut agent = worker(&network, "w", &first).await;
    let admin = first.admin().await;
    node(&admin, "w", is_ready).await;
    agent.stop();
    let silent = node(&admin, "w", |node| condition(node) == "Unknown").await;
    node(&admin, "w", |node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable"))
    })
    .await;
    assert!(silent.metadata.name.is_some());
    agent.start("agent");
    let back = node(&admin, "w", is_ready).await;
    let clean = node(&admin, "w", |node| node.spec.as_ref().is_some_and(|spec| spec.taints.is_none())).await;
    assert_eq!(back.metadata.uid, clean.metadata.uid);
}
