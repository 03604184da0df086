//! Reads variables into values and collects every problem on the way, so that all are told at once.

use super::problem::{Problem, Warning};
use super::table::{self, Roles};
use super::vars::Vars;
use crate::service::Role;

/// The longest part of a value that a problem repeats: enough to recognise it, short enough for a log line.
const SHOWN: usize = 120;

/// The longest explanation, which may repeat parts of a value: a value of a megabyte must not fill the journal.
const TOLD: usize = 1000;
/// What becomes of a value of which the old scripts, too, made nothing.
pub(super) const PASSED_OVER: &str = "it is passed over";

/// A context being read for one role. Problems and warnings of variables that do not concern the role are dropped:
/// newer front ends put every input into every role's context.
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
        self.text(name).map_or(default, is_yes)
    }

    /// A boolean with the table's default for `roles`.
    pub fn on(&self, name: &str, roles: Roles) -> bool {
        self.flag(name, table::find(name, roles).is_some_and(|variable| is_yes(variable.default)))
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

    /// Parses the text, or warns and returns `None`: what the old appliance or its daemons left out, and served the rest.
    pub fn parse_leniently<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            let shown = super::show::masked(name, value);
            self.warn(name, format!("{shown:?} is left out: {expected}"));
        }
        parsed
    }

    /// Parses the text, or the table's default for `roles`; a problem says the table's form.
    pub fn value<T>(&mut self, name: &str, roles: Roles, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let variable = table::find(name, roles);
        let default = variable.map_or("", |variable| variable.default);
        let value = self.text(name).unwrap_or(default);
        if value.is_empty() {
            return None;
        }
        let parsed = parse(value);
        if parsed.is_none() {
            let form = variable.map_or(table::Form::Text, |variable| variable.form);
            self.problem(name, value, format!("expected {form}"));
        }
        // A value that is refused stops the agent; what is read of it in its place is never used.
        parsed.or_else(|| parse(default).filter(|_| !default.is_empty()))
    }

    /// The same for what the old scripts passed over where they made nothing of it, and came up: it is told, and the
    /// default stands.
    pub fn forgiving<T>(
        &mut self,
        name: &str,
        roles: Roles,
        consequence: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let variable = table::find(name, roles);
        let default = variable.map_or("", |variable| variable.default);
        let value = self.text(name).unwrap_or(default);
        if let Some(parsed) = parse(value) {
            return Some(parsed);
        }
        if !value.is_empty() {
            let form = variable.map_or(table::Form::Text, |variable| variable.form);
            let shown = super::show::masked(name, value);
            self.warn(name, format!("{shown:?} is not {form}: {consequence}"));
        }
        parse(default)
    }

    /// Reads something that matters only if `used`; otherwise its problems become warnings: a value that nobody uses
    /// did no harm in the old appliance and stops nothing here.
    pub fn only_if<T>(&mut self, used: bool, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.problems.len();
        let value = read(self);
        if !used {
            for Problem { variable, value, expected } in self.problems.drain(before..) {
                let message = format!("{value:?} is not used now, but would be refused: {expected}");
                self.warnings.push(Warning { variable, message });
            }
        }
        value
    }

    /// Reads something that is another role's if `foreign`: its problems and warnings do not count then.
    pub fn aside_if<T>(&mut self, foreign: bool, read: impl FnOnce(&mut Self) -> T) -> T {
        let (problems, warnings) = (self.problems.len(), self.warnings.len());
        let value = read(self);
        if foreign {
            self.problems.truncate(problems);
            self.warnings.truncate(warnings);
        }
        value
    }

    /// Records a problem, if it concerns the role; a secret value is masked, a long one cut.
    pub fn problem(&mut self, name: &str, value: &str, expected: impl Into<String>) {
        if table::concerns(name, self.role.as_ref()) {
            let value = cut(&super::show::masked(name, value), SHOWN);
            self.problems.push(Problem {
                variable: name.into(),
                value,
                expected: cut(&expected.into(), TOLD),
            });
        }
    }

    /// True if a problem of this variable was recorded.
    pub fn has_problem(&self, name: &str) -> bool {
        self.problems.iter().any(|problem| problem.variable == name)
    }

    /// Records a warning, if it concerns the role.
    pub fn warn(&mut self, name: &str, message: impl Into<String>) {
        if table::concerns(name, self.role.as_ref()) {
            self.warnings.push(Warning { variable: name.into(), message: cut(&message.into(), TOLD) });
        }
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

/// At most so many characters, and dots where there were more.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The old appliance's rule: `upcase` is `YES` or `1` (contract.md 1.0). `true` and `on` are no.
pub(super) fn is_yes(value: &str) -> bool {
    value.eq_ignore_ascii_case("YES") || value == "1"
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn no_value_fills_the_journal() {
        let long = "é".repeat(100_000);
        let names = ["ONEAPP_K8S_NODE_LABELS", "ONEAPP_K8S_CNI_PLUGIN", "ONEAPP_K8S_MULTUS_ENABLED"];
        let vars = Vars::from_iter(names.map(|name| (name, long.as_str())));
        let (_, problems, warnings) = Config::examine(&vars, None);
        assert_eq!((problems.len(), warnings.len()), (2, 2), "{problems:?}");
        let told = problems.iter().map(ToString::to_string).chain(warnings.iter().map(ToString::to_string));
        for line in told {
            assert!(line.chars().count() < TOLD + 2 * SHOWN, "{} characters", line.chars().count());
        }
    }
}
