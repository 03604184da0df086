//! Making VMs: addresses, attributes, context, token.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::cloud::{Cloud, Refused};
use crate::context::{Sources, interface, substitute};
use crate::id::{ServiceId, VmId};
use crate::network::{self, Holder, Nic};
use crate::templates::VmTemplate;
use crate::vm::{Hardware, Vm, VmState};

/// A NIC that a VM shall have.
#[derive(Clone, Debug, Default)]
pub struct NicRequest {
    /// The network's name.
    pub network: String,
    /// A name of its own; unset is `NIC0`, `NIC1`, ...
    pub name: Option<String>,
    /// Makes it an alias of the NIC of this name.
    pub parent: Option<String>,
    /// The floating address that a virtual router has on this network.
    pub vrouter_ip: Option<std::net::Ipv4Addr>,
}

/// A VM that shall be.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub name: String,
    pub template: VmTemplate,
    pub nics: Vec<NicRequest>,
    pub attributes: Attributes,
    pub membership: Option<(ServiceId, String)>,
    pub virtual_router: Option<u32>,
    /// Context variables beyond the template's; they win.
    pub context: BTreeMap<String, String>,
}

impl Cloud {
    /// `onetemplate instantiate`: a VM on its own, without a service.
    ///
    /// # Errors
    /// If a network is unknown or has no address left.
    pub fn create_vm(
        &mut self,
        now: Duration,
        name: &str,
        template: &VmTemplate,
        nics: Vec<NicRequest>,
    ) -> Result<VmId, Refused> {
        self.tick(now);
        let draft = Draft {
            name: name.to_owned(),
            template: template.clone(),
            nics,
            attributes: template.attributes.clone(),
            membership: None,
            virtual_router: None,
            context: BTreeMap::new(),
        };
        self.create(now, draft)
    }

    pub(crate) fn create(&mut self, now: Duration, draft: Draft) -> Result<VmId, Refused> {
        let id = VmId(self.next_vm);
        let (nics, aliases) = self.plug(id, &draft.nics)?;
        let token = self.new_token();
        let uuid = uuid(self.chance.block());
        let template = &draft.template;
        let mut vm = Vm {
            id,
            name: draft.name,
            state: VmState::Pending,
            user_template: draft.attributes,
            context: BTreeMap::new(),
            nics,
            aliases,
            token,
            membership: draft.membership,
            virtual_router: draft.virtual_router,
            hardware: Hardware {
                template_id: template.id,
                cpu: template.cpu.clone(),
                memory: template.memory.clone(),
                uuid,
            },
            created: now,
            started: None,
            stopped: None,
            ended: None,
            fresh_disk: true,
            generation: 0,
        };
        vm.context = self.context_of(&vm, template, &draft.context);
        self.next_vm += 1;
        self.vms.insert(id, vm);
        self.enter(now, id, VmState::Pending);
        Ok(id)
    }

    /// Leases all or nothing.
    fn plug(&mut self, vm: VmId, requests: &[NicRequest]) -> Result<(Vec<Nic>, Vec<Nic>), Refused> {
        let (mut nics, mut aliases) = (Vec::new(), Vec::new());
        for (number, request) in requests.iter().enumerate() {
            match self.plug_one(vm, request, number) {
                Ok(nic) if nic.parent.is_some() => aliases.push(nic),
                Ok(nic) => nics.push(nic),
                Err(refused) => {
                    self.networks.iter_mut().for_each(|network| network.release(vm));
                    return Err(refused);
                }
            }
        }
        Ok((nics, aliases))
    }

    fn plug_one(&mut self, vm: VmId, request: &NicRequest, number: usize) -> Result<Nic, Refused> {
        let network = (self.networks.iter_mut().find(|network| network.spec.name == request.network))
            .ok_or_else(|| Refused(format!("there is no network {:?}", request.network)))?;
        let ip = (network.lease(Holder::Vm(vm), self.options.reuse_addresses))
            .ok_or_else(|| Refused(format!("network {:?} has no free address", request.network)))?;
        Ok(Nic {
            name: nic_name(request, number),
            network_id: network.id,
            network: network.spec.name.clone(),
            ip,
            mac: network::mac(ip),
            ipv6: network.spec.ipv6.map(|prefixes| network::ipv6(prefixes, ip)),
            vrouter_ip: request.vrouter_ip,
            parent: request.parent.clone(),
        })
    }

    fn context_of(
        &self,
        vm: &Vm,
        template: &VmTemplate,
        more: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let lookup = |name: &str| match name {
            "VMID" => Some(vm.id.to_string()),
            "NAME" => Some(vm.name.clone()),
            _ => vm.user_template.text(name).map(str::to_owned),
        };
        let sources = Sources { attribute: &lookup, user: &self.options.owner.attributes };
        let literal = |value: &String| match vm.membership {
            // OneFlow hands line breaks on as a comma and a line break.
            Some(_) => value.trim().replace('\n', ",\n"),
            None => value.clone(),
        };
        let written =
            template.context.iter().map(|(name, value)| (name, substitute(&literal(value), &sources)));
        let more = more.iter().map(|(name, value)| (name, value.clone()));
        let mut context: BTreeMap<_, _> =
            written.chain(more).map(|(name, value)| (name.to_uppercase(), value.trim().to_owned())).collect();
        let asks = |name: &str| context.get(name).is_some_and(|value| value.eq_ignore_ascii_case("YES"));
        let (wants_network, wants_token) = (asks("NETWORK"), asks("TOKEN"));
        if wants_network {
            self.add_interfaces(vm, &mut context);
        }
        if wants_token {
            context.insert("ONEGATE_ENDPOINT".to_owned(), self.options.endpoint.clone());
            context.insert("VMID".to_owned(), vm.id.to_string());
        }
        if let Some(router) = vm.virtual_router {
            context.insert("VROUTER_ID".to_owned(), router.to_string());
            context.insert("VROUTER_KEEPALIVED_ID".to_owned(), (router % 255 + 1).to_string());
        }
        context.insert("DISK_ID".to_owned(), template.disks.to_string());
        context.insert("TARGET".to_owned(), "hda".to_owned());
        context
    }

    fn add_interfaces(&self, vm: &Vm, context: &mut BTreeMap<String, String>) {
        let network = |nic: &Nic| &self.networks[nic.network_id as usize].spec;
        for (index, nic) in vm.nics.iter().enumerate() {
            context.extend(interface(&format!("ETH{index}"), nic, network(nic)));
            let aliases = vm.aliases.iter().filter(|alias| alias.parent.as_ref() == Some(&nic.name));
            for (number, alias) in aliases.enumerate() {
                context.extend(interface(&format!("ETH{index}_ALIAS{number}"), alias, network(alias)));
            }
        }
    }
}

/// oned keeps `NIC*` for the names that it gives, and puts `_` before a user's own.
fn nic_name(request: &NicRequest, number: usize) -> String {
    match (&request.name, &request.parent) {
        (Some(name), _) if name.starts_with("NIC") => format!("_{name}"),
        (Some(name), _) => name.clone(),
        (None, None) => format!("NIC{number}"),
        (None, Some(_)) => format!("NIC0_ALIAS{number}"),
    }
}

fn uuid(block: [u8; 16]) -> String {
    let hex: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
    // Version 4, variant 1 (RFC 9562).
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
