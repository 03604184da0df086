//! What all servers keep in the datastore besides Kubernetes' objects: the credentials and the critical values.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::object;
use crate::api::resources::Resource;
use crate::store::state::{Change, Record, State};
use crate::store::{Store, StoreError, Transaction};
use crate::token::{self, Credentials};

const CREDENTIALS_KEY: &str = "/standin/credentials";
const CRITICAL_KEY: &str = "/standin/critical";

/// The name spaces that every cluster has.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// The words in which RKE2 refuses a node whose name belongs to another.
pub const PASSWORD_REJECTED: &str = "Node password rejected, duplicate hostname or contents of \
     '/etc/rancher/node/password' may not match server node-passwd entry, try enabling a unique node name with the \
     --with-node-id flag";

/// The shared secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The server token's password.
    pub server: String,
    /// The agent token's password, if it has its own.
    pub agent: Option<String>,
}

/// What a caller of the supervisor may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// Join as an agent.
    Agent,
    /// Everything.
    Server,
}

impl Secrets {
    /// What basic credentials grant: the agent token is the server's unless it has its own.
    pub fn grant(&self, user: &str, password: &str) -> Option<Grant> {
        match user {
            "server" if password == self.server => Some(Grant::Server),
            "node" if password == self.agent.as_ref().unwrap_or(&self.server) => Some(Grant::Agent),
            _ => None,
        }
    }

    /// As they were agreed on; `None` in an empty datastore.
    pub fn of(state: &State) -> Option<Self> {
        serde_json::from_value(state.keys.get(CREDENTIALS_KEY)?.value.clone()).ok()
    }

    /// The change that makes these the cluster's.
    pub fn change(&self) -> Change {
        Change::Put(CREDENTIALS_KEY.to_owned(), serde_json::to_value(self).expect("texts are JSON"))
    }
}

/// The changes that a new cluster begins with.
pub fn beginning(secrets: &Secrets, critical: &BTreeMap<String, String>) -> Vec<Change> {
    let mut changes = vec![secrets.change(), Change::Put(CRITICAL_KEY.to_owned(), json!(critical))];
    let resource = Resource::named("", "namespaces").expect("namespaces are in the table");
    for name in NAMESPACES {
        let namespace = json!({"status": {"phase": "Active"}});
        let namespace = object::completed(namespace, resource, None, name);
        changes.push(Change::Put(resource.key(None, name), namespace));
    }
    changes
}

/// The critical values as they were agreed on.
pub fn critical(state: &State) -> BTreeMap<String, String> {
    let record = state.keys.get(CRITICAL_KEY);
    record.and_then(|record| serde_json::from_value(record.value.clone()).ok()).unwrap_or_default()
}

/// What the credentials grant now.
///
/// # Errors
/// When the datastore does not answer.
pub async fn grant(store: &Store, credentials: &Credentials) -> Result<Option<Grant>, StoreError> {
    match credentials {
        Credentials::Basic { user, password } => {
            // The secrets change rarely: what this member knows will do, also without a majority.
            Ok(Secrets::of(&store.local()).and_then(|secrets| secrets.grant(user, password)))
        }
        Credentials::Bootstrap(text) => {
            let Some((id, secret)) = text.split_once('.') else { return Ok(None) };
            let key = secret_key(&format!("bootstrap-token-{id}"));
            let record = store.read(|state| state.keys.get(&key).cloned()).await?;
            Ok(record.filter(|record| is_valid(&record.value, secret)).map(|_| Grant::Agent))
        }
    }
}

fn is_valid(stored: &Value, secret: &str) -> bool {
    let same = secret_data(stored, "token-secret").as_deref() == Some(secret);
    let usable = secret_data(stored, "usage-bootstrap-authentication").as_deref() == Some("true");
    same && usable && !is_expired(stored)
}

/// Whether a bootstrap token's time is over.
pub fn is_expired(stored: &Value) -> bool {
    let until = secret_data(stored, "expiration").and_then(|text| text.parse::<jiff::Timestamp>().ok());
    until.is_some_and(|until| until <= jiff::Timestamp::now())
}

/// One decoded value of a Secret.
pub fn secret_data(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret["data"][key].as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?; // Not base64: no value.
    String::from_utf8(bytes).ok()
}

/// Where a secret of kube-system lives.
pub fn secret_key(name: &str) -> String {
    Resource::named("", "secrets").expect("secrets are in the table").key(Some("kube-system"), name)
}

/// The secret that binds a node's name to its password.
pub fn node_password_key(node: &str) -> String {
    secret_key(&format!("{node}.node-password.rke2"))
}

/// Binds the name to the password, or checks it if the name is bound already.
///
/// # Errors
/// [`PASSWORD_REJECTED`], or the datastore's words.
pub async fn bind_node_password(store: &Store, node: &str, password: &str) -> Result<(), String> {
    let key = node_password_key(node);
    let hash = base64::engine::general_purpose::STANDARD.encode(token::hash(&format!("{node}:{password}")));
    let find = |state: &State| state.keys.get(&key).map(|record: &Record| record.value.clone());
    if let Some(secret) = store.read(find).await.map_err(|error| error.to_string())? {
        return if secret["data"]["hash"] == hash { Ok(()) } else { Err(PASSWORD_REJECTED.to_owned()) };
    }
    let secret = json!({"data": {"hash": hash}, "immutable": true, "type": "Opaque"});
    let resource = Resource::named("", "secrets").expect("secrets are in the table");
    let name = format!("{node}.node-password.rke2");
    let secret = object::completed(secret, resource, Some("kube-system"), &name);
    let transaction =
        Transaction { guards: vec![(key.clone(), 0)], changes: vec![Change::Put(key.clone(), secret)] };
    store.write(transaction).await.map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_token_is_the_servers_unless_it_has_its_own() {
        let mut secrets = Secrets { server: "s".into(), agent: None };
        assert_eq!(secrets.grant("server", "s"), Some(Grant::Server));
        assert_eq!(secrets.grant("node", "s"), Some(Grant::Agent));
        secrets.agent = Some("a".into());
        assert_eq!(secrets.grant("node", "s"), None);
        assert_eq!(secrets.grant("node", "a"), Some(Grant::Agent));
        assert_eq!(secrets.grant("server", "a"), None);
    }
}
