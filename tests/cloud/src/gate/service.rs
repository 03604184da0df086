//! The service as `/service` shows it, and which VMs a member can reach through it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::long_form::LongForm;
use super::{json, ruby_number};
use crate::cloud::Cloud;
use crate::flow::service::{FlowState, Node, Service};
use crate::http::Response;
use crate::id::{ServiceId, VmId};
use crate::vm::Vm;

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "SERVICE")]
    service: Shown<'a>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    id: String,
    state: FlowState,
    roles: Vec<ShownRole<'a>>,
}

#[derive(Serialize)]
struct ShownRole<'a> {
    name: &'a str,
    cardinality: u32,
    state: FlowState,
    nodes: Vec<ShownNode<'a>>,
}

#[derive(Serialize)]
struct ShownNode<'a> {
    deploy_id: u32,
    /// Always null: OneFlow no longer keeps it.
    running: Option<()>,
    vm_info: Option<Info<'a>>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(rename = "VM")]
    vm: Form<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Form<'a> {
    Short(Names<'a>),
    Long(Box<LongForm<'a>>),
}

/// All that OneFlow keeps of a VM: as it was when the VM was created.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Names<'a> {
    id: String,
    uid: String,
    gid: String,
    uname: &'a str,
    gname: &'a str,
    name: &'a str,
}

impl Cloud {
    /// A member may see its service; who left it may not, nor who only says that it belongs to it.
    pub(super) fn service_response(
        &mut self,
        now: Duration,
        vm: VmId,
        extended: bool,
    ) -> Result<Response, Response> {
        let id = self.service_id(vm)?;
        let stale = self.stale(now);
        let services = stale.as_ref().map_or(&self.services, |stale| &stale.services);
        let service = self.find_service(services, id)?.clone();
        if !service.contains(vm) {
            return Err(does_not_contain(id, vm));
        }
        let listed: Vec<VmId> = service.nodes().map(|node| node.vm).collect();
        let fates: BTreeMap<VmId, Fate> = listed.into_iter().map(|vm| (vm, self.fate(vm))).collect();
        let vms = stale.as_ref().map_or(&self.vms, |stale| &stale.vms);
        let mut roles = Vec::new();
        for role in &service.roles {
            let shown = role.nodes.iter().filter(|node| fates[&node.vm] != Fate::Missing);
            let nodes = shown.map(|node| ShownNode {
                deploy_id: node.vm.0,
                running: None,
                vm_info: (fates[&node.vm] == Fate::Shown)
                    .then(|| Info { vm: self.form(now, vms, node, extended) }),
            });
            let nodes = nodes.collect();
            roles.push(ShownRole {
                name: &role.name,
                cardinality: role.cardinality,
                state: role.state,
                nodes,
            });
        }
        let service = Shown { name: &service.name, id: id.to_string(), state: service.state, roles };
        Ok(json(&Envelope { service }))
    }

    /// The VM that a member means by `/vms/ID`: one of its own service or virtual router.
    pub(super) fn reachable(&self, vm: VmId, id: &str) -> Result<VmId, Response> {
        let target = ruby_number(id);
        let asking = &self.vms[&vm];
        if let Some(router) = asking.virtual_router {
            let text = || format!("Virtual Router {router} does not contain VM {target}.");
            let member = self.virtual_routers.get(&router).is_some_and(|router| router.vms.contains(&target));
            return if member { Ok(target) } else { Err(Response::new(400, text())) };
        }
        if asking.user_template.text("SERVICE_ID").is_none() {
            let text = "This VM does not belong to any Virtual Router or Service, so it cannot retrieve \
                        information from other VMs";
            return Err(Response::new(400, text));
        }
        let id = self.service_id(vm)?;
        let service = self.find_service(&self.services, id)?;
        if service.contains(target) { Ok(target) } else { Err(does_not_contain(id, target)) }
    }

    /// The service that a VM says it belongs to.
    pub(super) fn service_id(&self, vm: VmId) -> Result<ServiceId, Response> {
        let text = self.vms[&vm].user_template.text("SERVICE_ID").unwrap_or_default();
        let number = text.parse().ok().filter(|_| text.chars().all(|character| character.is_ascii_digit()));
        number.map(ServiceId).ok_or_else(|| Response::new(400, "Empty or invalid SERVICE_ID"))
    }

    /// Any fault of OneFlow looks like this: no such service.
    pub(super) fn find_service<'a>(
        &self,
        services: &'a BTreeMap<ServiceId, Service>,
        id: ServiceId,
    ) -> Result<&'a Service, Response> {
        let found = if self.faults.oneflow_down { None } else { services.get(&id) };
        found.ok_or_else(|| Response::new(404, format!("Service {id} not found")))
    }

    fn form<'a>(
        &'a self,
        now: Duration,
        vms: &'a BTreeMap<VmId, Vm>,
        node: &'a Node,
        extended: bool,
    ) -> Form<'a> {
        match vms.get(&node.vm) {
            Some(vm) if extended => Form::Long(Box::new(self.long_form(now, vm))),
            _ => Form::Short(self.names(node)),
        }
    }

    fn names<'a>(&'a self, node: &'a Node) -> Names<'a> {
        let owner = &self.options.owner;
        Names {
            id: node.vm.to_string(),
            uid: owner.id.to_string(),
            gid: owner.group_id.to_string(),
            uname: &owner.name,
            gname: &owner.group,
            name: &node.name,
        }
    }

    fn fate(&mut self, vm: VmId) -> Fate {
        let faults = &self.faults;
        if faults.missing_nodes.contains(&vm) || self.chance.one_in(faults.missing_node_one_in) {
            Fate::Missing
        } else if faults.null_vm_info.contains(&vm) || self.chance.one_in(faults.null_vm_info_one_in) {
            Fate::Null
        } else {
            Fate::Shown
        }
    }
}

/// What a fault makes of a node in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shown,
    Null,
    Missing,
}

pub(super) fn does_not_contain(service: ServiceId, vm: VmId) -> Response {
    Response::new(400, format!("Service {service} does not contain VM {vm}."))
}
