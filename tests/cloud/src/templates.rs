//! The templates that users import: YAML as the marketplace holds it, read into plain values.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::attributes::{Attributes, Value};
use crate::flow::policy::{ElasticityPolicy, ScheduledPolicy};
use crate::text;

/// One service template and the VM templates its roles use.
#[derive(Clone, Debug, PartialEq)]
pub struct Templates {
    /// What `oneflow-template` holds.
    pub service: ServiceTemplate,
    /// By the names that the roles give.
    pub vms: BTreeMap<String, VmTemplate>,
}

/// A service template.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ServiceTemplate {
    /// The service is called so too.
    pub name: String,
    /// In the order given; `straight` deployment follows their parents.
    pub roles: Vec<RoleTemplate>,
    /// Names of the networks that roles refer to as `$Public`.
    #[serde(default)]
    pub networks: BTreeMap<String, String>,
    /// Name to `O|text|description|options|default`.
    #[serde(default)]
    pub user_inputs: BTreeMap<String, String>,
    /// Whether a role runs only when its VMs have said `READY=YES`.
    #[serde(default)]
    pub ready_status_gate: bool,
    /// `terminate` or `terminate-hard`.
    #[serde(default)]
    pub shutdown_action: Option<String>,
}

/// One role of a service template.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct RoleTemplate {
    /// `vnf`, `master`, ...
    pub name: String,
    /// Roles that must run before this one is deployed.
    pub parents: Vec<String>,
    /// How many VMs to begin with.
    pub cardinality: u32,
    /// Fewer are refused, and restored by the autoscaler; unset is 0.
    pub min_vms: Option<u32>,
    /// More are refused; unset means no limit by hand, and no scaling up by policy.
    pub max_vms: Option<u32>,
    /// Seconds; unset is 300.
    pub cooldown: Option<u64>,
    /// Overrides the service's.
    pub shutdown_action: Option<String>,
    /// Attributes for the role's VMs, in oned's syntax.
    pub vm_template_contents: String,
    /// In the order they are tried.
    pub elasticity_policies: Vec<ElasticityPolicy>,
    /// In the order they are tried.
    pub scheduled_policies: Vec<ScheduledPolicy>,
    /// The VM template's name; the marketplace says it outside the template.
    #[serde(skip)]
    pub vm_template: String,
}

/// A VM template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VmTemplate {
    /// The number oned gave it.
    pub id: u32,
    /// Context, as written.
    pub context: BTreeMap<String, String>,
    /// Everything else that ends in a VM's USER_TEMPLATE.
    pub attributes: Attributes,
    /// `CPU`.
    pub cpu: String,
    /// `MEMORY`, in MiB.
    pub memory: String,
    /// How many disks come before the context CD.
    pub disks: u32,
}

#[derive(Deserialize)]
struct Listing {
    name: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    roles: BTreeMap<String, String>,
    #[serde(default)]
    disks: Vec<String>,
    #[serde(default)]
    images: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Holding<T> {
    opennebula_template: T,
}

/// A file that is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Not YAML, or not of the marketplace's shape.
    #[error("could not read a template")]
    Yaml(#[from] serde_saphyr::Error),
    /// There must be exactly one service template.
    #[error("expected one service template, found {0}")]
    Services(usize),
    /// A role names a VM template that was not given.
    #[error("role {0} uses a VM template that is not there: {1:?}")]
    Missing(String, String),
    /// The role's contents are not in oned's syntax.
    #[error("role {0} has contents that oned refuses")]
    Contents(String),
}

impl Templates {
    /// The marketplace's OneKE 1.33 for KVM.
    pub fn oneke() -> Self {
        Self::read(&[
            include_str!("../templates/oneke-133-service-x86_64.yaml"),
            include_str!("../templates/oneke-133-vnf-x86_64.yaml"),
            include_str!("../templates/oneke-133-x86_64.yaml"),
            include_str!("../templates/oneke-133-storage-x86_64.yaml"),
        ])
        .expect("the templates in this repository are whole")
    }

