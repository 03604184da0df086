//! The context's variables, verbatim: the quoting undone, nothing interpreted, nothing executed.
//!
//! The front end writes `NAME='value'`, with `'\''` for a quote inside. People write more: double quotes, no quotes,
//! `export`. All of these are read as a shell would, except that `$` and backquotes are ordinary characters.

use std::collections::{BTreeMap, BTreeSet};

use super::quoting;

/// Larger files are refused: real ones have a few kilobytes, with scripts some tens.
pub const MAX_BYTES: usize = 1 << 20;
/// More variables are refused: oned writes 23 a NIC, real contexts have one or two hundred.
pub const MAX_VARIABLES: usize = 4096;

/// Name to value, as the template had them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Vars {
    values: BTreeMap<String, String>,
    /// Names that came again with another value.
    repeated: BTreeSet<String>,
}

/// A text that is no context file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there; never a value, for it may be secret.
    pub what: String,
}

impl Vars {
    /// Reads a context file, in time linear in its length. Of a name given twice the last value counts, as in a shell.
    ///
    /// # Errors
    /// If it is no list of `NAME='value'`, or beyond [`MAX_BYTES`] or [`MAX_VARIABLES`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::collect(text, quoting::assignments(text))
    }

    /// Reads `/run/one-context/one_env`, which has `export NAME="value"` with the value unescaped: quotes, backslashes
    /// and line breaks stand as they are. A value ends at the last quote before the next line that begins an
    /// assignment; so only a value that itself holds such a line is misread.
    ///
    /// # Errors
    /// As [`Vars::parse`].
    pub fn parse_one_env(text: &str) -> Result<Self, ParseError> {
        Self::collect(text, quoting::exports(text))
    }

    fn collect<'a>(
        text: &str,
        assignments: impl Iterator<Item = Result<quoting::Assignment<'a>, ParseError>>,
    ) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            let line = quoting::line_at(text, MAX_BYTES);
            return Err(ParseError {
                line,
                what: format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len()),
            });
        }
        let mut vars = Self::default();
        for assignment in assignments {
            let assignment = assignment?;
            let name = assignment.name.to_owned();
            if vars.raw(&name).is_some_and(|before| before != assignment.value) {
                vars.repeated.insert(name.clone());
            }
            vars.values.insert(name, assignment.value);
            if vars.values.len() > MAX_VARIABLES {
                let line = quoting::line_at(text, assignment.offset);
                return Err(ParseError { line, what: format!("more than {MAX_VARIABLES} variables") });
            }
        }
        Ok(vars)
    }

    /// The value; unset and empty are the same (contract.md 1.0).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// The value, even if it is empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Names that were given several times, with different values: the last one counts.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        self.repeated.iter().map(String::as_str)
    }

    /// True for a VM of a virtual router: OpenNebula gives it a `VROUTER_ID`, and no other VM one.
    pub fn is_virtual_router(&self) -> bool {
        self.get("VROUTER_ID").is_some()
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those whose name begins with `prefix`, sorted by name, without the empty ones.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.values
            .range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Their names.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.with_prefix(prefix).map(|(name, _)| name.to_owned()).collect()
    }
}

/// Names only: values may be secret.
impl std::fmt::Debug for Vars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Vars {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, repeated: BTreeSet::new() }
    }
}

