//! The administrator's kubeconfig as people use it: RKE2's own leads to the server itself (127.0.0.1), theirs to the
//! control plane's endpoint.

use std::net::IpAddr;

use super::{Node, host_port};
use crate::context::{Config, PublishKubeconfig};
use crate::driver::Interests;
use crate::facts::Observed;
use crate::plan::{Condition, Decision, Effect, Sealing, Secret, digest};
use crate::service::{AttributeName, AttributeValue, names};

/// RKE2's own, on servers; root alone reads it.
pub const PATH: &str = "/etc/rancher/rke2/rke2.yaml";
/// Where a server's API listens.
const API_PORT: u16 = 6443;
/// The distribution's program; the agent's package wants it.
const AGE: &str = "/usr/bin/age";

/// `host:port` by which clients reach the API: the context's endpoint, else this master itself.
pub fn endpoint(config: &Config, own: IpAddr) -> String {
    match &config.node.control_plane {
        Some((host, port)) => host_port(host, *port),
        None => host_port(&own.to_string(), API_PORT),
    }
}

/// RKE2's kubeconfig with another server.
///
/// # Errors
/// If the text is not what RKE2 writes: one cluster. It is not repeated, for it holds a private key.
pub fn leading_to(endpoint: &str, rke2: &Secret) -> Result<Secret, String> {
    let mut changed = 0;
    let mut text = String::new();
    for line in rke2.expose().lines() {
        match line.split_once("server:") {
            Some((indent, _)) if indent.trim().is_empty() => {
                changed += 1;
                text.push_str(&format!("{indent}server: https://{endpoint}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    let text = Secret::new(text);
    if changed == 1 {
        return Ok(text);
    }
    Err(format!("{PATH} names {changed} servers where RKE2 writes one: it was changed, or is half written"))
}

/// What is looked at to publish it.
pub(super) fn interests(config: &Config, interests: &mut Interests) {
    if config.node.publish_kubeconfig != PublishKubeconfig::No {
        interests.files.push(PATH.to_owned());
        interests.exists.push(AGE.to_owned());
    }
}

/// Publishes it as the context says, once this master's API works. What stands in the way is told, and keeps nobody from
/// being ready: the cluster works without.
pub(super) fn publish(node: &Node<'_>, decision: &mut Decision) {
    let told = |reason, message: &str| Condition::met("KubeconfigPublished", reason, message);
    let keys = match &node.config.node.publish_kubeconfig {
        PublishKubeconfig::No => {
            return withdraw(node, &[names::KUBECONFIG, names::KUBECONFIG_DIGEST], decision);
        }
        PublishKubeconfig::Plain => &[][..],
        PublishKubeconfig::Sealed(keys) if keys.is_empty() => {
            let message = "not published: SSH_PUBLIC_KEY has no ssh-ed25519 or ssh-rsa key to seal it to";
            return decision.conditions.push(told("NoKey", message));
        }
        PublishKubeconfig::Sealed(keys) => &keys[..],
    };
    let Observed::Known(rke2) = node.facts.file(PATH) else { return };
    let theirs = match leading_to(&endpoint(node.config, node.ip), &rke2.content) {
        Ok(theirs) => theirs,
        Err(why) => return decision.conditions.push(told("Unreadable", &format!("not published: {why}"))),
    };
    if keys.is_empty() {
        decision.conditions.push(told("Plain", "published in clear as ONEKE_KUBECONFIG"));
        if let Ok(value) = AttributeValue::base64(theirs.expose().as_bytes()) {
            super::publish(decision, names::KUBECONFIG, value.as_str());
            // Else a later wish to seal would be taken for fulfilled.
            withdraw(node, &[names::KUBECONFIG_DIGEST], decision);
        }
        return;
    }
    match node.facts.exists.get(AGE) {
        Some(Observed::Known(())) => {}
        Some(Observed::Absent) => {
            let message =
                "not published: this image has no age to seal it with; oneke-agent kubeconfig prints it";
            return decision.conditions.push(told("NoAge", message));
        }
        None | Some(Observed::Unknown(_)) => return,
    }
    decision.conditions.push(told("Sealed", "published as ONEKE_KUBECONFIG, sealed to the user's SSH keys"));
    decision.effects.extend(seal(node, keys, theirs));
}

/// Overwrites what was published earlier.
fn withdraw(node: &Node<'_>, attributes: &[&str], decision: &mut Decision) {
    let Some(me) = node.facts.me.last.known() else { return };
    for name in attributes {
        if me.attribute(name).is_some_and(|value| value != names::NONE) {
            super::publish(decision, name, names::NONE);
        }
    }
}

/// Seals it, unless this VM's own attributes say that they hold just that.
fn seal(node: &Node<'_>, keys: &[String], text: Secret) -> Option<Effect> {
    let me = node.facts.me.last.known()?;
    let mark = digest(&format!("{}\n{}", text.expose(), keys.join("\n")))[..16].to_owned();
    if me.attribute(names::KUBECONFIG_DIGEST) == Some(&mark) {
        return None;
    }
    let name = |name| AttributeName::new(name).expect("our own names are well formed");
    let mark = AttributeValue::new(mark).expect("hex digits survive OneGate");
    Some(Effect::PublishSealed(Box::new(Sealing {
        program: AGE.to_owned(),
        recipients: keys.to_vec(),
        text,
        name: name(names::KUBECONFIG),
        mark: (name(names::KUBECONFIG_DIGEST), mark),
    })))
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::{Facts, File, Reading};
    use crate::plan::Attributes;
    use crate::service::{Role, Vm, VmId};

    /// What a master does about it, told in words; OneGate holds `mark` as its digest.
    fn published(config: &Config, age: bool, mark: &str) -> (Vec<String>, Attributes, Vec<Effect>) {
        let mut facts = Facts::default();
        let rke2 = File { mode: 0o600, content: Secret::new(RKE2) };
        facts.files.insert(PATH.into(), Observed::Known(rke2));
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.exists.insert(AGE.into(), if age { Observed::Known(()) } else { Observed::Absent });
        let me = Vm {
            id: VmId(42),
            name: String::new(),
            state: 3,
            lcm_state: 3,
            attributes: Some([(names::KUBECONFIG_DIGEST.to_owned(), mark.to_owned())].into()),
            nics: Vec::new(),
        };
        facts.me = Reading::of(me, facts.now);
        let node = Node::of(config, &facts, &Role::Master);
        let node = node.map_err(|condition| condition.message).unwrap();
        let mut decision = Decision::default();
        publish(&node, &mut decision);
        let reasons = decision.conditions.iter().map(|condition| condition.reason.clone()).collect();
        (reasons, decision.publish, decision.effects)
    }

    #[test]
    fn it_is_sealed_once_for_each_kubeconfig_and_set_of_keys() {
        let mut config = fixture::config();
        let sealed = |key: &str| PublishKubeconfig::Sealed(vec![key.to_owned()]);
        config.node.publish_kubeconfig = sealed("ssh-ed25519 AAAA me");
        let (reasons, value, effects) = published(&config, true, "none");
        assert_eq!((&reasons[..], value.len()), (&["Sealed".to_owned()][..], 0));
        let [Effect::PublishSealed(sealing)] = &effects[..] else { panic!("{effects:?}") };
        let Sealing { text, mark, recipients, .. } = &**sealing;
        assert!(text.expose().contains("server: https://ep0.eth0.vr:6443"));
        assert_eq!(recipients, &["ssh-ed25519 AAAA me"]);
        assert!(!format!("{} {:?}", effects[0], effects[0]).contains("S0VZ"));
        assert_eq!(published(&config, true, mark.1.as_str()).2, []);
        config.node.publish_kubeconfig = sealed("ssh-rsa BBBB");
        assert_eq!(published(&config, true, mark.1.as_str()).2.len(), 1, "other keys");
    }

    #[test]
    fn what_is_no_longer_wished_is_overwritten() {
        let mut config = fixture::config();
        for mode in [PublishKubeconfig::No, PublishKubeconfig::Plain] {
            config.node.publish_kubeconfig = mode;
            let (_, value, _) = published(&config, true, "0123456789abcdef");
            let digest = AttributeName::new(names::KUBECONFIG_DIGEST).unwrap();
            assert_eq!(value.get(&digest).map(AttributeValue::as_str), Some(names::NONE));
        }
    }

    #[test]
    fn nothing_goes_out_in_clear_unless_asked_for() {
        let mut config = fixture::config();
        let mut check = |mode: PublishKubeconfig, age: bool, reason: &[&str], in_clear: bool| {
            config.node.publish_kubeconfig = mode;
            let (reasons, value, effects) = published(&config, age, "none");
            assert_eq!(
                (&reasons[..], !value.is_empty(), effects.len()),
                (&reason.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>()[..], in_clear, 0)
            );
        };
        check(PublishKubeconfig::No, true, &[], false);
        check(PublishKubeconfig::Sealed(vec![]), true, &["NoKey"], false);
        check(PublishKubeconfig::Sealed(vec!["ssh-rsa A".into()]), false, &["NoAge"], false);
        check(PublishKubeconfig::Plain, false, &["Plain"], true);
    }

    const RKE2: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://127.0.0.1:6443\n  name: default\nkind: Config\nusers:\n- name: default\n  user:\n    client-key-data: S0VZ\n";

    #[test]
    fn only_the_server_changes() {
        let theirs = leading_to("[fd00::1]:6443", &Secret::new(RKE2)).unwrap();
        assert_eq!(theirs.expose(), RKE2.replace("127.0.0.1", "[fd00::1]"));
        for wrong in ["", "apiVersion: v1\n", &format!("{RKE2}{RKE2}")] {
            let why = leading_to("x:1", &Secret::new(wrong)).unwrap_err();
            assert!(why.contains(PATH) && !why.contains("S0VZ"), "{why}");
        }
    }

    #[test]
    fn without_an_endpoint_the_master_itself_is_named() {
        let mut config = fixture::config();
        let own: IpAddr = [172, 20, 0, 100].into();
        assert_eq!(endpoint(&config, own), "ep0.eth0.vr:6443");
        config.node.control_plane = None;
        assert_eq!(endpoint(&config, own), "172.20.0.100:6443");
    }
}
