//! OneGate as one simulated machine meets it: every request takes time, and may be lost on either way.

use std::time::Duration;

use oneke_agent::facts::FaultKind;
use oneke_agent::plan::Attributes;
use oneke_agent::service::VmId;
use oneke_cloud::{Fate, Request};

use crate::universe::Shared;

/// The way of one machine to OneGate.
#[derive(Clone)]
pub struct Gate {
    /// The world.
    pub shared: Shared,
    /// Who asks.
    pub vm: VmId,
}

impl Gate {
    /// Asks OneGate; `Err` carries what kind of silence it was.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<(u16, String), (FaultKind, String)> {
        let dear = path != "/vm";
        let (there, back, lost, unanswered, down) = {
            let u = &mut *self.shared.borrow_mut();
            let (least, most) = if dear { (300, 1_500) } else { (5, 40) };
            let there = u.chance.between(Duration::from_millis(1), Duration::from_millis(5));
            let back = u.chance.between(Duration::from_millis(least), Duration::from_millis(most));
            (
                there,
                back,
                u.chance.one_in(u.rough.lose_request),
                u.chance.one_in(u.rough.lose_answer),
                u.rough.onegate_down,
            )
        };
        tokio::time::sleep(there).await;
        let timeout = || (FaultKind::Timeout, format!("{method} {path}: no answer within 10 s"));
        if down {
            return Err((FaultKind::Tcp, format!("{method} {path}: connection refused")));
        }
        if lost {
            tokio::time::sleep(Duration::from_secs(10)).await;
            return Err(timeout());
        }
        let response = {
            let u = &mut *self.shared.borrow_mut();
            let now = u.now();
            let token = u.machines.get(&self.vm).map(|m| m.token.clone()).unwrap_or_default();
            let headers = vec![
                ("X-ONEGATE-VMID".to_owned(), self.vm.to_string()),
                ("X-ONEGATE-TOKEN".to_owned(), token),
            ];
            let request =
                Request { method: method.into(), path_and_query: path.into(), headers, body: body.to_vec() };
            if method == "PUT" && path == "/vm" {
                u.check_publication(self.vm, body, now);
            }
            u.cloud.handle(now, &request)
        };
        tokio::time::sleep(back + response.delivery.delay).await;
        if unanswered {
            tokio::time::sleep(Duration::from_secs(10)).await;
            return Err(timeout());
        }
        match response.delivery.fate {
            Fate::Whole => Ok((response.status, response.text())),
            Fate::CutAfter(n) => {
                Err((FaultKind::Nonsense, format!("{method} {path}: the answer broke off after {n} bytes")))
            }
            Fate::Refused => Err((FaultKind::Tcp, format!("{method} {path}: connection refused"))),
        }
    }

    /// Publishes attributes at `/vm` or `/vms/ID`.
    pub async fn put(&self, path: &str, attributes: &Attributes) -> Result<(), String> {
        let body =
            attributes.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n");
        match self.ask("PUT", path, body.as_bytes()).await {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("PUT {path}: {status} {body}")),
            Err((_, why)) => Err(why),
        }
    }
}
