//! What VMs of the service offer to the balancers: `ONEGATE_HAPROXY_LBn_*` and `ONEGATE_LBn_*`, as one answer of
//! OneGate shows them, and what that answer proves about offers that were known before.

use std::collections::{BTreeMap, BTreeSet};

use super::{Holder, Networks, Service, Vm, VmId, names};
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
/// the server loses writes on erasing (onegate.md). The marker [`names::NONE`] is understood as well, but an old vnf VM
/// hands the text to its HAProxy, which then refuses its whole file; a number it accepts.
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
    /// It goes down, and said so.
    leaving: bool,
    /// By balancer; none: taken back. A VM of a service makes one offer to each, one on several networks may make more.
    offers: BTreeMap<Slot, Vec<Offer>>,
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
    /// Reads an answer about a service. `me` must be in it, or it is not whole: an answer that lacks the asker lacks
    /// others, too. Offers that name another ID than `id` (by default the service's) are for others.
    pub fn of(service: &Service, me: Option<VmId>, id: Option<u32>) -> Self {
        let id = id.unwrap_or(service.id);
        let nodes = || service.roles.iter().flat_map(|role| &role.nodes);
        let lists_me = me.is_none_or(|me| nodes().any(|node| node.id == me));
        let mut vms: BTreeMap<VmId, Option<Words>> =
            nodes().map(|node| (node.id, node.vm.as_ref().and_then(|vm| words(vm, id)))).collect();
        let whole =
            service.gap().is_none() && lists_me && vms.values().all(Option::is_some) && !vms.is_empty();
        wake_the_last(vms.values_mut().flatten().filter(|words| !words.done).collect());
        Self { whole, vms }
    }

    /// Reads the networks of the virtual router `id`: each lease of a VM with BACKEND=YES shows that VM's attributes.
    /// It is whole only if every network was read and every VM looked at: nobody else proves an absence.
    pub fn of_networks(networks: &Networks, me: Option<VmId>, id: u32) -> Self {
        let mut vms: BTreeMap<VmId, Option<Words>> = BTreeMap::new();
        for lease in networks.read.iter().flat_map(|network| &network.leases) {
            let Holder::Vm(vm) = lease.holder else { continue };
            let words = vms.entry(vm).or_default();
            if lease.looked_at {
                words.get_or_insert_default();
            }
            if let (true, Some(words)) = (lease.backend, words) {
                for (slot, said) in offers(vm, &lease.attributes, id) {
                    words.offers.entry(slot).or_default().extend(said);
                }
            }
        }
        let whole = networks.unread.is_empty()
            && me.is_some_and(|me| vms.contains_key(&me))
            && vms.values().all(Option::is_some);
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
                Some(offers) if offers.iter().any(is_same) => Proof::Stands,
                Some(_) => Proof::Withdrawn,
                // Its attributes are there, but not this one.
                None if self.whole => Proof::Withdrawn,
                None => Proof::None,
            },
        }
    }
}

/// Where all who offer rest, those who go down do not: after the shutdown of a whole service whoever is back first serves,
/// and a silent OneGate does not keep him from it. HAProxy's own check finds those who are not back.
fn wake_the_last(mut all: Vec<&mut Words>) {
    let place = |offer: &Offer| (offer.slot, offer.listener.clone(), offer.listener_port);
    let offers = all.iter().flat_map(|words| words.offers.values().flatten());
    let serving: BTreeSet<_> = offers.filter(|offer| offer.server.weight != Some(0)).map(place).collect();
    for words in all.iter_mut().filter(|words| words.leaving) {
        let resting = words.offers.values_mut().flatten().filter(|offer| !serving.contains(&place(offer)));
        resting.for_each(|offer| offer.server.weight = None);
    }
}

/// `None` if the answer lacks this VM's data. OneFlow gives every VM a ROLE_NAME, so attributes without it are not all.
fn words(vm: &Vm, id: u32) -> Option<Words> {
    vm.role()?;
    let leaving = vm.attribute(names::STATE) == Some(names::LEAVING);
    Some(Words { done: vm.is_done(), leaving, offers: offers(vm.id, vm.attributes.as_ref()?, id) })
}

/// What one VM's attributes say to each balancer.
fn offers(vm: VmId, attributes: &BTreeMap<String, String>, id: u32) -> BTreeMap<Slot, Vec<Offer>> {
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
            if let Some(words) = offer(vm, attributes, (family, index), id) {
                offers.insert((family, index), words);
            }
        }
    }
    offers
}

/// The VM's words for a balancer: an empty list takes the offer back, `None` says nothing that can be used.
fn offer(vm: VmId, attributes: &BTreeMap<String, String>, slot: Slot, own: u32) -> Option<Vec<Offer>> {
    let (family, index) = slot;
    let get = |setting: &str| {
        let value = attributes.get(&format!("{}{index}_{setting}", family.prefix()))?.trim();
        (!value.is_empty()).then_some(value)
    };
    if get("ID").is_some_and(|id| id != own.to_string()) {
        return None;
    }
    let taken_back = |value: Option<&str>| value == Some(names::NONE);
    if get("SERVER_PORT") == Some(WITHDRAWN_PORT)
        || ["SERVER_PORT", "SERVER_HOST"].map(get).into_iter().any(taken_back)
    {
        return Some(Vec::new());
    }
    let port = |setting: &str| match (get(setting), family) {
        (Some(text), _) => crate::context::vnf::port(text).map(Some),
        (None, Family::Lvs) => Some(None),
        (None, Family::Haproxy) => None,
    };
    let weight = match family {
        Family::Haproxy => crate::context::vnf::weight,
        Family::Lvs => crate::context::vnf::ipvs_weight,
    };
    let (listener_port, server_port) = (port("PORT")?, port("SERVER_PORT")?);
    if listener_port.is_some() != server_port.is_some() {
        return None;
    }
    Some(vec![Offer {
        slot,
        listener: listener(get("IP")?)?,
        listener_port,
        vm,
        server: Server {
            host: Host::parse(get("SERVER_HOST")?)?,
            port: server_port,
            weight: get("SERVER_WEIGHT").and_then(weight),
            upper: get("SERVER_ULIMIT").and_then(crate::context::vnf::limit),
            lower: get("SERVER_LLIMIT").and_then(crate::context::vnf::limit),
        },
    }])
}

/// An address or a placeholder, without a `/length`; anything else can be no listener.
pub(super) fn listener(text: &str) -> Option<String> {
    if placeholder::is_well_formed(text) {
        return Some(text.to_owned());
    }
    placeholder::resolve(&[], text).map(|address| address.to_string())
}
