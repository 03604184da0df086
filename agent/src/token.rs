//! RKE2's join tokens, taken apart without ever being printed (rke2.md, "Founding and joining").
//!
//! - `K10<CA hash>::<user>:<password>`: the full form of a server or agent token.
//! - `K10<CA hash>::<id>.<secret>`: a bootstrap token, which expires.
//! - either without its `K10<CA hash>::`: the short form, by which a joiner cannot tell whom it joins.

use crate::plan::{Secret, digest};

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// [`ca_hash`] of the cluster that it joins, which also is the cluster's identity; `None` in the short form.
    pub ca_hash: Option<String>,
    /// What the joiner presents.
    pub credential: Credential,
}

/// What a joiner presents; the secret part is never printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Joins servers (`server`) or agents (`node`), for ever.
    Password {
        /// `server` or `node`; `None` in the short form.
        user: Option<String>,
        /// The password.
        password: Secret,
    },
    /// Joins agents until it expires.
    Bootstrap {
        /// Six letters or digits; public: it names the token's Secret in Kubernetes.
        id: String,
        /// Sixteen letters or digits.
        secret: Secret,
    },
}

/// Why a text is no token. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing there.
    #[error("the token is empty")]
    Empty,
    /// After `K10` there are not 64 hexadecimal digits and `::`.
    #[error("the token begins with K10, but no SHA-256 of a CA and :: follow")]
    Hash,
    /// The full form needs a user and a password, or a bootstrap token's ID and secret.
    #[error("the token has neither user and password nor ID and secret behind its ::")]
    Credential,
}

impl Token {
    /// Takes a token apart; blanks and line breaks around it do not count.
    ///
    /// # Errors
    /// If it is of none of the forms.
    pub fn parse(text: &Secret) -> Result<Self, TokenError> {
        let text = text.expose().trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let Some(full) = text.strip_prefix("K10") else {
            return Ok(Self {
                ca_hash: None,
                credential: bootstrap(text).unwrap_or_else(|| password(None, text)),
            });
        };
        let (hash, rest) = full.split_once("::").ok_or(TokenError::Hash)?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TokenError::Hash);
        }
        let basic = || match rest.split_once(':')? {
            ("", _) | (_, "") => None,
            (user, secret) => Some(password(Some(user), secret)),
        };
        let credential = bootstrap(rest).or_else(basic).ok_or(TokenError::Credential)?;
        Ok(Self { ca_hash: Some(hash.to_ascii_lowercase()), credential })
    }
}

/// The hash in the tokens of the cluster whose server CA bundle this is, byte for byte as `/cacerts` serves it.
pub fn ca_hash(pem: &str) -> String {
    digest(pem)
}

fn password(user: Option<&str>, password: &str) -> Credential {
    Credential::Password { user: user.map(str::to_owned), password: Secret::new(password) }
}

/// The form of Kubernetes: `[a-z0-9]{6}\.[a-z0-9]{16}`.
fn bootstrap(text: &str) -> Option<Credential> {
    let (id, secret) = text.split_once('.')?;
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let fits = id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret);
    fits.then(|| Credential::Bootstrap { id: id.to_owned(), secret: Secret::new(secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Token, TokenError> {
        Token::parse(&Secret::new(text))
    }

    #[test]
    fn full_tokens_name_their_cluster() {
        let server = parse(&format!("K10{HASH}::server:a:b\n")).unwrap();
        assert_eq!(server.ca_hash.as_deref(), Some(HASH));
        assert_eq!(server.credential, password(Some("server"), "a:b"));
        let joiner = parse(&format!("K10{HASH}::abc123.0123456789abcdef")).unwrap();
        let expected = Credential::Bootstrap { id: "abc123".into(), secret: Secret::new("0123456789abcdef") };
        assert_eq!(joiner.credential, expected);
    }

    #[test]
    fn short_tokens_do_not() {
        assert_eq!(
            parse("hunter2.x").unwrap(),
            Token { ca_hash: None, credential: password(None, "hunter2.x") }
        );
        assert!(matches!(
            parse("abc123.0123456789abcdef").unwrap(),
            Token { ca_hash: None, credential: Credential::Bootstrap { .. } }
        ));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_told() {
        assert_eq!(parse(" \n"), Err(TokenError::Empty));
        assert_eq!(parse("K10::server:a"), Err(TokenError::Hash));
        assert_eq!(parse(&format!("K10{HASH}:server:a")), Err(TokenError::Hash));
        assert_eq!(parse(&format!("K10{}::server:a", &HASH[1..])), Err(TokenError::Hash));
        for rest in ["", "server", "server:", ":a", "abc123.0123"] {
            assert_eq!(parse(&format!("K10{HASH}::{rest}")), Err(TokenError::Credential), "{rest}");
        }
    }

    #[test]
    fn the_secret_part_is_not_printed() {
        for text in [
            "topsecret".to_owned(),
            format!("K10{HASH}::server:topsecret"),
            format!("K10{HASH}::abcdef.topsecret1234567"),
        ] {
            assert!(!format!("{:?}", parse(&text).unwrap()).contains("topsecret"));
        }
    }

    #[test]
    fn the_hash_is_of_the_bytes() {
        assert_eq!(ca_hash(""), HASH);
    }
}
