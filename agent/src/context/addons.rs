//! The variables of the add-ons' catalogue: which of them there are is data (`appliance-build/addons`).

use std::collections::BTreeMap;
use std::fmt;

use super::forms;
use super::reader::Reader;
use super::table::Roles;
use crate::node::files::yaml::Yaml;
use crate::node::files::{VariableKind, catalogue};

/// What the catalogue's variables hold, by name; without those that have no value. `Debug` tells names only: some values
/// are secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AddonValues(BTreeMap<String, Yaml>);

impl AddonValues {
    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&Yaml> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Yaml)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let variables = catalogue().iter().flat_map(|addon| &addon.variables);
        let values = variables.filter_map(|variable| {
            let name = variable.name.as_str();
            let value = match variable.kind {
                VariableKind::Flag => Yaml::Flag(reader.on(name, Roles::NODES)),
                VariableKind::Text => reader.value(name, Roles::NODES, forms::line)?.into(),
                VariableKind::Url => reader.value(name, Roles::NODES, forms::http_url)?.into(),
                VariableKind::Version => reader.value(name, Roles::NODES, forms::rke2_version)?.into(),
                VariableKind::Channel => reader.value(name, Roles::NODES, forms::rke2_channel)?.into(),
            };
            Some((name.to_owned(), value))
        });
        Self(values.collect())
    }
}

impl FromIterator<(String, Yaml)> for AddonValues {
    fn from_iter<I: IntoIterator<Item = (String, Yaml)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl fmt::Debug for AddonValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::vars::Vars;
    use super::*;

    #[test]
    fn values_have_their_kind_and_are_not_printed() {
        let vars = Vars::from_iter([
            ("ONEAPP_K8S_CSI_ENABLED", "yes"),
            ("ONEAPP_K8S_ONE_XMLRPC", "http://10.0.0.1:2633/RPC2"),
            ("ONEAPP_K8S_ONE_AUTH", "me:s3cret"),
        ]);
        let values = AddonValues::read(&mut Reader::new(&vars, None));
        assert_eq!(values.get("ONEAPP_K8S_CSI_ENABLED"), Some(&Yaml::Flag(true)));
        assert_eq!(values.get("ONEAPP_K8S_CCM_ENABLED"), Some(&Yaml::Flag(false)));
        assert_eq!(values.get("ONEAPP_K8S_ONE_AUTH"), Some(&"me:s3cret".into()));
        assert_eq!(values.get("ONEAPP_K8S_UPGRADE_VERSION"), None);
        assert!(!format!("{values:?}").contains("s3cret"));
    }
}
