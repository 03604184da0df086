//! HTTP over TLS: serving a port, and calling one.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::der;
use crate::traffic::Traffic;

/// What a handler answers with.
pub type Body = BoxBody<Bytes, Infallible>;

/// The largest body that is read: etcd's own limit of a request is 1.5 MiB; a whole state is larger.
const MOST_BYTES: usize = 64 << 20;

/// Longer than any healthy answer takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Serves `listener` until the task is dropped: `handle` gets each request and the caller's name, if it showed a
/// certificate.
pub async fn serve<H, F>(listener: TcpListener, tls: Arc<ServerConfig>, traffic: Arc<Traffic>, handle: H)
where
    H: Fn(Request<Incoming>, Option<der::Name>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await; // Out of descriptors: others must close first.
            continue;
        };
        tokio::spawn(connection(stream, acceptor.clone(), traffic.clone(), handle.clone()));
    }
}

async fn connection<H, F>(stream: TcpStream, acceptor: TlsAcceptor, traffic: Arc<Traffic>, handle: H)
where
    H: Fn(Request<Incoming>, Option<der::Name>) -> F,
    F: Future<Output = Response<Body>>,
{
    let _open = traffic.open();
    let _ = stream.set_nodelay(true); // Only slower without.
    let Ok(Ok(stream)) = tokio::time::timeout(ANSWER_WITHIN, acceptor.accept(stream)).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = shown.and_then(|certificate| der::parse(certificate).ok()).map(|parsed| parsed.subject);
    let service = service_fn(|request| {
        traffic.asked();
        let answer = handle(request, caller.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // A caller that goes away in the middle of an answer is its own affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Serves `listener` without TLS until the task is dropped.
pub async fn serve_plainly<H>(listener: TcpListener, handle: H)
where
    H: Fn(Request<Incoming>) -> Response<Body> + Clone + Send + Sync + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await; // Out of descriptors: others must close first.
            continue;
        };
        let handle = handle.clone();
        let service = service_fn(move |request| {
            let answer = handle(request);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

/// An answer with a body of `kind`.
pub fn answer(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    let builder = Response::builder().status(status).header("content-type", kind);
    builder.body(Full::new(body.into()).boxed()).expect("the header is a constant")
}

/// The whole body of a request or an answer.
///
/// # Errors
/// When the other side stops in the middle or sends too much.
pub async fn whole(body: Incoming) -> Result<Bytes> {
    let limited = Limited::new(body, MOST_BYTES).collect().await;
    Ok(limited.map_err(|error| anyhow::anyhow!("could not read a body: {error}"))?.to_bytes())
}

/// One place that is called again and again: the connection is kept while it works.
pub struct Client {
    address: String,
    shown_name: Option<String>,
    tls: Arc<ClientConfig>,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Header names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; may be empty.
    pub body: Vec<u8>,
}

impl Client {
    /// A caller of `address` (`host:port`); nothing is opened yet.
    pub fn new(address: &str, tls: Arc<ClientConfig>) -> Self {
        Self { address: address.to_owned(), shown_name: None, tls, connection: Mutex::new(None) }
    }

    /// The same, expecting a certificate for `name` instead of for the address.
    pub fn expecting(self, name: &str) -> Self {
        Self { shown_name: Some(name.to_owned()), ..self }
    }

    /// Where it calls.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Calls and reads the whole answer.
    ///
    /// # Errors
    /// No connection, no trust, or no answer within ten seconds.
    pub async fn call(&self, call: Call<'_>) -> Result<(StatusCode, Bytes)> {
        let what = || format!("{} \"https://{}{}\"", title(&call.method), self.address, call.path);
        match tokio::time::timeout(ANSWER_WITHIN, self.exchange(&call)).await {
            Ok(answer) => answer.with_context(what),
            Err(_) => Err(anyhow::anyhow!("context deadline exceeded")).with_context(what),
        }
    }

    /// [`Self::call`] without a body.
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<(StatusCode, Bytes)> {
        self.call(Call { method: Method::GET, path, headers, body: Vec::new() }).await
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<(StatusCode, Bytes)> {
        let mut kept = self.connection.lock().await;
        // A kept connection may have been closed meanwhile: then a new one is opened, once.
        if let Some(sender) = kept.as_mut()
            && sender.ready().await.is_ok()
            && let Ok(answer) = send(sender, &self.address, call).await
        {
            return Ok(answer);
        }
        *kept = None;
        let mut sender = self.connect().await?;
        let answer = send(&mut sender, &self.address, call).await?;
        *kept = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let address = &self.address;
        let Some((host, _)) = address.rsplit_once(':') else {
            bail!("address {address}: missing port in address")
        };
        let host = self.shown_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).with_context(|| format!("invalid server name {host:?}"))?;
        let stream = TcpStream::connect(address).await.with_context(|| format!("dial tcp {address}"))?;
        let _ = stream.set_nodelay(true); // Only slower without.
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("tls")?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    address: &str,
    call: &Call<'_>,
) -> Result<(StatusCode, Bytes)> {
    let mut request = Request::builder().method(&call.method).uri(call.path).header("host", address);
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(Bytes::from(call.body.clone())))?).await?;
    let status = response.status();
    Ok((status, whole(response.into_body()).await?))
}

/// Go names the method in its errors as `Get`, `Post`.
fn title(method: &Method) -> String {
    let lower = method.as_str().to_lowercase();
    lower[..1].to_uppercase() + &lower[1..]
}

/// A listener on `address`, which another process may just have left.
///
/// # Errors
/// When the port is taken.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen tcp {address}: bind"))
}
