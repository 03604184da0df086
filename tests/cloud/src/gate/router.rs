//! `/vrouter` and `/vnet/ID`: what members of a virtual router see.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::json;
use super::long_form::Nothing;
use crate::cloud::Cloud;
use crate::http::Response;
use crate::id::VmId;
use crate::network::{Holder, Network, mac};
use crate::virtual_router::RouterNic;

#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Whole(u32),
}

#[derive(Serialize)]
struct Ids<T> {
    #[serde(rename = "ID")]
    id: Vec<T>,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct RouterEnvelope<'a> {
    vrouter: Router<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Router<'a> {
    name: &'a str,
    id: String,
    vms: Ids<Number>,
    template: RouterTemplate,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct RouterTemplate {
    nic: Vec<BTreeMap<&'static str, String>>,
    template_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct NetworkEnvelope<'a> {
    vnet: Shown<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Shown<'a> {
    id: String,
    name: &'a str,
    used_leases: String,
    vrouters: Ids<String>,
    parent_network_id: Nothing,
    ar_pool: Ranges,
    template: NetworkTemplate<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Ranges {
    ar: [Range; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Range {
    ar_id: &'static str,
    ip: String,
    mac: String,
    next_index: String,
    shared: &'static str,
    size: String,
    #[serde(rename = "TYPE")]
    kind: &'static str,
    mac_end: String,
    ip_end: String,
    used_leases: String,
    leases: Leases,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Leases {
    lease: Vec<Lease>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Lease {
    ip: String,
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vrouter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nic_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
    /// What a backend publishes for its virtual routers.
    #[serde(flatten)]
    published: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct NetworkTemplate<'a> {
    network_address: String,
    network_mask: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    dns: &'a str,
}

impl Cloud {
    pub(super) fn virtual_router_response(&self, vm: VmId) -> Result<Response, Response> {
        let none = || Response::new(400, "Empty or invalid VROUTER_ID");
        let id = self.vms[&vm].virtual_router.ok_or_else(none)?;
        let router = self.virtual_routers.get(&id).ok_or_else(none)?;
        // One number comes as a text, several as numbers.
        let number = |vm: &VmId| match router.vms.len() {
            1 => Number::Text(vm.to_string()),
            _ => Number::Whole(vm.0),
        };
        Ok(json(&RouterEnvelope {
            vrouter: Router {
                name: &router.name,
                id: id.to_string(),
                vms: Ids { id: router.vms.iter().map(number).collect() },
                template: RouterTemplate {
                    nic: router.nics.iter().enumerate().map(router_nic).collect(),
                    template_id: router.template_id.to_string(),
                },
            },
        }))
    }

    pub(super) fn network_response(&self, vm: VmId, id: &str, extended: bool) -> Result<Response, Response> {
        let refused = |text: String| Response::new(400, text);
        let router = self.vms[&vm].virtual_router.ok_or_else(|| {
            refused("Virtual networks information can only be retrieved from Virtual Routers.".to_owned())
        })?;
        let number: u32 = id
            .parse()
            .map_err(|_| refused(format!("Invalid id format (ID: {id}). ID must be an integer.")))?;
        let network = (self.networks.iter().find(|network| network.id == number))
            .ok_or_else(|| Response::new(404, format!("Virtual network {number} not found")))?;
        let uses =
            |router: u32| self.virtual_routers[&router].nics.iter().any(|nic| nic.network_id == number);
        if !uses(router) {
            let text = format!("Virtual Network {number} cannot be retrieved from Virtual router {router}.");
            return Err(refused(text));
        }
        if self.faults.unreadable_networks.contains(&number) {
            return Err(Response::new(500, "Internal server error"));
        }
        let routers = self.virtual_routers.keys().filter(|router| uses(**router));
        let spec = &network.spec;
        Ok(json(&NetworkEnvelope {
            vnet: Shown {
                id: number.to_string(),
                name: &spec.name,
                used_leases: network.leases.len().to_string(),
                vrouters: Ids { id: routers.map(u32::to_string).collect() },
                parent_network_id: Nothing {},
                ar_pool: Ranges { ar: [self.range(network, extended)] },
                template: NetworkTemplate {
                    network_address: spec.address.to_string(),
                    network_mask: spec.mask.to_string(),
                    gateway: spec.gateway.map(|gateway| gateway.to_string()),
                    dns: &spec.dns,
                },
            },
        }))
    }

    fn range(&self, network: &Network, extended: bool) -> Range {
        let spec = &network.spec;
        let end = Ipv4Addr::from(u32::from(spec.first) + spec.size - 1);
        let lease = |(ip, holder): (&Ipv4Addr, &Holder)| self.lease(*ip, *holder, extended);
        Range {
            ar_id: "0",
            ip: spec.first.to_string(),
            mac: mac(spec.first),
            next_index: network.next.to_string(),
            shared: "NO",
            size: spec.size.to_string(),
            kind: "IP4",
            mac_end: mac(end),
            ip_end: end.to_string(),
            used_leases: network.leases.len().to_string(),
            leases: Leases { lease: network.leases.iter().map(lease).collect() },
        }
    }

    fn lease(&self, ip: Ipv4Addr, holder: Holder, extended: bool) -> Lease {
        let mut lease = Lease {
            ip: ip.to_string(),
            mac: mac(ip),
            vm: None,
            vrouter: None,
            nic_name: None,
            backend: None,
            published: BTreeMap::new(),
        };
        match holder {
            Holder::VirtualRouter(router) => lease.vrouter = Some(router.to_string()),
            Holder::Vm(id) => {
                lease.vm = Some(id.to_string());
                if let Some(vm) = self.vms.get(&id).filter(|_| extended) {
                    let nic = vm.nics.iter().chain(&vm.aliases).find(|nic| nic.ip == ip);
                    lease.nic_name = nic.map(|nic| nic.name.clone());
                    if vm.context.get("BACKEND").is_some_and(|backend| backend == "YES") {
                        lease.backend = Some("YES");
                        let names = vm.user_template.iter().map(|(name, _)| name);
                        let public = names.filter(|name| name.starts_with("ONEGATE_"));
                        let text =
                            |name: &String| Some((name.clone(), vm.user_template.text(name)?.to_owned()));
                        lease.published = public.filter_map(text).collect();
                    }
                }
            }
        }
        lease
    }
}

fn router_nic((number, nic): (usize, &RouterNic)) -> BTreeMap<&'static str, String> {
    let mut fields = BTreeMap::from([
        ("NETWORK", nic.network.clone()),
        ("NETWORK_ID", nic.network_id.to_string()),
        ("NIC_ID", number.to_string()),
    ]);
    if let Some(ip) = nic.floating {
        fields.insert("AR_ID", "0".to_owned());
        fields.insert("FLOATING_IP", "YES".to_owned());
        fields.insert("VROUTER_IP", ip.to_string());
        fields.insert("VROUTER_MAC", mac(ip));
    }
    fields
}
