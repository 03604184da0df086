//! What people read of a context: `oneke-agent context` and `oneke-agent check`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::config::Config;
use super::problem::{Problem, Warning};
use super::table;
use super::vars::Vars;
use crate::service::Role;

/// Every variable as `NAME='value'`, quoted as oned quotes, sorted by name; secrets masked unless `secrets`. With
/// secrets [`Vars::parse`] reads it back to the same.
pub fn text(vars: &Vars, secrets: bool) -> String {
    let line = |(name, value): (&str, &str)| {
        format!("{name}='{}'\n", shown(name, value, secrets).replace('\'', r"'\''"))
    };
    vars.iter().map(line).collect()
}

/// The same as one JSON object.
pub fn json(vars: &Vars, secrets: bool) -> String {
    let shown: BTreeMap<&str, Cow<'_, str>> =
        vars.iter().map(|(name, value)| (name, shown(name, value, secrets))).collect();
    serde_json::to_string_pretty(&shown).expect("a map of strings has a JSON form")
}

fn shown<'a>(name: &str, value: &'a str, secrets: bool) -> Cow<'a, str> {
    if secrets { value.into() } else { masked(name, value) }
}

/// Everything that is wrong or odd with a context: its `Display` is for people, its JSON for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must be corrected before the agent does anything.
    pub problems: Vec<Problem>,
    /// What is odd, but can be lived with.
    pub warnings: Vec<Warning>,
}

impl Check {
    /// Holds the text of a `context.sh` against the rules of `role`, else of vnf if it is a virtual router's, else of
    /// every role.
    pub fn of(text: &str, role: Option<Role>) -> Self {
        match Vars::parse(text) {
            Ok(vars) => {
                let role = role.or_else(|| vars.is_virtual_router().then_some(Role::Vnf));
                let (_, problems, warnings) = Config::examine(&vars, role);
                Self { problems, warnings }
            }
            Err(error) => {
                let (variable, value) = ("context.sh".into(), String::new());
                let problem = Problem { variable, value, expected: error.to_string() };
                Self { problems: vec![problem], warnings: Vec::new() }
            }
        }
    }

    /// As JSON: `problems` and `warnings`.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("lists of strings have a JSON form")
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let (problems, warnings) = (self.problems.len(), self.warnings.len());
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        writeln!(f, "{problems} problem{}, {warnings} warning{}", plural(problems), plural(warnings))
    }
}

/// The value as it may be shown: secrets and the credentials in URLs masked.
pub(super) fn masked<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if value.is_empty() {
        return value.into();
    }
    if table::is_secret(name) {
        return "(secret)".into();
    }
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    match rest.rsplit_once('@') {
        Some((_, place)) if name.ends_with("_PROXY") && scheme.is_empty() => {
            format!("(secret)@{place}").into()
        }
        Some((_, place)) if name.ends_with("_PROXY") => format!("{scheme}://(secret)@{place}").into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_unless_asked_for() {
        let vars = Vars::from_iter([
            ("ETH0_IP", "10.0.0.1"),
            ("NL", "it's\n two"),
            ("ONEAPP_K8S_HTTP_PROXY", "http://me:pass@proxy:3128"),
            ("ONEAPP_K8S_HTTPS_PROXY", "me:pass@proxy:3128"),
            ("ONEAPP_VNF_KEEPALIVED_ETH3_PASSWORD", "s3cret"),
            ("PASSWORD", ""),
            ("MY_API_KEY", "s3cret"),
            ("MY_API_TOKEN", "s3cret"),
            ("MY_PUBLIC_KEY", "ssh-rsa A"),
            ("START_SCRIPT", "curl -H s3cret"),
            ("TOKEN", "YES"),
        ]);
        let shown = text(&vars, false);
        assert_eq!(
            shown,
            "ETH0_IP='10.0.0.1'
MY_API_KEY='(secret)'
MY_API_TOKEN='(secret)'
MY_PUBLIC_KEY='ssh-rsa A'
NL='it'\\''s\n two'
ONEAPP_K8S_HTTPS_PROXY='(secret)@proxy:3128'
ONEAPP_K8S_HTTP_PROXY='http://(secret)@proxy:3128'
ONEAPP_VNF_KEEPALIVED_ETH3_PASSWORD='(secret)'
PASSWORD=''
START_SCRIPT='(secret)'
TOKEN='YES'
"
        );
        assert_eq!(Vars::parse(&text(&vars, true)).unwrap(), vars);
        assert!(!json(&vars, false).contains("pass") && json(&vars, true).contains("s3cret"));
    }
}
