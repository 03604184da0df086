//! What a leader answers and tells, without a cloud.

use std::collections::BTreeMap;

use super::*;
use crate::facts::{Facts, File, Kubernetes, Reading};
use crate::node::files::fixture;
use crate::seal::KeyPair;
use crate::service::{ServiceNode, ServiceRole, VmId};

const WALL: u64 = 1_790_000_000;

fn hash() -> String {
    "c".repeat(64)
}

/// A leading master, VM 42, of a service with these joiners, each with its ticket attribute if it has one.
fn told(joiners: &[(&str, u32, Option<String>)], batch: u32) -> Vec<(u32, String)> {
    let stateless: Vec<_> =
        joiners.iter().map(|(role, id, ticket)| (*role, *id, ticket.clone(), None)).collect();
    told_with_states(&stateless, batch)
}

/// The same of joiners that say where they stand.
fn told_with_states(joiners: &[(&str, u32, Option<String>, Option<&str>)], batch: u32) -> Vec<(u32, String)> {
    let mut config = fixture::config();
    config.node.join_batch = batch;
    let now = Duration::from_secs(500);
    let vm = |id: u32, attributes: BTreeMap<String, String>| {
        let attributes = Some(attributes);
        let vm = Vm { id: VmId(id), name: String::new(), state: 3, lcm_state: 3, attributes, nics: vec![] };
        ServiceNode { id: VmId(id), vm: Some(vm) }
    };
    let mut roles: BTreeMap<&str, Vec<ServiceNode>> =
        BTreeMap::from([("master", vec![vm(42, BTreeMap::new())])]);
    for (role, id, ticket, says) in joiners {
        let key = (names::JOIN_KEY.to_owned(), key(*id).public());
        let ticket = ticket.clone().map(|ticket| (names::JOIN_TICKET.to_owned(), ticket));
        let says = says.map(|says| (names::STATE.to_owned(), says.to_owned()));
        roles.entry(role).or_default().push(vm(*id, [key].into_iter().chain(ticket).chain(says).collect()));
    }
    let role = |(name, nodes): (&str, Vec<ServiceNode>)| ServiceRole {
        name: name.to_owned(),
        cardinality: u32::try_from(nodes.len()).unwrap(),
        state: state::RUNNING,
        nodes,
    };
    let service = Service { id: 7, state: state::RUNNING, roles: roles.into_iter().map(role).collect() };
    let mut facts = Facts { now, wall: WALL, entropy: Secret::new("5".repeat(64)), ..Facts::default() };
    facts.service = Reading::of(service, now);
    let secret = |user: &str| {
        Observed::Known(File { mode: 0o600, content: Secret::new(format!("K10{}::{user}:x", hash())) })
    };
    facts.files.insert(SERVER_TOKEN.into(), secret("server"));
    facts.files.insert(AGENT_TOKEN.into(), secret("node"));
    facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
    let lease = Lease { holder: "oneke-7-master-42".into(), version: "1".into(), seen: now };
    facts.kubernetes = Kubernetes { lease: Observed::Known(lease), ..Kubernetes::default() };
    let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
    let mut decision = Decision::default();
    decide(&node, &OnDisk::default(), &mut decision);
    let said = |effect: &Effect| match effect {
        Effect::Publish { vm: Some(vm), attributes } => {
            attributes.values().map(|value| (vm.0, brief(value.as_str()))).next()
        }
        other => panic!("{other}"),
    };
    decision.effects.iter().filter_map(said).collect()
}

fn key(vm: u32) -> KeyPair {
    KeyPair::from_seed(&[u8::try_from(vm).unwrap(); 32])
}

fn brief(attribute: &str) -> String {
    match Answer::parse(attribute).unwrap().body {
        Body::Sealed(_) => "ticket".into(),
        Body::Place(Place { place, of }) => format!("{place} of {of}"),
    }
}

fn workers(
    ids: std::ops::Range<u32>,
    ticket: impl Fn(u32) -> Option<String>,
) -> Vec<(&'static str, u32, Option<String>)> {
    ids.map(|id| ("worker", id, ticket(id))).collect()
}

fn sealed(vm: u32, ago: u64) -> Option<String> {
    Some(ticket::attribute(&key(vm).public(), &hash(), WALL - ago, Body::Sealed("c2VhbGVk")))
}

