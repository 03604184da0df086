//! `oneke-mutations`: breaks the agent on purpose, one fault at a time, and shows which check notices.
//!
//! Each fault of `mutations.toml` is put into a copy of the tree; the copy is built and the cluster simulation is run
//! until a law is broken. If none is, the agent's own tests are asked. A fault that nobody notices has survived: the
//! simulation is too kind there.

#![expect(clippy::disallowed_methods, reason = "a tool for developers: it copies files and runs cargo")]

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
    edit: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    old: String,
    new: String,
}

/// What the copy consists of, beside the sources' own directories.
const FILES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "clippy.toml"];
const DIRECTORIES: [&str; 4] = ["agent", "appliance-build", "systemd", "tests"];

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
    for mutation in &chosen {
        edited(&root, mutation)?;
    }
    if cli.check {
        println!("{} faults fit their files", chosen.len());
        return Ok(0);
    }
    let copy = Copy { tree: cli.directory.join("tree"), target: cli.directory.join("target") };
    copy.refresh(&root)?;
    println!("{:<32} {:<6} {:>6}  caught by", "fault", "breaks", "s");
    let mut survivors = 0;
    // The unbroken tree first: a check that always fails catches nothing.
    ensure!(copy.notices(cli.seeds, true)?.is_none(), "the unbroken tree breaks a law");
    for mutation in chosen {
        let began = Instant::now();
        let noticed = copy.with(&root, mutation, || copy.notices(cli.seeds, false))?;
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

/// The files that a fault changes, as they are with it.
fn edited(root: &Path, mutation: &Mutation) -> Result<Vec<(PathBuf, String)>> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for edit in &mutation.edit {
        let path = PathBuf::from(&edit.file);
        let text = match files.iter().find(|(other, _)| *other == path) {
            Some((_, text)) => text.clone(),
            None => fs::read_to_string(root.join(&path))
                .with_context(|| format!("{}: could not read {}", mutation.name, edit.file))?,
        };
        let count = text.matches(&edit.old).count();
        ensure!(
            count == 1,
            "{}: its text stands {count} times in {}, expected once: {:?}",
            mutation.name,
            edit.file,
            edit.old
        );
        files.retain(|(other, _)| *other != path);
        files.push((path, text.replace(&edit.old, &edit.new)));
    }
    Ok(files)
}

/// A tree of its own, so that the real one is never broken, not even for a moment.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes it equal to the real tree; what is equal already keeps its time, so that little is built again.
    fn refresh(&self, root: &Path) -> Result<()> {
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

    /// Does something while the fault is in the copy.
    fn with<T>(&self, root: &Path, mutation: &Mutation, check: impl Fn() -> Result<T>) -> Result<T> {
        let files = edited(root, mutation)?;
        for (path, text) in &files {
            self.put(path, text.as_bytes())?;
        }
        let result = check().with_context(|| mutation.name.clone());
        for (path, _) in &files {
            self.put(path, &fs::read(root.join(path))?)?;
        }
        result
    }

    /// The first check that fails, in one line.
    fn notices(&self, seeds: u64, unbroken: bool) -> Result<Option<String>> {
        // Overflow checks and the like stay off as in the real simulation; only the build is made quick.
        let built =
            self.cargo(&["build", "--quiet", "-p", "oneke-simulation", "--bin", "oneke-simulation"])?;
        ensure!(built.0, "the copy does not build:\n{}", built.1);
        let program = self.target.join("lab/oneke-simulation");
        let output = Command::new(&program)
            .args(["run", "--stop", "--seeds", &seeds.to_string()])
            .output()
            .with_context(|| format!("could not run {}", program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            let first = text.lines().chain(errors.lines()).next().unwrap_or("it failed without a word");
            return Ok(Some(first.to_owned()));
        }
        if unbroken {
            return Ok(None);
        }
        let (passed, text) = self.cargo(&["test", "--quiet", "-p", "oneke-agent", "--lib"])?;
        let failed = text.lines().find(|line| line.starts_with("---- ")).unwrap_or("a test of the agent");
        Ok((!passed).then(|| format!("cargo test: {}", failed.trim_matches(['-', ' ']))))
    }

    fn cargo(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .args(["--offline", "--profile", "lab", "--config", "profile.lab.incremental=true"])
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .output()
            .context("could not run cargo")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }
}
