//! The data disks of a node: golden cases of which disk is taken, which is left alone, and how a cut goes on.
//!
//! A case is a directory of `tests/cases/disks`: `context.sh`, `machine.toml` (how the machine stands), perhaps
//! `later.toml` and `later.sh` (what is different afterwards), and `expected`: every effect and condition, and the
//! machine at the end. `UPDATE_EXPECT=1` rewrites the expectations; review the diff.
#![expect(clippy::disallowed_methods, reason = "reads its cases from files")]
#![expect(clippy::unwrap_used, reason = "a test; clippy sees only functions with #[test] as such")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use oneke_agent::context::{Config, Purpose, Vars};
use oneke_agent::driver::Interests;
use oneke_agent::facts::{Active, Contents, Disk, Disks, Facts, File, Observed, Place, Signature, Unit, Use};
use oneke_agent::guest::disks::{self, Passage, Record, Stage, format_unit, mount_path, mount_unit};
use oneke_agent::plan::{Decision, Effect, Secret};
use oneke_agent::service::Role;
use serde::Deserialize;

/// How a machine stands, or what becomes different of it later.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    role: Option<Role>,
    /// All disks there are; not given later: as before.
    disk: Option<Vec<Shown>>,
    /// Files by path; those below a mountpoint lie there before anything is mounted.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// What comes of the format job: `works` (the default), `fails`, `cut` (power loss in its middle), `hangs`.
    job: Option<String>,
    /// The disks could not be looked at.
    #[serde(default)]
    blind: bool,
    /// Off and on again.
    #[serde(default)]
    reboot: bool,
    /// Bytes of each disk's size, by name.
    #[serde(default)]
    grown: BTreeMap<String, u64>,
}

/// A disk as a case writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    name: String,
    #[serde(default)]
    links: Vec<String>,
    serial: Option<String>,
    wwn: Option<String>,
    /// `blank` (the default), `unmarked`, `unreadable`, or signatures: `KIND [UUID [LABEL]]` separated by commas.
    holds: Option<String>,
    /// `mounted PATH`, `swap`, `held DEVICE`, `partition DEVICE`.
    #[serde(default)]
    uses: Vec<String>,
    #[serde(default)]
    read_only: bool,
    /// No whole disk of the machine.
    #[serde(default)]
    odd: bool,
    /// Its filesystem is mounted here.
    mounted: Option<String>,
}

impl Shown {
    fn disk(&self, index: usize) -> Disk {
        let using = |text: &String| match text.split_once(' ') {
            Some(("mounted", path)) => Use::Mounted(path.into()),
            Some(("held", device)) => Use::Held(device.into()),
            Some(("partition", device)) => Use::Partition(device.into()),
            _ if text == "swap" => Use::Swap,
            _ => panic!("{text:?} is no use of a disk"),
        };
        let signature = |text: &str| {
            let mut words = text.split_whitespace().map(str::to_owned);
            Signature { kind: words.next().unwrap(), uuid: words.next(), label: words.next() }
        };
        let contents = match self.holds.as_deref().unwrap_or("blank") {
            "blank" => Observed::Known(Contents::Blank),
            "unmarked" => Observed::Known(Contents::Unmarked),
            "unreadable" => Observed::Unknown("input/output error".into()),
            signatures => Observed::Known(Contents::Marked(signatures.split(',').map(signature).collect())),
        };
        Disk {
            name: self.name.clone(),
            links: self.links.clone(),
            is_plain: !self.odd,
            serial: self.serial.clone(),
            wwn: self.wwn.clone(),
            position: format!("pci0000:00/0000:00:{index:02x}.0/virtio{index}"),
            size: 20 << 30,
            read_only: self.read_only,
            uses: self.uses.iter().map(using).collect(),
            contents,
        }
    }
}

/// A machine of facts alone: effects change what the next look sees.
struct Machine {
    role: Role,
    config: Config,
    facts: Facts,
    disks: Disks,
    job: String,
    blind: bool,
}

fn config(context: &str, role: &Role) -> Config {
    Config::read(&Vars::parse(context).unwrap(), Some(role.clone())).unwrap()
}

impl Machine {
    fn new(start: Start, context: &str) -> Self {
        let role = start.role.clone().unwrap_or(Role::Storage);
        let mut machine = Self {
            config: config(context, &role),
            role,
            facts: Facts::default(),
            disks: Disks::default(),
            job: "works".into(),
            blind: false,
        };
        machine.becomes(start);
        machine
    }