#[test]
fn a_batch_joins_and_the_others_learn_their_places() {
    let words = |told: Vec<(u32, String)>| {
        told.into_iter().map(|(vm, what)| format!("{vm}: {what}")).collect::<Vec<_>>()
    };
    let told_five = words(told(&workers(50..55, |_| None), 3));
    assert_eq!(told_five, ["50: ticket", "51: ticket", "52: ticket", "53: 1 of 2", "54: 2 of 2"]);
    // Two are on their way; one of those who wait was told its place before.
    let place = |vm, place| {
        Some(ticket::attribute(&key(vm).public(), &hash(), WALL, Body::Place(Place { place, of: 9 })))
    };
    let mixed = workers(50..55, |vm| match vm {
        50 | 51 => sealed(vm, 10),
        53 => place(53, 1),
        54 => place(54, 4),
        _ => None,
    });
    assert_eq!(
        words(told(&mixed, 3)),
        ["53: ticket", "54: 1 of 2", "52: 2 of 2"],
        "who was told a place keeps his order"
    );
}

#[test]
fn who_does_not_join_lends_his_turn() {
    let stuck = |ago| workers(50..53, |vm| if vm < 52 { sealed(vm, ago) } else { None });
    assert_eq!(told(&stuck(299), 2), [(52, "1 of 1".to_owned())]);
    assert_eq!(told(&stuck(301), 2), [(52, "ticket".to_owned())]);
}

#[test]
fn masters_join_one_by_one_whatever_the_batch() {
    let masters = vec![("master", 43, None), ("master", 44, None), ("worker", 50, None)];
    let expected = [(43, "ticket"), (50, "ticket"), (44, "1 of 1")].map(|(vm, what)| (vm, what.to_owned()));
    assert_eq!(told(&masters, 50), expected);
}

#[test]
fn a_masters_turn_passes_on_only_when_he_cannot_start_by_it_any_more() {
    let place = |vm, place| {
        let body = Body::Place(Place { place, of: place });
        Some(ticket::attribute(&key(vm).public(), &hash(), WALL - 301, body))
    };
    let words = |first: &str, ticket, second| {
        let joiners = [("master", 43, ticket, Some(first)), ("master", 44, second, Some("waiting"))];
        let told = told_with_states(&joiners, 50).into_iter();
        told.map(|(vm, what)| format!("{vm}: {what}")).collect::<Vec<_>>()
    };
    assert_eq!(words("waiting", sealed(43, 299), None), ["44: 1 of 1"], "he may still start");
    assert_eq!(words("waiting", sealed(43, 301), None), ["44: 1 of 2", "43: 2 of 2"], "he lost his turn");
    assert_eq!(words("waiting", place(43, 2), place(44, 1)), ["44: ticket", "43: 1 of 1"], "the next one's");
    assert_eq!(words("joining", sealed(43, 301), place(44, 1)), [""; 0], "he started");
    assert_eq!(
        words("joining", place(43, 2), place(44, 1)),
        [""; 0],
        "he started before he saw that he lost it"
    );
    assert_eq!(words("joining", sealed(43, 1801), place(44, 1)), ["43: 2 of 2"], "for half an hour at most");
    let alone = [("master", 43, sealed(43, 301), Some("waiting"))];
    assert_eq!(told_with_states(&alone, 50), [], "nobody waits for it");
}

#[test]
fn a_pass_answers_no_more_than_the_lease_allows() {
    let told = told(&workers(50..90, |_| None), 30);
    assert_eq!(told.len(), ANSWERS);
    assert!(told.iter().all(|(_, what)| what == "ticket"), "{told:?}");
}

#[test]
fn a_word_younger_than_the_answer_is_news_until_an_answer_shows_it_or_is_younger() {
    let offering = |weight: &str| {
        let attributes =
            BTreeMap::from([("ONEGATE_HAPROXY_LB1_SERVER_WEIGHT".to_owned(), weight.to_owned())]);
        let (id, attributes) = (VmId(43), Some(attributes));
        Vm { id, name: String::new(), state: 3, lcm_state: 3, attributes, nics: vec![] }
    };
    let node = ServiceNode { id: VmId(43), vm: Some(offering("1")) };
    let role =
        ServiceRole { name: "master".into(), cardinality: 1, state: state::RUNNING, nodes: vec![node] };
    let service = Service { id: 7, state: state::RUNNING, roles: vec![role] };
    let read_at = Duration::from_secs(500);
    let is_news = |told: &Vm, seen: Duration| {
        let (config, mut facts) = (fixture::config(), Facts::default());
        facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        facts.service = Reading::of(service.clone(), read_at);
        facts.told.insert(told.id, (Told::of(told).unwrap(), seen));
        let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
        has_news(&service, &node)
    };
    let second = Duration::from_secs(1);
    assert!(is_news(&offering("0"), read_at + second));
    assert!(!is_news(&offering("1"), read_at + second), "the answer shows it");
    assert!(!is_news(&offering("0"), read_at - second), "one answer is enough, whatever it says");
    assert!(is_news(&Vm { id: VmId(44), ..offering("1") }, read_at + second), "a new VM");
}

