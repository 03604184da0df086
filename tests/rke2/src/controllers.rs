//! What the leader does in the background: node health, etcd membership, cleaning up after nodes and tokens, budgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::object;
use crate::api::refreshed_budget;
use crate::api::resources::Resource;
use crate::cluster::{self, Secrets};
use crate::knobs::Knobs;
use crate::log;
use crate::paths::Paths;
use crate::pki::Authorities;
use crate::server::write_tokens;
use crate::store::members::{Member, Members};
use crate::store::state::{Change, Record, State};
use crate::store::{Store, Transaction};

/// How often the leader looks.
const LOOK: Duration = Duration::from_millis(500);

const MEMBER_NAME: &str = "etcd.rke2.cattle.io/node-name";
const MEMBER_ADDRESS: &str = "etcd.rke2.cattle.io/node-address";
const REMOVE: &str = "etcd.rke2.cattle.io/remove";
const REMOVED: &str = "etcd.rke2.cattle.io/removed-node-name";
const ETCD_FINALIZER: &str = "wrangler.cattle.io/managed-etcd-controller";
const ROLES: &[&str] = &["control-plane", "etcd", "master"];
const IS_VOTER: &str = "EtcdIsVoter";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Runs on every server; does something only while its member leads.
pub async fn run(store: Arc<Store>, knobs: Knobs) {
    let mut controller = Controller { store, knobs, beats: BTreeMap::new() };
    loop {
        tokio::time::sleep(LOOK).await;
        if controller.store.leads() {
            controller.look().await;
        } else {
            controller.beats.clear();
        }
    }
}

/// Rewrites the token files when the tokens were rotated on another server.
pub async fn keep_token_files(store: Arc<Store>, paths: Paths, authorities: Authorities) {
    let mut written: Option<Secrets> = None;
    let mut moves = store.moves();
    while moves.changed().await.is_ok() {
        let agreed = Secrets::of(&store.local());
        if agreed == written {
            continue;
        }
        if let Some(secrets) = &agreed
            && let Err(error) = write_tokens(&paths, &authorities, secrets)
        {
            log::error(&format!("could not write the token files: {error:#}"));
        }
        written = agreed;
    }
}

struct Controller {
    store: Arc<Store>,
    knobs: Knobs,
    /// Each node's last sign of life, and when it was first seen by our own clock.
    beats: BTreeMap<String, (String, Instant)>,
}

impl Controller {
    async fn look(&mut self) {
        self.store.promote_learners().await;
        let Ok(state) = self.store.read(State::clone).await else { return }; // No majority: the next look.
        let prefix = |group, plural| Resource::named(group, plural).map(|resource| resource.prefix(None));
        for (key, record) in state.range(&prefix("", "nodes").unwrap_or_default()) {
            self.look_at_node(&state, key, record).await;
        }
        for (key, record) in state.range(&prefix("policy", "poddisruptionbudgets").unwrap_or_default()) {
            let pods = prefix("", "pods").unwrap_or_default();
            let now = refreshed_budget(&record.value, state.range(&pods).map(|(_, pod)| &pod.value));
            self.replace(key, record, &now).await;
        }
        for (key, record) in state.range(&cluster::secret_key("bootstrap-token-")) {
            if cluster::is_expired(&record.value) {
                self.write(key, record, vec![Change::Delete(key.clone())]).await;
            }
        }
    }

    async fn look_at_node(&mut self, state: &State, key: &str, record: &Record) {
        let mut node = record.value.clone();
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let members = state.members();
        let member = members.list.iter().find(|member| member.node() == name).cloned();
        if object::is_leaving(&node) {
            return self.let_go(key, record, &name, member).await;
        }
        match &member {
            Some(member) => self.look_at_member(&mut node, member).await,
            None => note_removed(&mut node, &members),
        }
        initialise(&mut node, &name, state);
        self.judge(&mut node, &name, beat(state, &name));
        self.replace(key, record, &node).await;
    }

