//! Links from where RKE2 looks to what the image carries: archives of images, charts, makers' manifests.

use super::{MANIFESTS, addons};
use crate::context::Config;
use crate::service::Role;

/// Where the image carries archives of container images, as `NAME.tar.zst`.
pub const ARCHIVES: &str = "/opt/one-appliance/airgap";
/// RKE2 imports every archive that it finds here when it starts.
pub const IMAGES: &str = "/var/lib/rancher/rke2/agent/images";

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it stands, absolute.
    pub path: String,
    /// What it leads to, absolute.
    pub target: String,
}

/// The links that must stand before RKE2 starts.
pub fn links(config: &Config, role: &Role) -> Vec<Link> {
    let node = &config.node;
    let mut links = Vec::new();
    if node.airgapped {
        let cni = format!("rke2-images-{}", node.cni);
        let mut archives = vec!["rke2-images-core"];
        if node.cni != "none" {
            archives.push(&cni);
        }
        if node.multus {
            archives.push("rke2-images-multus");
        }
        archives.extend(addons::archives(config, role));
        links.extend(archives.into_iter().map(|name| link(IMAGES, ARCHIVES, &format!("{name}.tar.zst"))));
    }
    if *role == Role::Master {
        let shipped = addons::shipped(config).into_iter();
        links.extend(shipped.map(|name| link(MANIFESTS, addons::SHIPPED, &format!("{name}.yaml"))));
    }
    links
}

fn link(at: &str, to: &str, name: &str) -> Link {
    Link { path: format!("{at}/{name}"), target: format!("{to}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, worker};
    use super::*;

    fn names(config: &Config, role: &Role) -> Vec<String> {
        let last = |path: &str| path.rsplit_once('/').map(|(_, name)| name.to_owned());
        links(config, role).iter().filter_map(|link| last(&link.path)).collect()
    }

    #[test]
    fn an_airgapped_node_finds_its_images_and_charts() {
        let mut config = config();
        config.node.longhorn = true;
        config.node.traefik = true;
        config.node.multus = true;
        assert_eq!(names(&config, &Role::Master), [""; 0]);
        config.node.airgapped = true;
        let images = [
            "rke2-images-core.tar.zst",
            "rke2-images-cilium.tar.zst",
            "rke2-images-multus.tar.zst",
            "longhorn.tar.zst",
            "rke2-images-traefik.tar.zst",
        ];
        assert_eq!(names(&config, &worker()), images);
        assert_eq!(names(&config, &Role::Master), [&images[..], &["one-longhorn.yaml"]].concat());
        assert_eq!(names(&config, &Role::Storage), images[..4]);
        let first = &links(&config, &worker())[0];
        assert_eq!(first.target, "/opt/one-appliance/airgap/rke2-images-core.tar.zst");
        assert_eq!(first.path, "/var/lib/rancher/rke2/agent/images/rke2-images-core.tar.zst");
    }
}
