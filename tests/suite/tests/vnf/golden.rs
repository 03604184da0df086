//! Golden cases: `tests/cases/vnf/NAME/` holds `context.sh`, perhaps OneGate's answers `vm.json`, `service.json`,
//! `vrouter.json` and `vnet/ID.json` (a network of the router that has none could not be read), and under `expected/` every file at its path, and `said`: problems, warnings, other effects, conditions, reads.
//! `UPDATE_EXPECT=1` rewrites `expected/`; the diff is for people to judge.
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]
#![expect(clippy::disallowed_methods, reason = "a test reads its cases, and rewrites them when asked")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use oneke_agent::plan::{Effect, Reads};
use oneke_agent::service::{Networks, Service, VNet, VRouter, Vm};

use super::machine::Machine;
use super::owners;

#[test]
fn every_case_is_as_expected_and_accepted_by_its_owners() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    assert!(names.len() >= 40, "{} cases", names.len());
    let mut faults: Vec<String> = names.iter().filter_map(|case| check(case)).collect();
    faults.extend(owners::check(&names));
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases/vnf")
}

/// What is wrong with the case, if anything.
fn check(case: &Path) -> Option<String> {
    let made = render(case);
    let expected = case.join("expected");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let _ = std::fs::remove_dir_all(&expected); // not there yet is fine
        for (path, text) in &made {
            let path = expected.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        return None;
    }
    let kept = read_tree(&expected);
    let differs = |path: &&String| kept.get(*path) != made.get(*path);
    let mut paths: Vec<&String> = kept.keys().chain(made.keys()).filter(differs).collect();
    paths.sort();
    paths.dedup();
    let shown =
        |tree: &BTreeMap<String, String>, path: &String| tree.get(path).cloned().unwrap_or("(none)\n".into());
    let differences: Vec<String> = paths
        .iter()
        .map(|path| format!("-- {path}, expected:\n{}-- made:\n{}", shown(&kept, path), shown(&made, path)))
        .collect();
    (!paths.is_empty()).then(|| format!("== {}\n{}", case.display(), differences.join("\n")))
}

/// Every file that the case makes, by its path without the first slash, and `said`.
fn render(case: &Path) -> BTreeMap<String, String> {
    let read = |name: &str| std::fs::read_to_string(case.join(name)).ok(); // most cases need no answers
    let context = read("context.sh").expect("every case has a context");
    let mut machine = match Machine::new(&context) {
        Ok(machine) => machine,
        Err(problems) => {
            let said: String = problems.iter().map(|problem| format!("problem    {problem}\n")).collect();
            return BTreeMap::from([("said".to_owned(), said)]);
        }
    };
    read("vm.json").into_iter().for_each(|text| machine.told_me(Vm::from_json(&text).unwrap()));
    read("service.json").into_iter().for_each(|text| machine.told(Service::from_json(&text).unwrap()));
    let networks = networks(case);
    if networks != Networks::default() {
        machine.told_networks(networks);
    }
    let decision = machine.settle();
    let mut said = String::new();
    machine.config.warnings.iter().for_each(|warning| writeln!(said, "warning    {warning}").unwrap());
    let mut made = BTreeMap::new();
    for effect in &machine.done {
        match effect {
            Effect::WriteFile(file) => {
                writeln!(said, "effect     {effect}").unwrap();
                made.insert(file.path.trim_start_matches('/').to_owned(), file.content.as_str().to_owned());
            }
            _ => writeln!(said, "effect     {effect}").unwrap(),
        }
    }
    decision.conditions.iter().for_each(|condition| writeln!(said, "condition  {condition}").unwrap());
    writeln!(said, "reads      {}", reads(&decision.reads)).unwrap();
    made.insert("said".to_owned(), said);
    made
}

/// What is read, and how often at least.
fn reads(reads: &Reads) -> String {
    let networks = reads.networks.map_or(String::new(), |networks| format!(", networks {networks:?}"));
    format!("me {:?}, service {:?}{networks}", reads.me, reads.service)
}

/// What a virtual router was told of its networks.
fn networks(case: &Path) -> Networks {
    let router = std::fs::read_to_string(case.join("vrouter.json")).ok();
    let router = router.map(|text| VRouter::from_json(&text).unwrap());
    let read: BTreeMap<u32, VNet> = read_tree(&case.join("vnet"))
        .values()
        .map(|text| VNet::from_json(text).unwrap())
        .map(|network| (network.id, network))
        .collect();
    let wanted = router.as_ref().map(VRouter::networks).unwrap_or_default();
    let lost = wanted.into_iter().filter(|id| !read.contains_key(id));
    let unread = lost.map(|id| format!("could not GET /vnet/{id}: 500")).collect();
    Networks { router, read: read.into_values().collect(), unread }
}

/// All files below a directory, by their relative path.
pub fn read_tree(directory: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}
