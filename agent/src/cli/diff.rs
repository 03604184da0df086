//! The difference of two texts by lines, in the unified form that people and tools read.

use std::fmt::Write;

/// Unchanged lines around a change.
const AROUND: usize = 3;
/// Above so many pairs of lines to compare the whole text is shown as replaced: files of ours have a few hundred lines.
const MOST_PAIRS: usize = 4_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The difference, headed by `path`; `None` as the old text is a file that is not there. Empty if nothing differs.
pub fn unified(path: &str, old: Option<&str>, new: &str) -> String {
    if old == Some(new) {
        return String::new();
    }
    let script = script(&lines(old.unwrap_or_default()), &lines(new));
    let head = if old.is_some() { path } else { "/dev/null" };
    let mut text = format!("--- {head}\n+++ {path}\n");
    for (from, to) in hunks(&script) {
        write_hunk(&mut text, &script, from, to);
    }
    text
}

/// Lines with their ends, so that a missing last line end is a difference.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The shortest way from `old` to `new`: a longest common subsequence between the parts that differ.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut script: Vec<Line> = old[..head].iter().map(|line| Line::Same(line)).collect();
    if a.len().saturating_mul(b.len()) > MOST_PAIRS {
        script.extend(a.iter().map(|line| Line::Gone(line)));
        script.extend(b.iter().map(|line| Line::New(line)));
    } else {
        script.extend(middle(a, b));
    }
    script.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    script
}

fn middle<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<Line<'a>> {
    // common[i][j]: length of the longest common subsequence of a[i..] and b[j..].
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut script) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            script.push(Line::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            script.push(Line::Gone(a[i]));
            i += 1;
        } else {
            script.push(Line::New(b[j]));
            j += 1;
        }
    }
    script
}

/// Ranges of the script to show: changes with the lines around them, merged where they meet.
fn hunks(script: &[Line<'_>]) -> Vec<(usize, usize)> {
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for (at, line) in script.iter().enumerate() {
        if matches!(line, Line::Same(_)) {
            continue;
        }
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(script.len()));
        match hunks.last_mut() {
            Some(last) if from <= last.1 => last.1 = to,
            _ => hunks.push((from, to)),
        }
    }
    hunks
}

fn write_hunk(text: &mut String, script: &[Line<'_>], from: usize, to: usize) {
    let old = |lines: &[Line<'_>]| lines.iter().filter(|line| !matches!(line, Line::New(_))).count();
    let new = |lines: &[Line<'_>]| lines.iter().filter(|line| !matches!(line, Line::Gone(_))).count();
    let (before, shown) = (&script[..from], &script[from..to]);
    let range = |start: usize, length: usize| {
        // A range without lines is named by the line before it (POSIX diff).
        format!("{},{length}", if length == 0 { start } else { start + 1 })
    };
    let (gone, here) = (range(old(before), old(shown)), range(new(before), new(shown)));
    writeln!(text, "@@ -{gone} +{here} @@").expect("writing to a String cannot fail");
    for line in shown {
        let (sign, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        let end = if line.ends_with('\n') { "" } else { "\n\\ No newline at end of file\n" };
        write!(text, "{sign}{line}{end}").expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: Option<&str>, new: &str, expected: &str) {
        assert_eq!(unified("/f", old, new), expected);
    }

    #[test]
    fn what_people_expect_of_a_diff() {
        check(Some("a\n"), "a\n", "");
        check(None, "a\nb\n", "--- /dev/null\n+++ /f\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        check(Some("a\nb\nc\n"), "a\nx\nc\n", "--- /f\n+++ /f\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        check(Some("a"), "a\n", "--- /f\n+++ /f\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n");
        check(Some("a\n"), "", "--- /f\n+++ /f\n@@ -1,1 +0,0 @@\n-a\n");
    }

    #[test]
    fn distant_changes_are_two_hunks() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n3\n", "2\nx\n").replace("19\n", "");
        let text = unified("/f", Some(&old), &new);
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(heads, ["@@ -1,6 +1,6 @@", "@@ -16,5 +16,4 @@"]);
    }
}
