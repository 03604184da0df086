//! TLS settings: what a port shows, what a caller trusts.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::der;
use crate::pki::Pair;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A port that shows `pair` and accepts callers with a certificate of `client_ca`; those without one are anonymous,
/// or refused if `required`.
///
/// # Errors
/// When the PEM texts hold no usable certificates.
pub fn server(pair: &Pair, client_ca: &str, required: bool) -> Result<Arc<ServerConfig>> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca)?), provider());
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(builder.build()?)
        .with_single_cert(certificates(&pair.certificate), key(pair)?)?;
    Ok(Arc::new(config))
}

/// A caller that trusts `ca` and shows `pair` if it has one.
///
/// # Errors
/// When the PEM texts hold no usable certificates.
pub fn client(ca: &str, pair: Option<&Pair>) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    Ok(Arc::new(match pair {
        Some(pair) => builder.with_client_auth_cert(certificates(&pair.certificate), key(pair)?)?,
        None => builder.with_no_client_auth(),
    }))
}

/// A caller that trusts anyone: only for downloading the CA bundle, which is then compared with the token's hash.
///
/// # Errors
/// None in practice: the provider supports the default protocol versions.
pub fn trusting_client() -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider())))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(pem: &str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem) {
        store.add(certificate).context("a CA bundle holds something that is no certificate")?;
    }
    Ok(store)
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    der::blocks(pem).into_iter().map(CertificateDer::from).collect()
}

fn key(pair: &Pair) -> Result<PrivateKeyDer<'static>> {
    let block = der::blocks(&pair.key).into_iter().next().context("a key file holds no key")?;
    PrivateKeyDer::try_from(block).map_err(|error| anyhow::anyhow!("could not read a private key: {error}"))
}

#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
