//! config.yaml, config.yaml.d/*.yaml and the command line, merged as RKE2 merges them: a later one replaces a key,
//! `key+` appends to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::keys::{self, Form};
use crate::knobs::UnknownKeys;
use crate::log;
use crate::paths::{self, Paths};

/// The options of one `rke2 server` or `rke2 agent`, known and of the right form.
#[derive(Debug, Clone, Default)]
pub struct Config {
    values: BTreeMap<String, Vec<String>>,
}

/// The values that must be equal on every server, with their defaults (RKE2's server reference).
const CRITICAL: &[(&str, &str)] = &[
    ("cluster-cidr", "10.42.0.0/16"),
    ("cluster-dns", "10.43.0.10"),
    ("cluster-domain", "cluster.local"),
    ("disable-cloud-controller", "false"),
    ("disable-kube-proxy", "false"),
    ("egress-selector-mode", "agent"),
    ("service-cidr", "10.43.0.0/16"),
];

impl Config {
    /// Reads the files, then the command line's flags over them.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong form, a file that cannot be read.
    pub fn load(paths: &Paths, arguments: &[String], server: bool, unknown: UnknownKeys) -> Result<Self> {
        let flags = flags(arguments, server)?;
        let named = flags.get("config").and_then(|values| values.last()).cloned();
        let file = named.map_or_else(|| paths.etc("config.yaml"), Into::into);
        let mut merged = BTreeMap::new();
        for text in texts(&file)? {
            merge(&mut merged, &text)?;
        }
        let mut values = known(merged, server, unknown)?;
        values.extend(flags);
        Ok(Self { values })
    }

    /// The last value of `key`.
    pub fn one(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All values of `key`, verbatim.
    pub fn many(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// All values of `key`, each of which may be a list with commas.
    pub fn list(&self, key: &str) -> Vec<String> {
        let split = self.many(key).iter().flat_map(|value| value.split(','));
        split.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }

    /// Whether a flag is set.
    pub fn flag(&self, key: &str) -> bool {
        self.one(key) == Some("true")
    }

    /// The token or agent token, from its key or from the file that `KEY-file` names.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn secret(&self, key: &str) -> Result<Option<String>> {
        if let Some(value) = self.one(key) {
            return Ok(Some(value.to_owned()));
        }
        let Some(file) = self.one(&format!("{key}-file")) else { return Ok(None) };
        let text = paths::read(Path::new(file))?
            .with_context(|| format!("open {file}: no such file or directory"))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// What all servers must agree on, except the agent token.
    pub fn critical(&self) -> BTreeMap<String, String> {
        let value = |key: &str, default: &str| {
            let list = self.list(key);
            if list.is_empty() { default.to_owned() } else { list.join(",") }
        };
        CRITICAL.iter().map(|(key, default)| ((*key).to_owned(), value(key, default))).collect()
    }

    /// The node's own address: `node-ip`, or that of the default route's interface.
    ///
    /// # Errors
    /// Not an address, or no default route.
    pub fn node_ip(&self) -> Result<IpAddr> {
        if let Some(text) = self.list("node-ip").first() {
            return text.parse().with_context(|| format!("invalid node-ip: {text}"));
        }
        // Connecting a datagram socket sends nothing: it asks the kernel for the route's source address.
        let socket = UdpSocket::bind("0.0.0.0:0").context("could not open a socket")?;
        socket.connect("198.51.100.1:9").context("unable to select an IP from default routes.")?;
        Ok(socket.local_addr()?.ip())
    }

    /// `node-name`, or the host's name in lower case.
    ///
    /// # Errors
    /// When the kernel does not tell its name.
    pub fn node_name(&self) -> Result<String> {
        if let Some(name) = self.one("node-name") {
            return Ok(name.to_lowercase());
        }
        let name =
            std::fs::read_to_string("/proc/sys/kernel/hostname").context("could not read the host's name")?;
        Ok(name.trim().to_lowercase())
    }

    /// The values of one flag inside `kubelet-arg`.
    pub fn kubelet_argument(&self, name: &str) -> Option<String> {
        let mut pairs = self.many("kubelet-arg").iter().filter_map(|pair| pair.split_once('='));
        pairs.rfind(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }
}

/// The main file's text, then its drop-ins' in the order of their names.
fn texts(file: &Path) -> Result<Vec<String>> {
    let mut texts: Vec<String> = paths::read(file)?.into_iter().collect();
    let directory =
        file.with_file_name(format!("{}.d", file.file_name().unwrap_or_default().to_string_lossy()));
    let Ok(entries) = std::fs::read_dir(&directory) else { return Ok(texts) }; // No drop-ins.
    let mut dropins: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    dropins.retain(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    dropins.sort();
    for path in dropins {
        texts.extend(paths::read(&path)?);
    }
    Ok(texts)
}

fn merge(into: &mut BTreeMap<String, Vec<String>>, text: &str) -> Result<()> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(());
    }
    let parsed: Value = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("yaml: {error}"))?;
    let Value::Object(map) = parsed else { bail!("yaml: unmarshal errors: config.yaml must hold a map") };
    for (key, value) in map {
        let items = items(&key, value)?;
        match key.strip_suffix('+') {
            Some(key) => into.entry(key.to_owned()).or_default().extend(items),
            None => drop(into.insert(key, items)),
        }
    }
    Ok(())
}

fn items(key: &str, value: Value) -> Result<Vec<String>> {
    let scalar = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null => Ok(String::new()),
        _ => bail!("invalid value for --{key}: expected a scalar or a list of scalars"),
    };
    match value {
        Value::Array(list) => list.into_iter().map(scalar).collect(),
        other => Ok(vec![scalar(other)?]),
    }
}