    fn becomes(&mut self, start: Start) {
        if start.reboot {
            self.power_off();
        }
        if let Some(shown) = start.disk {
            self.disks.devices = shown.iter().enumerate().map(|(index, shown)| shown.disk(index)).collect();
            for (index, shown) in shown.iter().enumerate() {
                if let Some(path) = &shown.mounted {
                    self.mount(index, path);
                }
            }
        }
        for (path, text) in start.files {
            let file = File { mode: 0o644, content: Secret::new(text) };
            self.facts.files.insert(path, Observed::Known(file));
        }
        for (name, size) in start.grown {
            let disk = self.disks.devices.iter_mut().find(|disk| disk.name == name).unwrap();
            disk.size = size;
            let (path, now) = (disk.path(), size);
            for place in self.disks.places.values_mut() {
                if let Observed::Known(Place::Mounted { device, size, .. }) = place
                    && *device == path
                {
                    *size = Some(now);
                }
            }
        }
        if start.reboot {
            self.boot();
        }
        self.job = start.job.unwrap_or_else(|| "works".into());
        self.blind = start.blind;
    }

    fn decide(&mut self) -> (Decision, Passage) {
        let mut wanted = Interests::default();
        disks::interests(&self.config, &self.role, &mut wanted);
        for path in wanted.files {
            self.facts.files.entry(path).or_insert(Observed::Absent);
        }
        for unit in wanted.units {
            let absent = unit.ends_with(".mount");
            let idle = Unit {
                active: Active::Inactive,
                enabled: false,
                restarts: 0,
                status: String::new(),
                loaded: None,
            };
            let there = if absent { Observed::Absent } else { Observed::Known(idle) };
            self.facts.units.entry(unit).or_insert(there);
        }
        for path in wanted.mountpoints {
            let below = format!("{path}/");
            let file = self
                .facts
                .files
                .iter()
                .find(|(file, there)| file.starts_with(&below) && there.known().is_some());
            let place = file.map_or(Place::Empty, |(file, _)| Place::Holds(file.clone()));
            self.disks.places.entry(path).or_insert(Observed::Known(place));
        }
        self.facts.disks = if self.blind {
            Observed::Unknown("a disk does not answer".into())
        } else {
            Observed::Known(self.disks.clone())
        };
        let mut decision = Decision::default();
        let passage = disks::decide(&self.config, &self.facts, &self.role, &mut decision);
        (decision, passage)
    }

    /// Applies and decides until nothing is left to do, or the same is done again and again.
    fn settle(&mut self, text: &mut String) -> (Decision, Passage) {
        let mut last = Vec::new();
        for _ in 0..12 {
            let (decision, passage) = self.decide();
            let effects = [decision.asides.clone(), decision.effects.clone()].concat();
            if effects.is_empty() {
                return (decision, passage);
            }
            if effects == last {
                writeln!(text, "and so on").unwrap();
                return (decision, passage);
            }
            for effect in &effects {
                writeln!(text, "effect     {effect}").unwrap();
                self.apply(effect);
            }
            last = effects;
        }
        panic!("still deciding: {:?}", self.decide().0.effects);
    }

