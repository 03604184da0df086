//! Founding and joining: who gets in, who does not, and what they say.

use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, DeleteParams, ListParams};

use crate::machine::{
    Machine, Network, annotation, code, founder, is_ready, joiner, node, until, votes, worker,
};

#[tokio::test]
async fn one_founds_one_joins_and_an_agent_works() {
    let network = Network::new();
    let first = founder(&network).await;
    let second = joiner(&network, "b", &first).await;
    let mut agent = network.machine("w");
    let lines = "node-label: [tier=gold]\nnode-taint: [\"a/b=c:NoExecute\"]\nnode-external-ip: 203.0.113.7\n\
                 kubelet-arg: [provider-id=one://42]";
    agent.configure(&format!("server: https://{}:9345\ntoken: {}\n{lines}", second.ip, first.token()));
    agent.start("agent");
    agent.is_up().await;

    for server in [&first, &second] {
        assert!(server.is_ready().await);
        let master = node(&server.admin().await, &server.name, is_ready).await;
        let labels = master.metadata.labels.clone().unwrap();
        for role in ["control-plane", "etcd", "master"] {
            assert_eq!(labels[&format!("node-role.kubernetes.io/{role}")], "true");
        }
        let member = annotation(&master, "etcd.rke2.cattle.io/node-name").unwrap();
        assert!(member.starts_with(&format!("{}-", server.name)));
        assert_eq!(annotation(&master, "etcd.rke2.cattle.io/node-address"), Some(server.ip.as_str()));
        node(&server.admin().await, &server.name, votes).await;
        assert!(server.metrics().contains("\netcd_server_has_leader 1\n"));
        assert!(server.metrics().contains("\netcd_server_is_learner 0\n"));
    }
    let leads = |server: &Machine| server.metrics().contains("\netcd_server_is_leader 1\n");
    assert_eq!([&first, &second].map(leads), [true, false]);
    let worked = node(&second.admin().await, "w", is_ready).await;
    assert_eq!(worked.metadata.labels.as_ref().unwrap()["tier"], "gold");
    let spec = worked.spec.unwrap();
    assert_eq!(spec.provider_id.as_deref(), Some("one://42"));
    assert!(spec.taints.unwrap().iter().any(|taint| taint.key == "a/b" && taint.effect == "NoExecute"));
    let addresses = worked.status.unwrap().addresses.unwrap();
    assert!(addresses.iter().any(|a| a.type_ == "ExternalIP" && a.address == "203.0.113.7"));

    // The node's own credentials, through its own load balancer.
    let own = agent.client("var/lib/rancher/rke2/agent/kubelet.kubeconfig").await;
    assert_eq!(Api::<Node>::all(own.clone()).get("w").await.unwrap().metadata.name.unwrap(), "w");
    assert_eq!(code(Api::<Node>::all(own.clone()).get("a").await), 403);
    assert_eq!(code(Api::<Secret>::all(own).list(&ListParams::default()).await), 403);
    let kubeconfig = std::fs::metadata(first.path("etc/rancher/rke2/rke2.yaml")).unwrap();
    assert_eq!(kubeconfig.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn tokens_have_their_full_form_and_wrong_ones_are_refused() {
    let network = Network::new();
    let mut first = network.machine("a");
    first.configure("token: server-secret\nagent-token: agent-secret");
    first.start("server");
    first.is_up().await;
    let token = first.token();
    assert!(token.starts_with("K10") && token.ends_with("::server:server-secret"), "{token}");
    assert_eq!(first.read("var/lib/rancher/rke2/server/node-token").trim(), token);
    let agent_token = first.read("var/lib/rancher/rke2/server/agent-token").trim().to_owned();
    assert!(agent_token.ends_with("::node:agent-secret"), "{agent_token}");

    let other_hash = format!("K10{}::server:server-secret", "0".repeat(64));
    let cases = [
        ("server", "wrong".to_owned(), "401 Unauthorized"),
        ("agent", "wrong".to_owned(), "401 Unauthorized"),
        ("server", agent_token.clone(), "401 Unauthorized"),
        ("server", other_hash.clone(), "token CA hash does not match the Cluster CA certificate hash"),
        ("agent", other_hash, "token CA hash does not match the Cluster CA certificate hash"),
        ("agent", "K10abc::node:x".to_owned(), "failed to parse token"),
    ];
    for (at, (kind, token, words)) in cases.into_iter().enumerate() {
        let mut stranger = network.machine(&format!("stranger{at}"));
        stranger.configure(&format!("server: https://{}:9345\ntoken: {token}", first.ip));
        stranger.start(kind);
        let log = stranger.fails().await;
        assert!(log.contains(words) && log.contains("level=fatal"), "{kind} {token}: {log}");
    }
    // The short form works too, and says what it lacks.
    let mut agent = network.machine("w");
    agent.configure(&format!("server: https://{}:9345\ntoken: agent-secret", first.ip));
    agent.start("agent");
    agent.is_up().await;
    agent.says("the token does not include a CA hash").await;
}

#[tokio::test]
async fn a_bootstrap_token_joins_agents_until_it_expires() {
    let network = Network::new();
    let first = founder(&network).await;
    let (good, token) = first.run(&["token", "create", "--ttl", "1h", "--description", "for w"]);
    assert!(good && token.starts_with("K10"), "{token}");
    let (good, list) = first.run(&["token", "list"]);
    assert!(good && list.contains("for w"), "{list}");

    let configure = |name: &str, token: &str| {
        let machine = network.machine(name);
        machine.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, token.trim()));
        machine
    };
    let mut agent = configure("w", &token);
    agent.start("agent");
    agent.is_up().await;
    let mut server = configure("b", &token);
    server.start("server");
    assert!(server.fails().await.contains("401 Unauthorized"));

    // A joined agent needs its token no more; a new one does.
    let id = token.trim().rsplit("::").next().unwrap().split('.').next().unwrap().to_owned();
    assert!(first.run(&["token", "delete", &id]).0);
    let mut late = configure("late", &token);
    late.start("agent");
    assert!(late.fails().await.contains("401 Unauthorized"));
    agent.stop();
    std::fs::remove_file(agent.path("log")).unwrap();
    agent.start("agent");
    agent.is_up().await;

    let (_, short) = first.run(&["token", "create", "--ttl", "1s"]);
    until("the token to expire", || async {
        (!first.run(&["token", "list"]).1.contains(short.trim().rsplit("::").next().unwrap())).then_some(())
    })
    .await;
    let mut expired = configure("expired", &short);
    expired.start("agent");
    assert!(expired.fails().await.contains("401 Unauthorized"));
}

