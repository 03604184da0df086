//! What all servers of a cluster must say alike. RKE2 refuses a server that says otherwise only once it has started, over
//! and over (`critical configuration value mismatch`), and a second network plug-in it does not refuse at all: so a master
//! compares before it joins.

use std::collections::BTreeMap;

use super::yaml::{Map, Yaml};
use super::{EXTRA_CONFIG, changes};

/// Each such setting, the variable that says it, and what RKE2 takes where nobody says anything (K3s, `pkg/cli/cmds`).
/// `agent-token` is another one, and comes with the ticket; `cluster-dns` follows from the services' network by default.
const CRITICAL: [(&str, &str, Option<&str>); 8] = [
    ("cluster-cidr", "ONEAPP_K8S_CLUSTER_CIDR", Some("10.42.0.0/16")),
    ("cluster-dns", EXTRA_CONFIG, None),
    ("cluster-domain", EXTRA_CONFIG, Some("cluster.local")),
    ("cni", "ONEAPP_K8S_CNI_PLUGIN, ONEAPP_K8S_MULTUS_ENABLED", Some("canal")),
    ("disable-cloud-controller", "ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED", Some("false")),
    ("disable-kube-proxy", "ONEAPP_K8S_CNI_PLUGIN", Some("false")),
    ("egress-selector-mode", EXTRA_CONFIG, Some("agent")),
    ("service-cidr", "ONEAPP_K8S_SERVICE_CIDR", Some("10.43.0.0/16")),
];

/// The cluster's critical settings, as one of its servers has them.
pub type Critical = BTreeMap<String, String>;

/// The critical settings of a server's `config.yaml`; none if it does not read, for then there is nothing to compare with.
pub fn critical(config_yaml: &str) -> Critical {
    changes::read(config_yaml).map(|settings| of(&settings)).unwrap_or_default()
}

/// What this server would say against the cluster, each difference with its variable.
pub fn contradictions(own: &str, cluster: &Critical) -> Vec<String> {
    let own = critical(own);
    let differs = |(key, variable, _): &(&str, &str, Option<&str>)| {
        let (own, cluster) = (own.get(*key)?, cluster.get(*key)?);
        (own != cluster).then(|| format!("{key} is {cluster} there and would be {own} here ({variable})"))
    };
    CRITICAL.iter().filter_map(differs).collect()
}

fn of(settings: &Map) -> Critical {
    let value = |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, value)| text(value));
    let all = CRITICAL.iter();
    all.filter_map(|(key, _, default)| {
        Some(((*key).to_owned(), value(key).or_else(|| default.map(str::to_owned))?))
    })
    .collect()
}

/// A list and its items joined by commas are the same to RKE2, as are a switch and its word.
fn text(value: &Yaml) -> String {
    match value {
        Yaml::List(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Yaml::Text(text) => text.split(',').map(str::trim).collect::<Vec<_>>().join(","),
        Yaml::Flag(flag) => flag.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::Null | Yaml::Map(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::render;
    use super::super::fixture::{config, founds, joins, pinned, shape};
    use super::*;
    use crate::context::Config;
    use crate::service::Role;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), there: &str, expected: &[&str]) {
        let mut config = config();
        change(&mut config);
        let own = render(&config, &Role::Master, &pinned(), &joins(), &shape(3, 2, 0));
        assert_eq!(contradictions(&own, &critical(there)), expected);
    }

    #[test]
    fn masters_of_one_service_agree() {
        check(|_| {}, &render(&config(), &Role::Master, &pinned(), &founds(), &shape(3, 2, 0)), &[]);
        // What is not critical may differ, and what cannot be read is for RKE2 to judge.
        check(
            |config| config.node.traefik = true,
            &render(&config(), &Role::Master, &pinned(), &founds(), &shape(1, 0, 0)),
            &[],
        );
        check(|_| {}, "tls-san: [\n", &[]);
    }

    #[test]
    fn the_old_appliances_way_of_saying_the_same_is_understood() {
        let old = "cni: [cilium]\ncluster-cidr: 10.42.0.0/16\nservice-cidr: 10.43.0.0/16\ndisable-kube-proxy: true\n";
        check(|_| {}, old, &[]);
        let canal = "cni: canal\n";
        check(|config| config.node.cni = "canal".into(), canal, &[]);
        check(
            |_| {},
            canal,
            &[
                "cni is canal there and would be cilium here (ONEAPP_K8S_CNI_PLUGIN, ONEAPP_K8S_MULTUS_ENABLED)",
                "disable-kube-proxy is false there and would be true here (ONEAPP_K8S_CNI_PLUGIN)",
            ],
        );
    }

    #[test]
    fn every_difference_is_told_with_its_variable() {
        let there = render(&config(), &Role::Master, &pinned(), &founds(), &shape(3, 2, 0));
        check(
            |config| {
                config.node.cluster_cidr = vec!["10.50.0.0/16".parse().unwrap()];
                config.node.cloud_controller = false;
                config.node.extra_config = Some(crate::plan::Secret::new("cluster-domain: example.org\n"));
            },
            &there,
            &[
                "cluster-cidr is 10.42.0.0/16 there and would be 10.50.0.0/16 here (ONEAPP_K8S_CLUSTER_CIDR)",
                "cluster-domain is cluster.local there and would be example.org here (ONEAPP_RKE2_EXTRA_CONFIG)",
                "disable-cloud-controller is false there and would be true here (ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED)",
            ],
        );
    }
}
