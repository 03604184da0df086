//! Who may do what: administrators everything, a node about what the node authorizer and NodeRestriction let it.

use hyper::Method;
use serde_json::Value;

use super::query::Selector;
use super::resources::Target;
use super::status::Refusal;
use crate::der::Name;

/// The group of administrators.
pub const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";

/// Label prefixes that a kubelet may set on its own node (NodeRestriction).
const KUBELET_LABELS: &[&str] = &["kubelet.kubernetes.io/", "node.kubernetes.io/"];
const KUBELET_LABEL_NAMES: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// The name of the node that the caller is, if it is one.
pub fn node_of(caller: &Name) -> Option<&str> {
    let is_node = caller.organizations.iter().any(|group| group == NODES);
    caller.common_name.strip_prefix("system:node:").filter(|_| is_node)
}

/// Whether the caller may do that; what it sends is looked at by [`check_change`].
///
/// # Errors
/// The refusal to send.
pub fn check(
    caller: &Name,
    method: &Method,
    target: &Target,
    selector: &Selector,
    watch: bool,
) -> Result<(), Refusal> {
    if caller.organizations.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let verb = target.verb(method, watch);
    let allowed = node_of(caller).is_some_and(|node| node_may(node, verb, target, selector));
    if allowed {
        return Ok(());
    }
    let scope = target.namespace.as_ref().map_or_else(
        || " at the cluster scope".to_owned(),
        |namespace| format!(" in the namespace {namespace:?}"),
    );
    let why = format!(
        "User {:?} cannot {verb} resource {:?} in API group {:?}{scope}",
        caller.common_name, target.resource.plural, target.resource.group
    );
    Err(Refusal::forbidden(target, &why))
}

fn node_may(node: &str, verb: &str, target: &Target, selector: &Selector) -> bool {
    let itself = target.name.as_deref() == Some(node);
    let on_itself = selector.field("spec.nodeName") == Some(node);
    let named_itself = selector.field("metadata.name") == Some(node);
    match (target.resource.plural, verb) {
        ("nodes", "create") => true,
        ("nodes", "get" | "update" | "patch") => itself,
        ("nodes", "list" | "watch") => named_itself,
        ("pods", "list" | "watch") => on_itself,
        // Whether the pod is on the node is looked at when the pod is read.
        ("pods", "get" | "create" | "update" | "patch" | "delete") => true,
        ("leases", _) => {
            (itself || verb == "create") && target.namespace.as_deref() == Some("kube-node-lease")
        }
        ("events", "create" | "patch" | "update") => true,
        ("services" | "persistentvolumes", "get" | "list" | "watch") => true,
        _ => false,
    }
}

/// What NodeRestriction looks at: the object before (absent when it is made) and after.
///
/// # Errors
/// The refusal to send.
pub fn check_change(
    caller: &Name,
    target: &Target,
    before: Option<&Value>,
    after: Option<&Value>,
) -> Result<(), Refusal> {
    let Some(node) = node_of(caller) else { return Ok(()) };
    let refuse = |why: String| Err(Refusal::forbidden(target, &why));
    match target.resource.plural {
        "pods" => {
            let on = before.or(after).map_or(&Value::Null, |pod| &pod["spec"]["nodeName"]);
            if on != node {
                return refuse(format!(
                    "node {node:?} can only act on pods with spec.nodeName set to itself"
                ));
            }
            Ok(())
        }
        "nodes" => {
            let Some(after) = after else { return Ok(()) };
            if after["metadata"]["name"] != node {
                return refuse(format!("node {node:?} is not allowed to modify other nodes"));
            }
            if let Some(before) = before
                && before["spec"]["taints"] != after["spec"]["taints"]
            {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            match forbidden_label(before, after) {
                Some(label) => refuse(format!("is not allowed to modify labels: {label}")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The first changed label that a kubelet may not touch.
fn forbidden_label<'a>(before: Option<&'a Value>, after: &'a Value) -> Option<&'a str> {
    let empty = serde_json::Map::new();
    let labels = |object: &'a Value| object["metadata"]["labels"].as_object();
    let old = before.and_then(labels).unwrap_or(&empty).clone();
    let new = labels(after).into_iter().flatten();
    let changed = new.filter(|(key, value)| old.get(*key) != Some(*value)).map(|(key, _)| key.as_str());
    changed.into_iter().find(|key| !kubelet_may_label(key))
}

/// Whether a kubelet may set this label (its own `--node-labels` are checked by the same rule).
pub fn kubelet_may_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let kubernetes =
        ["kubernetes.io", "k8s.io"].iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}")));
    !kubernetes
        || KUBELET_LABEL_NAMES.contains(&key)
        || KUBELET_LABELS
            .iter()
            .any(|prefix| key.starts_with(prefix) || domain.ends_with(prefix.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::super::query::Query;
    use super::*;
    use serde_json::json;

    fn may(method: &str, path: &str, query: &str) -> bool {
        let node = Name { common_name: "system:node:a".into(), organizations: vec![NODES.into()] };
        let target = Target::parse(path).unwrap();
        let selector = Query::parse(query).selector().unwrap();
        check(&node, &method.parse().unwrap(), &target, &selector, false).is_ok()
    }

    #[test]
    fn a_node_sees_itself_and_no_secrets() {
        assert!(may("GET", "/api/v1/nodes/a", "") && may("PATCH", "/api/v1/nodes/a/status", ""));
        assert!(!may("GET", "/api/v1/nodes/b", "") && !may("GET", "/api/v1/nodes", ""));
        assert!(!may("DELETE", "/api/v1/nodes/a", ""));
        assert!(may("GET", "/api/v1/pods", "fieldSelector=spec.nodeName%3Da"));
        assert!(
            !may("GET", "/api/v1/pods", "fieldSelector=spec.nodeName%3Db") && !may("GET", "/api/v1/pods", "")
        );
        assert!(!may("GET", "/api/v1/namespaces/kube-system/secrets", ""));
        assert!(may("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a", ""));
        assert!(!may("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a", ""));
    }

    #[test]
    fn a_node_may_cordon_itself_and_not_change_its_taints_or_roles() {
        let node = Name { common_name: "system:node:a".into(), organizations: vec![NODES.into()] };
        let target = Target::parse("/api/v1/nodes/a").unwrap();
        let before = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"taints": [1]}});
        let change = |after: Value| check_change(&node, &target, Some(&before), Some(&after)).is_ok();
        let cordoned = json!({"metadata": {"name": "a", "labels": {"x": "2"}},
            "spec": {"taints": [1], "unschedulable": true}});
        assert!(change(cordoned));
        assert!(!change(json!({"metadata": {"name": "a"}, "spec": {}})));
        let role = json!({"metadata": {"name": "a", "labels": {"node-role.kubernetes.io/worker": "true"}},
            "spec": {"taints": [1]}});
        assert!(!change(role));
        assert!(kubelet_may_label("topology.kubernetes.io/zone") && kubelet_may_label("example.com/x"));
    }
}
