//! Runs a program of the system, bounded in time, without a shell and without a terminal.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context;

/// The most that is shown of a program's output, in bytes: enough for its first complaints.
const MOST_SHOWN: usize = 2000;

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard error, then standard output, trimmed and cut.
    pub said: String,
}

/// Runs `program` to its end; after `limit` it is killed.
///
/// # Errors
/// If it could not be started, or was too slow. Its own failure is an [`Outcome`].
pub async fn run(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let output = finished(program, arguments, limit).await?;
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    Ok(Outcome { code: output.status.code(), said: cut(said.trim()) })
}

/// What `program` printed, whole.
///
/// # Errors
/// As [`run`], and if it failed itself.
pub async fn answer(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    limit: Duration,
) -> anyhow::Result<String> {
    let output = finished(program, arguments, limit).await?;
    anyhow::ensure!(
        output.status.success(),
        "{program}: {}",
        cut(String::from_utf8_lossy(&output.stderr).trim())
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn finished(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    limit: Duration,
) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(program);
    // Messages are matched nowhere, but operators search for them: always in English.
    command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
    tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("{program} did not end within {} s", limit.as_secs()))?
        .with_context(|| format!("could not run {program}"))
}

fn cut(text: &str) -> String {
    if text.len() <= MOST_SHOWN {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MOST_SHOWN);
    format!("{} ...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_how_it_ended() {
        let outcome =
            run("sh", ["-c", "echo out; echo err >&2; exit 3"], Duration::from_secs(60)).await.unwrap();
        assert_eq!((outcome.code, outcome.said.as_str()), (Some(3), "err\n\nout"));
        let missing = run("no-such-program", [""; 0], Duration::from_secs(60)).await.unwrap_err();
        assert!(format!("{missing:#}").starts_with("could not run no-such-program: "));
    }

    #[tokio::test]
    async fn an_answer_is_whole_and_without_complaints() {
        let limit = Duration::from_secs(60);
        let long = "x".repeat(5000);
        let script = format!("echo odd >&2; printf {long}; exit $0");
        assert_eq!(answer("sh", ["-c", &script, "0"], limit).await.unwrap(), long);
        assert_eq!(answer("sh", ["-c", &script, "1"], limit).await.unwrap_err().to_string(), "sh: odd");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_program_is_given_up() {
        let error = run("sleep", ["1000"], Duration::from_secs(5)).await.unwrap_err();
        assert!(format!("{error:#}").starts_with("sleep did not end within 5 s"));
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut(&"ü".repeat(2000)), format!("{} ...", "ü".repeat(1000)));
    }
}