/// One public key a line, as the user gave them. For the VMs of a service OneFlow turns each line break inside a value
/// into a comma and a line break; a key that got such a comma loses it again, whether on its comment or its base64.
/// (A comma at the end of a comment, which nothing needs, goes as well.)
pub fn repair_ssh_keys(value: &str) -> String {
    let keys = value.lines().map(|line| line.trim().trim_end_matches(',').trim_end());
    keys.filter(|key| !key.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let vars = Vars::parse(text).unwrap();
        assert_eq!(vars.iter().collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn quoting_is_undone() {
        check("# comment\nA='x'\nB=''\n", &[("A", "x"), ("B", "")]);
        check(r"A='it'\''s'", &[("A", "it's")]);
        check("A='one\n# two\nB=3'\nC='x'", &[("A", "one\n# two\nB=3"), ("C", "x")]);
        check(r#"A="a \"b\" \\ \$HOME $HOME `id` \n""#, &[("A", r#"a "b" \ $HOME $HOME `id` \n"#)]);
        check("export A=x\nB=y # why\n  C='z'  \n", &[("A", "x"), ("B", "y"), ("C", "z")]);
        check("A='x'\r\nB=y\r\n", &[("A", "x"), ("B", "y")]);
        check("\u{feff}A='x'", &[("A", "x")]);
        check("A=1\nA='2'\n", &[("A", "2")]);
        check(
            "A=<ETH0_EP0>\nB=$ORANGE\nC=a#b\nD=\n",
            &[("A", "<ETH0_EP0>"), ("B", "$ORANGE"), ("C", "a#b"), ("D", "")],
        );
        check("a-b='x'\n_c=\"d\\\ne\"", &[("_c", "de"), ("a-b", "x")]);
    }

    #[test]
    fn what_is_no_context_is_refused_with_its_line() {
        let refused = |text: &str| Vars::parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("A='x'\nB='y\n"),
            "line 2: this single quote in the value of B, which begins in line 2, is never closed"
        );
        assert_eq!(
            refused("\nA=\"y\n"),
            "line 2: this double quote in the value of A, which begins in line 2, is never closed"
        );
        assert_eq!(refused("A=b c"), "line 1: the value of A ends here, but more follows: quote the value");
        assert_eq!(
            refused("A='x'\nB=$(id)"),
            "line 2: \"(\" in the value of B: nothing is executed here, quote the value"
        );
        assert_eq!(refused("9A='x'"), "line 1: expected NAME='value'");
        assert_eq!(refused("A='x'\nrm -rf /\n"), "line 2: expected NAME='value'");
        assert_eq!(refused("A='x\0'"), "line 1: a NUL byte");
        let many: String = (0..=MAX_VARIABLES).map(|n| format!("A{n}='x'\n")).collect();
        assert_eq!(refused(&many), "line 4097: more than 4096 variables");
        let long = format!("A='x'\nB='{}'\n", "x".repeat(MAX_BYTES));
        assert_eq!(refused(&long), "line 2: the file has 1048587 bytes, at most 1048576 are read");
    }

    #[test]
    fn one_env_is_read_kindly() {
        let text = "export TOKENTXT=\"abc=\"\nexport VMID=\"7\"\nexport A=\"say \"hi\"\nexport it\n$(id) \\\"\nexport B=\"\"\n";
        let vars = Vars::parse_one_env(text).unwrap();
        let expected =
            [("A", "say \"hi\"\nexport it\n$(id) \\"), ("B", ""), ("TOKENTXT", "abc="), ("VMID", "7")];
        assert_eq!(vars.iter().collect::<Vec<_>>(), expected);
        assert_eq!(
            Vars::parse_one_env("export A=\"x\n").unwrap_err().to_string(),
            "line 1: the value of A has no closing quote"
        );
    }

    #[test]
    fn keys_lose_the_comma_that_oneflow_gave_them() {
        assert_eq!(
            repair_ssh_keys("ssh-ed25519 AAAA alice@example,\nssh-rsa BBBB,\nssh-rsa CC bob's laptop"),
            { "ssh-ed25519 AAAA alice@example\nssh-rsa BBBB\nssh-rsa CC bob's laptop" }
        );
        assert_eq!(repair_ssh_keys("ssh-rsa A\r\n,\n\n ssh-rsa B "), "ssh-rsa A\nssh-rsa B");
    }

    #[test]
    fn values_are_not_printed() {
        let vars = Vars::from_iter([("PASSWORD", "s3cret")]);
        assert_eq!(format!("{vars:?}"), "{\"PASSWORD\"}");
    }

    /// oned's quoting.
    fn quote(value: &str) -> String {
        format!("'{}'", value.replace('\'', r"'\''"))
    }

    proptest! {
        #[test]
        fn any_value_survives_the_front_ends_quoting(
            values in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_-]{0,8}", "[^\0]*", 0..6),
        ) {
            let text: String = values.iter().map(|(n, v)| format!("{n}={}\n", quote(v))).collect();
            let vars = Vars::parse(&text).unwrap();
            prop_assert_eq!(vars, Vars::from_iter(values));
        }

        #[test]
        fn nothing_makes_it_panic(text in r#"([A-C=\\'"\n\r #$(;]|export |\PC)*"#) {
            let _ = Vars::parse(&text);
            let _ = Vars::parse_one_env(&text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = Vars::parse(&text);
            let _ = Vars::parse_one_env(&text);
        }
    }
}
