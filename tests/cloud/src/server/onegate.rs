//! OneGate's port: requests off the wire, answers onto it, with the damage that was asked for.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::{Server, converse};
use crate::faults::seconds;
use crate::http::{Fate, Request};

/// The connection ends here on purpose.
#[derive(Debug, thiserror::Error)]
#[error("a fault was asked for")]
struct Severed;

/// How long a connection that is to be cut stays open, so that what was sent before gets out.
const BEFORE_CUT: Duration = Duration::from_millis(20);

/// A body that may end before it is over.
struct Answer {
    bytes: Option<Bytes>,
    cut: Option<Pin<Box<Sleep>>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut self.cut {
            Some(cut) => cut.as_mut().poll(context).map(|()| Some(Err(Severed))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.cut {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

pub(super) async fn serve(server: Server, stream: TcpStream) {
    if server.with(|cloud, now| now < seconds(cloud.faults().refuse_until)) {
        return;
    }
    converse(stream, |request| answer(&server, request)).await;
}

async fn answer(
    server: &Server,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Answer>, Severed> {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    let request = Request {
        method: head.method.to_string(),
        path_and_query: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: headers.collect(),
        body: body.collect().await.map_err(|_| Severed)?.to_bytes().to_vec(),
    };
    // A real one spends most of its time on who asks and what it may write: what is written counts only then.
    let before = server
        .with(|cloud, _| if request.method == "PUT" { cloud.latency(&request) } else { Duration::ZERO });
    sleep(before.div_f64(server.shared.speed)).await;
    let response = server.with(|cloud, now| cloud.handle(now, &request));
    sleep(response.delivery.delay.saturating_sub(before).div_f64(server.shared.speed)).await;
    let (sent, cut) = match response.delivery.fate {
        Fate::Whole => (response.body, None),
        Fate::CutAfter(bytes) => (response.body[..bytes].to_vec(), Some(Box::pin(sleep(BEFORE_CUT)))),
        Fate::Refused => return Err(Severed),
    };
    let mut builder = hyper::Response::builder().status(response.status);
    for (name, value) in response.headers {
        builder = builder.header(name, value);
    }
    let body = Answer { bytes: (!sent.is_empty()).then(|| sent.into()), cut };
    Ok(builder.body(body).expect("statuses and headers are the core's own"))
}
