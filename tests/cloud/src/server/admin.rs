//! The operator's port: commands in, events out, all in JSON.
//!
//! ```text
//! POST /do        one Command                    200 and its result, 400 and why not
//! GET  /events    ?after=N&wait=SECONDS          events after number N; waits for one, 0 s unless told
//! GET  /state                                    services, roles, VMs
//! GET  /faults                                   what goes wrong at present
//! GET  /requests                                 how many of each kind from each VM
//! GET  /received                                 every body that OneGate was ever sent
//! ```

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Server, Whole, converse};
use crate::command::Command;
use crate::faults::seconds;
use crate::http::parameter;

/// The longest wait for an event: shorter than what clients commonly allow an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) async fn serve(server: Server, stream: TcpStream) {
    converse(stream, |request| async { respond(answer(&server, request).await) }).await;
}

async fn answer(server: &Server, request: hyper::Request<Incoming>) -> Result<Value, String> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/do") => {
            let body = body.collect().await.map_err(|error| format!("could not read the body: {error}"))?;
            let command: Command = serde_json::from_slice(&body.to_bytes())
                .map_err(|error| format!("could not read the command: {error}"))?;
            let run =
                |cloud: &mut crate::Cloud, now| cloud.run_command(now, command, &server.shared.templates);
            server.with(run).map_err(|refused| refused.to_string())
        }
        (&Method::GET, "/events") => {
            let query = head.uri.query().unwrap_or_default();
            let number = |name: &str| -> Result<f64, String> {
                let text = parameter(query, name).map_err(|text| format!("could not decode {text:?}"))?;
                text.map_or(Ok(0.0), |text| {
                    text.parse().map_err(|_| format!("{name}={text:?}: expected a number"))
                })
            };
            let (after, wait) = (number("after")? as u64, seconds(number("wait")?).min(LONGEST_WAIT));
            to_json(&server.events(after, wait).await)
        }
        (&Method::GET, "/state") => Ok(server.with(|cloud, now| {
            let mut state = cloud.summary();
            state["now"] = json!(now.as_secs_f64());
            state
        })),
        (&Method::GET, "/faults") => server.with(|cloud, _| to_json(cloud.faults())),
        (&Method::GET, "/requests") => Ok(server.with(|cloud, _| {
            let counts = cloud.ledger().counts();
            counts.map(|(vm, kind, count)| json!({ "vm": vm, "kind": kind, "count": count })).collect()
        })),
        (&Method::GET, "/received") => server.with(|cloud, _| to_json(cloud.ledger().received())),
        (method, path) => Err(format!("there is no {method} {path}")),
    }
}

fn to_json(value: &(impl serde::Serialize + ?Sized)) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| format!("could not write the answer: {error}"))
}

fn respond(answer: Result<Value, String>) -> Whole {
    let (status, body) = match answer {
        Ok(value) => (200, value),
        Err(error) => (400, json!({ "error": error })),
    };
    let body = Full::new(Bytes::from(body.to_string()));
    let response =
        hyper::Response::builder().status(status).header("Content-Type", "application/json").body(body);
    Ok(response.expect("status and header are constants"))
}
