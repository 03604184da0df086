//! The settings that RKE2 knows (v1.33 to v1.36): `rke2 server --help` and `rke2 agent --help`. RKE2 ends with an error
//! on any other.

/// What a setting holds, as far as merging goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value, or a switch.
    One,
    /// A list, to which more may be added.
    Many,
}

/// The setting's kind on a server (or an agent); `None` if that knows no such setting.
pub fn kind(name: &str, server: bool) -> Option<Kind> {
    let has = |names: &[&str]| names.contains(&name);
    if has(BOTH_ONE) || (server && has(SERVER_ONE)) {
        Some(Kind::One)
    } else if has(BOTH_MANY) || (server && has(SERVER_MANY)) {
        Some(Kind::Many)
    } else {
        None
    }
}

const BOTH_ONE: &[&str] = &[
    "audit-policy-file",
    "bind-address",
    "cloud-controller-manager-image",
    "cloud-provider-config",
    "cloud-provider-name",
    "config",
    "container-runtime-endpoint",
    "data-dir",
    "debug",
    "default-runtime",
    "disable-default-registry-endpoint",
    "enable-pprof",
    "etcd-image",
    "image-credential-provider-bin-dir",
    "image-credential-provider-config",
    "kube-apiserver-image",
    "kube-controller-manager-image",
    "kube-proxy-image",
    "kube-scheduler-image",
    "kubelet-path",
    "lb-server-port",
    "node-external-ip",
    "node-ip",
    "node-name",
    "nonroot-devices",
    "pause-image",
    "pod-security-admission-config-file",
    "private-registry",
    "profile",
    "protect-kernel-defaults",
    "resolv-conf",
    "runtime-image",
    "selinux",
    "server",
    "snapshotter",
    "system-default-registry",
    "token",
    "token-file",
    "with-node-id",
];

const BOTH_MANY: &[&str] = &[
    "airgap-extra-registry",
    "cloud-controller-manager-extra-env",
    "cloud-controller-manager-extra-mount",
    "control-plane-probe-configuration",
    "control-plane-resource-limits",
    "control-plane-resource-requests",
    "etcd-extra-env",
    "etcd-extra-mount",
    "kube-apiserver-extra-env",
    "kube-apiserver-extra-mount",
    "kube-controller-manager-extra-env",
    "kube-controller-manager-extra-mount",
    "kube-proxy-arg",
    "kube-proxy-extra-env",
    "kube-proxy-extra-mount",
    "kube-scheduler-extra-env",
    "kube-scheduler-extra-mount",
    "kubelet-arg",
    "node-external-dns",
    "node-internal-dns",
    "node-label",
    "node-taint",
];

const SERVER_ONE: &[&str] = &[
    "advertise-address",
    "agent-token",
    "agent-token-file",
    "cluster-cidr",
    "cluster-dns",
    "cluster-domain",
    "cluster-reset",
    "cluster-reset-restore-path",
    "datastore-cafile",
    "datastore-certfile",
    "datastore-endpoint",
    "datastore-keyfile",
    "disable-apiserver",
    "disable-cloud-controller",
    "disable-controller-manager",
    "disable-etcd",
    "disable-kube-proxy",
    "disable-scheduler",
    "egress-selector-mode",
    "embedded-registry",
    "enable-servicelb",
    "etcd-disable-snapshots",
    "etcd-expose-metrics",
    "etcd-s3",
    "etcd-s3-access-key",
    "etcd-s3-bucket",
    "etcd-s3-bucket-lookup-type",
    "etcd-s3-config-secret",
    "etcd-s3-endpoint",
    "etcd-s3-endpoint-ca",
    "etcd-s3-folder",
    "etcd-s3-insecure",
    "etcd-s3-proxy",
    "etcd-s3-region",
    "etcd-s3-retention",
    "etcd-s3-secret-key",
    "etcd-s3-session-token",
    "etcd-s3-skip-ssl-verify",
    "etcd-s3-timeout",
    "etcd-snapshot-compress",
    "etcd-snapshot-dir",
    "etcd-snapshot-name",
    "etcd-snapshot-reconcile-interval",
    "etcd-snapshot-retention",
    "etcd-snapshot-schedule-cron",
    "helm-job-image",
    "secrets-encryption",
    "secrets-encryption-provider",
    "service-cidr",
    "service-node-port-range",
    "servicelb-namespace",
    "supervisor-metrics",
    "tls-san-security",
    "write-kubeconfig",
    "write-kubeconfig-group",
    "write-kubeconfig-mode",
];

const SERVER_MANY: &[&str] = &[
    "cni",
    "disable",
    "etcd-arg",
    "ingress-controller",
    "kube-apiserver-arg",
    "kube-cloud-controller-manager-arg",
    "kube-controller-manager-arg",
    "kube-scheduler-arg",
    "tls-san",
];
