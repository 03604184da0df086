//! What a disk holds: `wipefs` names the signatures, and its ends are read here. `wipefs` alone cannot say "blank": it
//! stays silent as well where the disk could not be read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::super::command;
use crate::facts::{Contents, Observed, Signature};

/// Every signature that `wipefs` knows lies within this much of a disk's beginning or end (ZFS' labels reach furthest).
const ENDS: u64 = 1 << 20;
/// `wipefs` takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// What the device holds.
pub(super) async fn contents(device: &Path) -> Observed<Contents> {
    match try_contents(device).await {
        Ok(contents) => Observed::Known(contents),
        Err(error) => Observed::Unknown(format!("could not read {}: {error:#}", device.display())),
    }
}

async fn try_contents(device: &Path) -> anyhow::Result<Contents> {
    let owned = device.to_owned();
    let is_zero = tokio::task::spawn_blocking(move || ends_are_zero(&owned)).await??;
    let signatures = signatures(device).await?;
    Ok(match (signatures.is_empty(), is_zero) {
        (false, _) => Contents::Marked(signatures),
        (true, true) => Contents::Blank,
        (true, false) => Contents::Unmarked,
    })
}

/// Whether its first and last mebibyte are zero.
///
/// # Errors
/// If any byte of them could not be read.
fn ends_are_zero(device: &Path) -> anyhow::Result<bool> {
    let mut file = File::open(device)?;
    let size = file.seek(SeekFrom::End(0))?;
    if size == 0 {
        bail!("it has no size");
    }
    let mut is_zero = true;
    for start in [0, size.saturating_sub(ENDS)] {
        let length = ENDS.min(size - start);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut file).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            bail!("it ends before its size");
        }
        is_zero &= bytes.iter().all(|byte| *byte == 0);
    }
    Ok(is_zero)
}

#[derive(Deserialize)]
struct Listing {
    signatures: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    uuid: Option<String>,
    label: Option<String>,
}

async fn signatures(device: &Path) -> anyhow::Result<Vec<Signature>> {
    let arguments = ["--no-act".as_ref(), "--json".as_ref(), device.as_os_str()];
    let listing = command::answer("wipefs", arguments, LIMIT).await?;
    parse(&listing).context("wipefs printed what is no list of signatures")
}

/// One signature per kind: a GPT has three places, ZFS a dozen.
fn parse(text: &str) -> anyhow::Result<Vec<Signature>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let listing: Listing = serde_json::from_str(text)?;
    let mut signatures: Vec<Signature> = Vec::new();
    for Listed { kind, uuid, label } in listing.signatures {
        if !signatures.iter().any(|known| known.kind == kind) {
            let told = |text: Option<String>| text.filter(|text| !text.is_empty());
            signatures.push(Signature { kind, uuid: told(uuid), label: told(label) });
        }
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wipefs_prints() {
        // util-linux 2.38 on a disk with a GPT, shortened.
        let text = r#"{"signatures": [
            {"device":"vdb", "offset":"0x200", "type":"gpt", "uuid":null, "label":null},
            {"device":"vdb", "offset":"0x1ff", "type":"gpt", "uuid":null, "label":null},
            {"device":"vdb", "offset":"0x1fe", "type":"PMBR", "uuid":null, "label":null}]}"#;
        let kinds: Vec<String> = parse(text).unwrap().into_iter().map(|s| s.kind).collect();
        assert_eq!(kinds, ["gpt", "PMBR"]);
        assert_eq!(parse("{\n   \"signatures\": [\n\n   ]\n}\n").unwrap(), []);
        assert_eq!(parse("").unwrap(), []);
        for wrong in ["{}", "wipefs: odd", r#"{"signatures": [{}]}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_byte_at_either_end_counts() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        assert!(ends_are_zero(file.path()).unwrap());
        file.as_file().write_all_at(b"x", 4 << 20).unwrap();
        assert!(ends_are_zero(file.path()).unwrap(), "the middle is not looked at");
        file.as_file().write_all_at(b"x", (8 << 20) - 1).unwrap();
        assert!(!ends_are_zero(file.path()).unwrap());
        file.as_file().set_len(1000).unwrap();
        assert!(ends_are_zero(file.path()).unwrap());
        file.as_file().set_len(0).unwrap();
        assert!(ends_are_zero(file.path()).is_err());
    }
}
