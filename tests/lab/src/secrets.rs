//! Looks for secrets of a cluster in what OneGate was sent, plain or in base64, however often wrapped.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// How deep base64 in base64 is followed.
const DEPTH: u32 = 4;
/// Shorter runs of base64 characters are words.
const SHORTEST: usize = 16;

/// What must not be found: the secrets themselves, and the marks of any private key or kubeconfig.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Takes the contents of files that hold secrets: each whole line, and the password at the end of a full token.
    pub fn of(files: &[String]) -> Self {
        let mut secrets: Vec<String> = ["PRIVATE KEY", "client-key-data"].map(String::from).into();
        for line in files.iter().flat_map(|file| file.lines()).map(str::trim).filter(|line| !line.is_empty())
        {
            let password = line.rsplit(':').next().unwrap_or(line);
            secrets.extend([line, password].into_iter().filter(|text| text.len() >= 8).map(String::from));
        }
        secrets.dedup();
        Self(secrets)
    }

    /// What is found in a text, by its first letters only: a report must not repeat the secret.
    pub fn found_in(&self, text: &str) -> Option<String> {
        self.search(text, DEPTH)
    }

    fn search(&self, text: &str, depth: u32) -> Option<String> {
        let found = self.0.iter().find(|secret| text.contains(secret.as_str()));
        if let Some(secret) = found {
            return Some(format!("{}..", secret.chars().take(4).collect::<String>()));
        }
        if depth == 0 {
            return None;
        }
        let runs =
            text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '+' && letter != '/');
        let decoded = runs.filter(|run| run.len() >= SHORTEST).flat_map(decodings);
        decoded.into_iter().find_map(|inner| self.search(&inner, depth - 1))
    }
}

/// A run of base64 characters decoded; its end may be cut or padded.
fn decodings(run: &str) -> Option<String> {
    let whole = &run[..run.len() / 4 * 4];
    let bytes = STANDARD_NO_PAD.decode(run).or_else(|_| STANDARD.decode(whole)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::of(&["K10abcdef0123456789::server:s3cr3tpassw0rd\n".to_owned()])
    }

    #[test]
    fn a_token_is_found_plain_wrapped_and_by_its_password_alone() {
        let token = "K10abcdef0123456789::server:s3cr3tpassw0rd";
        let once = STANDARD.encode(format!("{token}\n"));
        let twice = STANDARD.encode(&once);
        for text in [token, "ONEGATE_K8S_TOKEN=s3cr3tpassw0rd", &once, &format!("A=1\nB={twice}\n")] {
            assert!(secrets().found_in(text).is_some(), "{text}");
        }
        let kubeconfig = STANDARD.encode("users:\n- user:\n    client-key-data: AAAA");
        assert!(secrets().found_in(&kubeconfig).is_some());
        assert_eq!(secrets().found_in("READY=YES\nONEGATE_K8S_MASTER=172.27.0.12"), None);
    }

    #[test]
    fn what_is_found_is_not_repeated() {
        assert_eq!(secrets().found_in("x s3cr3tpassw0rd y").as_deref(), Some("s3cr.."));
    }
}
