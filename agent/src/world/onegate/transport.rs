//! One request to OneGate, bounded in time, size and repetitions.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout_at};

use super::fault::{self, OneGateError};
use super::{Counts, Limits};
use crate::context::OneGateConfig;
use crate::facts::FaultKind;
use crate::plan::Secret;
use crate::service::VmId;

/// OneGate's server closes a silent connection after 20 s (puma's `persistent_timeout`): be the first to let go, so
/// that no request is lost on a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(15);

/// As much of an error's text as an operator reads; the rest of a body is not even told.
const TOLD_CHARS: usize = 160;

/// What to ask.
pub(super) struct Call {
    pub method: Method,
    /// Of the path, unescaped.
    pub segments: Vec<String>,
    pub extended: bool,
    /// Content type and text.
    pub body: Option<(&'static str, String)>,
    /// From the first attempt to the last byte.
    pub within: Duration,
    pub repeat: Repeat,
    pub count: Count,
}

/// What a second attempt could do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing that the first did not.
    Harmless,
    /// The same, and its 404 can be OneFlow being away for a moment.
    HarmlessThroughOneFlow,
    /// The thing twice: only a refusal before anything was done is tried again.
    Harmful,
}

/// As what a request is counted.
#[derive(Clone, Copy)]
pub(super) enum Count {
    Own,
    Service,
    Others,
    Write,
}

pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    limits: Limits,
    counted: [AtomicU64; 4],
}

impl Transport {
    pub fn new(
        config: &OneGateConfig,
        vm: VmId,
        token: &Secret,
        limits: Limits,
    ) -> Result<Self, OneGateError> {
        let base = base(config.endpoint.as_deref())?;
        let http = http(config, &base, vm, token, &limits)?;
        Ok(Self { http, base, limits, counted: Default::default() })
    }

    pub fn counts(&self) -> Counts {
        let [own, service, others, writes] =
            [0, 1, 2, 3].map(|at: usize| self.counted[at].load(Ordering::Relaxed));
        Counts { own, service, others, writes }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// In the operator's words: `GET http://10.0.0.1:5030/service`.
    pub fn words(&self, call: &Call) -> String {
        format!("{} {}", call.method, self.url(call))
    }

    /// Asks until there is an answer, the time is up, or it is clear that asking again will not help.
    pub async fn call(&self, call: &Call) -> Result<String, OneGateError> {
        let deadline = Instant::now() + call.within;
        let mut attempt = 1;
        loop {
            self.counted[call.count as usize].fetch_add(1, Ordering::Relaxed);
            let late = || {
                let what = format!("no whole answer within {:?}", call.within);
                OneGateError::new(FaultKind::Timeout, self.words(call), what)
            };
            let answer = timeout_at(deadline, self.once(call)).await.unwrap_or_else(|_elapsed| Err(late()));
            let pause = self.limits.pause.mul_f64(f64::from(attempt) * jitter());
            match answer {
                Err(error)
                    if attempt < self.limits.attempts
                        && may_pass(error.kind(), call.repeat)
                        && Instant::now() + pause < deadline =>
                {
                    tracing::debug!(%error, attempt, "asking OneGate again");
                    sleep(pause).await;
                    attempt += 1;
                }
                answer => return answer.map_err(|error| error.after(attempt)),
            }
        }
    }

    async fn once(&self, call: &Call) -> Result<String, OneGateError> {
        let fault = |kind, what: String| OneGateError::new(kind, self.words(call), what);
        let mut request = self.http.request(call.method.clone(), self.url(call));
        if let Some((kind, text)) = &call.body {
            request = request.header(CONTENT_TYPE, *kind).body(text.clone());
        }
        let response = request.send().await.map_err(|error| {
            let (kind, what) = fault::of_exchange(&error);
            fault(kind, what)
        })?;
        let status = response.status();
        let body = self.whole(response).await.map_err(|(kind, what)| fault(kind, what));
        if matches!(status, StatusCode::OK | StatusCode::NO_CONTENT) {
            return body;
        }
        // Whatever became of its body, the status has told enough.
        let said = body.map(|body| first_line(&body)).unwrap_or_default();
        Err(fault(fault::of_status(status), format!("{} {said}", status.as_u16()).trim_end().to_owned()))
    }

    /// The whole body, never more than the limit.
    async fn whole(&self, mut response: Response) -> Result<String, (FaultKind, String)> {
        let limit = self.limits.body_bytes;
        let too_large = || (FaultKind::Nonsense, format!("the answer is longer than {limit} bytes"));
        let announced = response.content_length().unwrap_or(0);
        if announced > limit as u64 {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| {
                let what =
                    format!("the answer broke off after {} bytes ({})", body.len(), fault::innermost(&error));
                (FaultKind::Nonsense, what)
            })?;
            let Some(chunk) = chunk else { break };
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| (FaultKind::Nonsense, "the answer is not UTF-8".into()))
    }

