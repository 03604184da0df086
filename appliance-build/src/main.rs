//! `appliance-build`: makes what goes into the image. The only place of this crate that exits.
#![expect(
    clippy::disallowed_methods,
    reason = "a program's main: arguments, environment and the exit code meet here"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use appliance_build::artefacts::{self, Proof};
use appliance_build::deb;
use clap::{Parser, Subcommand};

/// Makes what goes into OneKE's appliance image.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Packs the agent for Debian and Ubuntu and prints the package's path.
    ///
    /// The same inputs give the same bytes; SOURCE_DATE_EPOCH sets the time that every file in it bears.
    Deb {
        /// The agent's program, built for this machine's architecture.
        #[arg(long)]
        binary: PathBuf,
        /// Where the package goes; made if it is not there.
        #[arg(long)]
        out: PathBuf,
    },
    /// Prints every artefact of others that the image holds: project, version, address, how it is verified.
    Artefacts,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("appliance-build: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Deb { binary, out } => {
            std::fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
            let build = deb::Build {
                binary,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                architecture: deb::architecture()?,
                epoch: epoch()?,
            };
            println!("{}", deb::pack(&build, &out)?.display());
        }
        Command::Artefacts => {
            for artefact in artefacts::parse(artefacts::VERSIONS)? {
                let proof = match &artefact.proof {
                    Proof::Sha256(hash) => format!("sha256 {hash}"),
                    Proof::Checksums(url) => format!("checksums {url}"),
                    Proof::Index(url) => format!("index {url}"),
                };
                println!("{}\t{}\t{}\t{proof}", artefact.project, artefact.version, artefact.url);
            }
        }
    }
    Ok(())
}

/// SOURCE_DATE_EPOCH, or 0: a package must not depend on the moment it was made at.
fn epoch() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => {
            text.parse().with_context(|| format!("SOURCE_DATE_EPOCH=\"{text}\": expected seconds since 1970"))
        }
        Err(_) => Ok(0),
    }
}
