//! The one table of variables. It feeds the reader (defaults, forms, roles, secrets), the linter ("did you mean"),
//! `oneke-agent check`, and `docs/context-variables.md`.

mod addons;
mod form;
mod guest;
mod markdown;
mod node;
mod vnf;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use form::Form;
pub use markdown::markdown;

use crate::service::Role;

/// A variable, or a family of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name. A lower-case letter (`ETHx`, `LBn`, `SERVERm`) stands for a number, a final `*` for any ending.
    pub name: &'static str,
    /// What unset and empty mean, in the variable's own form; empty: nothing.
    pub default: &'static str,
    /// What it holds.
    pub form: Form,
    /// Whose behaviour depends on it. Newer front ends put every input into every role's context, so a variable's
    /// presence says nothing about the role (onegate.md), and its faults count only for these.
    pub roles: Roles,
    /// Where it comes from.
    pub origin: Origin,
    /// Its value is never shown.
    pub secret: bool,
    /// Who acts on it.
    pub served: Served,
    /// What it does, in a line.
    pub doc: &'static str,
    /// Where we are stricter or kinder than the old scripts; empty: nowhere.
    pub differs: &'static str,
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// None: read when an image is built, or ignored.
    pub const NONE: Self = Self(0);
    /// vnf.
    pub const VNF: Self = Self(1);
    /// master.
    pub const MASTER: Self = Self(2);
    /// worker, and every role that is not one of the other three.
    pub const WORKER: Self = Self(4);
    /// storage.
    pub const STORAGE: Self = Self(8);
    /// The three that run RKE2.
    pub const NODES: Self = Self(14);
    /// All four.
    pub const ALL: Self = Self(15);

    /// The set of one role.
    pub fn of(role: &Role) -> Self {
        match role {
            Role::Vnf => Self::VNF,
            Role::Master => Self::MASTER,
            Role::Worker(_) => Self::WORKER,
            Role::Storage => Self::STORAGE,
        }
    }

    /// True if the sets have a role in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::NONE => return f.write_str("none"),
            Self::ALL => return f.write_str("all"),
            Self::NODES => return f.write_str("nodes"),
            _ => {}
        }
        let names = [
            (Self::VNF, "vnf"),
            (Self::MASTER, "master"),
            (Self::WORKER, "worker"),
            (Self::STORAGE, "storage"),
        ];
        let named: Vec<&str> =
            names.into_iter().filter(|(role, _)| role.meets(*self)).map(|(_, name)| name).collect();
        f.write_str(&named.join(", "))
    }
}

/// Where a variable comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user input of the marketplace's service template.
    Marketplace,
    /// The old appliance knows it, the marketplace's template does not ask for it.
    Appliance,
    /// oned or one-context.
    OpenNebula,
    /// An older name; the newer one wins.
    Legacy,
    /// Ours.
    New,
}

/// Who acts on a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// This agent.
    Agent,
    /// The one-context package of the image.
    Guest,
    /// The image's build.
    Build,
    /// Nobody here, and why.
    No(&'static str),
}

const fn var(name: &'static str, form: Form, roles: Roles, doc: &'static str) -> Variable {
    Variable {
        name,
        default: "",
        form,
        roles,
        origin: Origin::Appliance,
        secret: false,
        served: Served::Agent,
        doc,
        differs: "",
    }
}

impl Variable {
    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn from(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    const fn input(self) -> Self {
        self.from(Origin::Marketplace)
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    const fn served(self, served: Served) -> Self {
        Self { served, ..self }
    }

    const fn differs(self, differs: &'static str) -> Self {
        Self { differs, ..self }
    }

    /// True if `name` is this variable or one of this family.
    pub fn matches(&self, name: &str) -> bool {
        let mut rest = name;
        let mut pattern = self.name.chars();
        while let Some(p) = pattern.next() {
            match p {
                '*' => return pattern.as_str().is_empty(),
                'a'..='z' => {
                    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                    if digits == 0 {
                        return false;
                    }
                    rest = &rest[digits..];
                }
                _ => match rest.strip_prefix(p) {
                    Some(after) => rest = after,
                    None => return false,
                },
            }
        }
        rest.is_empty()
    }
}

/// All variables, in the manual's order.
pub fn all() -> impl Iterator<Item = &'static Variable> {
    sections().flat_map(|(_, variables)| variables.iter())
}

/// The manual's sections.
fn sections() -> impl Iterator<Item = (&'static str, &'static [Variable])> {
    [
        ("The VM and its service", guest::SERVICE),
        ("Kubernetes nodes", node::VARIABLES),
        ("Add-ons", addons::VARIABLES.as_slice()),
        ("Addresses (VRRP)", vnf::ADDRESSES),
        ("Balancing with HAProxy", vnf::HAPROXY),
        ("Balancing with LVS", vnf::LVS),
        ("Routing, NAT and names", vnf::ROUTING),
        ("DHCP, SDNAT and WireGuard", vnf::OTHERS),
        ("Network interfaces", guest::NETWORK),
        ("The guest", guest::GUEST),
        ("Image build", node::BUILD),
    ]
    .into_iter()
}

/// The variable that `name` is, for one of `roles` if the table tells them apart.
pub fn find(name: &str, roles: Roles) -> Option<&'static Variable> {
    let mut entries = entries(name).peekable();
    let first = entries.peek().copied();
    entries.find(|variable| variable.roles.meets(roles)).or(first)
}

