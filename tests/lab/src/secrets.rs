//! Recognises a cluster's secrets in any bytes: as they are, or in base64, up to three times wrapped, at any place in it.
//!
//! Nothing is decoded: what base64 makes of a text depends on what stands before it only by its length modulo 3, so each
//! secret has three encodings whose inner characters are always the same, and those are looked for.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How often wrapped.
const DEPTH: usize = 3;
/// Nothing shorter is a secret; also what candidates are recognised by.
const LEAD: usize = 8;

/// What must not be found: the secrets themselves, and the marks of any private key or kubeconfig.
#[derive(Clone, Default)]
pub struct Secrets {
    needles: HashMap<[u8; LEAD], Vec<Needle>>,
}

#[derive(Clone)]
struct Needle {
    bytes: Vec<u8>,
    /// The first letters of what it stands for: a report must not repeat the secret.
    name: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Takes the contents of files that hold secrets: each whole line, and the password at the end of a full token.
    pub fn of(files: &[String]) -> Self {
        let mut texts = BTreeSet::from(["PRIVATE KEY", "client-key-data"]);
        for line in files.iter().flat_map(|file| file.lines()).map(str::trim) {
            let password = line.rsplit(':').next().unwrap_or(line).trim();
            texts.extend([line, password].into_iter().filter(|text| text.len() >= LEAD));
        }
        let mut secrets = Self::default();
        for text in texts {
            let name = format!("{}..", text.chars().take(4).collect::<String>());
            secrets.add(text.as_bytes(), &name, DEPTH);
        }
        secrets
    }

    fn add(&mut self, bytes: &[u8], name: &str, depth: usize) {
        if let Some(lead) = bytes.first_chunk() {
            self.needles
                .entry(*lead)
                .or_default()
                .push(Needle { bytes: bytes.to_vec(), name: name.to_owned() });
        }
        if depth > 0 {
            (0..3).for_each(|before| self.add(&inner(bytes, before), name, depth - 1));
        }
    }

    /// What is found, by its first letters only. Line breaks inside base64 hide nothing.
    pub fn found_in(&self, bytes: &[u8]) -> Option<String> {
        let joined: Vec<u8> = bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
        self.search(bytes).or_else(|| self.search(&joined))
    }

    fn search(&self, bytes: &[u8]) -> Option<String> {
        (0..bytes.len()).find_map(|at| {
            let candidates = self.needles.get(bytes[at..].first_chunk::<LEAD>()?)?;
            let found = candidates.iter().find(|needle| bytes[at..].starts_with(&needle.bytes))?;
            Some(found.name.clone())
        })
    }
}

/// What base64 makes of `bytes` after `before` other bytes, without the characters that its neighbours have a part in.
fn inner(bytes: &[u8], before: usize) -> Vec<u8> {
    let mut padded = vec![0; before];
    padded.extend(bytes);
    let encoded = STANDARD_NO_PAD.encode(&padded).into_bytes();
    // Six bits a character.
    let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    encoded[first..end].to_vec()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const TOKEN: &str = "K10abcdef0123456789::server:s3cr3tpassw0rd";

    fn found(text: &str) -> Option<String> {
        Secrets::of(&[format!("{TOKEN}\n")]).found_in(text.as_bytes())
    }

    #[test]
    fn a_token_is_found_plain_and_by_its_password_alone() {
        for text in [TOKEN, "ONEGATE_K8S_TOKEN=s3cr3tpassw0rd", "\n-----BEGIN EC PRIVATE KEY-----\n"] {
            assert!(found(text).is_some(), "{text}");
        }
        assert_eq!(found("READY=YES\nONEGATE_K8S_MASTER=172.27.0.12"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn base64_hides_nothing_wherever_the_secret_stands_in_it() {
        for before in ["", "a", "ab", "abc"] {
            let once = STANDARD.encode(format!("{before}{TOKEN}\n"));
            let twice = STANDARD.encode(format!("{before}{once}"));
            let thrice = STANDARD.encode(format!("{before}{before}{twice}"));
            for text in [&once, &twice, &thrice] {
                assert!(found(&format!("/path/{text}?x")).is_some(), "{before:?}: {text}");
                let broken: Vec<String> = text
                    .as_bytes()
                    .chunks(13)
                    .map(|line| String::from_utf8_lossy(line).into_owned())
                    .collect();
                assert!(found(&broken.join("\r\n")).is_some(), "{before:?}: {broken:?}");
            }
        }
        let kubeconfig = STANDARD.encode("users:\n- user:\n    client-key-data: AAAA");
        assert!(found(&kubeconfig).is_some());
        assert_eq!(found(&STANDARD.encode("a kubeconfig that is sealed")), None);
    }

    #[test]
    fn what_is_found_is_not_repeated() {
        assert_eq!(found("x s3cr3tpassw0rd y").as_deref(), Some("s3cr.."));
    }
}