    fn unit(&mut self, name: &str) -> &mut Unit {
        let unit = self.facts.units.get_mut(name).unwrap();
        if unit.known().is_none() {
            *unit = Observed::Known(Unit {
                active: Active::Inactive,
                enabled: false,
                restarts: 0,
                status: String::new(),
                loaded: None,
            });
        }
        let Observed::Known(unit) = unit else { unreachable!("it was made known") };
        unit
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::WriteFile(file) => {
                let written = File { mode: file.mode, content: Secret::new(file.content.as_str()) };
                self.facts.files.insert(file.path.clone(), Observed::Known(written));
            }
            Effect::EnableUnit(unit) => self.unit(unit).enabled = true,
            Effect::StartUnit(unit) => {
                let purpose = Purpose::ALL.into_iter().find(|purpose| format_unit(*purpose) == *unit);
                match purpose {
                    Some(purpose) => self.format(purpose),
                    None => self.start_mount(unit),
                }
            }
            Effect::LoadConfig { unit, digest, .. } => self.unit(unit).loaded = Some(digest.clone()),
            other => panic!("a disk is not asked to {other}"),
        }
    }

    /// What the job does: by the same rule, and in the same order.
    fn format(&mut self, purpose: Purpose) {
        let path = Record::path(purpose.name());
        let mut record = Record::parse(self.facts.file(&path).known().unwrap().content.expose()).unwrap();
        let name = record.may_format(&self.disks).map(|disk| disk.name.clone()).unwrap();
        let disk = self.disks.devices.iter_mut().find(|disk| disk.name == name).unwrap();
        let made = Signature {
            kind: record.filesystem.clone(),
            uuid: Some(record.uuid.clone()),
            label: Some(record.label.clone()),
        };
        let active = match self.job.as_str() {
            "works" => {
                disk.contents = Observed::Known(Contents::Marked(vec![made]));
                disk.uses.clear();
                record.stage = Stage::Done;
                Active::Inactive
            }
            "cut" => {
                disk.contents = Observed::Known(Contents::Unmarked);
                record.stage = Stage::Begun;
                Active::Activating
            }
            "hangs" => Active::Activating,
            "fails" => Active::Failed,
            other => panic!("a job does not {other}"),
        };
        self.unit(&format_unit(purpose)).active = active;
        self.apply(&Effect::WriteFile(record.file(purpose.name())));
    }

    fn start_mount(&mut self, unit: &str) {
        let wishes = self.config.node.storage.wishes(&self.role);
        let path =
            wishes.iter().find(|wish| mount_unit(wish.mountpoint) == unit).unwrap().mountpoint.to_owned();
        let text = self.facts.file(&mount_path(&path)).known().unwrap().content.expose().to_owned();
        let uuid = text.lines().find_map(|line| line.strip_prefix("What=/dev/disk/by-uuid/"));
        let found = self.disks.devices.iter().position(|disk| {
            let only = disk.contents.known().and_then(Contents::only);
            uuid.is_some() && only.and_then(|only| only.uuid.as_deref()) == uuid
        });
        match found {
            Some(index) => {
                self.mount(index, &path);
                self.unit(unit).active = Active::Active;
            }
            None => self.unit(unit).active = Active::Failed,
        }
    }

    fn mount(&mut self, index: usize, path: &str) {
        let disk = &mut self.disks.devices[index];
        let filesystem =
            disk.contents.known().and_then(Contents::only).map_or("xfs".into(), |only| only.kind.clone());
        let mounted = Place::Mounted { device: disk.path(), filesystem, size: Some(disk.size) };
        disk.uses.push(Use::Mounted(path.to_owned()));
        self.disks.places.insert(path.to_owned(), Observed::Known(mounted));
    }

    fn power_off(&mut self) {
        self.disks.places.clear();
        for disk in &mut self.disks.devices {
            disk.uses.retain(|using| !matches!(using, Use::Mounted(path) if path != "/"));
        }
        for unit in self.facts.units.values_mut() {
            if let Observed::Known(unit) = unit {
                (unit.active, unit.loaded) = (Active::Inactive, None);
            }
        }
    }

    /// systemd mounts by itself what is enabled and there.
    fn boot(&mut self) {
        let is_enabled = |unit: &Observed<Unit>| unit.known().is_some_and(|unit| unit.enabled);
        let units =
            self.facts.units.iter().filter(|(name, unit)| name.ends_with(".mount") && is_enabled(unit));
        let enabled: Vec<String> = units.map(|(name, _)| name.clone()).collect();
        enabled.iter().for_each(|unit| self.start_mount(unit));
    }

    /// Everything that a reader of the case may want to see.
    fn describe(&self, text: &mut String) {
        for disk in &self.disks.devices {
            let holds = match &disk.contents {
                Observed::Known(contents) => contents.to_string(),
                Observed::Absent => "nothing".into(),
                Observed::Unknown(why) => format!("? ({why})"),
            };
            let uses: String = disk.uses.iter().map(|using| format!(", {using}")).collect();
            writeln!(text, "disk       {} holds {holds}{uses}", disk.path()).unwrap();
        }
        for (path, file) in &self.facts.files {
            let ours = path.starts_with("/etc/systemd") || path.starts_with("/var/lib/oneke-agent");
            let Observed::Known(file) = file else { continue };
            if ours {
                writeln!(text, "file       {path} {:04o}", file.mode).unwrap();
                file.content.expose().lines().for_each(|line| writeln!(text, "           | {line}").unwrap());
            }
        }
    }
}

fn step(machine: &mut Machine, text: &mut String) {
    let (decision, passage) = machine.settle(text);
    decision.conditions.iter().for_each(|condition| writeln!(text, "condition  {condition}").unwrap());
    writeln!(text, "RKE2       {passage:?}").unwrap();
    machine.describe(text);
}

fn check(case: &Path) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(case.join(name));
    let parse = |text: &str| -> Start {
        toml::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
    };
    let start = parse(&read("machine.toml").unwrap());
    let mut machine = Machine::new(start, &read("context.sh").unwrap());
    let mut text = String::new();
    step(&mut machine, &mut text);
    let (later, context) = (read("later.toml"), read("later.sh"));
    if later.is_ok() || context.is_ok() {
        if let Ok(context) = context {
            machine.config = config(&context, &machine.role);
        }
        if let Ok(later) = later {
            machine.becomes(parse(&later));
        }
        text.push_str("-- later\n");
        step(&mut machine, &mut text);
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(case.join("expected"), &text).unwrap();
    }
    let expected = read("expected").unwrap_or_default();
    (expected != text).then(|| format!("== {}\n-- expected:\n{expected}-- made:\n{text}", case.display()))
}

#[test]
fn every_case_is_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases/disks");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let faults: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