    /// Labels and annotates an etcd node, tells whether it votes, and removes its member when asked to.
    async fn look_at_member(&self, node: &mut Value, member: &Member) {
        tell_vote(node, member.voter);
        for role in ROLES {
            node["metadata"]["labels"][format!("node-role.kubernetes.io/{role}")] = json!("true");
        }
        let finalizers = node["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        if !finalizers.contains(&json!(ETCD_FINALIZER)) {
            node["metadata"]["finalizers"] = json!([finalizers, vec![json!(ETCD_FINALIZER)]].concat());
        }
        let annotations = &mut node["metadata"]["annotations"];
        annotations[MEMBER_NAME] = json!(member.name);
        annotations[MEMBER_ADDRESS] = json!(member.address);
        if annotations[REMOVE] != "true" {
            return;
        }
        if annotations[REMOVED].is_string() && annotations[REMOVED] != member.name {
            // The node came back as another member: the old request is done with.
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.remove(REMOVE);
                annotations.remove(REMOVED);
            }
            return;
        }
        log::info(&format!("Removing member {} from etcd cluster", member.name));
        match self.store.remove(&member.name).await {
            Ok(_) => annotations[REMOVED] = json!(member.name),
            Err(error) => log::error(&format!("failed to remove member {}: {error}", member.name)),
        }
    }

    /// A Node that is deleted goes when its member is out of etcd; its password goes with it.
    async fn let_go(&self, key: &str, record: &Record, name: &str, member: Option<Member>) {
        if let Some(member) = member
            && let Err(error) = self.store.remove(&member.name).await
        {
            log::error(&format!("failed to remove member {}: {error}", member.name));
            return;
        }
        let lease =
            Resource::named("coordination.k8s.io", "leases").map(|l| l.key(Some("kube-node-lease"), name));
        let mut changes =
            vec![Change::Delete(key.to_owned()), Change::Delete(cluster::node_password_key(name))];
        changes.extend(lease.map(Change::Delete));
        self.write(key, record, changes).await;
    }

    /// Decides whether the node is alive, by our own clock: a lease that does not change is old.
    fn judge(&mut self, node: &mut Value, name: &str, sign: String) {
        let now = Instant::now();
        let beat = self.beats.entry(name.to_owned()).or_insert_with(|| (sign.clone(), now));
        if beat.0 != sign {
            *beat = (sign, now);
        }
        let silent = beat.1.elapsed() >= Duration::from_millis(self.knobs.not_ready_after_ms);
        let status =
            object::condition(node, "Ready").and_then(|ready| ready["status"].as_str()).unwrap_or("Unknown");
        if silent && status != "Unknown" {
            for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition["status"] = json!("Unknown");
                condition["reason"] = json!("NodeStatusUnknown");
                condition["message"] = json!("Kubelet stopped posting node status.");
                condition["lastTransitionTime"] = json!(object::now());
            }
        }
        let status =
            object::condition(node, "Ready").and_then(|ready| ready["status"].as_str()).map(str::to_owned);
        taint(node, UNREACHABLE, status.as_deref().is_none_or(|status| status == "Unknown"));
        taint(node, NOT_READY, status.as_deref() == Some("False"));
    }

    async fn replace(&self, key: &str, record: &Record, now: &Value) {
        if *now != record.value {
            self.write(key, record, vec![Change::Put(key.to_owned(), now.clone())]).await;
        }
    }

    /// Writes unless the object was changed meanwhile: then the next look sees it.
    async fn write(&self, key: &str, record: &Record, changes: Vec<Change>) {
        let _ =
            self.store.write(Transaction { guards: vec![(key.to_owned(), record.modified)], changes }).await;
    }
}

/// A removed member's node tells so, also when the leader that removed it had no time to.
fn note_removed(node: &mut Value, members: &Members) {
    let annotations = &node["metadata"]["annotations"];
    let name = annotations[MEMBER_NAME].as_str().unwrap_or_default().to_owned();
    if annotations[REMOVE] == "true" && members.removed.contains(&name) {
        node["metadata"]["annotations"][REMOVED] = json!(name);
    }
}

/// RKE2's condition `EtcdIsVoter`.
fn tell_vote(node: &mut Value, votes: bool) {
    let (status, reason, message) = if votes {
        ("True", "MemberNotLearner", "Node is a voting member of the etcd cluster")
    } else {
        ("False", "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster")
    };
    if object::condition(node, IS_VOTER).is_some_and(|told| told["status"] == status) {
        return;
    }
    let condition = json!({"type": IS_VOTER, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": object::now()});
    if let Some(conditions) = node["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != IS_VOTER);
        conditions.push(condition);
    }
}

/// What RKE2's cloud controller adds to a new node.
fn initialise(node: &mut Value, name: &str, state: &State) {
    let external =
        cluster::critical(state).get("disable-cloud-controller").is_some_and(|value| value == "true");
    if !external && !node["spec"]["providerID"].is_string() {
        node["spec"]["providerID"] = json!(format!("rke2://{name}"));
    }
}

/// A node's last sign of life: its lease's time.
fn beat(state: &State, name: &str) -> String {
    let lease =
        Resource::named("coordination.k8s.io", "leases").map(|l| l.key(Some("kube-node-lease"), name));
    let record = lease.and_then(|key| state.keys.get(&key));
    record.and_then(|record| record.value["spec"]["renewTime"].as_str()).unwrap_or_default().to_owned()
}

/// Sets or clears one of the health taints; an unreachable or unready node neither gets nor keeps pods.
fn taint(node: &mut Value, key: &str, wanted: bool) {
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let has = taints.iter().any(|taint| taint["key"] == key && taint["effect"] == "NoExecute");
    if wanted && !has {
        taints.retain(|taint| taint["key"] != key);
        taints.push(json!({"key": key, "effect": "NoSchedule", "timeAdded": object::now()}));
        taints.push(json!({"key": key, "effect": "NoExecute", "timeAdded": object::now()}));
    } else if !wanted {
        taints.retain(|taint| taint["key"] != key);
    }
    if taints.is_empty() {
        if let Some(spec) = node["spec"].as_object_mut() {
            spec.remove("taints");
        }
    } else {
        node["spec"]["taints"] = json!(taints);
    }
}
