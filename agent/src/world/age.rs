//! Sealing to a user's SSH keys with the distribution's `age`: its file format is what people can open anywhere.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;

use crate::plan::Secret;

/// It encrypts a few kilobytes.
const LIMIT: Duration = Duration::from_secs(10);

/// The text as an armored age file that each of `recipients` (public SSH keys) opens. The text goes in by standard input.
///
/// # Errors
/// If the program is missing, too slow, or refuses a key.
pub async fn seal(program: &str, recipients: &[String], text: &Secret) -> anyhow::Result<Vec<u8>> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--armor").args(recipients.iter().flat_map(|key| ["--recipient", key]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = async {
        let mut child = command.spawn().with_context(|| format!("could not run {program}"))?;
        let mut stdin = child.stdin.take().context("its standard input is not there")?;
        let write = async move { stdin.write_all(text.expose().as_bytes()).await };
        let (written, output) = tokio::join!(write, child.wait_with_output());
        let output = output.with_context(|| format!("could not run {program}"))?;
        if !output.status.success() {
            bail!("{program} refused: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        written.with_context(|| format!("could not write to {program}"))?;
        Ok(output.stdout)
    };
    tokio::time::timeout(LIMIT, ended)
        .await
        .with_context(|| format!("{program} did not end within {} s", LIMIT.as_secs()))?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A stand-in that says what it was given.
    fn program(script: &str) -> (tempfile::TempDir, String) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("age");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (home, path.to_string_lossy().into_owned())
    }

    #[tokio::test]
    async fn the_text_goes_by_standard_input_and_keys_by_arguments() {
        let (_home, age) = program("echo \"$@\"; cat");
        let keys = ["ssh-ed25519 AAAA me".to_owned(), "ssh-rsa BBBB".to_owned()];
        let sealed = seal(&age, &keys, &Secret::new("kubeconfig")).await.unwrap();
        let expected = "--armor --recipient ssh-ed25519 AAAA me --recipient ssh-rsa BBBB\nkubeconfig";
        assert_eq!(String::from_utf8(sealed).unwrap(), expected);
    }

    /// What the manual tells users to do, with the programs that they have; passed over where these are not installed,
    /// unless `ONEKE_OWNERS=1` makes that a failure.
    #[tokio::test]
    async fn whoever_has_the_private_key_opens_it() {
        const AGE: &str = "/usr/bin/age";
        let installed = std::path::Path::new(AGE).exists();
        assert!(installed || std::env::var_os("ONEKE_OWNERS").is_none(), "there is no {AGE}");
        if !installed {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            let output = command.current_dir(home.path()).args(arguments).output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let mut keys = Vec::new();
        for (kind, bits) in [("ed25519", "256"), ("rsa", "2048")] {
            assert!(run("ssh-keygen", &["-q", "-t", kind, "-b", bits, "-N", "", "-f", kind]).0);
            keys.push(
                std::fs::read_to_string(home.path().join(format!("{kind}.pub"))).unwrap().trim().to_owned(),
            );
        }
        assert!(run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "stranger"]).0);
        let sealed = seal(AGE, &keys, &Secret::new("kind: Config\n")).await.unwrap();
        std::fs::write(home.path().join("sealed"), sealed).unwrap();
        for key in ["ed25519", "rsa"] {
            assert_eq!(run(AGE, &["-d", "-i", key, "sealed"]), (true, "kind: Config\n".to_owned()), "{key}");
        }
        assert_eq!(run(AGE, &["-d", "-i", "stranger", "sealed"]), (false, String::new()));
    }

    #[tokio::test]
    async fn a_refusal_and_an_absence_are_told_without_the_text() {
        let (_home, age) = program("echo 'malformed recipient' >&2; exit 1");
        let error = seal(&age, &["x".to_owned()], &Secret::new("secret-text")).await.unwrap_err();
        assert!(format!("{error:#}").ends_with("refused: malformed recipient"), "{error:#}");
        let error = seal("/nowhere/age", &[], &Secret::new("secret-text")).await.unwrap_err();
        let told = format!("{error:#}");
        assert!(told.starts_with("could not run /nowhere/age") && !told.contains("secret-text"), "{told}");
    }
}
