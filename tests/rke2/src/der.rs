//! The few fields of an X.509 certificate that the stand-in looks at: subject, issuer and validity.

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;

/// What a certificate says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for.
    pub subject: Name,
    /// Who signed it.
    pub issuer: Name,
    /// From when it holds.
    pub not_before: jiff::Timestamp,
    /// Until when it holds.
    pub not_after: jiff::Timestamp,
}

/// A distinguished name's parts that Kubernetes uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// CN: the user.
    pub common_name: String,
    /// O: the groups.
    pub organizations: Vec<String>,
}

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OID_ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Reads one certificate (RFC 5280, 4.1).
///
/// # Errors
/// When it is not a certificate.
pub fn parse(der: &[u8]) -> Result<Certificate> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if fields.first() == Some(&EXPLICIT_VERSION) {
        fields = element(fields)?.2;
    }
    let after_serial = element(fields)?.2;
    let after_algorithm = element(after_serial)?.2;
    let (issuer, rest) = expect(after_algorithm, SEQUENCE)?;
    let (validity, rest) = expect(rest, SEQUENCE)?;
    let (subject, _) = expect(rest, SEQUENCE)?;
    let (tag, not_before, rest) = element(validity)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = element(rest)?;
    Ok(Certificate {
        subject: name(subject)?,
        issuer: name(issuer)?,
        not_before,
        not_after: time(tag, not_after)?,
    })
}

/// The blocks of a PEM file, decoded.
pub fn blocks(pem: &str) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut text: Option<String> = None;
    for line in pem.lines() {
        match (line.starts_with("-----BEGIN "), line.starts_with("-----END "), &mut text) {
            (true, _, _) => text = Some(String::new()),
            (_, true, _) => {
                let decoded =
                    text.take().and_then(|t| base64::engine::general_purpose::STANDARD.decode(t).ok());
                blocks.extend(decoded); // A block that is not base64 is no block.
            }
            (_, _, Some(text)) => text.push_str(line.trim()),
            _ => {}
        }
    }
    blocks
}

fn name(mut sets: &[u8]) -> Result<Name> {
    let mut name = Name::default();
    while !sets.is_empty() {
        let (_, set, rest) = element(sets)?;
        let (pair, _) = expect(set, SEQUENCE)?;
        let (_, oid, value) = element(pair)?;
        let text = String::from_utf8_lossy(element(value)?.1).into_owned();
        match oid {
            OID_COMMON_NAME => name.common_name = text,
            OID_ORGANIZATION => name.organizations.push(text),
            _ => {}
        }
        sets = rest;
    }
    Ok(name)
}

/// UTCTime has two digits for the year, GeneralizedTime four (RFC 5280, 4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Result<jiff::Timestamp> {
    let text = std::str::from_utf8(text).context("a time must be text")?;
    let century = match tag {
        UTC_TIME if text < "50" => "20",
        UTC_TIME => "19",
        _ => "",
    };
    let full = format!("{century}{}+0000", text.trim_end_matches('Z'));
    jiff::Timestamp::strptime("%Y%m%d%H%M%S%z", &full)
        .with_context(|| format!("could not read the time {text}"))
}

fn expect(input: &[u8], wanted: u8) -> Result<(&[u8], &[u8])> {
    match element(input)? {
        (tag, content, rest) if tag == wanted => Ok((content, rest)),
        (tag, ..) => bail!("expected tag {wanted:#x} in a certificate, found {tag:#x}"),
    }
}

/// Tag, content and what follows.
fn element(input: &[u8]) -> Result<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = input else { bail!("a certificate ends too early") };
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let bytes = usize::from(long & 0x7f);
            let (digits, rest) = rest.split_at_checked(bytes).context("a certificate ends in a length")?;
            (digits.iter().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length).context("a certificate ends too early")?;
    Ok((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki;
    use std::time::Duration;

    #[test]
    fn reads_what_was_issued() {
        let ca = pki::Authority::generate("rke2-client-ca@1").unwrap();
        let leaf = ca
            .issue(&pki::Subject::new("system:node:a", &["system:nodes"]), &[], Duration::from_secs(3600))
            .unwrap();
        let parsed = parse(&blocks(&leaf.certificate)[0]).unwrap();
        assert_eq!(parsed.subject.common_name, "system:node:a");
        assert_eq!(parsed.subject.organizations, ["system:nodes"]);
        assert_eq!(parsed.issuer.common_name, "rke2-client-ca@1");
        let lifetime = parsed.not_after.as_second() - parsed.not_before.as_second();
        assert!((3600..4000).contains(&lifetime), "{lifetime}");
    }

    #[test]
    fn garbage_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(&[0x30, 0x84, 0xff]).is_err());
    }
}
