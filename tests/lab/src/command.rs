//! Runs the machine's own tools and says what failed, with their words.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end and returns what it printed on standard output.
///
/// # Errors
/// When it cannot be started or does not exit with 0; the error holds the command line and its standard error.
pub fn run<S: AsRef<str>>(argv: &[S]) -> Result<String> {
    let output = output(argv)?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", line(argv), output.status, words(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, whatever it exits with.
///
/// # Errors
/// When it cannot be started.
pub fn output<S: AsRef<str>>(argv: &[S]) -> Result<Output> {
    command(argv).stdin(Stdio::null()).output().with_context(|| format!("could not start `{}`", line(argv)))
}

/// Whether a program exits with 0; false also when it cannot be started. For questions, not for work.
pub fn succeeds<S: AsRef<str>>(argv: &[S]) -> bool {
    output(argv).is_ok_and(|output| output.status.success())
}

/// A command to be configured further.
pub fn command<S: AsRef<str>>(argv: &[S]) -> Command {
    let mut command = Command::new(argv[0].as_ref());
    command.args(argv[1..].iter().map(AsRef::as_ref));
    command
}

fn line<S: AsRef<str>>(argv: &[S]) -> String {
    argv.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

/// The end of what a program said: the last lines tell why it failed.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = run(&["sh", "-c", "echo no such bridge >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("no such bridge"), "{error}");
    }

    #[test]
    fn what_it_printed_comes_back() {
        assert_eq!(run(&["printf", "a b"]).unwrap(), "a b");
        assert!(!succeeds(&["false"]));
    }
}
