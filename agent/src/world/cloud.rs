//! OneGate, as the observation meets it: a client made from the context, and what it read last.

use std::time::Duration;

use super::onegate::{Client, Limits, OneGateError, Readings};
use crate::context::{OneGateConfig, Reader, Vars};
use crate::facts::{Fault, FaultKind, Moment, Observed, Reading};
use crate::plan::{Attributes, Reads, Secret};
use crate::service::{Networks, Service, Vm, VmId};

/// How long a pass waits for an answer; a slower one is taken by a later pass. An answer about this VM alone takes
/// 7 to 16 ms, one about a small service a third of a second (onegate.md, "Cost").
const PATIENCE: Duration = Duration::from_millis(1500);

/// OneGate, once the context told where it is and who asks.
#[derive(Default)]
pub struct Cloud {
    readings: Readings,
    access: Option<Access>,
}

/// A client and what it was made from.
struct Access {
    context: Secret,
    token: Option<Secret>,
    client: Result<Client, Refused>,
}

/// Why there is no client.
enum Refused {
    /// The context does not say who asks.
    Nameless(Moment),
    /// The context or the token is unusable.
    Unusable(OneGateError),
}

impl Cloud {
    /// Reads what is due, waiting no longer than a pass may.
    pub async fn observe(
        &mut self,
        context: &Observed<Secret>,
        token: Option<Secret>,
        reads: &Reads,
        now: Moment,
    ) -> (Reading<Vm>, Reading<Service>, Reading<Networks>) {
        // A context that cannot be read at the moment takes nothing away: the last client goes on.
        if let Observed::Known(text) = context {
            let same = self.access.as_ref().is_some_and(|old| old.context == *text && old.token == token);
            if !same {
                self.access =
                    Some(Access { client: client(text, token.as_ref(), now), context: text.clone(), token });
            }
        }
        let client = match self.access.as_ref().map(|access| access.client.as_ref()) {
            None => return Default::default(),
            Some(Err(Refused::Nameless(since))) => {
                return (nameless(*since), nameless(*since), nameless(*since));
            }
            Some(Err(Refused::Unusable(error))) => Err(error),
            Some(Ok(client)) => Ok(client),
        };
        self.readings.refresh(client, reads, now, PATIENCE).await;
        let readings = &self.readings;
        (readings.me().clone(), readings.service().clone(), readings.networks().clone())
    }

    /// Publishes attributes on this VM or on another one.
    ///
    /// # Errors
    /// What OneGate or the way to it refused.
    pub async fn publish(&mut self, vm: Option<VmId>, attributes: &Attributes) -> anyhow::Result<()> {
        let client = who_asks(self.access.as_ref())?;
        Ok(self.readings.publish(client, vm, attributes).await?)
    }

    /// Publishes attributes on several other VMs at once. One outcome for each, in their order.
    pub async fn publish_on(&mut self, others: &[(VmId, &Attributes)]) -> Vec<anyhow::Result<()>> {
        match who_asks(self.access.as_ref()) {
            Ok(client) => {
                let outcomes = self.readings.publish_on(client, others).await;
                outcomes.into_iter().map(|outcome| outcome.map_err(Into::into)).collect()
            }
            Err(why) => others.iter().map(|_| Err(anyhow::anyhow!("{why:#}"))).collect(),
        }
    }
}

/// The client, if the context told enough to have one; inside, why it cannot be used.
fn who_asks(access: Option<&Access>) -> anyhow::Result<Result<&Client, &OneGateError>> {
    match access.map(|access| access.client.as_ref()) {
        None => anyhow::bail!("there is no context yet that says where OneGate is"),
        Some(Err(Refused::Nameless(_))) => anyhow::bail!("{NAMELESS}"),
        Some(Err(Refused::Unusable(error))) => Ok(Err(error)),
        Some(Ok(client)) => Ok(Ok(client)),
    }
}

const NAMELESS: &str = "the context has no VMID: set TOKEN=YES in the VM template's CONTEXT";

fn nameless<T>(since: Moment) -> Reading<T> {
    let fault = Fault { kind: FaultKind::NoEndpoint, message: NAMELESS.into(), since };
    Reading { fault: Some(fault), ..Reading::default() }
}

/// Only what leads to OneGate is read here: the role, which the rest is judged by, comes from there.
fn client(context: &Secret, token: Option<&Secret>, now: Moment) -> Result<Client, Refused> {
    // A context that is none has no VMID either; its problems are told by the driver.
    let vars = Vars::parse(context.expose()).unwrap_or_default();
    let Some(vm) = vars.get("VMID").and_then(|id| id.parse().ok()).map(VmId) else {
        return Err(Refused::Nameless(now));
    };
    let config = OneGateConfig::read(&mut Reader::new(&vars, None));
    let token = token.cloned().unwrap_or_default();
    Client::new(&config, vm, &token, Limits::default()).map_err(Refused::Unusable)
}
