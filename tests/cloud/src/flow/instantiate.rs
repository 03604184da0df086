//! From a service template to a service, and from a role to its VMs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::service::{FlowState, Node, Role, Service, Watched};
use crate::attributes::{Attributes, Value};
use crate::cloud::{Cloud, Refused, Timer};
use crate::create::{Draft, NicRequest};
use crate::id::ServiceId;
use crate::options::UserInputs;
use crate::templates::{RoleTemplate, ServiceTemplate, Templates};
use crate::text;

/// Seconds between two scalings if neither policy nor role says (OneFlow's own default).
const DEFAULT_COOLDOWN: u64 = 300;

/// What a user says when instantiating a service template.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instantiate {
    /// Another name for the service.
    pub name: Option<String>,
    /// User inputs that are not to have their default.
    pub inputs: BTreeMap<String, String>,
    /// Which network stands for `$Public`, `$Private`.
    pub networks: BTreeMap<String, String>,
    /// How many VMs a role begins with, if not as the template says.
    pub cardinality: BTreeMap<String, u32>,
}

impl Instantiate {
    /// `Public` and `Private` on the networks of [`crate::Options::default`].
    pub fn oneke() -> Self {
        let networks = [("Public", "public"), ("Private", "private")];
        Self {
            networks: networks.map(|(name, network)| (name.to_owned(), network.to_owned())).into(),
            ..Self::default()
        }
    }
}

impl Cloud {
    /// `oneflow-template instantiate`: a new service, whose first roles are deployed at once.
    ///
    /// # Errors
    /// If an input, a network or a role is unknown. A network without a free address makes the
    /// deployment fail instead.
    pub fn instantiate(
        &mut self,
        now: Duration,
        templates: &Templates,
        request: &Instantiate,
    ) -> Result<ServiceId, Refused> {
        self.tick(now);
        self.expect_oneflow()?;
        let template = &templates.service;
        check(template, request)?;
        let known = |name: &&String| self.networks.iter().any(|network| network.spec.name == **name);
        if let Some(name) = request.networks.values().find(|name| !known(name)) {
            return Err(Refused(format!("there is no network {name:?}")));
        }
        let mut inputs = template.default_inputs();
        inputs.extend(request.inputs.clone());
        let id = ServiceId(self.next_service);
        let mut roles = Vec::new();
        for role in &template.roles {
            let mut role = new_role(templates, role, &inputs, &request.networks)?;
            if let Some(cardinality) = request.cardinality.get(&role.name) {
                role.cardinality = *cardinality;
            }
            roles.push(role);
        }
        let service = Service {
            id,
            name: request.name.clone().unwrap_or_else(|| template.name.clone()),
            state: FlowState::Deploying,
            roles,
            gate: template.ready_status_gate,
            blind: false,
            since: now,
            generation: 0,
            last_schedule: now,
            inputs,
        };
        self.next_service += 1;
        self.services.insert(id, service);
        self.set_service_state(now, id, FlowState::Deploying);
        self.deploy_roles(now, id);
        self.at(now + self.options.timing.reaction, Timer::Look(id));
        self.remember(now);
        Ok(id)
    }

    /// Creates as many VMs as a role lacks, and lists them.
    pub(crate) fn add_nodes(&mut self, at: Duration, id: ServiceId, role: usize) -> Result<(), Refused> {
        loop {
            let service = &self.services[&id];
            let role_now = &service.roles[role];
            if role_now.nodes.len() >= role_now.cardinality as usize {
                return Ok(());
            }
            let name = format!("{}_{}_(service_{id})", role_now.name, role_now.next_index);
            let draft = self.draft(service, role_now, name.clone());
            let vm = self.create(at, draft)?;
            let role_now = &mut self.services.get_mut(&id).expect("it was just read").roles[role];
            role_now.next_index += 1;
            role_now.nodes.push(Node { vm, name, ready: false, leaving: false, alarmed: false });
        }
    }

