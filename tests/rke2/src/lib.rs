//! A stand-in for RKE2: its command line, units, files, join protocol and API, as a node's agent meets them.
//!
//! In reading order: [`keys`], [`config`], [`knobs`] and [`paths`] are what goes in; [`server`] and [`agent`] are the two
//! services; [`join`] and [`supervisor`] are the two sides of port 9345; [`store`] is etcd, [`metrics`] what it tells; [`api`], [`kubelet`] and
//! [`controllers`] are Kubernetes; [`tokens`], [`snapshots`], [`certificates`], [`reset`] and [`install`] the commands.
//! [`inside`] runs nodes inside of another process.
#![expect(
    clippy::disallowed_methods,
    reason = "a stand-in for a program that touches the machine touches it too"
)]

mod agent;
mod api;
mod balancer;
mod certificates;
mod client;
mod cluster;
mod config;
mod controllers;
mod der;
mod http;
pub mod inside;
mod install;
mod join;
mod keys;
mod knobs;
mod kubeconfig;
mod kubelet;
mod log;
mod manifests;
mod metrics;
mod notify;
mod options;
mod parallel;
mod paths;
mod pki;
mod reset;
mod server;
mod snapshots;
mod start;
mod store;
mod supervisor;
mod tls;
mod token;
mod tokens;
mod traffic;
mod version;

use std::future::Future;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

pub use install::install;

/// Runs the program with its arguments.
///
/// # Errors
/// What RKE2 would say before it exits with 1.
pub fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["server", ..] => runtime.block_on(start::server(&arguments[1..])),
        ["agent", ..] => runtime.block_on(start::agent(&arguments[1..])),
        ["token", ..] => {
            runtime.block_on(tokens::command(&paths::Paths::from_environment(), &arguments[1..]))
        }
        ["etcd-snapshot", ..] => {
            runtime.block_on(snapshots::command(&paths::Paths::from_environment(), &arguments[1..]))
        }
        ["certificate", ..] => certificates::command(&paths::Paths::from_environment(), &arguments[1..]),
        ["standin", "install", ..] => install::command(&arguments[2..]),
        ["--version" | "-v"] => {
            println!("rke2 version {} (standin)\ngo version go1.24.5", version::RKE2);
            Ok(())
        }
        [] | ["help" | "--help" | "-h", ..] => {
            println!("{}", USAGE);
            Ok(())
        }
        [other, ..] => bail!("No help topic for '{other}'"),
    }
}

/// Prints an error as RKE2's last line.
pub fn log_fatal(error: &anyhow::Error) {
    log::fatal(&format!("{error:#}"));
}

const USAGE: &str = "rke2 - Rancher Kubernetes Engine 2 (a stand-in for tests)\n\n\
    commands: server, agent, token, etcd-snapshot, certificate, standin install --root DIR";

/// Ends when the process is asked to end: SIGTERM, or SIGINT from a terminal.
fn stop_asked() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
