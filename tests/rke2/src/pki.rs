//! The cluster's certificate authorities and what they sign.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde::{Deserialize, Serialize};

use crate::der;
use crate::paths;

/// RKE2 renews a certificate at a start when it has fewer than 120 days left (90 before May 2025).
pub const RENEW_BEFORE: Duration = Duration::from_secs(120 * 86_400);

/// RKE2's CAs hold for ten years.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3_650 * 86_400);

/// How far back a certificate's start is put, so that a peer whose clock is behind accepts it.
const BACKDATE: Duration = Duration::from_secs(60);

/// A certificate authority, key included.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    key: String,
    name: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Whom a certificate is for.
#[derive(Debug, Clone)]
pub struct Subject {
    user: String,
    groups: Vec<String>,
}

/// The three authorities of a cluster: whoever has them controls it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authorities {
    /// Signs what servers show.
    pub server: Authority,
    /// Signs what clients show.
    pub client: Authority,
    /// Signs what etcd members show each other.
    pub peer: Authority,
}

impl Subject {
    /// A user and its groups, as Kubernetes reads CN and O.
    pub fn new(user: &str, groups: &[&str]) -> Self {
        Self { user: user.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }
}

impl Authorities {
    /// New ones, named as RKE2 names them.
    ///
    /// # Errors
    /// When the random source or the signer fails.
    pub fn generate() -> Result<Self> {
        let now = now().as_secs();
        let authority = |kind: &str| Authority::generate(&format!("rke2-{kind}-ca@{now}"));
        Ok(Self { server: authority("server")?, client: authority("client")?, peer: authority("etcd-peer")? })
    }

    /// Those in `server/tls`; `None` if this machine has none.
    ///
    /// # Errors
    /// When they are there and cannot be read.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let Some(server) = Authority::load(directory, "server-ca")? else { return Ok(None) };
        let missing = || format!("could not find all authorities in {}", directory.display());
        let client = Authority::load(directory, "client-ca")?.with_context(missing)?;
        let peer = Authority::load(directory, "etcd/peer-ca")?.with_context(missing)?;
        Ok(Some(Self { server, client, peer }))
    }

    /// Writes them into `server/tls`, keys with mode 0600.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn save(&self, directory: &Path) -> Result<()> {
        self.peer.save(directory, "etcd/peer-ca")?;
        self.client.save(directory, "client-ca")?;
        self.server.save(directory, "server-ca")
    }
}

impl Authority {
    /// A new one that signs itself.
    ///
    /// # Errors
    /// When the random source or the signer fails.
    pub fn generate(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = parameters(name).self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), name: name.to_owned() })
    }

    /// Signs a certificate that serves as client and server certificate for `names` (addresses or DNS names).
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn issue(&self, subject: &Subject, names: &[String], lifetime: Duration) -> Result<Pair> {
        let issuer = Issuer::new(parameters(&self.name), KeyPair::from_pem(&self.key)?);
        let mut leaf = CertificateParams::default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        (leaf.not_before, leaf.not_after) = (epoch + (now() - BACKDATE), epoch + (now() + lifetime));
        leaf.distinguished_name.remove(DnType::CommonName);
        leaf.distinguished_name.push(DnType::CommonName, subject.user.as_str());
        for group in &subject.groups {
            leaf.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        for name in names {
            leaf.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn load(directory: &Path, name: &str) -> Result<Option<Self>> {
        let Some(pair) = Pair::load(&directory.join(name))? else { return Ok(None) };
        let blocks = der::blocks(&pair.certificate);
        let parsed = der::parse(blocks.first().with_context(|| format!("{name}.crt holds no certificate"))?)?;
        Ok(Some(Self { certificate: pair.certificate, key: pair.key, name: parsed.subject.common_name }))
    }

    fn save(&self, directory: &Path, name: &str) -> Result<()> {
        Pair { certificate: self.certificate.clone(), key: self.key.clone() }.save(&directory.join(name))
    }
}

impl Pair {
    /// Reads `STEM.crt` and `STEM.key`; `None` unless both are there.
    ///
    /// # Errors
    /// When one is there and cannot be read.
    pub fn load(stem: &Path) -> Result<Option<Self>> {
        let certificate = paths::read(&stem.with_extension("crt"))?;
        let key = paths::read(&stem.with_extension("key"))?;
        Ok(certificate.zip(key).map(|(certificate, key)| Self { certificate, key }))
    }

    /// Writes `STEM.crt` (0644) and `STEM.key` (0600).
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn save(&self, stem: &Path) -> Result<()> {
        paths::write(&stem.with_extension("key"), 0o600, &self.key)?;
        paths::write(&stem.with_extension("crt"), 0o644, &self.certificate)
    }

    /// The pair at `stem` if it was signed by `authority`, still has [`RENEW_BEFORE`] to live and was made for `names`;
    /// otherwise a new one, saved there.
    ///
    /// # Errors
    /// Whatever the file system or the signer says.
    pub fn ensure(
        stem: &Path,
        authority: &Authority,
        subject: &Subject,
        names: &[String],
        lifetime: Duration,
    ) -> Result<Self> {
        let names_file = stem.with_extension("names");
        let names_text = names.join("\n");
        if let Some(pair) = Self::load(stem)?
            && pair.is_fresh(authority)
            && paths::read(&names_file)?.as_deref() == Some(&names_text)
        {
            return Ok(pair);
        }
        let pair = authority.issue(subject, names, lifetime)?;
        pair.save(stem)?;
        paths::write(&names_file, 0o644, &names_text)?;
        Ok(pair)
    }

    fn is_fresh(&self, authority: &Authority) -> bool {
        let blocks = der::blocks(&self.certificate);
        let Some(Ok(parsed)) = blocks.first().map(|block| der::parse(block)) else { return false };
        let renew_at = i64::try_from((now() + RENEW_BEFORE).as_secs()).unwrap_or(i64::MAX);
        parsed.issuer.common_name == authority.name && parsed.not_after.as_second() > renew_at
    }
}

/// Random bytes.
pub fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let provider = rustls::crypto::ring::default_provider();
    provider
        .secure_random
        .fill(&mut bytes)
        .expect("the kernel's random source does not fail once it is seeded");
    bytes
}

/// The same parameters give the same issuer each time: the name and the key identify it.
fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + (now() - BACKDATE);
    parameters.not_after = epoch + (now() + AUTHORITY_LIFETIME);
    parameters.distinguished_name.remove(DnType::CommonName);
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}