    fn draft(&self, service: &Service, role: &Role, name: String) -> Draft {
        let parent_value = |path: &str| self.parent_value(service, path);
        let fill = |value: &str| interpolate(value, &parent_value);
        let mut attributes = role.vm_template.attributes.clone();
        let mut nics = Vec::new();
        for (name, values) in role.contents.iter() {
            for value in values {
                match value {
                    Value::Vector(nic) if name == "NIC" => nics.push(NicRequest {
                        network: nic.get("NETWORK").or(nic.get("NETWORK_ID")).cloned().unwrap_or_default(),
                        name: nic.get("NAME").cloned(),
                        ..NicRequest::default()
                    }),
                    Value::Vector(_) => attributes.add(name, value.clone()),
                    Value::Text(text) => attributes.set(name, fill(text)),
                }
            }
        }
        attributes.set("SERVICE_ID", service.id.to_string());
        attributes.set("ROLE_NAME", role.name.clone());
        let context = match self.options.user_inputs {
            UserInputs::All => {
                service.inputs.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
            }
            UserInputs::Named => BTreeMap::new(),
        };
        let membership = Some((service.id, role.name.clone()));
        Draft {
            name,
            template: role.vm_template.clone(),
            nics,
            attributes,
            membership,
            virtual_router: None,
            context,
        }
    }

    /// `vnf.TEMPLATE.CONTEXT.ETH0_IP` of the first VM of a role that was deployed earlier.
    fn parent_value(&self, service: &Service, path: &str) -> Option<String> {
        let (role, path) = path.split_once('.')?;
        let vm = self.vms.get(&service.role(role)?.nodes.first()?.vm)?;
        match path.split_once('.') {
            Some(("TEMPLATE", path)) => vm.context.get(path.strip_prefix("CONTEXT.")?).cloned(),
            Some(("USER_TEMPLATE", name)) => vm.user_template.text(name).map(str::to_owned),
            _ if path == "NAME" => Some(vm.name.clone()),
            _ => None,
        }
    }
}

fn check(template: &ServiceTemplate, request: &Instantiate) -> Result<(), Refused> {
    let unknown = |what: &str, name: &String| Refused(format!("the service template has no {what} {name:?}"));
    if let Some(name) = request.inputs.keys().find(|name| !template.user_inputs.contains_key(*name)) {
        return Err(unknown("user input", name));
    }
    if let Some(name) = template.networks.keys().find(|name| !request.networks.contains_key(*name)) {
        return Err(Refused(format!("no network was given for {name:?}")));
    }
    let has_role = |name: &&String| template.roles.iter().any(|role| role.name == **name);
    match request.cardinality.keys().find(|name| !has_role(name)) {
        Some(name) => Err(unknown("role", name)),
        None => Ok(()),
    }
}

fn new_role(
    templates: &Templates,
    role: &RoleTemplate,
    inputs: &BTreeMap<String, String>,
    networks: &BTreeMap<String, String>,
) -> Result<Role, Refused> {
    let vm_template = (templates.vms.get(&role.vm_template))
        .ok_or_else(|| Refused(format!("role {} has no VM template", role.name)))?;
    let written = text::parse(&role.vm_template_contents)
        .map_err(|error| Refused(format!("role {}: {error}", role.name)))?;
    let shutdown = role.shutdown_action.as_deref().or(templates.service.shutdown_action.as_deref());
    let watched = |policy: &_| Watched {
        policy: Clone::clone(policy),
        last_evaluation: None,
        true_evaluations: None,
        words: None,
    };
    Ok(Role {
        name: role.name.clone(),
        cardinality: role.cardinality,
        state: FlowState::Pending,
        nodes: Vec::new(),
        parents: role.parents.clone(),
        min_vms: role.min_vms,
        max_vms: role.max_vms,
        cooldown: Duration::from_secs(role.cooldown.unwrap_or(DEFAULT_COOLDOWN)),
        hard_shutdown: shutdown == Some("terminate-hard"),
        vm_template: vm_template.clone(),
        contents: filled(&written, inputs, networks),
        policies: role.elasticity_policies.iter().map(watched).collect(),
        schedule: role.scheduled_policies.clone(),
        next_index: 0,
    })
}

/// A role's contents with `$INPUT` and `$Network` replaced.
fn filled(
    written: &Attributes,
    inputs: &BTreeMap<String, String>,
    networks: &BTreeMap<String, String>,
) -> Attributes {
    let fill = |text: &String| match text.strip_prefix('$') {
        Some(name) => inputs.get(name).or(networks.get(name)).unwrap_or(text).clone(),
        None => text.clone(),
    };
    let mut filled = Attributes::default();
    for (name, values) in written.iter() {
        for value in values {
            let value = match value {
                Value::Text(text) => Value::Text(fill(text)),
                Value::Vector(vector) => {
                    Value::Vector(vector.iter().map(|(name, text)| (name.clone(), fill(text))).collect())
                }
            };
            filled.add(name, value);
        }
    }
    filled
}

/// Replaces each `${role.PATH}`; one that leads nowhere becomes nothing.
fn interpolate(value: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((path, tail)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(&lookup(path).unwrap_or_default());
        rest = tail;
    }
    out + rest
}