fn known(
    merged: BTreeMap<String, Vec<String>>,
    server: bool,
    unknown: UnknownKeys,
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut values = BTreeMap::new();
    for (key, items) in merged {
        match (keys::form(&key, server), unknown) {
            (Some(form), _) => {
                checked(&key, form, &items)?;
                values.insert(key, items);
            }
            (None, UnknownKeys::Warn) => {
                log::warn(&format!("Unknown flag --{key} found in config.yaml, skipping\n"));
            }
            (None, UnknownKeys::Reject) => bail!("flag provided but not defined: -{key}"),
        }
    }
    Ok(values)
}

fn checked(key: &str, form: Form, items: &[String]) -> Result<()> {
    let wrong = |value: &String| !matches!(value.as_str(), "true" | "false" | "");
    match items.iter().find(|value| form == Form::Flag && wrong(value)) {
        Some(value) => bail!("invalid boolean value {value:?} for -{key}: parse error"),
        None => Ok(()),
    }
}

/// `--key value`, `--key=value`, `--flag` and their short forms.
fn flags(arguments: &[String], server: bool) -> Result<BTreeMap<String, Vec<String>>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let key = flag_key(name).with_context(|| format!("unexpected argument {argument:?}"))?;
        let Some(form) = keys::form(&key, server) else { bail!("flag provided but not defined: -{key}") };
        let value = match (inline, form) {
            (Some(value), _) => value,
            (None, Form::Flag) => "true".to_owned(),
            (None, _) => arguments.next().with_context(|| format!("flag needs an argument: -{key}"))?.clone(),
        };
        checked(&key, form, std::slice::from_ref(&value))?;
        values.entry(key).or_default().push(value);
    }
    Ok(values)
}

fn flag_key(name: &str) -> Option<String> {
    let bare = name.strip_prefix("--").or_else(|| name.strip_prefix('-'))?;
    let mut characters = bare.chars();
    match (characters.next()?, characters.next()) {
        (short, None) => Some(keys::long(short).map_or_else(|| bare.to_owned(), str::to_owned)),
        _ => Some(bare.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(texts: &[&str], arguments: &[&str], server: bool) -> Result<Config> {
        let mut merged = BTreeMap::new();
        for text in texts {
            merge(&mut merged, text)?;
        }
        let mut values = known(merged, server, UnknownKeys::Reject)?;
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        values.extend(flags(&arguments, server)?);
        Ok(Config { values })
    }

    #[test]
    fn a_later_file_replaces_and_plus_appends() {
        let config = load(
            &["tls-san: [a]\nnode-label: [x=1]\ntoken: one", "tls-san+: [b]\nnode-label: [y=2]"],
            &["--token", "two", "--debug", "-i=10.0.0.1"],
            true,
        )
        .unwrap();
        assert_eq!(config.list("tls-san"), ["a", "b"]);
        assert_eq!(config.many("node-label"), ["y=2"]);
        assert_eq!(config.one("token"), Some("two"));
        assert!(config.flag("debug"));
        assert_eq!(config.node_ip().unwrap().to_string(), "10.0.0.1");
    }

    #[test]
    fn an_unknown_key_is_refused_and_so_is_a_servers_key_on_an_agent() {
        let error = load(&["nod-ip: 1.2.3.4"], &[], true).unwrap_err().to_string();
        assert_eq!(error, "flag provided but not defined: -nod-ip");
        assert!(load(&["tls-san: [a]"], &[], false).is_err());
        assert!(load(&["debug: maybe"], &[], false).is_err());
        assert!(load(&["- a"], &[], false).is_err());
    }

    #[test]
    fn critical_values_have_their_defaults() {
        let config = load(&["service-cidr: 10.9.0.0/16\ndisable-kube-proxy: true"], &[], true).unwrap();
        let critical = config.critical();
        assert_eq!(critical["service-cidr"], "10.9.0.0/16");
        assert_eq!(critical["disable-kube-proxy"], "true");
        assert_eq!(critical["cluster-domain"], "cluster.local");
    }
}
