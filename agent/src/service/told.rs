//! What a VM offers, in a few letters: the leader sees by them that somebody offers something else than OneGate's last
//! answer says, without asking OneGate.

use std::fmt;

use super::{Vm, VmId};
use crate::plan::digest;

/// The annotation of a VM's own Node that holds it, written once OneGate has taken what it stands for.
pub const ANNOTATION: &str = "oneke.opennebula.io/told";
/// The attributes that the vnf VMs' servers are made of.
const OFFERS: [&str; 2] = ["ONEGATE_HAPROXY_LB", "ONEGATE_LB"];
/// Hex digits: enough to tell two offers of one VM apart.
const LENGTH: usize = 16;

/// Who offers, and a digest of what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The VM.
    pub vm: VmId,
    digest: String,
}

impl Told {
    /// What these attributes of a VM say; `None` if they were not read, or it never offered anything.
    pub fn of(vm: &Vm) -> Option<Self> {
        let is_offer = |name: &str| OFFERS.iter().any(|prefix| name.starts_with(prefix));
        let offers = vm.attributes.as_ref()?.iter().filter(|(name, _)| is_offer(name));
        let text: String = offers.map(|(name, value)| format!("{name}={value}\n")).collect();
        (!text.is_empty()).then(|| Self { vm: vm.id, digest: digest(&text)[..LENGTH].to_owned() })
    }

    /// Reads the annotation's value.
    pub fn parse(text: &str) -> Option<Self> {
        let (vm, digest) = text.split_once(' ')?;
        let is_digest = digest.len() == LENGTH && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then_some(Self { vm: VmId(vm.parse().ok()?), digest: digest.to_owned() })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.vm, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attributes: &str) -> Option<Told> {
        let text = format!(
            r#"{{"VM":{{"ID":"8","NAME":"m","STATE":"3","LCM_STATE":"3","USER_TEMPLATE":{{{attributes}}},"TEMPLATE":{{}}}}}}"#
        );
        Told::of(&Vm::from_json(&text).unwrap())
    }

    #[test]
    fn offers_alone_count() {
        assert_eq!(told(r#""ONEGATE_K8S_STATE":"running""#), None);
        let one = told(r#""ONEGATE_HAPROXY_LB1_SERVER_WEIGHT":"1""#);
        assert_eq!(told(r#""ONEGATE_HAPROXY_LB1_SERVER_WEIGHT":"1","ONEGATE_K8S_STATE":"x""#), one);
        assert_ne!(told(r#""ONEGATE_HAPROXY_LB1_SERVER_WEIGHT":"0""#), one);
        assert_ne!(told(r#""ONEGATE_LB1_SERVER_WEIGHT":"1""#), one);
    }

    #[test]
    fn an_annotation_reads_as_it_was_written() {
        let told = told(r#""ONEGATE_LB1_SERVER_HOST":"10.0.0.1""#).unwrap();
        assert_eq!(Told::parse(&told.to_string()), Some(told));
        for nonsense in ["", "8", "8 abc", "x 0123456789abcdef", "8 0123456789abcdeg", "8 0123456789abcdef0"]
        {
            assert_eq!(Told::parse(nonsense), None, "{nonsense}");
        }
    }
}