/// Every entry that `name` matches: a few variables mean one thing on nodes and another on vnf.
pub(super) fn entries(name: &str) -> impl Iterator<Item = &'static Variable> {
    let exact = INDEX.get(&shape(name)).map_or(&[][..], Vec::as_slice);
    let prefixes = PREFIXES.iter();
    exact.iter().chain(prefixes).copied().filter(move |variable| variable.matches(name))
}

/// True if a fault of `name` counts for `role`; without a role, and for a name that the table lacks, it does.
pub fn concerns(name: &str, role: Option<&Role>) -> bool {
    let Some(role) = role else { return true };
    let mut entries = entries(name).peekable();
    entries.peek().is_none() || entries.any(|variable| variable.roles.meets(Roles::of(role)))
}

/// True if the value of `name` must not be shown. Names that the table lacks are judged by their words.
pub fn is_secret(name: &str) -> bool {
    let mut entries = entries(name).peekable();
    if entries.peek().is_some() {
        return entries.any(|variable| variable.secret);
    }
    let words = ["PASS", "SECRET", "TOKEN", "PRIVATE", "CREDENTIAL", "AUTH", "KEY"];
    !name.contains("PUBLIC") && words.iter().any(|word| name.contains(word))
}

static INDEX: LazyLock<HashMap<String, Vec<&'static Variable>>> = LazyLock::new(|| {
    let mut index: HashMap<String, Vec<&'static Variable>> = HashMap::new();
    for variable in all().filter(|variable| !variable.name.ends_with('*')) {
        index.entry(shape(variable.name)).or_default().push(variable);
    }
    index
});

static PREFIXES: LazyLock<Vec<&'static Variable>> =
    LazyLock::new(|| all().filter(|variable| variable.name.ends_with('*')).collect());

/// The name with each number, and each letter that stands for one, as `#`: what a name and its pattern share.
fn shape(name: &str) -> String {
    let mut shape = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if c.is_ascii_digit() || c.is_ascii_lowercase() { '#' } else { c };
        if c != '#' || !shape.ends_with('#') {
            shape.push(c);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Vars};
    use super::*;

    #[test]
    fn families_match_numbers_and_endings_only() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(find(name, Roles::ALL).map(|variable| variable.name), expected, "{name}");
        };
        check("ETH12_IP6_ULA", Some("ETHx_IP6_ULA"));
        check("ETH_IP", None);
        check("ETHx_IP", None);
        check("ETH0_IP7", None);
        check("ETH0_ALIAS3_MASK", Some("ETHx_ALIASy_*"));
        check("ONEAPP_VNF_HAPROXY_LB17_SERVER4_HOST", Some("ONEAPP_VNF_HAPROXY_LBn_SERVERm_HOST"));
        check("ONEAPP_K8S_METALLB_RANGE_2", Some("ONEAPP_K8S_METALLB_RANGE*"));
        check("ONEAPP_K9S_CNI_PLUGIN", None);
        check("ONEAPP_VNF_HAPROXY_LB4_PORT", Some("ONEAPP_VNF_HAPROXY_LBn_PORT"));
    }

    #[test]
    fn a_name_may_mean_two_things_by_role() {
        let default = |roles| find("ONEAPP_VNF_DNS_ENABLED", roles).map(|variable| variable.default);
        assert_eq!((default(Roles::NODES), default(Roles::VNF)), (Some("YES"), Some("NO")));
        assert!(concerns("FALLBACK_GW", Some(&Role::Storage)) && !concerns("FALLBACK_GW", Some(&Role::Vnf)));
        assert!(concerns("MY_OWN", Some(&Role::Vnf)) && concerns("FALLBACK_GW", None));
    }

    #[test]
    fn no_role_has_two_entries_for_a_name() {
        let all: Vec<&Variable> = all().collect();
        for (i, a) in all.iter().enumerate() {
            assert!(!a.doc.is_empty() && a.doc.ends_with('.'), "{}: {:?}", a.name, a.doc);
            let twin = all[i + 1..].iter().find(|b| a.name == b.name && a.roles.meets(b.roles));
            assert_eq!(twin.map(|b| b.name), None);
        }
    }

    #[test]
    fn defaults_are_of_their_form() {
        for role in ["vnf", "master", "worker", "storage"].map(|name| Role::from(name.to_owned())) {
            // An option of a listener that is not there is refused for that.
            let own = all().filter(|variable| {
                variable.roles.meets(Roles::of(&role))
                    && !variable.default.is_empty()
                    && !variable.name.contains("LBn")
            });
            let set = own.map(|variable| (variable.name.replace(['x', 'n'], "0"), variable.default));
            let vars: Vars = set.collect();
            assert_eq!(Config::read(&vars, Some(role.clone())).map(|_| ()), Ok(()), "{role}");
        }
    }
}
