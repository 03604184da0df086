//! Whom the client trusts: the system's roots, the context's CA, or, if the context says so by name, anybody.

use std::io;
use std::sync::Arc;

use oneke_agent::context::OneGateConfig;
use oneke_agent::facts::FaultKind;
use oneke_agent::plan::Secret;
use oneke_agent::service::{Vm, VmId};
use oneke_agent::world::onegate::{Client, Limits, OneGateError};
use oneke_suite::captures::load;
use oneke_suite::replay::{Accept, Reply, Server};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

#[derive(Clone)]
struct Tls(TlsAcceptor);

impl Accept<TlsStream<TcpStream>> for Tls {
    async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

/// A server whose own CA signed its certificate for `name`, and that CA in PEM.
async fn serve(name: &str) -> (Server, String) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("a CA").pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);

    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
        )
        .expect("key and certificate belong together");
    let reply = Reply::recorded(&load("get-vm").response);
    let server = Server::start_with([reply], Tls(TlsAcceptor::from(Arc::new(config)))).await;
    (server, ca_pem)
}

async fn ask(server: &Server, ca: Option<&str>, verify: bool) -> Result<Vm, OneGateError> {
    let endpoint = Some(format!("https://{}", server.address()));
    let config = OneGateConfig { endpoint, ca: ca.map(str::to_owned), verify };
    Client::new(&config, VmId(0), &Secret::new("token"), Limits::default())?.get_vm().await
}

#[tokio::test]
async fn the_ca_of_the_context_is_trusted() {
    let (server, ca) = serve("127.0.0.1").await;
    assert_eq!(ask(&server, Some(&ca), true).await.map(|vm| vm.id), Ok(VmId(0)));
}

#[tokio::test]
async fn a_stranger_is_refused_and_gets_no_request() {
    let (server, _) = serve("127.0.0.1").await;
    let (_, other_ca) = serve("127.0.0.1").await;
    for ca in [None, Some(other_ca.as_str())] {
        let error = ask(&server, ca, true).await.unwrap_err();
        assert_eq!(error.kind(), FaultKind::Tls, "{error}");
        assert!(error.to_string().contains("ONEAPP_ONEGATE_CA"), "{error}");
    }
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (server, ca) = serve("onegate.example").await;
    let error = ask(&server, Some(&ca), true).await.unwrap_err();
    assert_eq!(error.kind(), FaultKind::Tls, "{error}");
}

#[tokio::test]
async fn anybody_is_trusted_only_if_the_context_says_so() {
    let (server, _) = serve("onegate.example").await;
    assert_eq!(ask(&server, None, false).await.map(|vm| vm.id), Ok(VmId(0)));
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_fault() {
    // What a plain server sends back is no TLS record.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("https://{}", plain.local_addr().unwrap()));
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
        std::future::pending::<()>().await;
    });
    let config = OneGateConfig { endpoint, ca: None, verify: false };
    let client = Client::new(&config, VmId(0), &Secret::new("token"), Limits::default()).unwrap();
    let error = client.get_vm().await.unwrap_err();
    assert_eq!(error.kind(), FaultKind::Tls, "{error}");
}

#[tokio::test]
async fn a_ca_that_is_none_is_told() {
    let (server, _) = serve("127.0.0.1").await;
    for ca in ["", "no PEM"] {
        let error = ask(&server, Some(ca), true).await.unwrap_err();
        assert_eq!(error.kind(), FaultKind::Tls, "{ca:?}: {error}");
        assert!(error.to_string().contains("ONEAPP_ONEGATE_CA: expected"), "{ca:?}: {error}");
    }
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(ask(&server, Some(damaged), true).await.unwrap_err().kind(), FaultKind::Tls);
    assert_eq!(server.asked(), []);
}
