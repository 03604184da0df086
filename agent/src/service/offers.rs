//! What VMs of the service offer to the balancers: `ONEGATE_HAPROXY_LBn_*` and `ONEGATE_LBn_*`, as one answer of
//! OneGate shows them, and what that answer proves about offers that were known before.

use std::collections::BTreeMap;

use super::{Service, Vm, VmId};
use crate::context::placeholder;
use crate::context::vnf::{Host, Server};

/// Whose attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `ONEGATE_HAPROXY_LBn_*`.
    Haproxy,
    /// `ONEGATE_LBn_*`.
    Lvs,
}

impl Family {
    fn prefix(self) -> &'static str {
        match self {
            Self::Haproxy => "ONEGATE_HAPROXY_LB",
            Self::Lvs => "ONEGATE_LB",
        }
    }
}

/// A balancer by its family and the n of `LBn`.
pub type Slot = (Family, u16);

/// What one VM offers to one balancer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// To which balancer.
    pub slot: Slot,
    /// Where that balancer listens, as the VM says: an address or a placeholder, without a `/length`.
    pub listener: String,
    /// On which port; `None` (IPVS only): on all.
    pub listener_port: Option<u16>,
    /// Who offers it.
    pub vm: VmId,
    /// What it offers.
    pub server: Server,
}

impl Offer {
    /// The same server at the same balancer; shares and limits may differ.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.slot == other.slot
            && self.vm == other.vm
            && self.listener == other.listener
            && self.listener_port == other.listener_port
            && self.server.host == other.server.host
            && self.server.port == other.server.port
    }
}

/// A port that no server has: who offers it takes its offer back. Attributes are overwritten, never erased, because
/// the server loses writes on erasing (onegate.md).
pub const WITHDRAWN_PORT: &str = "0";

/// What one answer of OneGate says about all VMs of the service.
#[derive(Clone, Debug, Default)]
pub struct Testimony {
    /// Nothing is missing from it, so what it does not name is not there.
    whole: bool,
    /// By VM; `None`: it is there, but its data is not.
    vms: BTreeMap<VmId, Option<Words>>,
}

/// What one VM says.
#[derive(Clone, Debug, Default)]
struct Words {
    done: bool,
    /// `None`: taken back.
    offers: BTreeMap<Slot, Option<Offer>>,
}

/// What a testimony proves about an earlier offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It still stands.
    Stands,
    /// Nothing.
    None,
    /// Its VM took it back, changed it, or is DONE.
    Withdrawn,
    /// Its VM is not in a whole answer.
    Absent,
}

impl Testimony {
    /// Reads an answer. `me` must be in it, or it is not whole: an answer that lacks the asker lacks others, too.
    pub fn of(service: &Service, me: Option<VmId>) -> Self {
        let nodes = || service.roles.iter().flat_map(|role| &role.nodes);
        let lists_me = me.is_none_or(|me| nodes().any(|node| node.id == me));
        let vms: BTreeMap<VmId, Option<Words>> =
            nodes().map(|node| (node.id, node.vm.as_ref().and_then(|vm| words(vm, service.id)))).collect();
        let whole =
            service.gap().is_none() && lists_me && vms.values().all(Option::is_some) && !vms.is_empty();
        Self { whole, vms }
    }

    /// Everything that is offered now.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        let words = self.vms.values().flatten().filter(|words| !words.done);
        words.flat_map(|words| words.offers.values().flatten())
    }

    /// What it proves about an earlier offer of `vm` to `slot`, which `is_same` recognises.
    pub fn proof(&self, vm: VmId, slot: Slot, is_same: impl Fn(&Offer) -> bool) -> Proof {
        match self.vms.get(&vm) {
            None if self.whole => Proof::Absent,
            None | Some(None) => Proof::None,
            Some(Some(words)) if words.done => Proof::Withdrawn,
            Some(Some(words)) => match words.offers.get(&slot) {
                Some(Some(offer)) if is_same(offer) => Proof::Stands,
                Some(_) => Proof::Withdrawn,
                // Its attributes are there, but not this one.
                None if self.whole => Proof::Withdrawn,
                None => Proof::None,
            },
        }
    }
}

/// `None` if the answer lacks this VM's data. OneFlow gives every VM a ROLE_NAME, so attributes without it are not all.
fn words(vm: &Vm, service: u32) -> Option<Words> {
    let attributes = vm.attributes.as_ref()?;
    vm.role()?;
    let mut offers = BTreeMap::new();
    for family in [Family::Haproxy, Family::Lvs] {
        for name in attributes.keys() {
            let Some(index) = name
                .strip_prefix(family.prefix())
                .and_then(|rest| rest.strip_suffix("_SERVER_HOST"))
                .and_then(|digits| digits.parse().ok())
            else {
                continue;
            };
            if let Some(words) = offer(vm, (family, index), service) {
                offers.insert((family, index), words);
            }
        }
    }
    Some(Words { done: vm.is_done(), offers })
}

/// The VM's words for a balancer: `Some(None)` takes the offer back, `None` says nothing that can be used.
fn offer(vm: &Vm, slot: Slot, service: u32) -> Option<Option<Offer>> {
    let (family, index) = slot;
    let get = |setting: &str| vm.attribute(&format!("{}{index}_{setting}", family.prefix())).map(str::trim);
    if get("ID").is_some_and(|id| id != service.to_string()) {
        return None;
    }
    if get("SERVER_PORT") == Some(WITHDRAWN_PORT) {
        return Some(None);
    }
    let port = |setting: &str| match (get(setting), family) {
        (Some(text), _) => crate::context::vnf::port(text).map(Some),
        (None, Family::Lvs) => Some(None),
        (None, Family::Haproxy) => None,
    };
    Some(Some(Offer {
        slot,
        listener: listener(get("IP")?)?,
        listener_port: port("PORT")?,
        vm: vm.id,
        server: Server {
            host: Host::parse(get("SERVER_HOST")?)?,
            port: port("SERVER_PORT")?,
            weight: get("SERVER_WEIGHT").and_then(crate::context::vnf::weight),
            upper: get("SERVER_ULIMIT").and_then(crate::context::vnf::limit),
            lower: get("SERVER_LLIMIT").and_then(crate::context::vnf::limit),
        },
    }))
}

/// An address or a placeholder, without a `/length`; anything else can be no listener.
pub(super) fn listener(text: &str) -> Option<String> {
    if placeholder::is_well_formed(text) {
        return Some(text.to_owned());
    }
    placeholder::resolve(&[], text).map(|address| address.to_string())
}