    fn url(&self, call: &Call) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("base() let only http and https pass")
            .pop_if_empty()
            .extend(&call.segments);
        url.set_query(call.extended.then_some("extended=true"));
        url
    }
}

/// Whether the same request may succeed a moment later, without doing anything twice.
fn may_pass(kind: FaultKind, repeat: Repeat) -> bool {
    match kind {
        // About 1 in 1,000 good requests under load, and all of them while oned is down (onegate.md, "Identity").
        FaultKind::NotAuthorized => true,
        FaultKind::NotFound => repeat == Repeat::HarmlessThroughOneFlow,
        // A half answer included: the connection broke.
        FaultKind::Tcp | FaultKind::Server | FaultKind::Nonsense => repeat != Repeat::Harmful,
        FaultKind::NoEndpoint
        | FaultKind::Dns
        | FaultKind::Tls
        | FaultKind::Timeout
        | FaultKind::Forbidden
        | FaultKind::BadRequest => false,
    }
}

/// From 0.5 to 1.5, so that a hundred agents that failed together do not ask together again.
pub(super) fn jitter() -> f64 {
    // The standard library's only source of randomness is good enough to spread requests.
    let random = RandomState::new().build_hasher().finish();
    0.5 + (random >> 32) as f64 / f64::from(u32::MAX)
}

fn base(endpoint: Option<&str>) -> Result<Url, OneGateError> {
    let fault = |what: String| OneGateError::new(FaultKind::NoEndpoint, "ask OneGate", what);
    let text = endpoint.ok_or_else(|| fault("ONEGATE_ENDPOINT is not set".into()))?;
    let expected = || fault("ONEGATE_ENDPOINT: expected http://HOST[:PORT] or https://HOST[:PORT]".into());
    let url = Url::parse(text).map_err(|_| expected())?;
    let plain =
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return Err(expected());
    }
    Ok(url)
}

fn http(
    config: &OneGateConfig,
    base: &Url,
    vm: VmId,
    token: &Secret,
    limits: &Limits,
) -> Result<reqwest::Client, OneGateError> {
    install_crypto_provider();
    let builder = reqwest::Client::builder()
        .default_headers(headers(vm, token)?)
        .user_agent(concat!("oneke-agent/", env!("CARGO_PKG_VERSION")))
        // The proxy variables of the context are for Kubernetes; OneGate is on the cloud's own network.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(2);
    let fault = |what: String| OneGateError::new(FaultKind::Tls, format!("ask OneGate at {base}"), what);
    let builder = match (base.scheme(), config.verify, &config.ca) {
        // Without TLS no certificates are read, and none need be installed.
        ("http", _, _) => builder.tls_certs_only([]),
        (_, false, _) => builder.tls_danger_accept_invalid_certs(true),
        (_, true, None) => builder,
        (_, true, Some(pem)) => builder.tls_certs_merge(
            Certificate::from_pem_bundle(pem.as_bytes())
                .ok() // Whatever it is, it is no certificate, and that is told.
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| fault("ONEAPP_ONEGATE_CA: expected certificates in PEM".into()))?,
        ),
    };
    builder.build().map_err(|error| fault(fault::innermost(&error)))
}

fn headers(vm: VmId, token: &Secret) -> Result<HeaderMap, OneGateError> {
    let text = token.expose().trim();
    if text.is_empty() {
        let what = "the context has no token.txt";
        return Err(OneGateError::new(FaultKind::NoEndpoint, "ask OneGate", what));
    }
    let mut token = HeaderValue::from_str(text).map_err(|_| {
        OneGateError::new(FaultKind::NotAuthorized, "ask OneGate", "token.txt: expected one line of base64")
    })?;
    token.set_sensitive(true);
    Ok(HeaderMap::from_iter([
        (reqwest::header::HeaderName::from_static("x-onegate-token"), token),
        (reqwest::header::HeaderName::from_static("x-onegate-vmid"), HeaderValue::from(vm.0)),
    ]))
}

/// rustls has no default of its own in this build; the first to come (this, or the Kubernetes client) installs it.
fn install_crypto_provider() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let installed = rustls::crypto::ring::default_provider().install_default();
        drop(installed); // An error means that there is one already, which is as good.
    });
}

fn first_line(body: &str) -> String {
    let line = body.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(TOLD_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_marked_so_that_no_trace_prints_it() {
        let headers = headers(VmId(7), &Secret::new("c2VjcmV0\n")).unwrap();
        assert_eq!(headers["x-onegate-token"], "c2VjcmV0");
        assert!(!format!("{headers:?}").contains("c2VjcmV0"), "{headers:?}");
    }

    #[test]
    fn jitter_spreads_around_one() {
        let drawn: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|factor| (0.5..=1.5).contains(factor)), "{drawn:?}");
        assert!(
            drawn.iter().any(|factor| *factor < 0.9) && drawn.iter().any(|factor| *factor > 1.1),
            "{drawn:?}"
        );
    }
}
