//! What is done to a running lab from another terminal, and by signals: look, step inside, end.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::command;
use crate::host;
use crate::lab::{INTERRUPTED, members_file};
use crate::progress::{Member, table};

/// How long a lab may take to end by itself before its traces are taken away from outside.
const PATIENCE: Duration = Duration::from_secs(30);

/// From now on SIGINT, SIGTERM and SIGHUP end every wait; a second one ends the lab at once.
///
/// # Errors
/// When the thread that listens cannot be started.
pub fn listen_for_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.context("could not make a runtime for signals")?;
    let _guard = runtime.enter();
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signals.push(signal(kind).context("could not listen for a signal")?);
    }
    let [mut interrupt, mut terminate, mut hangup] = <[_; 3]>::try_from(signals).expect("three were pushed");
    drop(_guard);
    let listen = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                let swept = host::sweep();
                eprintln!(
                    "oneke-lab: ended at once{}",
                    swept.err().map(|e| format!(": {e:#}")).unwrap_or_default()
                );
                std::process::exit(130);
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || runtime.block_on(listen)).context("could not start the thread for signals").map(drop)
}

/// Prints the running lab's nodes.
///
/// # Errors
/// When no lab runs.
pub fn status() -> Result<()> {
    print!("{}", table(&members()?, 200));
    Ok(())
}

/// Becomes a shell, or another program, inside a node.
///
/// # Errors
/// When no lab runs, or the node is not there or off.
pub fn shell(node: &str, program: &[String]) -> Result<()> {
    let members = members()?;
    let names: Vec<String> = members.iter().map(Member::name).collect();
    let member = members.iter().find(|member| member.name() == node || member.vm.to_string() == node);
    let member =
        member.with_context(|| format!("no node \"{node}\": expected one of {}", names.join(", ")))?;
    let leader = member.leader.with_context(|| format!("{node} is off"))?.to_string();
    // Through its own systemd: nsenter alone would keep this machine's capabilities.
    let terminal = if std::io::stdin().is_terminal() { "--pty" } else { "--pipe" };
    let mut argv = ["nsenter", "-t", &leader, "-a", "systemd-run", "--quiet", "--wait", "--collect"]
        .map(String::from)
        .to_vec();
    argv.extend([terminal, "--setenv=TERM", "--"].map(String::from));
    match program {
        [] => argv.extend(["bash", "--login"].map(String::from)),
        program => argv.extend_from_slice(program),
    }
    Err(command(&argv).exec()).context("could not start nsenter")
}

/// Ends the running lab, if one runs, and takes every trace away.
///
/// # Errors
/// When something cannot be removed.
pub fn down() -> Result<()> {
    if let Some(runner) = host::runner() {
        println!("ending the lab of process {runner}");
        kill(runner, Signal::SIGTERM).context("could not end the lab")?;
        let deadline = Instant::now() + PATIENCE;
        while host::runner().is_some() {
            if Instant::now() > deadline {
                println!("it does not end by itself: killing it");
                kill(runner, Signal::SIGKILL).context("could not kill the lab")?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    host::sweep()?;
    let run = host::run_directory();
    match std::fs::remove_dir_all(&run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", run.display()))
        }
        _ => Ok(()),
    }
}

fn members() -> Result<Vec<Member>> {
    if host::runner().is_none() {
        bail!("no lab runs: start one by `oneke-lab up --keep`");
    }
    let path = members_file();
    if !path.exists() {
        bail!("the lab has no nodes yet");
    }
    let what = || format!("could not read the nodes in {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(what)?;
    serde_json::from_str(&text).with_context(what)
}