    /// Reads one service template and its VM templates, in any order.
    ///
    /// # Errors
    /// If a text is no template, or they do not belong together.
    pub fn read(texts: &[&str]) -> Result<Self, TemplateError> {
        let (mut services, mut vms) = (Vec::new(), BTreeMap::new());
        for text in texts {
            let listing: Listing = serde_saphyr::from_str(text)?;
            if listing.kind.as_deref() == Some("SERVICE_TEMPLATE") {
                let holding: Holding<ServiceTemplate> = serde_saphyr::from_str(text)?;
                services.push((holding.opennebula_template, listing.roles));
            } else {
                let mut vm = vm_template(text)?;
                vm.id = vms.len() as u32;
                vm.disks = listing.disks.len().max(listing.images.len()) as u32;
                vms.insert(listing.name, vm);
            }
        }
        let count = services.len();
        let (Some((mut service, names)), 1) = (services.pop(), count) else {
            return Err(TemplateError::Services(count));
        };
        for role in &mut service.roles {
            role.vm_template = names.get(&role.name).cloned().unwrap_or_default();
        }
        Self { service, vms }.checked()
    }

    /// The same, if every role has its VM template and contents that oned accepts.
    ///
    /// # Errors
    /// The first role that has not.
    pub fn checked(self) -> Result<Self, TemplateError> {
        for role in &self.service.roles {
            if !self.vms.contains_key(&role.vm_template) {
                return Err(TemplateError::Missing(role.name.clone(), role.vm_template.clone()));
            }
            text::parse(&role.vm_template_contents)
                .map_err(|_| TemplateError::Contents(role.name.clone()))?;
        }
        Ok(self)
    }
}

impl ServiceTemplate {
    /// What each user input is when the user says nothing.
    pub fn default_inputs(&self) -> BTreeMap<String, String> {
        let default = |form: &String| form.splitn(5, '|').nth(4).unwrap_or_default().to_owned();
        self.user_inputs.iter().map(|(name, form)| (name.clone(), default(form))).collect()
    }
}

fn vm_template(text: &str) -> Result<VmTemplate, TemplateError> {
    let holding: Holding<BTreeMap<String, Part>> = serde_saphyr::from_str(text)?;
    let mut template = VmTemplate::default();
    for (name, part) in holding.opennebula_template {
        match (name.to_lowercase().as_str(), part) {
            ("context", Part::Map(context)) => template.context = texts(context),
            ("cpu", Part::Scalar(text)) => template.cpu = text.into(),
            ("memory", Part::Scalar(text)) => template.memory = text.into(),
            // oned keeps these in TEMPLATE, or uses them and forgets them.
            ("vcpu" | "graphics" | "nic_default" | "os" | "user_inputs" | "features", _) => {}
            (_, Part::Scalar(text)) => template.attributes.add(&name, Value::Text(text.into())),
            (_, Part::Map(map)) => template.attributes.add(&name, Value::Vector(texts(map))),
            (_, Part::Other(_)) => {}
        }
    }
    Ok(template)
}

fn texts(map: BTreeMap<String, Scalar>) -> BTreeMap<String, String> {
    map.into_iter().map(|(name, text)| (name.to_uppercase(), text.into())).collect()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Scalar(Scalar),
    Map(BTreeMap<String, Scalar>),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Whole(i64),
    Truth(bool),
}

impl From<Scalar> for String {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Text(text) => text,
            Scalar::Whole(number) => number.to_string(),
            Scalar::Truth(truth) => truth.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marketplace_templates_are_read() {
        let templates = Templates::oneke();
        let roles: Vec<_> = templates
            .service
            .roles
            .iter()
            .map(|role| (role.name.as_str(), role.cardinality, role.cooldown))
            .collect();
        assert_eq!(
            roles,
            [
                ("vnf", 1, Some(120)),
                ("master", 1, Some(120)),
                ("worker", 1, Some(120)),
                ("storage", 0, Some(120))
            ]
        );
        assert!(templates.service.ready_status_gate);
        assert_eq!(templates.service.default_inputs()["ONEAPP_VNF_HAPROXY_LB0_PORT"], "9345");
        let storage = &templates.vms["OneKE 1.33 Storage"];
        assert_eq!((storage.disks, storage.context["GROW_FS"].as_str()), (2, "/ /var/lib/longhorn"));
    }

    #[test]
    fn a_role_without_its_vm_template_is_refused() {
        let mut templates = Templates::oneke();
        templates.vms.remove("OneKE 1.33");
        let error = templates.checked().unwrap_err().to_string();
        assert_eq!(error, "role master uses a VM template that is not there: \"OneKE 1.33\"");
    }
}
