//! `oneke-simulation`: many seeds against the laws, one seed told as a story, or the default service in simulated time.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use oneke_simulation::load;
use oneke_simulation::scenario::{Outcome, Scenario, Size};

/// A whole OneKE service in one process and simulated time.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up one service on a kind day and tell the story.
    Service(Service),
    /// Run many seeds and print each broken law with its seed; or replay one seed and tell its story. Exit code 1 if
    /// a law was broken.
    Run(Run),
    /// Bring up services of so many VMs on a kind day and print how often OneGate was asked, how the nodes joined, and
    /// how long they waited for their agents; at the end a table of all beside the old scripts. Asserts nothing.
    Load {
        /// VMs in all: 2 vnf, 3 masters, 1 storage, the others workers; 8 is the default service.
        #[arg(long, default_values_t = [10, 100, 1_000])]
        vms: Vec<u32>,
        /// Minutes of steady state to count.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
}

#[derive(Args)]
struct Service {
    /// Number of vnf VMs.
    #[arg(long, default_value_t = 2)]
    vnf: u32,
    /// Number of masters.
    #[arg(long, default_value_t = 3)]
    masters: u32,
    /// Number of workers.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Number of storage VMs.
    #[arg(long, default_value_t = 1)]
    storage: u32,
}

#[derive(Args)]
struct Run {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Replay this one, as a failing run printed it.
    #[arg(long, conflicts_with_all = ["seeds", "from", "stop"])]
    seed: Option<u64>,
    /// Begin no further seed once a law is broken.
    #[arg(long)]
    stop: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Service(size) => {
            let vms = [size.vnf, size.masters, size.workers, size.storage];
            tell(&Scenario::calm(Size { vms, plain: false }))
        }
        Command::Run(Run { seed: Some(seed), .. }) => tell(&Scenario::from_seed(seed)),
        Command::Run(run) => run_all(&run),
        Command::Load { vms, minutes } => {
            let mut loads = Vec::new();
            for vms in vms {
                let load = load::measure(vms, Duration::from_secs(60 * minutes));
                print!("{load}");
                loads.push(load);
            }
            print!("{}", load::summary(&loads));
            ExitCode::SUCCESS
        }
    }
}

fn tell(scenario: &Scenario) -> ExitCode {
    println!("{scenario:#?}");
    let outcome = scenario.run();
    for line in &outcome.log {
        println!("{line}");
    }
    summarise(&outcome);
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summarise(outcome: &Outcome) {
    match outcome.running {
        Some(at) => println!("\nRUNNING after {:.1} s of simulated time", at.as_secs_f64()),
        None => println!("\nnever RUNNING"),
    }
    println!(
        "{:.0} s were simulated, {} passes, {} laws broken",
        outcome.lasted.as_secs_f64(),
        outcome.passes,
        outcome.violations.len()
    );
}

fn run_all(run: &Run) -> ExitCode {
    let next = Arc::new(AtomicU64::new(run.from));
    let stop = run.stop;
    let end = run.from + run.seeds;
    let broken = Arc::new(Mutex::new(Vec::new()));
    let hours = Arc::new(AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (next, broken, hours) = (next.clone(), broken.clone(), hours.clone());
            std::thread::spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = Scenario::from_seed(seed).run();
                    hours.fetch_add(outcome.lasted.as_secs(), Ordering::Relaxed);
                    if stop && !outcome.violations.is_empty() {
                        next.store(end, Ordering::Relaxed);
                    }
                    for violation in outcome.violations {
                        println!("seed {seed}: {violation}");
                        broken.lock().expect("no run panics with the list in its hand").push(seed);
                    }
                }
            })
        })
        .collect();
    let mut panicked = false;
    for worker in workers {
        panicked |= worker.join().is_err();
    }
    let mut broken = broken.lock().expect("all runs have ended").clone();
    broken.dedup();
    println!(
        "{} seeds, {} simulated hours, {} seeds broke a law",
        run.seeds,
        hours.load(Ordering::Relaxed) / 3_600,
        broken.len()
    );
    for seed in broken.iter().take(20) {
        println!("replay with: oneke-simulation run --seed {seed}");
    }
    if broken.is_empty() && !panicked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