#[test]
fn the_leader_is_told_once_what_onegate_has_taken() {
    let (config, mut facts) = (fixture::config(), Facts::default());
    facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
    let mut announced = |weight: Option<&str>, told: Option<String>| {
        let word = weight.map(|weight| format!(r#","ONEGATE_HAPROXY_LB1_SERVER_WEIGHT":"{weight}""#));
        let me = format!(
            r#"{{"VM":{{"ID":"42","NAME":"m","STATE":"3","LCM_STATE":"3",
            "USER_TEMPLATE":{{"ROLE_NAME":"master"{}}},"TEMPLATE":{{"NIC":[]}}}}}}"#,
            word.unwrap_or_default()
        );
        facts.me = Reading::of(Vm::from_json(&me).unwrap(), facts.now);
        facts.kubernetes.node = Observed::Known(crate::facts::KubernetesNode { told, ..Default::default() });
        let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
        let mut decision = Decision::default();
        announce(&node, &mut decision);
        match decision.effects.pop() {
            Some(Effect::AnnotateNode { told, .. }) => Some(told.to_string()),
            _ => None,
        }
    };
    assert_eq!(announced(None, None), None);
    let told = announced(Some("1"), None);
    assert!(told.is_some());
    assert_eq!(announced(Some("1"), told.clone()), None);
    assert!(announced(Some("0"), told).is_some());
}

/// Whoever has the server token controls the cluster: no worker's ticket may hold it.
#[test]
fn only_masters_get_the_server_token() {
    let (config, mut facts) = (fixture::config(), Facts::default());
    let file = |text: &str| Observed::Known(File { mode: 0o600, content: Secret::new(text) });
    facts.files.insert(SERVER_TOKEN.into(), file("K10x::server:x"));
    facts.files.insert(AGENT_TOKEN.into(), file("K10x::node:x"));
    facts.files.insert(crate::node::CONFIG.into(), file("cni: [cilium]\n"));
    facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
    let node = Node::of(&config, &facts, &Role::Master).map_err(|why| why.message).unwrap();
    let vm = Vm {
        id: VmId(50),
        name: String::new(),
        state: 3,
        lcm_state: 3,
        attributes: Some(BTreeMap::new()),
        nics: vec![],
    };
    for (role, user, cni) in [
        (Role::Master, "server", Some("cilium")),
        (Role::Storage, "node", None),
        (fixture::worker(), "node", None),
    ] {
        let public = key(50).public();
        let joiner = Joiner { vm: &vm, role: role.clone(), key: &public, answer: None, is_there: true };
        let effect = seal(&node, &OnDisk::default(), &joiner, &hash(), &mut [5; 32]).unwrap();
        let Effect::Publish { attributes, .. } = effect else { panic!("{effect}") };
        let value = attributes.values().next().unwrap().as_str();
        let Body::Sealed(sealed) = Answer::parse(value).unwrap().body else { panic!("{value}") };
        let to = ticket::binding(7, VmId(50), &role, &hash());
        let ticket = Ticket::parse(&crate::seal::open(&key(50), &to, sealed).unwrap()).unwrap();
        assert_eq!(ticket.token, Secret::new(format!("K10x::{user}:x")), "{role}");
        assert_eq!(ticket.critical.get("cni").map(String::as_str), cni, "{role}");
    }
}

#[test]
fn what_was_said_during_a_long_pass_is_read_at_once_unless_onegate_is_silent() {
    let (config, mut facts) = (fixture::config(), Facts::default());
    facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
    facts.now = Duration::from_secs(600);
    let lease = Lease { holder: "oneke-7-master-42".into(), version: "1".into(), seen: facts.now };
    facts.kubernetes.lease = Observed::Known(lease);
    let service = Service { id: 7, state: state::RUNNING, roles: vec![] };
    facts.service = Reading::of(service, Duration::from_secs(590));
    let attributes = BTreeMap::from([("ONEGATE_LB1_SERVER_HOST".to_owned(), "10.0.0.1".to_owned())]);
    let (id, attributes) = (VmId(43), Some(attributes));
    let told = Told::of(&Vm { id, name: String::new(), state: 3, lcm_state: 3, attributes, nics: vec![] });
    facts.told.insert(id, (told.unwrap(), Duration::from_secs(597)));
    let next = |facts: &Facts| {
        let node = Node::of(&config, facts, &Role::Master).map_err(|why| why.message).unwrap();
        let mut decision = Decision::default();
        decide(&Node { name: "oneke-7-master-42".into(), ..node }, &OnDisk::default(), &mut decision);
        (decision.reads.service, decision.look_again)
    };
    assert_eq!(next(&facts), (Some(NEWS), Some(SOON)));
    let (kind, message, since) = (crate::facts::FaultKind::Tcp, "refused".to_owned(), facts.now);
    facts.service.fault = Some(crate::facts::Fault { kind, message, since });
    assert_eq!(next(&facts), (Some(NEWS), Some(MOVING)));
}
