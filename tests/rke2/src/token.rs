//! Join tokens: `K10<sha256 of the server CA's PEM>::<user>:<password>`, a bootstrap token `K10<hash>::<id>.<secret>`,
//! or the short forms without prefix and hash.

use std::fmt;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::pki;

/// What a joiner presents, and how it knows the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The hash of the CA bundle that the server must show; a short token has none.
    pub ca_hash: Option<String>,
    /// Who is asking.
    pub credentials: Credentials,
}

/// The secret half of a token.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user (`server` or `node`) and a password: basic authentication.
    Basic {
        /// `server` or `node`.
        user: String,
        /// The shared secret.
        password: String,
    },
    /// A Kubernetes bootstrap token, `id.secret`: bearer authentication.
    Bootstrap(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

impl Token {
    /// Reads a token; a short one gets `default_user`. `None` if it has RKE2's prefix and then the wrong form.
    pub fn parse(text: &str, default_user: &str) -> Option<Self> {
        let text = text.trim();
        let (ca_hash, rest) = match text.strip_prefix("K10") {
            Some(full) => {
                let (hash, rest) = full.split_once("::")?;
                let plain = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
                (Some(plain.then(|| hash.to_lowercase())?), rest)
            }
            None => (None, text),
        };
        if rest.is_empty() {
            return None;
        }
        let credentials = match rest.split_once(':') {
            Some((user, password)) => Credentials::Basic { user: user.into(), password: password.into() },
            None if is_bootstrap(rest) => Credentials::Bootstrap(rest.into()),
            None => Credentials::Basic { user: default_user.into(), password: rest.into() },
        };
        Some(Self { ca_hash, credentials })
    }

    /// The `Authorization` header.
    pub fn header(&self) -> String {
        match &self.credentials {
            Credentials::Basic { user, password } => {
                let text = format!("{user}:{password}");
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
            }
            Credentials::Bootstrap(token) => format!("Bearer {token}"),
        }
    }

    /// The password alone, which is what a server keeps.
    pub fn password(&self) -> &str {
        match &self.credentials {
            Credentials::Basic { password, .. } => password,
            Credentials::Bootstrap(token) => token,
        }
    }
}

/// The full form for a cluster with this CA bundle.
pub fn full(ca_pem: &str, user: &str, password: &str) -> String {
    format!("K10{}::{user}:{password}", hash(ca_pem))
}

/// The sha256 of a text, in hexadecimal.
pub fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// A new random secret of `bytes` bytes, in hexadecimal.
pub fn random(bytes: usize) -> String {
    hex(&pki::random(bytes))
}

/// The credentials in an `Authorization` header.
pub fn from_header(header: &str) -> Option<Credentials> {
    if let Some(encoded) = header.strip_prefix("Basic ") {
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?; // Not base64: no credentials.
        let text = String::from_utf8(decoded).ok()?; // Not text: no credentials.
        let (user, password) = text.split_once(':')?;
        return Some(Credentials::Basic { user: user.into(), password: password.into() });
    }
    header.strip_prefix("Bearer ").map(|token| Credentials::Bootstrap(token.into()))
}

/// `[a-z0-9]{6}.[a-z0-9]{16}` (Kubernetes, bootstrap tokens).
fn is_bootstrap(text: &str) -> bool {
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_read_back() {
        let full = full("PEM", "server", "secret");
        let token = Token::parse(&full, "node").unwrap();
        assert_eq!(token.ca_hash, Some(hash("PEM")));
        assert_eq!(from_header(&token.header()), Some(token.credentials.clone()));
        assert_eq!(token.password(), "secret");

        let short = Token::parse("secret\n", "node").unwrap();
        assert_eq!(short.credentials, Credentials::Basic { user: "node".into(), password: "secret".into() });
        let bootstrap = Token::parse("abc123.0123456789abcdef", "node").unwrap();
        assert_eq!(bootstrap.header(), "Bearer abc123.0123456789abcdef");
    }

    #[test]
    fn a_broken_full_token_is_no_short_one() {
        assert_eq!(Token::parse("K10abc::server:x", "server"), None);
        assert_eq!(Token::parse("", "server"), None);
    }
}
