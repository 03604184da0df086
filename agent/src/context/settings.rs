//! What the user says to RKE2 himself, by way of this agent: registries, further settings, the NIC of the cluster.

use super::forms;
use super::nics::Nic;
use super::placeholder::number;
use super::reader::Reader;
use super::table::Roles;
use crate::node::files;
use crate::plan::Secret;

const NODES: Roles = Roles::NODES;
const REGISTRIES: &str = "ONEAPP_K8S_REGISTRIES";
const NIC: &str = "ONEAPP_K8S_NODE_NIC";

/// Which NIC a node takes into its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeNic {
    /// The x of `ETHx`; it has an IPv4 address.
    Index(u8),
    /// The name of its virtual network, which OneGate tells.
    Network(String),
}

impl NodeNic {
    pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Option<Self> {
        let text = reader.text(NIC)?.trim();
        let bare = text.strip_prefix("eth").or_else(|| text.strip_prefix("ETH")).unwrap_or(text);
        let Some(index) = number(bare) else {
            return reader.value(NIC, NODES, forms::line).map(Self::Network);
        };
        if !nics.iter().any(|nic| nic.index == index && nic.ip.is_some()) {
            let there: Vec<String> =
                nics.iter().filter(|nic| nic.ip.is_some()).map(|nic| nic.name()).collect();
            let expected = format!("expected a NIC of this VM with an IPv4 address: {}", there.join(", "));
            reader.problem(NIC, text, expected);
        }
        Some(Self::Index(index))
    }
}

/// `registries.yaml`.
pub(super) fn registries(reader: &mut Reader<'_>) -> Option<Secret> {
    decoded(reader, REGISTRIES, files::registries)
}

/// Settings for `config.yaml`; those that contradict the agent are refused once everything else is known.
pub(super) fn extra_config(reader: &mut Reader<'_>) -> Option<Secret> {
    decoded(reader, files::EXTRA_CONFIG, |text| Ok(Secret::new(text)))
}

fn decoded(
    reader: &mut Reader<'_>,
    name: &str,
    parse: impl Fn(&str) -> Result<Secret, String>,
) -> Option<Secret> {
    let value = reader.text(name)?;
    let parsed = match forms::base64_text(value) {
        Some(text) => parse(&text),
        None => Err("expected base64 of YAML".into()),
    };
    parsed.map_err(|why| reader.problem(name, value, why)).ok()
}

/// True if something else than a vnf balances. Then both endpoints must be named: there is no address to fall back to.
pub(super) fn external_lb(reader: &mut Reader<'_>) -> bool {
    let external = reader.on("ONEAPP_K8S_EXTERNAL_LB", NODES);
    for name in ["ONEAPP_RKE2_SUPERVISOR_EP", "ONEAPP_K8S_CONTROL_PLANE_EP"] {
        if external && reader.text(name).is_none() {
            let expected = "expected host:port of the external balancer, for ONEAPP_K8S_EXTERNAL_LB is YES";
            reader.problem(name, "", expected);
        }
    }
    external
}
