//! `rke2 certificate check|rotate`, over the files on disk.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::der::{self, Certificate};
use crate::log;
use crate::options::Options;
use crate::paths::{self, Paths};
use crate::pki::RENEW_BEFORE;

/// Where certificates are, below the data directory.
const DIRECTORIES: &[&str] = &["server/tls", "server/tls/etcd", "agent"];

/// As long as the longest heading.
const DASHES: &str = "-------------";

/// Runs one of the commands.
///
/// # Errors
/// Files that cannot be read.
pub fn command(paths: &Paths, arguments: &[String]) -> Result<()> {
    let options =
        Options::parse(arguments, &["output", "o", "service", "s", "data-dir", "config"], &["debug"])?;
    let table = options.one("output").or_else(|| options.one("o")) == Some("table");
    match options.positional.first().map(String::as_str) {
        Some("check") => check(paths, table),
        Some("rotate") => rotate(paths),
        _ => bail!("expected a command: check, rotate or rotate-ca"),
    }
}

fn check(paths: &Paths, table: bool) -> Result<()> {
    if table {
        let heads = ["FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS"];
        println!("\n{}\n{}", line(heads), line(heads.map(|head| &DASHES[..head.len()])));
    }
    for file in files(paths) {
        let text = paths::read(&file)?.unwrap_or_default();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for block in der::blocks(&text) {
            let parsed = der::parse(&block).with_context(|| format!("could not read {}", file.display()))?;
            tell(&name, &parsed, table);
        }
    }
    Ok(())
}

fn tell(name: &str, certificate: &Certificate, table: bool) {
    let left = certificate.not_after.duration_since(jiff::Timestamp::now());
    let status = match left.as_secs() {
        ..=0 => "EXPIRED",
        seconds if seconds.unsigned_abs() < RENEW_BEFORE.as_secs() => "WARNING",
        _ => "OK",
    };
    let authority = certificate.subject == certificate.issuer;
    let usage = if authority { "CertSign" } else { "ClientAuth,ServerAuth" };
    let subject = &certificate.subject.common_name;
    if table {
        let expires = certificate.not_after.strftime("%b %d, %Y %H:%M UTC").to_string();
        println!("{}", line([name, subject, usage, &expires, &residual(left.as_secs()), status]));
        return;
    }
    let until = certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ");
    match status {
        "OK" => log::info(&format!("{name}: certificate {subject} ({usage}) is ok, expires at {until}")),
        "EXPIRED" => {
            log::error(&format!("{name}: certificate {subject} ({usage}) has expired, expired at {until}"))
        }
        _ => log::warn(&format!(
            "{name}: certificate {subject} ({usage}) will expire within 120 days at {until}"
        )),
    }
}

/// Puts the leaf certificates aside; the next start makes new ones. The server must be stopped.
fn rotate(paths: &Paths) -> Result<()> {
    let stamp = jiff::Timestamp::now().as_second();
    for file in files(paths) {
        let text = paths::read(&file)?.unwrap_or_default();
        let blocks = der::blocks(&text);
        let Some(parsed) = blocks.first().and_then(|block| der::parse(block).ok()) else { continue };
        if parsed.subject == parsed.issuer || !file.with_extension("key").exists() {
            continue;
        }
        for extension in ["crt", "key"] {
            let old = file.with_extension(extension);
            let aside = paths.data(&format!("server/tls-{stamp}")).join(old.file_name().unwrap_or_default());
            std::fs::create_dir_all(aside.parent().unwrap_or(Path::new("/")))?;
            std::fs::rename(&old, &aside)
                .with_context(|| format!("could not put {} aside", old.display()))?;
        }
        log::info(&format!("Rotating certificate {}", file.display()));
    }
    log::info(
        "Successfully backed up certificates, please restart rke2 server or agent to rotate certificates",
    );
    Ok(())
}

fn files(paths: &Paths) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        let Ok(entries) = std::fs::read_dir(paths.data(directory)) else { continue }; // No server, or no agent.
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "crt")),
        );
    }
    found.sort();
    found
}

fn line(cells: [&str; 6]) -> String {
    let [name, subject, usage, expires, residual, status] = cells;
    format!("{name:<28} {subject:<36} {usage:<22} {expires:<24} {residual:<15} {status}")
}

/// The largest unit that fits, as Go's duration library says it.
fn residual(seconds: i64) -> String {
    let units = [(365 * 86_400, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    let found = units.iter().find(|(unit, _)| seconds >= *unit);
    let (count, name) = found.map_or((seconds.max(0), "second"), |(unit, name)| (seconds / unit, *name));
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #[test]
    fn residual_times_read_well() {
        assert_eq!(super::residual(400 * 86_400), "1 year");
        assert_eq!(super::residual(90 * 86_400), "90 days");
        assert_eq!(super::residual(-5), "0 seconds");
    }
}
