//! A machine in memory, for measurements: effects are done at once, and every look shows what they left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oneke_agent::driver::{Event, Interests, Report, World};
use oneke_agent::facts::{
    Active, Disks, Facts, File, HaproxyStats, Kubernetes, KubernetesNode, Lease, Observed, Unit,
};
use oneke_agent::plan::{Effect, Reads, Secret};
use oneke_agent::vnf::haproxy;

/// The machine; `facts` holds what does not follow from its files and units.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Context, OneGate's answers, links, cluster: as they are, and as they stay.
    pub facts: Facts,
    /// Files by path.
    pub files: BTreeMap<String, (u32, String)>,
    /// Paths that are there and are no files of ours.
    pub there: BTreeSet<String>,
    /// The last look.
    pub seen: Facts,
    /// The running HAProxy.
    haproxy: HaproxyStats,
    units: BTreeMap<String, (bool, bool, Option<String>)>,
    sysctls: BTreeMap<String, String>,
}

impl Memory {
    /// A machine that has just booted with these files and traces on its disk.
    pub fn new(facts: Facts, files: BTreeMap<String, (u32, String)>, there: BTreeSet<String>) -> Self {
        Self { facts, files, there, ..Self::default() }
    }

    /// What a working member of a cluster sees of it; it holds the Lease.
    pub fn member(node: &str, now: Duration) -> Kubernetes {
        let lease = Lease { holder: node.into(), version: "1".into(), seen: now };
        let seen = KubernetesNode { name: node.into(), ready: true, ..KubernetesNode::default() };
        Kubernetes { readyz: Observed::Known(()), node: Observed::Known(seen), lease: Observed::Known(lease) }
    }

    fn file(&self, path: &str) -> Observed<File> {
        self.files.get(path).map_or(Observed::Absent, |(mode, content)| {
            Observed::Known(File { mode: *mode, content: Secret::new(content.clone()) })
        })
    }

    fn unit(&self, name: &str) -> Observed<Unit> {
        let (running, enabled, loaded) = self.units.get(name).cloned().unwrap_or_default();
        let active = if running { Active::Active } else { Active::Inactive };
        Observed::Known(Unit { active, enabled, restarts: 0, status: String::new(), loaded })
    }

    fn exists(&self, path: &str) -> Observed<()> {
        let there = self.there.contains(path) || self.files.contains_key(path);
        if there { Observed::Known(()) } else { Observed::Absent }
    }
}

impl World for Memory {
    async fn observe(&mut self, interests: &Interests, _: &Reads) -> Facts {
        let running = |unit: &str| self.units.get(unit).is_some_and(|unit| unit.0);
        self.seen = Facts {
            files: interests.files.iter().map(|path| (path.clone(), self.file(path))).collect(),
            units: interests.units.iter().map(|name| (name.clone(), self.unit(name))).collect(),
            exists: interests.exists.iter().map(|path| (path.clone(), self.exists(path))).collect(),
            sysctls: interests
                .sysctls
                .iter()
                .map(|key| {
                    let value = self.sysctls.get(key).cloned().unwrap_or_else(|| "0".into());
                    (key.clone(), Observed::Known(value))
                })
                .collect(),
            disks: Observed::Known(Disks::mounted(&interests.mountpoints)),
            haproxy: if running(haproxy::UNIT) {
                Observed::Known(self.haproxy.clone())
            } else {
                Observed::Absent
            },
            ..self.facts.clone()
        };
        self.seen.clone()
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::WriteFile(file) => {
                let content = file.content.as_str().to_owned();
                self.files.insert(file.path.clone(), (file.mode, content));
            }
            Effect::RemoveFile { path } => drop(self.files.remove(path)),
            Effect::EnableUnit(unit) => self.units.entry(unit.clone()).or_default().1 = true,
            Effect::DisableUnit(unit) => self.units.entry(unit.clone()).or_default().1 = false,
            Effect::StartUnit(unit) | Effect::RestartUnit(unit) => {
                self.units.entry(unit.clone()).or_default().0 = true
            }
            Effect::StopUnit(unit) => self.units.entry(unit.clone()).or_default().0 = false,
            Effect::LoadConfig { unit, digest, .. } => {
                if unit == haproxy::UNIT {
                    let file = self.files.get(haproxy::PATH).map_or("", |(_, text)| text);
                    self.haproxy = haproxy::running(file);
                }
                let unit = self.units.entry(unit.clone()).or_default();
                (unit.0, unit.2) = (true, Some(digest.clone()));
            }
            Effect::SetServers { changes, .. } => {
                changes.iter().for_each(|change| self.haproxy.change(change));
            }
            Effect::SetSysctl { key, value } => drop(self.sysctls.insert(key.clone(), value.clone())),
            Effect::Publish { vm: None, attributes } => {
                if let Observed::Known(me) = &mut self.facts.me.last {
                    let own = std::sync::Arc::make_mut(me).attributes.get_or_insert_default();
                    own.extend(
                        attributes
                            .iter()
                            .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned())),
                    );
                }
            }
            // The rest concerns others; a measurement leaves them as they are.
            _ => {}
        }
        Ok(())
    }

    async fn report(&mut self, _: &Report) {}

    async fn wait(&mut self, _: Duration) -> Event {
        Event::Timer
    }
}
