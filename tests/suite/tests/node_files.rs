//! Golden cases of a node's files: a context, a role and a place in the cluster in, every file and link out.
//!
//! A case is a directory of `tests/cases/node`: `context.sh`, `case.toml`, and `expected.txt`, the files in one text.
//! Every YAML file is also read back, every key of `config.yaml` held against the flags that RKE2 has, and every value of
//! a chart against the keys of that chart (`tests/cases/charts.toml`).
//! `UPDATE_EXPECT=1` rewrites the expectations; review the diff.
#![expect(clippy::disallowed_methods, reason = "reads its cases from files")]
#![expect(clippy::unwrap_used, reason = "a test; clippy sees only functions with #[test] as such")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oneke_agent::context::{Config, Vars};
use oneke_agent::node::address;
use oneke_agent::node::files::{self, Entry, Pinned, Shape};
use oneke_agent::plan::{Condition, Content, FileSpec, Secret};
use oneke_agent::service::{Role, VmId, VmNic};
use serde::Deserialize;
use serde_json::Value;

/// How a VM stands in its service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    role: Role,
    /// Joins this supervisor; founds without.
    server: Option<String>,
    masters: u32,
    workers: u32,
    #[serde(default)]
    storage: u32,
    #[serde(default)]
    vnf: u32,
    /// The machine's own files are alike in most cases: written down only where they matter.
    #[serde(default)]
    host: bool,
    /// What OneGate says of the networks, by MAC address.
    #[serde(default)]
    networks: BTreeMap<String, String>,
    /// The user's own settings of RKE2, which are expected beside the agent's.
    #[serde(default)]
    extra: Vec<String>,
    #[serde(default)]
    external: Vec<IpAddr>,
}

impl Case {
    /// Where the node stands; `Err`: for what it waits.
    fn pinned(&self, config: &Config) -> Result<Pinned, Condition> {
        let vm = config.vm.unwrap_or(VmId(0));
        let nic = |(mac, network): (&String, &String)| VmNic {
            mac: mac.clone(),
            network: network.clone(),
            ..VmNic::default()
        };
        let told: Vec<VmNic> = self.networks.iter().map(nic).collect();
        let ip =
            address::nic(config, Some(&told))?.ip.expect("a NIC without an address is never chosen").into();
        let second_ip = address::second_ip(config, ip, Some(&told));
        let name = format!("oneke-{}-{}-{vm}", config.service.unwrap_or(0), self.role);
        Ok(Pinned { name, vm, ip, second_ip, external: self.external.clone() })
    }

    fn entry(&self) -> Entry {
        let agent_token = (self.role == Role::Master).then(|| Secret::new("AGENT-TOKEN"));
        match &self.server {
            None => Entry::Found { agent_token },
            Some(server) => Entry::Join {
                server: server.clone(),
                token: Secret::new("K10HASH::server:TOKEN"),
                agent_token,
            },
        }
    }

    fn shape(&self) -> Shape {
        Shape { masters: self.masters, workers: self.workers, storage: self.storage, vnf: self.vnf }
    }
}

#[test]
fn each_case_gives_its_files() {
    let mut faults = Vec::new();
    let mut count = 0;
    for entry in cases().read_dir().unwrap() {
        let path = entry.unwrap().path();
        count += 1;
        faults.extend(expect(&path.join("expected.txt"), &rendered(&path)).err());
    }
    assert!(count >= 80, "only {count} cases in {}", cases().display());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases/node")
}

/// All that the case's node gets, or what is wrong with its context.
fn rendered(path: &Path) -> String {
    let case: Case = toml::from_str(&read(&path.join("case.toml")))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vars = Vars::parse(&read(&path.join("context.sh"))).unwrap();
    let lines = |problems: &[oneke_agent::context::Problem]| {
        problems.iter().map(|problem| format!("refused: {problem}\n")).collect::<String>()
    };
    let config = match Config::read(&vars, Some(case.role.clone())) {
        Ok(config) => config,
        Err(problems) => return lines(&problems),
    };
    let pinned = match case.pinned(&config) {
        Ok(pinned) => pinned,
        Err(condition) => return format!("waits: {condition}\n"),
    };
    let (entry, shape) = (case.entry(), case.shape());
    let mut text = String::new();
    let rke2 = files::rke2(&config, &case.role, &pinned, &entry, &shape);
    let host = files::host(&config, &case.role).into_iter().filter(|_| case.host).collect::<Vec<_>>();
    for file in rke2.iter().chain(&host) {
        let replaced = ["ONEAPP_K8S_CNI_CONFIG", "ONEAPP_K8S_MULTUS_CONFIG"].map(|name| vars.get(name));
        check(file, &case, replaced.iter().all(Option::is_none));
        let secret = if matches!(file.content, Content::Secret(_)) { ", secret" } else { "" };
        write!(text, "== {} {:04o}{secret}\n{}", file.path, file.mode, file.content.as_str()).unwrap();
    }
    for link in files::links(&config, &case.role) {
        writeln!(text, "== {} -> {}", link.path, link.target).unwrap();
    }
    for workload in files::workloads(&config) {
        writeln!(text, "healthy with {} {}/{}", workload.kind, workload.namespace, workload.name).unwrap();
    }
    text
}

