//! The keys that config.yaml may hold, which are the command line's flags: those of `rke2 server --help` and
//! `rke2 agent --help` (v1.33 to v1.36), hidden and deprecated ones included.

/// How a key's value reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// true or false.
    Flag,
    /// One value; the last one given counts.
    One,
    /// A list.
    Many,
}

use Form::{Flag, Many, One};

/// The form of `key` on a server or an agent; `None` if that command does not have it.
pub fn form(key: &str, server: bool) -> Option<Form> {
    let common = COMMON.iter();
    let own = if server { SERVER.iter() } else { AGENT.iter() };
    common.chain(own).find(|(name, _)| *name == key).map(|(_, form)| *form)
}

/// The long name of a short flag.
pub fn long(short: char) -> Option<&'static str> {
    Some(match short {
        'c' => "config",
        'd' => "data-dir",
        'i' => "node-ip",
        'l' => "log",
        'o' => "write-kubeconfig",
        's' => "server",
        't' => "token",
        _ => return None,
    })
}

const COMMON: &[(&str, Form)] = &[
    ("airgap-extra-registry", Many),
    ("alsologtostderr", Flag),
    ("audit-policy-file", One),
    ("bind-address", One),
    ("cloud-controller-manager-extra-env", Many),
    ("cloud-controller-manager-extra-mount", Many),
    ("cloud-controller-manager-image", One),
    ("cloud-provider-config", One),
    ("cloud-provider-name", One),
    ("config", One),
    ("container-runtime-endpoint", One),
    ("control-plane-probe-configuration", Many),
    ("control-plane-resource-limits", Many),
    ("control-plane-resource-requests", Many),
    ("data-dir", One),
    ("debug", Flag),
    ("default-runtime", One),
    ("disable-default-registry-endpoint", Flag),
    ("enable-pprof", Flag),
    ("etcd-extra-env", Many),
    ("etcd-extra-mount", Many),
    ("etcd-image", One),
    ("image-credential-provider-bin-dir", One),
    ("image-credential-provider-config", One),
    ("kube-apiserver-extra-env", Many),
    ("kube-apiserver-extra-mount", Many),
    ("kube-apiserver-image", One),
    ("kube-controller-manager-extra-env", Many),
    ("kube-controller-manager-extra-mount", Many),
    ("kube-controller-manager-image", One),
    ("kube-proxy-arg", Many),
    ("kube-proxy-extra-env", Many),
    ("kube-proxy-extra-mount", Many),
    ("kube-proxy-image", One),
    ("kube-scheduler-extra-env", Many),
    ("kube-scheduler-extra-mount", Many),
    ("kube-scheduler-image", One),
    ("kubelet-arg", Many),
    ("kubelet-path", One),
    ("lb-server-port", One),
    ("log", One),
    ("node-external-dns", Many),
    ("node-external-ip", Many),
    ("node-internal-dns", Many),
    ("node-ip", Many),
    ("node-label", Many),
    ("node-name", One),
    ("node-taint", Many),
    ("nonroot-devices", Flag),
    ("pause-image", One),
    ("pod-security-admission-config-file", One),
    ("private-registry", One),
    ("profile", One),
    ("protect-kernel-defaults", Flag),
    ("resolv-conf", One),
    ("runtime-image", One),
    ("selinux", Flag),
    ("server", One),
    ("snapshotter", One),
    ("system-default-registry", One),
    ("token", One),
    ("token-file", One),
    ("v", One),
    ("vmodule", One),
    ("with-node-id", Flag),
];

/// Nothing beyond the common ones today: `system-default-registry` is accepted there and ignored.
const AGENT: &[(&str, Form)] = &[];

const SERVER: &[(&str, Form)] = &[
    ("advertise-address", One),
    ("agent-token", One),
    ("agent-token-file", One),
    ("cluster-cidr", Many),
    ("cluster-dns", Many),
    ("cluster-domain", One),
    ("cluster-reset", Flag),
    ("cluster-reset-restore-path", One),
    ("cni", Many),
    ("datastore-cafile", One),
    ("datastore-certfile", One),
    ("datastore-endpoint", One),
    ("datastore-keyfile", One),
    ("disable", Many),
    ("disable-agent", Flag),
    ("disable-apiserver", Flag),
    ("disable-cloud-controller", Flag),
    ("disable-controller-manager", Flag),
    ("disable-etcd", Flag),
    ("disable-kube-proxy", Flag),
    ("disable-scheduler", Flag),
    ("egress-selector-mode", One),
    ("embedded-registry", Flag),
    ("enable-servicelb", Flag),
    ("etcd-arg", Many),
    ("etcd-disable-snapshots", Flag),
    ("etcd-expose-metrics", Flag),
    ("etcd-s3", Flag),
    ("etcd-s3-access-key", One),
    ("etcd-s3-bucket", One),
    ("etcd-s3-bucket-lookup-type", One),
    ("etcd-s3-config-secret", One),
    ("etcd-s3-endpoint", One),
    ("etcd-s3-endpoint-ca", One),
    ("etcd-s3-folder", One),
    ("etcd-s3-insecure", Flag),
    ("etcd-s3-proxy", One),
    ("etcd-s3-region", One),
    ("etcd-s3-retention", One),
    ("etcd-s3-secret-key", One),
    ("etcd-s3-session-token", One),
    ("etcd-s3-skip-ssl-verify", Flag),
    ("etcd-s3-timeout", One),
    ("etcd-snapshot-compress", Flag),
    ("etcd-snapshot-dir", One),
    ("etcd-snapshot-name", One),
    ("etcd-snapshot-reconcile-interval", One),
    ("etcd-snapshot-retention", One),
    ("etcd-snapshot-schedule-cron", One),
    ("helm-job-image", One),
    ("ingress-controller", Many),
    ("kube-apiserver-arg", Many),
    ("kube-cloud-controller-manager-arg", Many),
    ("kube-controller-manager-arg", Many),
    ("kube-scheduler-arg", Many),
    ("secrets-encryption", Flag),
    ("secrets-encryption-provider", One),
    ("service-cidr", Many),
    ("service-node-port-range", One),
    ("servicelb-namespace", One),
    ("supervisor-metrics", Flag),
    ("tls-san", Many),
    ("tls-san-security", Flag),
    ("write-kubeconfig", One),
    ("write-kubeconfig-group", One),
    ("write-kubeconfig-mode", One),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_only_key_is_unknown_to_an_agent() {
        assert_eq!(form("tls-san", true), Some(Many));
        assert_eq!(form("tls-san", false), None);
        assert_eq!(form("node-label", false), Some(Many));
        assert_eq!(form("nod-label", true), None);
    }
}
