//! The members of the datastore and how many of them must agree.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name, a hyphen and eight random digits, as RKE2 names etcd members.
    pub name: String,
    /// Its IP address.
    pub address: String,
    /// False for a learner: it is told everything and asked nothing.
    pub voter: bool,
}

/// All members, and those that were removed and may not come back under the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The members.
    pub list: Vec<Member>,
    /// Names of former members.
    pub removed: Vec<String>,
}

impl Member {
    /// The name of the node that the member runs on.
    pub fn node(&self) -> &str {
        self.name.rsplit_once('-').map_or(&self.name, |(node, _)| node)
    }
}

impl Members {
    /// Reads what [`Self::to_value`] wrote; anything else has no members.
    pub fn from_value(value: &Value) -> Self {
        serde_json::from_value(value.clone()).unwrap_or_default()
    }

    /// As it is stored.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("names and addresses are JSON")
    }

    /// Those who vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.list.iter().filter(|member| member.voter)
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&Member> {
        self.list.iter().find(|member| member.name == name)
    }

    /// Whether the member of that name votes.
    pub fn is_voter(&self, name: &str) -> bool {
        self.get(name).is_some_and(|member| member.voter)
    }

    /// How many voters are a majority.
    pub fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// The same with a learner more.
    ///
    /// # Errors
    /// etcd's own words when there is a learner already, RKE2's when the node has a member already.
    pub fn with_learner(&self, name: &str, address: &str) -> Result<Self, String> {
        let learner = Member { name: name.to_owned(), address: address.to_owned(), voter: false };
        if self.list.contains(&learner) {
            return Ok(self.clone());
        }
        if self.list.iter().any(|member| member.node() == learner.node()) {
            return Err("duplicate node name found, please use a unique name for this node".to_owned());
        }
        if self.list.iter().any(|member| member.address == address) {
            return Err("etcdserver: Peer URLs already exists".to_owned());
        }
        if self.list.iter().any(|member| !member.voter) {
            return Err("etcdserver: too many learner members in cluster".to_owned());
        }
        let mut more = self.clone();
        more.list.push(learner);
        Ok(more)
    }

    /// The same with that learner voting.
    pub fn with_promoted(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.list.iter_mut().filter(|member| member.name == name).for_each(|member| member.voter = true);
        changed
    }

    /// The same without that member.
    pub fn without(&self, name: &str) -> Self {
        let mut fewer = self.clone();
        fewer.list.retain(|member| member.name != name);
        fewer.removed.push(name.to_owned());
        fewer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_learner_at_a_time_and_one_member_per_node() {
        let one =
            Members::default().with_learner("a-00000001", "10.0.0.1").unwrap().with_promoted("a-00000001");
        assert_eq!(one.majority(), 1);
        let two = one.with_learner("b-00000002", "10.0.0.2").unwrap();
        assert_eq!((two.majority(), two.voters().count()), (1, 1));
        assert_eq!(two.with_learner("b-00000002", "10.0.0.2").unwrap(), two);
        assert!(two.with_learner("c-00000003", "10.0.0.3").unwrap_err().contains("too many learner"));
        let promoted = two.with_promoted("b-00000002");
        assert_eq!(promoted.majority(), 2);
        assert!(promoted.with_learner("b-00000009", "10.0.0.9").unwrap_err().contains("duplicate node name"));
        let left = promoted.without("a-00000001");
        assert_eq!((left.majority(), left.removed.len()), (1, 1));
    }
}
