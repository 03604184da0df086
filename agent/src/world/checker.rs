//! Asks a configuration's owner whether it would accept a candidate (invariant 10).

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{command, ports};
use crate::plan::Checker;

/// All four answer within a tenth of a second; HAProxy may resolve names first.
const LIMIT: Duration = Duration::from_secs(10);

/// The program, its arguments before the file, and the exit statuses that mean yes.
fn call(checker: Checker) -> (&'static str, &'static [&'static str], &'static [i32]) {
    match checker {
        Checker::Haproxy => ("haproxy", &["-c", "-q", "-f"], &[0]),
        // 5 is KEEPALIVED_EXIT_CONFIG_TEST_SECURITY: it would run, and warns about scripts' owners.
        Checker::Keepalived => ("keepalived", &["-t", "-f"], &[0, 5]),
        Checker::Nftables => ("nft", &["-c", "-f"], &[0]),
        Checker::Unbound => ("unbound-checkconf", &[], &[0]),
    }
}

/// Success if the owner accepts `candidate`. A checker may quote what it reads: with `secret` only the line numbers
/// of its complaint are told.
///
/// # Errors
/// Why the owner refused it, in its own words, or that it could not be asked: no answer is no acceptance.
pub async fn accepts(checker: Checker, candidate: &Path, secret: bool) -> anyhow::Result<()> {
    let (program, arguments, accepted) = call(checker);
    let arguments = arguments.iter().map(OsStr::new).chain([candidate.as_os_str()]);
    let outcome = command::run(program, arguments, LIMIT).await?;
    if outcome.code.is_some_and(|code| accepted.contains(&code)) {
        // Its checker does not look whether it could listen.
        let text = match checker {
            Checker::Haproxy => std::fs::read_to_string(candidate).context("could not read the candidate")?,
            Checker::Keepalived | Checker::Nftables | Checker::Unbound => return Ok(()),
        };
        return ports::taken(&text).map_or(Ok(()), |taken| bail!("HAProxy could not serve it: {taken}"));
    }
    let status = outcome.code.map_or("a signal".to_owned(), |code| format!("status {code}"));
    if secret {
        let lines = line_numbers(&outcome.said);
        bail!(
            "{program} refused it with {status}{lines}; its words are withheld because the file holds secrets"
        );
    }
    // The candidate's name is gone before anybody could look at it.
    let said = outcome.said.replace(&*candidate.to_string_lossy(), "FILE");
    bail!("{program} refused it with {status}: {said}");
}

/// `, line 12, 14` for the numbers that follow the word "line" or a colon after the file's name.
fn line_numbers(said: &str) -> String {
    let said = said.to_lowercase();
    let mut numbers: Vec<u32> = Vec::new();
    for (_, rest) in said.match_indices("line").map(|(at, word)| (at, &said[at + word.len()..])) {
        let digits: String =
            rest.trim_start_matches([' ', ':']).chars().take_while(char::is_ascii_digit).collect();
        if let Ok(number) = digits.parse() {
            numbers.push(number);
        }
    }
    numbers.dedup();
    if numbers.is_empty() {
        return String::new();
    }
    format!(", line {}", numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_numbers_are_kept_of_a_secret_file() {
        assert_eq!(
            line_numbers("(Line 12) auth_pass hunter2\n(Line 12) x\nparsing [FILE:3]: line: 7"),
            ", line 12, 7"
        );
        assert_eq!(line_numbers("hunter2 online"), "");
    }
}
