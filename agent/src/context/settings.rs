//! What the user says to RKE2 himself, by way of this agent: registries, further settings, the NIC of the cluster.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::forms;
use super::nics::Nic;
use super::placeholder::number;
use super::reader::Reader;
use super::table::Roles;
use super::vars::repair_ssh_keys;
use crate::node::files;
use crate::plan::Secret;

const NODES: Roles = Roles::NODES;
const REGISTRIES: &str = "ONEAPP_K8S_REGISTRIES";
const PUBLISH: &str = "ONEAPP_K8S_PUBLISH_KUBECONFIG";
const NIC: &str = "ONEAPP_K8S_NODE_NIC";
/// Named to whoever waits for his turn.
pub const JOIN_BATCH: &str = "ONEAPP_K8S_JOIN_BATCH";

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

/// Whether the administrator's kubeconfig goes into OneGate, and who can read it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishKubeconfig {
    /// To those who have one of these SSH keys' private half; there may be none.
    Sealed(Vec<String>),
    /// To everybody who reads the VM in OpenNebula.
    Plain,
    /// To nobody.
    No,
}

impl PublishKubeconfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let keys = repair_ssh_keys(reader.text("SSH_PUBLIC_KEY").unwrap_or_default());
        let keys: Vec<String> = keys.lines().filter(|key| age_takes(key)).map(str::to_owned).collect();
        let chosen = reader.value(PUBLISH, Roles::MASTER, |text| match text.trim() {
            "sealed" => Some(Self::Sealed(keys.clone())),
            "plain" => Some(Self::Plain),
            "no" => Some(Self::No),
            _ => None,
        });
        chosen.unwrap_or(Self::No)
    }
}

/// Whether `age` takes a public key; it ends with an error on any other (age(1), "RECIPIENTS AND IDENTITIES"): Ed25519,
/// and RSA of 2048 bits or more.
fn age_takes(key: &str) -> bool {
    let mut words = key.split_whitespace();
    let kind = words.next().unwrap_or_default();
    // The body begins with the kind's length and the kind again (RFC 4253, 6.6).
    let Ok(body) = STANDARD.decode(words.next().unwrap_or_default()) else { return false };
    let same = body.get(4..4 + kind.len()) == Some(kind.as_bytes());
    // 4 + 11 + 4 + 32 bytes; 4 + 7 + 4 + 1 (the exponent, at least) + 4 + 257.
    same && match kind {
        "ssh-ed25519" => body.len() == 51,
        "ssh-rsa" => body.len() >= 277,
        _ => false,
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

/// How many workers and storage nodes may be on their way into the cluster at once.
pub(super) fn join_batch(reader: &mut Reader<'_>) -> u32 {
    let batch = reader.value(JOIN_BATCH, NODES, |text| forms::number(text, 1, 10_000));
    batch.expect("what is refused is read as the table's default, a number")
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

#[cfg(test)]
mod tests {
    use super::super::vars::Vars;
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@example";

    fn keys(text: &str) -> Vec<String> {
        let vars = Vars::from_iter([("SSH_PUBLIC_KEY", text)]);
        match PublishKubeconfig::read(&mut Reader::new(&vars, None)) {
            PublishKubeconfig::Sealed(keys) => keys,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_keys_that_age_takes_are_sealed_to() {
        let rsa = |bytes: usize| {
            let mut body = b"\0\0\0\x07ssh-rsa".to_vec();
            body.resize(bytes, 1);
            format!("ssh-rsa {} me", STANDARD.encode(body))
        };
        let given =
            [ED25519, "ssh-ed25519 AAAA me", &rsa(279), &rsa(150), "ecdsa-sha2-nistp256 AAAA", "ssh-rsa !"];
        assert_eq!(keys(&given.join("\n")), [ED25519, &rsa(279)]);
        assert_eq!(keys(&given.join(",\n")).len(), 2, "as OneFlow damages them");
        assert_eq!(keys(""), [""; 0]);
    }
}
