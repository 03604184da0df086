//! Which RKE2 this one stands in for.

/// The release, as `rke2 --version` and the nodes' kubelets name it.
pub const RKE2: &str = "v1.33.4+rke2r1";

/// The Kubernetes in it.
pub const KUBERNETES: &str = "1.33.4";
