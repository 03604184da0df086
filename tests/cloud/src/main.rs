//! `oneke-cloud`: the simulated cloud as a program.
#![expect(clippy::disallowed_methods, reason = "the program reads files, the clock, and opens its ports")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser};
use oneke_cloud::server::Server;
use oneke_cloud::{Cloud, NetworkSpec, Options, Templates, UserInputs};
use tokio::net::TcpListener;

/// OneGate, OneFlow and oned, simulated to the letter of recorded exchanges.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
enum Program {
    /// Serve one cloud until interrupted.
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
}

const EXAMPLES: &str = r#"The operator's port speaks JSON:
  curl ADMIN/do -d '{"do":"instantiate","networks":{"Public":"public","Private":"private"}}'
  curl ADMIN/do -d '{"do":"scale","service":1,"role":"worker","cardinality":3}'
  curl ADMIN/do -d '{"do":"poweroff","vm":2,"hard":true}'
      also: delete_service, recover_service {service}, restart_oneflow, terminate, undeploy, reboot {vm, hard},
      resume, recreate, retry, delete {vm}, update_context {vm, variables}
  curl ADMIN/do -d '{"do":"faults","unauthorized_one_in":1000,"latency":{"service":0.34}}'
      replaces all faults; GET /faults shows every one there is
  curl 'ADMIN/events?after=0&wait=30'
      what whoever runs the guests must do: power_on, acpi_shutdown, acpi_reboot, reset, destroy, context_changed
  curl ADMIN/do -d '{"do":"guest_stopped","vm":2}'
      what they tell in return; also boot_failed
  curl ADMIN/state, ADMIN/requests, ADMIN/received
      services and VMs; who asked OneGate for what how often; every body that it was ever sent"#;

#[derive(Args)]
struct Serve {
    /// Where VMs find OneGate
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5030")]
    listen: SocketAddr,
    /// Where the operator's commands are taken; whoever reaches it may do anything
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5031")]
    admin: SocketAddr,
    /// Directory with one service template and its VM templates, YAML as in the marketplace [default: OneKE 1.33]
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// What contexts say ONEGATE_ENDPOINT is [default: http://LISTEN]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// YAML list of networks: name, first, size, address, mask, and optionally gateway, dns, bridge, external, ipv6
    /// [default: public 10.0.0.0/24 and private 172.20.0.0/16]
    #[arg(long, value_name = "FILE")]
    networks: Option<PathBuf>,
    /// File with what $USER[SSH_PUBLIC_KEY] stands for
    #[arg(long, value_name = "FILE")]
    ssh_public_key: Option<PathBuf>,
    /// Pass only the user inputs that a role's template names, as front ends before 7.3 do
    #[arg(long)]
    older_front_end: bool,
    /// Lease addresses again that were given back
    #[arg(long)]
    reuse_addresses: bool,
    /// Seconds a guest has to stop before it is destroyed
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    shutdown: u64,
    /// Seconds between rounds of OneFlow's autoscaler
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    autoscaler: u64,
    /// How many times as fast as the world's the cloud's time runs
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// What tokens, UUIDs and the chance of faults begin from
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Program::Serve(serve) = Program::parse();
    ensure!(
        serve.speed.is_finite() && serve.speed > 0.0,
        "--speed={}: expected a number above 0",
        serve.speed
    );
    let templates = match &serve.templates {
        Some(directory) => read_templates(directory)?,
        None => Templates::oneke(),
    };
    let server = Server::new(Cloud::new(options(&serve)?), templates, serve.speed);
    let onegate = bind(serve.listen).await?;
    let admin = bind(serve.admin).await?;
    println!("OneGate on {}, the operator's port on {}", onegate.local_addr()?, admin.local_addr()?);
    tokio::select! {
        () = server.run(onegate, admin) => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("could not wait for an interrupt"),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))
}

fn options(serve: &Serve) -> Result<Options> {
    let mut options = Options {
        seed: serve.seed,
        epoch: SystemTime::now().duration_since(UNIX_EPOCH).context("could not tell the time")?.as_secs(),
        endpoint: serve.endpoint.clone().unwrap_or_else(|| format!("http://{}", serve.listen)),
        reuse_addresses: serve.reuse_addresses,
        user_inputs: if serve.older_front_end { UserInputs::Named } else { UserInputs::All },
        ..Options::default()
    };
    options.timing.shutdown = Duration::from_secs(serve.shutdown);
    // A round at least every second: none at all would never end.
    options.timing.autoscaler = Duration::from_secs(serve.autoscaler.max(1));
    if let Some(file) = &serve.networks {
        let networks: Vec<NetworkSpec> = serde_saphyr::from_str(&read(file)?)
            .with_context(|| format!("could not understand the networks in {}", file.display()))?;
        options.networks = networks;
    }
    if let Some(file) = &serve.ssh_public_key {
        options.owner.attributes.insert("SSH_PUBLIC_KEY".to_owned(), read(file)?.trim().to_owned());
    }
    Ok(options)
}

fn read_templates(directory: &Path) -> Result<Templates> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("could not list {}", directory.display()))?;
    let mut texts = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("could not list {}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            texts.push(read(&path)?);
        }
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Templates::read(&texts).with_context(|| format!("could not use the templates in {}", directory.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
