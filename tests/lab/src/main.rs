//! `oneke-lab`: the embedded service by one command. The only place of this crate that exits.
//!
//! Exit codes: 0 done; 1 something failed, and it was said what; 2 wrong arguments; 130 interrupted.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use oneke_lab::bench::What;
use oneke_lab::lab::{INTERRUPTED, Lab};
use oneke_lab::service::{Scene, Size};
use oneke_lab::{bench, checks, command, controls, host, story};

/// A whole OneKE service on this machine: real agents in containers with real systemd, a simulated cloud.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the main job live: a service comes up, answers, grows, survives a death, ends.
    Up {
        #[command(flatten)]
        size: Size,
        /// Leaves the service running until Ctrl-C or `oneke-lab down`.
        #[arg(long)]
        keep: bool,
        /// The same service in one process and simulated time: no root, no containers.
        #[arg(long, conflicts_with = "keep")]
        simulate: bool,
    },
    /// Prints figures: min, median, p99 and max beside what is wanted. Without a name: `ready`.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(subcommand)]
        what: Option<What>,
        #[command(flatten)]
        size: Size,
    },
    /// Plays the same with every step asserted, then a power cycle without OneGate and a search for secrets; then a
    /// short run of every benchmark with its correctness asserted.
    Test {
        #[command(flatten)]
        size: Size,
    },
    /// Prints the nodes of the running lab and what they wait for.
    Status,
    /// Opens a shell in a node of the running lab, or runs a command there.
    Shell {
        /// Its name or VM number: `master-2`, or `2`.
        node: String,
        /// What to run instead of a shell.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Ends the running lab and takes away every trace, also of one that was killed.
    Down,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oneke-lab: {error:#}");
            if INTERRUPTED.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up { size, simulate: true, .. } => simulate(&size),
        Command::Up { size, keep, .. } => {
            prepare()?;
            Lab::during(&Scene::of(size), |lab| up(lab, &size, keep))
        }
        Command::Bench { what, size } => {
            prepare()?;
            bench::run(what.unwrap_or(What::Ready { size }))
        }
        Command::Test { size } => {
            prepare()?;
            checks::run(&size)
        }
        Command::Status => controls::status(),
        Command::Shell { node, command } => controls::shell(&node, &command),
        Command::Down => controls::down(),
    }
}

/// Says what this machine lacks before anything is made, and listens for signals.
fn prepare() -> Result<()> {
    host::check()?;
    controls::listen_for_signals()
}

fn up(lab: &mut Lab, size: &Size, keep: bool) -> Result<()> {
    story::play(lab, size)?;
    if keep {
        lab.progress.say("the service stays up: `oneke-lab shell NODE`, `oneke-lab status`; Ctrl-C or `oneke-lab down` ends it");
        return lab.stay();
    }
    lab.progress.say("undeploying");
    lab.undeploy()?;
    lab.progress.say("every VM is gone");
    Ok(())
}

/// Becomes `oneke-simulation service`, which lies beside us.
fn simulate(size: &Size) -> Result<()> {
    let own = std::env::current_exe().context("could not find our own program")?;
    let program = own.with_file_name("oneke-simulation");
    let count = |name: &str, count: u32| [format!("--{name}"), count.to_string()];
    let counts = [
        count("vnf", size.vnf),
        count("masters", size.masters),
        count("workers", size.workers),
        count("storage", size.storage),
    ];
    let path = program.display().to_string();
    let error = command::command(&[path.as_str(), "service"]).args(counts.concat()).exec();
    Err(error).with_context(|| {
        format!("could not start {path}: build it by `cargo build --profile lab -p oneke-simulation`")
    })
}
