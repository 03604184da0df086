//! Reads variables into values and collects every problem on the way, so that all are told at once.

use super::problem::{Problem, Warning};
use super::vars::Vars;
use crate::service::Role;

/// A context being read for one role.
pub struct Reader<'a> {
    vars: &'a Vars,
    role: Option<Role>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    /// Reads `vars` for `role`; `None` reads for every role, as `check` does.
    pub fn new(vars: &'a Vars, role: Option<Role>) -> Self {
        Self { vars, role, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The variables themselves.
    pub fn vars(&self) -> &'a Vars {
        self.vars
    }

    /// The role that is read for.
    pub fn role(&self) -> Option<&Role> {
        self.role.as_ref()
    }

    /// The text, or `None` if it is unset or empty.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.vars.get(name)
    }

    /// A boolean: `YES`, `yes`, `1` (any case of yes) are true, everything else is false, unset or empty is `default`.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.text(name).map_or(default, |value| value.eq_ignore_ascii_case("YES") || value == "1")
    }

    /// Parses the text, or records a problem with `expected` and returns `None`.
    pub fn parse<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.problem(name, value, expected);
        }
        parsed
    }

    /// Records a problem.
    pub fn problem(&mut self, name: &str, value: &str, expected: impl Into<String>) {
        self.problems.push(Problem { variable: name.into(), value: value.into(), expected: expected.into() });
    }

    /// Records a warning.
    pub fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: name.into(), message: message.into() });
    }

    /// Everything that was found, sorted and without repetition.
    pub fn finish(mut self) -> (Vec<Problem>, Vec<Warning>) {
        self.problems.sort();
        self.problems.dedup();
        self.warnings.sort();
        self.warnings.dedup();
        (self.problems, self.warnings)
    }
}
