//! `oneke-mutations`: breaks the agent on purpose, one fault at a time, and shows which check notices.
//!
//! Every fault of `mutations.toml` goes into one copy of the tree, behind a switch, so that the copy is built once. Then
//! one fault at a time is switched on and the cluster simulation is run until a law is broken. If none is, the agent's
//! own tests are asked, then its golden suites. A fault that nobody notices has survived: the simulation is too kind there.

#![expect(clippy::disallowed_methods, reason = "a tool for developers: it copies files and runs cargo")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Deserialize;

/// Break the agent on purpose, one fault at a time, and print who notices. Exit code 1 if a fault survives.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Seeds for each fault; the first broken law ends a fault's run.
    #[arg(long, default_value_t = 150)]
    seeds: u64,
    /// Only faults whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only check that each fault's text still stands exactly once in its file.
    #[arg(long)]
    check: bool,
    /// Where the copy and its build are kept between runs.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/mutations"))]
    directory: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutation: Vec<Mutation>,
}

/// One fault.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    name: String,
    /// The invariant of the design that it breaks.
    breaks: String,
    /// None: its name lists other faults, which are switched on together.
    #[serde(default)]
    edit: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    old: String,
    new: String,
}

/// Where the switch goes.
const LIB: &str = "agent/src/lib.rs";
/// Which faults are on, with commas between them.
const VARIABLE: &str = "ONEKE_BROKEN";
/// The switch.
const SWITCH: &str = r#"
/// True if this fault is switched on.
pub fn broken(fault: &str) -> bool {
    static FAULTS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let read = || std::env::var("ONEKE_BROKEN").unwrap_or_default().split(',').map(str::to_owned).collect();
    FAULTS.get_or_init(read).iter().any(|on| on == fault)
}
"#;

/// What the copy consists of, beside the sources' own directories.
const FILES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "clippy.toml"];
const DIRECTORIES: [&str; 4] = ["agent", "appliance-build", "systemd", "tests"];

/// Who is asked when the simulation noticed nothing, in this order.
const TESTS: [&[&str]; 2] =
    [&["-p", "oneke-agent", "--lib"], &["-p", "oneke-suite", "--test", "disks", "--test", "vnf"]];

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(survivors) => {
            println!("{survivors} survived");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = root.join("tests/simulation/mutations.toml");
    let list = fs::read_to_string(&list).with_context(|| format!("could not read {}", list.display()))?;
    let list: List = toml::from_str(&list).context("could not parse mutations.toml")?;
    let chosen: Vec<_> = list.mutation.iter().filter(|mutation| mutation.name.contains(&cli.only)).collect();
    let edited = edited(&root, &list.mutation)?;
    if cli.check {
        println!("{} faults fit their {} files", list.mutation.len(), edited.len());
        return Ok(0);
    }
    let copy = Copy { tree: cli.directory.join("tree"), target: cli.directory.join("target") };
    copy.refresh(&root, &edited)?;
    let (built, text) = copy.cargo(&["build", "-p", "oneke-simulation", "--bin", "oneke-simulation"], "")?;
    ensure!(built, "the copy does not build:\n{text}");
    // The unbroken tree first: a check that always fails catches nothing.
    let noticed = copy.notices(cli.seeds, "")?;
    ensure!(noticed.is_none(), "without a fault: {}", noticed.unwrap_or_default());
    println!("{:<32} {:<6} {:>6}  caught by", "fault", "breaks", "s");
    let mut survivors = 0;
    for mutation in chosen {
        let began = Instant::now();
        let noticed = copy.notices(cli.seeds, &mutation.name)?;
        survivors += usize::from(noticed.is_none());
        println!(
            "{:<32} {:<6} {:>6}  {}",
            mutation.name,
            mutation.breaks,
            began.elapsed().as_secs(),
            noticed.unwrap_or_else(|| "NOBODY: it survives".into())
        );
    }
    Ok(survivors)
}

/// The files that faults change, as they are with all of them in, and the switch.
fn edited(root: &Path, mutations: &[Mutation]) -> Result<BTreeMap<PathBuf, String>> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    let read =
        |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("could not read {file}"));
    files.insert(LIB.into(), read(LIB)? + SWITCH);
    for (name, edit) in mutations.iter().flat_map(|m| m.edit.iter().map(move |edit| (&m.name, edit))) {
        let path = PathBuf::from(&edit.file);
        let text = match files.get(&path) {
            Some(text) => text.clone(),
            None => read(&edit.file)?,
        };
        let count = text.matches(&edit.old).count();
        ensure!(
            count == 1,
            "{name}: its text stands {count} times in {}, expected once: {:?}",
            edit.file,
            edit.old
        );
        files.insert(path, text.replace(&edit.old, &edit.new));
    }
    Ok(files)
}

/// A tree of its own, so that the real one is never broken, not even for a moment.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes it equal to the real tree with the faults in; what is equal already keeps its time, so that little is built again.
    fn refresh(&self, root: &Path, edited: &BTreeMap<PathBuf, String>) -> Result<()> {
        for file in FILES {
            self.put(
                Path::new(file),
                &fs::read(root.join(file)).with_context(|| format!("could not read {file}"))?,
            )?;
        }
        let mut directories: Vec<PathBuf> = DIRECTORIES.map(PathBuf::from).into();
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(root.join(&directory))
                .with_context(|| format!("could not read {}", directory.display()))?;
            for entry in entries {
                let entry = entry?;
                let path = directory.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    directories.push(path);
                } else if let Some(text) = edited.get(&path) {
                    self.put(&path, text.as_bytes())?;
                } else {
                    self.put(&path, &fs::read(root.join(&path))?)?;
                }
            }
        }
        Ok(())
    }

    fn put(&self, path: &Path, content: &[u8]) -> Result<()> {
        let there = self.tree.join(path);
        if fs::read(&there).is_ok_and(|old| old == content) {
            return Ok(());
        }
        fs::create_dir_all(there.parent().unwrap_or(&self.tree))?;
        fs::write(&there, content).with_context(|| format!("could not write {}", there.display()))
    }

    /// The first check that fails with these faults, in one line.
    fn notices(&self, seeds: u64, faults: &str) -> Result<Option<String>> {
        let program = self.target.join("lab/oneke-simulation");
        let output = Command::new(&program)
            .args(["run", "--stop", "--seeds", &seeds.to_string()])
            .env(VARIABLE, faults)
            .output()
            .with_context(|| format!("could not run {}", program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            let first = text.lines().chain(errors.lines()).next().unwrap_or("it failed without a word");
            return Ok(Some(first.to_owned()));
        }
        for tests in TESTS {
            let (passed, text) = self.cargo(&[&["test", "--quiet"], tests].concat(), faults)?;
            if !passed {
                let failed = text.lines().find(|line| line.starts_with("---- "));
                let failed = failed.or(text.lines().next()).unwrap_or_default().trim_matches(['-', ' ']);
                return Ok(Some(format!("cargo test: {failed}")));
            }
        }
        Ok(None)
    }

    fn cargo(&self, arguments: &[&str], faults: &str) -> Result<(bool, String)> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .args(["--offline", "--profile", "lab"])
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env(VARIABLE, faults)
            .output()
            .context("could not run cargo")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }
}
