//! The command line: one file per command. Nothing is started before the arguments are read.
#![expect(
    clippy::disallowed_methods,
    reason = "commands read files and the clock and write what they were asked for"
)]

mod check;
mod context;
mod diff;
mod disk;
mod docs;
mod input;
mod kubeconfig;
mod plan;
mod render;
mod run;
mod status;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::service::Role;

/// What a command's outcome means to its caller; `main.rs` and the help list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; the error was printed.
    Failed = 1,
    /// Wrong arguments; clap uses the same number.
    Usage = 2,
    /// The context has problems.
    Context = 3,
    /// Not ready yet.
    NotReady = 4,
    /// No agent runs.
    NotRunning = 5,
}

const AFTER_HELP: &str = "\
Exit status:
  0  done; for status: this VM is ready
  1  it failed, and the message says why
  2  the arguments are wrong
  3  the context has problems; each of them was listed
  4  status: the agent runs, but not all conditions hold yet
  5  status: the agent does not run, or has been silent for too long

A VM of the appliance runs `oneke-agent run` as oneke-agent.service.
Why is a VM not ready? Log in there:          oneke-agent status
Is a context right, before it is used?        oneke-agent check --context FILE";

/// OneKE's agent: reads what OpenNebula says about this VM and makes it the member of a Kubernetes cluster that it
/// shall be: a virtual router, a master, a worker or a storage node.
#[derive(Debug, Parser)]
#[command(name = "oneke-agent", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring this VM into its service and keep it there (started by systemd)
    ///
    /// Observes, decides, acts, reports and waits, for ever. Needs root. SIGTERM ends it between two steps, SIGHUP
    /// makes it look at the context again. What it does is in the journal: journalctl -u oneke-agent
    Run(Run),
    /// Show what this VM has reached, and what it waits for
    Status(Status),
    /// Show what the agent would do now, with the differences of files; changes nothing
    Plan(Plan),
    /// List every problem of a context
    Check(Check),
    /// Write every file that a VM would get into a directory; offline, without root
    ///
    /// The context comes from a file, what OneGate says from recorded answers. Without them the VM is taken for the
    /// only one of its service. Files with secrets are written with mode 0600.
    Render(Render),
    /// Show every variable of a context as it is
    Context(Context),
    /// Print the cluster administrator's kubeconfig, leading to the control plane's endpoint; on a master, as root
    Kubeconfig(Kubeconfig),
    /// Work on a data disk (started by systemd)
    #[command(hide = true, subcommand)]
    Disk(Disk),
    /// Print the manual's page of variables
    #[command(hide = true)]
    Docs,
}

#[derive(Debug, Subcommand)]
enum Disk {
    /// Format the disk that the agent chose
    Format {
        /// What for: storage, etcd, ...
        purpose: String,
    },
    /// Let a file system fill its disk
    Grow {
        /// Where it is mounted
        mountpoint: String,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Read the context from this file or directory instead of the CONTEXT CD-ROM
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Log details as well
    #[arg(long)]
    verbose: bool,
}

#[derive(Debug, Args)]
struct Status {
    /// Print the agent's report as JSON
    #[arg(long)]
    json: bool,
    /// Print again whenever something changes, until interrupted
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Args)]
struct Plan {
    /// Print effects and conditions as JSON
    #[arg(long)]
    json: bool,
    /// Read the context from this file or directory instead of the CONTEXT CD-ROM
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Check {
    /// The context, as OpenNebula writes it into context.sh; this VM's own if not given
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Hold it against one role's rules (vnf, master, worker, storage, or a worker group's name) instead of every role's
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// Print problems and warnings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Render {
    /// The context, as OpenNebula writes it into context.sh
    #[arg(long, value_name = "FILE")]
    context: PathBuf,
    /// Recorded answers of OneGate: vm.json, service.json or service-extended.json, vms/ID.json; of a virtual router's
    /// VM also vrouter.json and vnet/ID.json
    #[arg(long, value_name = "DIR")]
    onegate: Option<PathBuf>,
    /// The VM's role; needed if there is no recorded vm.json that names it and the context is no virtual router's
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// Where to write: every file at its absolute path under this directory
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Context {
    /// The context, as OpenNebula writes it into context.sh; this VM's own if not given
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print passwords and tokens too
    #[arg(long)]
    show_secrets: bool,
}

#[derive(Debug, Args)]
struct Kubeconfig {
    /// Read the context from this file or directory instead of the CONTEXT CD-ROM
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
}

fn role(name: &str) -> Result<Role, String> {
    if name.is_empty() {
        return Err("expected vnf, master, worker, storage, or the name of a group of workers".into());
    }
    Ok(Role::from(name.to_owned()))
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Render(arguments) => render::render(&arguments),
        Command::Context(arguments) => context::context(&arguments),
        Command::Kubeconfig(arguments) => kubeconfig::kubeconfig(&arguments),
        Command::Disk(job) => disk::disk(&job),
        Command::Docs => docs::docs(),
    };
    let exit = outcome.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            // `oneke-agent status | head -1` is no failure.
            return Exit::Done;
        }
        // Nobody is left to tell if this fails too.
        writeln!(std::io::stderr(), "oneke-agent: {error:#}").ok();
        Exit::Failed
    });
    ExitCode::from(exit as u8)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints to standard output; a closed pipe is an error, not a panic as with `println!`.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The runtime that commands which ask the machine need: one thread, started here.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Fails only if one is installed already, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