#[tokio::test]
async fn what_must_be_equal_must_be_equal_and_what_is_unknown_is_refused() {
    let network = Network::new();
    let first = founder(&network).await;
    let base = format!("server: https://{}:9345\ntoken: {}", first.ip, first.token());
    let cases = [
        ("server", "service-cidr: 10.99.0.0/16", "critical configuration value mismatch"),
        ("server", "agent-token: other", "critical configuration value mismatch"),
        ("server", "tls-sans: [x]", "flag provided but not defined: -tls-sans"),
        ("agent", "tls-san: [x]", "flag provided but not defined: -tls-san"),
        (
            "agent",
            "node-label: [node-role.kubernetes.io/worker=true]",
            "unknown 'kubernetes.io' or 'k8s.io' labels",
        ),
        ("server", "cni: weave", "Invalid value weave for --cni flag"),
        ("server", "debug: [", "yaml"),
    ];
    for (at, (kind, line, words)) in cases.into_iter().enumerate() {
        let mut machine = network.machine(&format!("m{at}"));
        machine.configure(&format!("{base}\n{line}"));
        machine.start(kind);
        let log = machine.fails().await;
        assert!(log.contains(words), "{line}: {log}");
    }
    // The address that a user's empty endpoint once became.
    let mut lost = network.machine("lost");
    lost.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, first.token()));
    lost.write("etc/rancher/rke2/config.yaml.d/90-server.yaml", "server: https://:9345\n");
    lost.start("server");
    assert!(lost.fails().await.contains("no host in request URL"));
}

#[tokio::test]
async fn a_name_belongs_to_the_machine_that_had_it_first() {
    let network = Network::new();
    let first = founder(&network).await;
    let mut agent = worker(&network, "w", &first).await;
    agent.stop();
    let mut twin = network.machine("w");
    twin.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, first.token()));
    twin.start("agent");
    twin.says("Node password rejected, duplicate hostname").await;
    assert!(twin.exited().is_none(), "it waits");
    let nodes: Api<Node> = Api::all(first.admin().await);
    nodes.delete("w", &DeleteParams::default()).await.unwrap();
    twin.is_up().await;

    // The same for servers, whose member is in the way first.
    let _second = joiner(&network, "b", &first).await;
    let mut recreated = network.machine("b");
    recreated.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, first.token()));
    recreated.start("server");
    assert!(recreated.fails().await.contains("duplicate node name found"));
}

#[tokio::test]
async fn masters_join_one_at_a_time() {
    let network = Network::new();
    let mut first = network.machine("a");
    first.configure("token: short-secret");
    first.tune("promotion-delay-ms = 1500");
    first.start("server");
    first.is_up().await;
    let mut others = ["b", "c"].map(|name| network.machine(name));
    for machine in &mut others {
        machine.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, first.token()));
        machine.start("server");
    }
    let refused = until("one of the two to be refused", || async {
        others.iter().position(|machine| machine.log().contains("too many learner members in cluster"))
    })
    .await;
    others[refused].fails().await;
    others[1 - refused].is_up().await;
    others[refused].start("server");
    others[refused].is_up().await;
    let nodes: Api<Node> = Api::all(others[refused].admin().await);
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 3);
}