/// What a file's reader wants of it.
#[track_caller]
fn check(file: &FileSpec, case: &Case, own: bool) {
    let text = file.content.as_str();
    assert!(text.ends_with('\n'), "{}", file.path);
    if !file.path.ends_with(".yaml") {
        return;
    }
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{}: {error}", file.path));
    if file.path == files::CONFIG {
        let Value::Object(settings) = &documents[0] else { panic!("{} is no mapping", file.path) };
        for key in settings.keys() {
            let known =
                BOTH.contains(&key.as_str()) || (case.role == Role::Master && SERVER.contains(&key.as_str()));
            assert!(known || case.extra.contains(key), "RKE2 does not take {key} from a {}", case.role);
        }
        return;
    }
    if !file.path.starts_with(files::MANIFESTS) {
        return;
    }
    for document in documents {
        check_manifest(&file.path, &document, own);
    }
}

/// A manifest is a Kubernetes object; the values of a chart are a mapping in a text of YAML, of keys that it has if they
/// are our `own`.
#[track_caller]
fn check_manifest(path: &str, document: &Value, own: bool) {
    for key in ["/apiVersion", "/kind", "/metadata/name"] {
        assert!(document.pointer(key).is_some_and(Value::is_string), "{path} lacks {key}");
    }
    if let Some(values) = document.pointer("/spec/valuesContent") {
        let values: Value = serde_saphyr::from_str(values.as_str().unwrap()).unwrap();
        assert!(values.is_object(), "{path}: {values}");
        let chart = document.pointer("/metadata/name").and_then(Value::as_str).unwrap();
        let strange = strange(chart, &values);
        assert!(!own || strange.is_empty(), "{path}: the chart {chart} has no {}", strange.join(", "));
    }
}

/// What a chart of this release name takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<String>,
    #[serde(default)]
    open: Vec<String>,
}

static CHARTS: LazyLock<BTreeMap<String, Keys>> =
    LazyLock::new(|| toml::from_str(&read(&cases().join("../charts.toml"))).unwrap());

/// The keys among the values that the chart does not have.
fn strange(chart: &str, values: &Value) -> Vec<String> {
    let known = CHARTS.get(chart).unwrap_or_else(|| panic!("charts.toml lacks {chart}"));
    let open = |key: &String| {
        known.open.iter().any(|open| key.strip_prefix(open).is_some_and(|rest| rest.starts_with(['.', '['])))
    };
    leaves(String::new(), values).into_iter().filter(|key| !known.keys.contains(key) && !open(key)).collect()
}

/// The keys of all values, `a.b`; of a list `a[]`.
fn leaves(path: String, value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .flat_map(|(key, value)| {
                leaves(if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value)
            })
            .collect(),
        Value::Array(_) => vec![format!("{path}[]")],
        _ => vec![path],
    }
}

#[test]
fn a_key_that_a_chart_lacks_is_found() {
    let values =
        serde_json::json!({"cni": {"exclusive": false, "chaining": "none"}, "bgp": {"enabled": true}});
    assert_eq!(strange("rke2-cilium", &values), ["bgp.enabled", "cni.chaining"]);
    let values =
        serde_json::json!({"tolerations": [{"operator": "Exists"}], "env": {"x": "y"}, "environment": 1});
    assert_eq!(strange("kube-vip", &values), ["environment"]);
}

/// Flags that `rke2 server --help` and `rke2 agent --help` both have, as far as the agent may use them.
const BOTH: &[&str] = &[
    "kubelet-arg",
    "node-external-ip",
    "node-ip",
    "node-label",
    "node-name",
    "node-taint",
    "server",
    "token",
];

/// Those that only `rke2 server --help` has.
const SERVER: &[&str] = &[
    "agent-token",
    "cluster-cidr",
    "cni",
    "disable-cloud-controller",
    "disable-kube-proxy",
    "ingress-controller",
    "service-cidr",
    "tls-san",
    "write-kubeconfig-mode",
];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}

/// Compares a file with what it should hold, or rewrites it.
fn expect(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, actual)
            .map_err(|error| format!("could not write {}: {error}", path.display()))?;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{} expects\n{expected}--- but this is\n{actual}", path.display()))
}
