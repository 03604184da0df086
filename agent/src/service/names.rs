//! The attributes by which the VMs of a service talk, by their names in OneGate.
//!
//! The first group is OneKE's own since its first release (contract.md 1.3) and keeps its meaning. The second is this
//! agent's. Attributes are overwritten, never erased: [`NONE`] is the marker for "withdrawn".

/// `YES` opens OneFlow's gate. Published on proof only (invariant 3).
pub const READY: &str = "READY";
/// OneFlow's role of the VM.
pub const ROLE_NAME: &str = "ROLE_NAME";
/// The node's name in Kubernetes.
pub const NODE_NAME: &str = "ONEGATE_K8S_NODE_NAME";
/// A master's address, once its API answers.
pub const MASTER: &str = "ONEGATE_K8S_MASTER";
/// The server token in clear: only the old appliance and `ONEAPP_K8S_TOKEN_MODE=plain` publish it.
pub const TOKEN: &str = "ONEGATE_K8S_TOKEN";
/// The cluster-admin kubeconfig in base64: sealed to the user's SSH keys, or in clear as the old appliance did.
pub const KUBECONFIG: &str = "ONEKE_KUBECONFIG";

/// A digest of the kubeconfig that [`KUBECONFIG`] holds sealed, and of the keys that open it.
pub const KUBECONFIG_DIGEST: &str = "ONEGATE_K8S_KUBECONFIG_DIGEST";
/// The cluster's ID (hash of its CA) on every VM that joined; [`FOUNDING`] on the VM that claims to found it.
pub const CLUSTER: &str = "ONEGATE_K8S_CLUSTER";
/// One word: where the VM stands.
pub const STATE: &str = "ONEGATE_K8S_STATE";
/// A joiner's public key.
pub const JOIN_KEY: &str = "ONEGATE_K8S_JOIN_KEY";
/// The leader's answer on the joiner's VM: the token, sealed to that key.
pub const JOIN_TICKET: &str = "ONEGATE_K8S_JOIN_TICKET";
/// The digest of all backends, written by the leader onto the vnf VMs.
pub const BACKENDS: &str = "ONEGATE_VNF_BACKENDS";
/// How a vnf VM with unicast VRRP speaks, and to whom: `unicast 6 7`, `multicast 6`, by VM ID.
pub const VRRP_PEERS: &str = "ONEGATE_VNF_VRRP_PEERS";

/// Value of [`CLUSTER`] while its VM claims the founding.
pub const FOUNDING: &str = "founding";
/// Value of [`STATE`] while its VM goes down.
pub const LEAVING: &str = "leaving";
/// Value of an attribute that was withdrawn.
pub const NONE: &str = "none";
