//! The add-ons as data: `appliance-build/addons/*.toml`, compiled in. What the agent says of a chart and what the image
//! carries of it can so never be two versions; an operator's own add-ons are manifests, which need no agent.

use std::sync::LazyLock;

use serde::Deserialize;

pub use crate::facts::Workload;

/// An add-on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addon {
    /// Lower case; its file's name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Any of these variables enables it: a boolean by YES, others by a value.
    pub enable: Vec<String>,
    /// Variables without which it cannot work.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Roles whose nodes run its images.
    pub roles: Vec<String>,
    /// A chart that this appliance installs.
    pub chart: Option<Chart>,
    /// A chart that RKE2 installs and that is tuned here.
    pub packaged: Option<Packaged>,
    /// Manifests of its makers, too long to be data here: the image carries them.
    #[serde(default)]
    pub shipped: Vec<Shipped>,
    /// Manifests beside the chart.
    #[serde(default)]
    pub manifests: Vec<Manifest>,
    /// Container images for air-gapped services beyond those that the chart itself names.
    #[serde(default)]
    pub images: Vec<String>,
    /// Name of the archive of its images, if it is not the add-on's.
    pub archive: Option<String>,
    /// What a node needs for it.
    #[serde(default)]
    pub node: Preparation,
    /// What proves that it works: healthy when all its Pods are available.
    pub healthy: Vec<Workload>,
    /// Variables that only this add-on reads.
    #[serde(default)]
    pub variables: Vec<Variable>,
}

/// A chart from a repository.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// Name of the HelmChart object, and so of the release; kept from the old appliance where it had the add-on.
    pub release: String,
    /// URL of the repository.
    pub repo: String,
    /// Name within the repository.
    pub chart: String,
    /// Its exact version.
    pub version: String,
    /// Where its objects live; created.
    pub namespace: String,
    /// It is installed before the cluster has a network.
    #[serde(default)]
    pub bootstrap: bool,
    /// Values; `${NAME}` stands for a variable or a computed value.
    #[serde(default)]
    pub values: toml::Table,
}

/// Values over a chart of RKE2's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packaged {
    /// Its name.
    pub chart: String,
    /// As [`Chart::values`].
    pub values: toml::Table,
}

/// A manifest that the image carries as its makers released it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shipped {
    /// Name without `.yaml`.
    pub file: String,
    /// Where the image's build gets it; the version is in it.
    pub url: String,
}

/// A file among RKE2's manifests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name without `.yaml`.
    pub file: String,
    /// Only written if this variable has a value.
    pub needs: Option<String>,
    /// If this variable has a value, it is the file.
    pub replaced_by: Option<String>,
    /// The objects, as [`Chart::values`].
    pub documents: Vec<toml::Table>,
}

/// What a node needs before an add-on works on it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// Kernel modules to load.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Arguments of the kubelet, on every node.
    #[serde(default)]
    pub kubelet: Vec<String>,
    /// What must be there before the add-on can work.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// Something of the machine that no add-on can bring along.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Absolute path.
    pub path: String,
    /// Not needed if this variable is on.
    pub unless: Option<String>,
    /// What to do where it is missing; completes "there is no PATH here: ".
    pub hint: String,
}

/// A variable that only one add-on reads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// `ONEAPP_K8S_...`.
    pub name: String,
    /// What it is, and what it may hold.
    pub doc: String,
    /// What it may hold.
    #[serde(default)]
    pub kind: VariableKind,
    /// It may not be printed.
    #[serde(default)]
    pub secret: bool,
}

/// What a variable of an add-on may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// Any text of one line.
    #[default]
    Text,
    /// YES or NO, which is the default.
    Flag,
    /// An HTTP URL.
    Url,
    /// A version of RKE2.
    Version,
    /// A channel of RKE2's releases.
    Channel,
}

/// The files, in the order in which `status` lists them.
pub(super) const SOURCES: &[(&str, &str)] = &[
    ("longhorn", include_str!("../../../../appliance-build/addons/longhorn.toml")),
    ("metallb", include_str!("../../../../appliance-build/addons/metallb.toml")),
    ("traefik", include_str!("../../../../appliance-build/addons/traefik.toml")),
    (
        "system-upgrade-controller",
        include_str!("../../../../appliance-build/addons/system-upgrade-controller.toml"),
    ),
    ("opennebula-ccm", include_str!("../../../../appliance-build/addons/opennebula-ccm.toml")),
    ("opennebula-csi", include_str!("../../../../appliance-build/addons/opennebula-csi.toml")),
    ("kube-vip", include_str!("../../../../appliance-build/addons/kube-vip.toml")),
    ("cert-manager", include_str!("../../../../appliance-build/addons/cert-manager.toml")),
    ("nvidia-device-plugin", include_str!("../../../../appliance-build/addons/nvidia-device-plugin.toml")),
    ("kubevirt", include_str!("../../../../appliance-build/addons/kubevirt.toml")),
    ("piraeus", include_str!("../../../../appliance-build/addons/piraeus.toml")),
    ("kube-ovn", include_str!("../../../../appliance-build/addons/kube-ovn.toml")),
];

static CATALOGUE: LazyLock<Vec<Addon>> = LazyLock::new(|| {
    let parse =
        |(_, text): &(_, &str)| toml::from_str(text).expect("a test reads every file of the catalogue");
    SOURCES.iter().map(parse).collect()
});

/// Every add-on.
pub fn catalogue() -> &'static [Addon] {
    &CATALOGUE
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_reads_and_is_listed() {
        for (name, text) in SOURCES {
            let addon: Addon = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(addon.name, *name);
        }
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../appliance-build/addons");
        let files: BTreeSet<String> = std::path::Path::new(directory)
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<String> = SOURCES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        assert_eq!(files, listed);
    }

    #[test]
    fn every_addon_can_be_enabled_proven_and_installed() {
        for addon in catalogue() {
            assert!(!addon.enable.is_empty() && !addon.healthy.is_empty(), "{}", addon.name);
            let charts = addon.chart.is_some() || addon.packaged.is_some();
            assert!(charts || !addon.shipped.is_empty() || !addon.manifests.is_empty(), "{}", addon.name);
            for name in addon.enable.iter().chain(&addon.needs) {
                let known = crate::context::table::find(name, crate::context::table::Roles::ALL);
                assert!(known.is_some(), "{}: {name}", addon.name);
            }
            for role in &addon.roles {
                assert!(["master", "worker", "storage"].contains(&role.as_str()), "{}: {role}", addon.name);
            }
            for workload in &addon.healthy {
                assert!(["Deployment", "DaemonSet", "StatefulSet"].contains(&workload.kind.as_str()));
            }
        }
    }
}
