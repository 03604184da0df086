//! Why OneGate gave no answer, told apart and told to the operator: what was tried, what came, what to do.

use std::error::Error;
use std::fmt;

use reqwest::StatusCode;

use crate::facts::FaultKind;

/// A question to OneGate that found no answer. Holds no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneGateError {
    kind: FaultKind,
    tried: String,
    what: String,
}

impl OneGateError {
    pub(super) fn new(kind: FaultKind, tried: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind, tried: tried.into(), what: what.into() }
    }

    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    pub(super) fn after(self, attempts: u32) -> Self {
        if attempts < 2 {
            return self;
        }
        Self { what: format!("{}, {attempts} times in a row", self.what), ..self }
    }
}

impl fmt::Display for OneGateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}; {}", self.tried, self.what, advice(self.kind))
    }
}

impl Error for OneGateError {}

/// What an operator can do about it. Where OneGate's word cannot be taken literally, this says so (onegate.md).
fn advice(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::NoEndpoint => {
            "the context needs a valid ONEGATE_ENDPOINT: set it in oned.conf, and TOKEN=YES in the VM template"
        }
        FaultKind::Dns => {
            "check this VM's DNS servers, or give ONEGATE_ENDPOINT an address instead of a name"
        }
        FaultKind::Tcp => "check that onegate-server runs and that this VM's network reaches it",
        FaultKind::Tls => {
            "check OneGate's certificate: its CA goes into ONEAPP_ONEGATE_CA, its name must be the one in ONEGATE_ENDPOINT"
        }
        FaultKind::Timeout => "check the network between this VM and the front end, and the front end's load",
        FaultKind::NotAuthorized => {
            "OneGate says so too while oned is down; if it lasts, token.txt on the context CD is not of this VM, or its owner's TOKEN_PASSWORD changed"
        }
        FaultKind::Forbidden => "check restricted_attrs and restricted_actions in onegate-server.conf",
        FaultKind::NotFound => {
            "OneGate says so too while OneFlow is down: check oneflow-server before the service"
        }
        FaultKind::BadRequest => {
            "OneGate understood and refused: check that this VM still belongs to its service or virtual router"
        }
        FaultKind::Server => "see onegate.log and oned.log on the front end",
        FaultKind::Nonsense => {
            "check what answers at ONEGATE_ENDPOINT: OneGate itself, or a proxy in between"
        }
    }
}

/// The kind and words of an exchange that failed before there was an answer.
pub(super) fn of_exchange(error: &reqwest::Error) -> (FaultKind, String) {
    let told = innermost(error);
    if error.is_timeout() {
        let what = if error.is_connect() { "no connection in time" } else { "no answer in time" };
        (FaultKind::Timeout, what.into())
    } else if error.is_dns() {
        (FaultKind::Dns, format!("the name does not resolve ({told})"))
    } else if let Some(tls) = tls_fault(error) {
        (FaultKind::Tls, format!("TLS failed ({tls})"))
    } else if error.is_connect() {
        (FaultKind::Tcp, format!("no connection ({told})"))
    } else if is_garbage(error) {
        (FaultKind::Nonsense, format!("the answer is not HTTP ({told})"))
    } else {
        (FaultKind::Tcp, format!("the connection broke ({told})"))
    }
}

/// The kind of an answer whose status is no success.
pub(super) fn of_status(status: StatusCode) -> FaultKind {
    match status.as_u16() {
        401 => FaultKind::NotAuthorized,
        403 => FaultKind::Forbidden,
        404 => FaultKind::NotFound,
        400..=499 => FaultKind::BadRequest,
        500..=599 => FaultKind::Server,
        // A redirect is not followed: the token would go where nobody sent it.
        _ => FaultKind::Nonsense,
    }
}

/// Every error in the chain; what `io::Error` wraps is not among its sources, so it is looked into.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

fn tls_fault(error: &reqwest::Error) -> Option<&rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref::<rustls::Error>())
}

fn is_garbage(error: &reqwest::Error) -> bool {
    chain(error).filter_map(|error| error.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}

/// The words of the first cause: the outer ones only say that sending a request failed.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
