//! Options of the commands other than `server` and `agent`, which have no configuration file here.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// What stood on a command line.
#[derive(Debug, Default)]
pub struct Options {
    values: BTreeMap<String, String>,
    /// What is no option.
    pub positional: Vec<String>,
}

impl Options {
    /// Reads `--name value`, `--name=value` and `--flag`, anywhere among the rest.
    ///
    /// # Errors
    /// An option that is in neither list, or lacks its value.
    pub fn parse(arguments: &[String], valued: &[&str], flags: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(bare) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                options.positional.push(argument.clone());
                continue;
            };
            let (name, inline) =
                bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value.to_owned())));
            let value = match inline {
                Some(value) => value,
                None if flags.contains(&name) => "true".to_owned(),
                None if valued.contains(&name) => {
                    arguments.next().with_context(|| format!("flag needs an argument: -{name}"))?.clone()
                }
                None => bail!("flag provided but not defined: -{name}"),
            };
            if !flags.contains(&name) && !valued.contains(&name) {
                bail!("flag provided but not defined: -{name}");
            }
            options.values.insert(name.to_owned(), value);
        }
        Ok(options)
    }

    /// One option's value.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_anywhere() {
        let arguments = ["create", "--ttl", "1h", "x.y", "--description=a b"].map(str::to_owned);
        let options = Options::parse(&arguments, &["ttl", "description"], &[]).unwrap();
        assert_eq!(options.positional, ["create", "x.y"]);
        assert_eq!((options.one("ttl"), options.one("description")), (Some("1h"), Some("a b")));
        assert!(Options::parse(&arguments, &["ttl"], &[]).is_err());
    }
}
