//! The artefacts of others that the image holds, as `versions.toml` names them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// `versions.toml`, as it was when this program was built.
pub const VERSIONS: &str = include_str!("../versions.toml");

/// One file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    /// The project it belongs to.
    pub project: String,
    /// The project's own word for the version.
    pub version: String,
    /// Where it is.
    pub url: String,
    /// How it is verified.
    pub proof: Proof,
}

/// What an artefact is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its SHA-256 in hex, known here.
    Sha256(String),
    /// A file of the release with lines of `HASH  NAME`, at this address.
    Checksums(String),
    /// A Helm repository's index, at this address.
    Index(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    version: String,
    base: String,
    files: Vec<String>,
    sha256: Option<String>,
    checksums: Option<String>,
    index: Option<String>,
}

impl Project {
    fn url(&self, name: &str) -> String {
        // GitHub serves a release whose tag has a `+` only under its percent form.
        format!("{}/{name}", self.base).replace("{version}", &self.version.replace('+', "%2B"))
    }

    fn proof(&self) -> Result<Proof> {
        match (&self.sha256, &self.checksums, &self.index) {
            (Some(hash), None, None) => {
                if self.files.len() != 1 || hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
                    bail!("sha256=\"{hash}\": expected 64 hex digits, for a project of one file");
                }
                Ok(Proof::Sha256(hash.clone()))
            }
            (None, Some(name), None) => Ok(Proof::Checksums(self.url(name))),
            (None, None, Some(name)) => Ok(Proof::Index(self.url(name))),
            _ => bail!("expected exactly one of sha256, checksums, index"),
        }
    }
}

/// Reads the list, in the order of the projects' names.
///
/// # Errors
/// When the text is not of this form, an address is not HTTPS, or a file could not be verified.
pub fn parse(text: &str) -> Result<Vec<Artefact>> {
    let projects: BTreeMap<String, Project> =
        toml::from_str(text).context("could not read the list of versions")?;
    let mut artefacts = Vec::new();
    for (name, project) in &projects {
        let proof = project.proof().with_context(|| format!("[{name}]"))?;
        if !project.base.starts_with("https://") {
            bail!("[{name}] base=\"{}\": expected an address that starts with https://", project.base);
        }
        artefacts.extend(project.files.iter().map(|file| Artefact {
            project: name.clone(),
            version: project.version.clone(),
            url: project.url(file),
            proof: proof.clone(),
        }));
    }
    Ok(artefacts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_list_reads() {
        let artefacts = parse(VERSIONS).unwrap();
        let rke2 = artefacts.iter().find(|a| a.url.ends_with("/rke2.linux-amd64.tar.gz")).unwrap();
        assert_eq!(
            rke2.url,
            "https://github.com/rancher/rke2/releases/download/v1.33.4%2Brke2r1/rke2.linux-amd64.tar.gz"
        );
        let sums = "https://github.com/rancher/rke2/releases/download/v1.33.4%2Brke2r1/sha256sum-amd64.txt";
        assert_eq!(rke2.proof, Proof::Checksums(sums.into()));
        assert!(artefacts.iter().all(|a| !a.url.contains('{')), "{artefacts:?}");
    }

    /// The agent names a chart's version as well: were they two, an air-gapped service would install another chart.
    #[test]
    fn charts_are_those_of_the_add_ons() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/addons");
        let mut charts = Vec::new();
        for entry in std::path::Path::new(directory).read_dir().unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let addon: toml::Table = toml::from_str(&text).unwrap();
            let chart = addon.get("chart").and_then(toml::Value::as_table);
            let word = |key| chart.and_then(|chart| chart.get(key)).and_then(toml::Value::as_str);
            if let (Some(repo), Some(name), Some(version)) = (word("repo"), word("chart"), word("version")) {
                charts.push(format!("{repo}/{name}-{version}.tgz"));
            }
        }
        let artefacts = parse(VERSIONS).unwrap();
        let fetched: Vec<_> = artefacts.iter().filter(|a| matches!(a.proof, Proof::Index(_))).collect();
        assert!(fetched.len() >= 2);
        for chart in fetched {
            assert!(charts.contains(&chart.url), "no add-on names {}", chart.url);
        }
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        let list = "[tool]\nversion = \"1\"\nbase = \"https://example.org\"\nfiles = [\"tool.tgz\"]\n";
        let error = format!("{:#}", parse(list).unwrap_err());
        assert_eq!(error, "[tool]: expected exactly one of sha256, checksums, index");
        let plain = list.replace("https", "http") + "index = \"index.yaml\"\n";
        assert!(
            format!("{:#}", parse(&plain).unwrap_err())
                .contains("expected an address that starts with https://")
        );
        let short = list.to_owned() + "sha256 = \"abc\"\n";
        assert!(format!("{:#}", parse(&short).unwrap_err()).contains("64 hex digits"));
    }
}
