//! Undoes a shell's quoting: one pass over the text, left to right, no recursion, nothing expanded.

use super::vars::ParseError;

/// `NAME=value` as it was found.
pub(super) struct Assignment<'a> {
    pub(super) name: &'a str,
    pub(super) value: String,
    /// Where in the text its name begins, in bytes.
    pub(super) offset: usize,
}

/// The line of a byte of the text, counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// The assignments of a `context.sh`, in order; the first fault ends them.
pub(super) fn assignments(text: &str) -> impl Iterator<Item = Result<Assignment<'_>, ParseError>> {
    let mut scanner = Scanner { text, at: 0, begin: 0 };
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken {
            return None;
        }
        let next = scanner.assignment().transpose();
        broken = matches!(next, Some(Err(_)));
        next
    })
}

/// The assignments of a `one_env`: see [`super::Vars::parse_one_env`].
pub(super) fn exports(text: &str) -> impl Iterator<Item = Result<Assignment<'_>, ParseError>> {
    let mut starts = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some((name, body)) = export(line) {
            starts.push((name, offset, offset + body));
        }
        offset += line.len();
    }
    let ends: Vec<usize> =
        starts.iter().skip(1).map(|(_, start, _)| *start).chain(std::iter::once(text.len())).collect();
    starts.into_iter().zip(ends).map(move |((name, offset, body), end)| {
        let record = &text[body..end];
        let what = || format!("the value of {name} has no closing quote");
        let close =
            record.rfind('"').ok_or_else(|| ParseError { line: line_at(text, offset), what: what() })?;
        Ok(Assignment { name, value: record[..close].to_owned(), offset })
    })
}

/// The name and the offset of the value in a line such as `export NAME="`.
fn export(line: &str) -> Option<(&str, usize)> {
    let (name, value) = line.strip_prefix("export ")?.split_once("=\"")?;
    is_name(name).then_some((name, line.len() - value.len()))
}

fn is_name(text: &str) -> bool {
    let rest = text.strip_prefix(|c: char| c.is_ascii_alphabetic() || c == '_');
    rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Where the assignment that is being read begins.
    begin: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fault(&self, offset: usize, what: impl Into<String>) -> ParseError {
        ParseError { line: line_at(self.text, offset), what: what.into() }
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        self.at += self.rest().len() - self.rest().trim_start_matches(skipped).len();
    }

    /// Skips blank lines and comments.
    fn skip_nothing(&mut self) {
        loop {
            self.skip(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{feff}'));
            if !self.rest().starts_with('#') {
                return;
            }
            self.skip(|c| c != '\n');
        }
    }

    fn assignment(&mut self) -> Result<Option<Assignment<'a>>, ParseError> {
        self.skip_nothing();
        if let Some(rest) = self.rest().strip_prefix("export ") {
            self.at = self.text.len() - rest.trim_start_matches([' ', '\t']).len();
        }
        let offset = self.at;
        self.begin = offset;
        if self.rest().is_empty() {
            return Ok(None);
        }
        self.skip(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let name = &self.text[offset..self.at];
        if !is_name(name) || !self.rest().starts_with('=') {
            return Err(self.fault(offset, "expected NAME='value'"));
        }
        self.at += 1;
        let value = self.value(name)?;
        self.end_of_line(name)?;
        Ok(Some(Assignment { name, value, offset }))
    }

    /// Quoted and unquoted pieces up to the first bare blank or line end.
    fn value(&mut self, name: &str) -> Result<String, ParseError> {
        let mut value = String::new();
        while let Some(c) = self.rest().chars().next() {
            match c {
                '\'' => self.single_quoted(name, &mut value)?,
                '"' => self.double_quoted(name, &mut value)?,
                ' ' | '\t' | '\n' => break,
                '\r' if self.rest()[1..].is_empty() || self.rest()[1..].starts_with('\n') => break,
                '\0' => return Err(self.fault(self.at, "a NUL byte")),
                ';' | '&' | '|' | '(' | ')' | '`' => {
                    let what = format!(
                        "{:?} in the value of {name}: nothing is executed here, quote the value",
                        c.to_string()
                    );
                    return Err(self.fault(self.at, what));
                }
                '\\' => self.escaped(&mut value, |_| true),
                _ => {
                    value.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        Ok(value)
    }

    fn single_quoted(&mut self, name: &str, value: &mut String) -> Result<(), ParseError> {
        let open = self.at;
        let body = &self.rest()[1..];
        let Some(length) = body.find('\'') else {
            return Err(self.unclosed("single", name, open));
        };
        if let Some(nul) = body[..length].find('\0') {
            return Err(self.fault(open + nul, "a NUL byte"));
        }
        value.push_str(&body[..length]);
        self.at = open + length + 2;
        Ok(())
    }

    fn double_quoted(&mut self, name: &str, value: &mut String) -> Result<(), ParseError> {
        let open = self.at;
        self.at += 1;
        while let Some(c) = self.rest().chars().next() {
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(());
                }
                '\0' => return Err(self.fault(self.at, "a NUL byte")),
                '\\' => self.escaped(value, |c| matches!(c, '"' | '\\' | '$' | '`' | '\n')),
                _ => {
                    value.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        Err(self.unclosed("double", name, open))
    }

    /// A forgotten quote shows only where a later one opens in its place, so the message names the value's own line.
    fn unclosed(&self, kind: &str, name: &str, open: usize) -> ParseError {
        let begin = line_at(self.text, self.begin);
        self.fault(
            open,
            format!(
                "this {kind} quote in the value of {name}, which begins in line {begin}, is never closed"
            ),
        )
    }

    /// A backslash and what follows: the character alone if the backslash `escapes` it (a line break: nothing), both
    /// otherwise.
    fn escaped(&mut self, value: &mut String, escapes: impl Fn(char) -> bool) {
        self.at += 1;
        let Some(c) = self.rest().chars().next() else {
            value.push('\\');
            return;
        };
        if !escapes(c) {
            value.push('\\');
        }
        if !(c == '\n' && escapes(c)) {
            value.push(c);
        }
        self.at += c.len_utf8();
    }

    fn end_of_line(&mut self, name: &str) -> Result<(), ParseError> {
        self.skip(|c| matches!(c, ' ' | '\t' | '\r'));
        if self.rest().is_empty() || self.rest().starts_with(['\n', '#']) {
            return Ok(());
        }
        let what = format!("the value of {name} ends here, but more follows: quote the value");
        Err(self.fault(self.at, what))
    }
}
