//! The kinds of objects that the API knows, and what a request's path means.

use hyper::Method;

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// As it stands in paths.
    pub plural: &'static str,
    /// As it stands in objects.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

const fn kind(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource { group, version, plural, kind, namespaced }
}

/// All kinds: those that an agent uses, and those that manifests usually hold.
pub const RESOURCES: &[Resource] = &[
    kind("", "v1", "nodes", "Node", false),
    kind("", "v1", "pods", "Pod", true),
    kind("", "v1", "namespaces", "Namespace", false),
    kind("", "v1", "secrets", "Secret", true),
    kind("", "v1", "configmaps", "ConfigMap", true),
    kind("", "v1", "events", "Event", true),
    kind("", "v1", "services", "Service", true),
    kind("", "v1", "endpoints", "Endpoints", true),
    kind("", "v1", "serviceaccounts", "ServiceAccount", true),
    kind("", "v1", "persistentvolumes", "PersistentVolume", false),
    kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    kind("apps", "v1", "deployments", "Deployment", true),
    kind("apps", "v1", "daemonsets", "DaemonSet", true),
    kind("apps", "v1", "statefulsets", "StatefulSet", true),
    kind("apps", "v1", "replicasets", "ReplicaSet", true),
    kind("batch", "v1", "jobs", "Job", true),
    kind("batch", "v1", "cronjobs", "CronJob", true),
    kind("coordination.k8s.io", "v1", "leases", "Lease", true),
    kind("events.k8s.io", "v1", "events", "Event", true),
    kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
    kind("rbac.authorization.k8s.io", "v1", "roles", "Role", true),
    kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true),
    kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false),
    kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false),
    kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", false),
    kind("networking.k8s.io", "v1", "ingresses", "Ingress", true),
    kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true),
    kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false),
    kind("helm.cattle.io", "v1", "helmcharts", "HelmChart", true),
    kind("helm.cattle.io", "v1", "helmchartconfigs", "HelmChartConfig", true),
    kind("k3s.cattle.io", "v1", "addons", "Addon", true),
    kind("metallb.io", "v1beta1", "ipaddresspools", "IPAddressPool", true),
    kind("metallb.io", "v1beta1", "l2advertisements", "L2Advertisement", true),
    kind("upgrade.cattle.io", "v1", "plans", "Plan", true),
];

impl Resource {
    /// The one of that kind in an object's words.
    pub fn of_object(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// The one of that plural.
    pub fn named(group: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| resource.group == group && resource.plural == plural)
    }

    /// `apiVersion` as objects have it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Where its objects live in the datastore; with a namespace, only those in it.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        let group = if self.group.is_empty() { "core" } else { self.group };
        match namespace {
            Some(namespace) => format!("/registry/{group}/{}/{namespace}/", self.plural),
            None => format!("/registry/{group}/{}/", self.plural),
        }
    }

    /// Where one object lives in the datastore.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> String {
        let namespace = if self.namespaced { namespace.unwrap_or("default") } else { "_" };
        format!("{}{name}", self.prefix(Some(namespace)))
    }
}

/// What a request's path names.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub resource: &'static Resource,
    /// The namespace, if the path has one.
    pub namespace: Option<String>,
    /// The object, unless it is all of them.
    pub name: Option<String>,
    /// `status`, `eviction`, ...
    pub subresource: Option<String>,
}

impl Target {
    /// Reads `/api/v1/...` and `/apis/GROUP/VERSION/...`.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if is_plural(group, rest) => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let [plural, rest @ ..] = rest else { return None };
        let resource = Resource::named(group, plural).filter(|resource| resource.version == version)?;
        let (name, subresource) = match rest {
            [] => (None, None),
            [name] => (Some((*name).to_owned()), None),
            [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
            _ => return None,
        };
        Some(Self { resource, namespace, name, subresource })
    }

    /// Kubernetes' word for what a method does here.
    pub fn verb(&self, method: &Method, watch: bool) -> &'static str {
        match (method.as_str(), self.name.is_some()) {
            ("GET", false) if watch => "watch",
            ("GET", true) => "get",
            ("GET", false) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "unknown",
        }
    }

    /// The key of the object that is named.
    pub fn key(&self) -> Option<String> {
        self.name.as_ref().map(|name| self.resource.key(self.namespace.as_deref(), name))
    }
}

/// `namespaces/NAME/status` is about the namespace itself, `namespaces/NAME/pods` is not.
fn is_plural(group: &str, rest: &[&str]) -> bool {
    rest.first()
        .is_some_and(|plural| Resource::named(group, plural).is_some_and(|resource| resource.namespaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> (&'static str, Option<String>, Option<String>, Option<String>) {
        let target = Target::parse(path).unwrap();
        (target.resource.kind, target.namespace, target.name, target.subresource)
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parsed("/api/v1/nodes/a/status"), ("Node", None, some("a"), some("status")));
        assert_eq!(parsed("/api/v1/namespaces/x"), ("Namespace", None, some("x"), None));
        assert_eq!(parsed("/api/v1/namespaces/x/status"), ("Namespace", None, some("x"), some("status")));
        assert_eq!(
            parsed("/api/v1/namespaces/x/pods/p/eviction"),
            ("Pod", some("x"), some("p"), some("eviction"))
        );
        assert_eq!(parsed("/apis/coordination.k8s.io/v1/leases"), ("Lease", None, None, None));
        assert_eq!(Target::parse("/apis/policy/v1beta1/poddisruptionbudgets"), None);
        assert_eq!(Target::parse("/api/v1/nonsense"), None);
    }
}
