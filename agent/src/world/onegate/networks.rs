//! A virtual router looks around: its networks, one request each, and which they are.

use std::collections::BTreeSet;

use super::{Client, OneGateError};
use crate::facts::FaultKind;
use crate::service::{Networks, VRouter};

/// No router has so many networks; a longer list is a fault of somebody's, and each item costs the front end a look at
/// every VM on it.
const MOST: usize = 64;

impl Client {
    /// The networks of this virtual router and those that were reserved from them, each once, one after the other.
    /// `router` is an earlier answer that need not be asked for again.
    ///
    /// # Errors
    /// If the router could not be read, or none of its networks. One of several that could not is in
    /// [`Networks::unread`].
    pub async fn get_networks(&self, router: Option<VRouter>) -> Result<Networks, OneGateError> {
        let router = match router {
            Some(router) => router,
            None => self.get_vrouter().await?,
        };
        let nameless = router.nics.iter().filter(|nic| nic.network_id.is_none());
        let unread = nameless.map(|nic| format!("OneGate gave no ID of network {:?}", nic.network)).collect();
        let mut networks = Networks { unread, ..Networks::default() };
        let own = router.networks();
        let (mut pending, mut seen, mut first) = (own.clone(), BTreeSet::new(), None);
        while let (true, Some(id)) = (seen.len() < MOST, pending.first().copied()) {
            pending.remove(&id);
            seen.insert(id);
            match self.get_vnet(id, true).await {
                Ok(network) => {
                    pending.extend(network.reserved().filter(|id| !seen.contains(id)));
                    networks.read.push(network);
                }
                // Not this router's: nothing on it can be meant for it.
                Err(error) if !own.contains(&id) && is_refusal(error.kind()) => {}
                Err(error) => {
                    networks.unread.push(error.to_string());
                    first.get_or_insert(error);
                }
            }
        }
        networks.unread.extend(pending.first().map(|_| format!("there are more than {MOST} networks")));
        match first {
            Some(error) if networks.read.is_empty() => Err(error),
            _ => Ok(Networks { router: Some(router), ..networks }),
        }
    }
}

/// OneGate understood, and said no.
fn is_refusal(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::BadRequest | FaultKind::Forbidden)
}
