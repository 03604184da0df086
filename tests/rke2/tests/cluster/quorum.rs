//! Losing servers and getting them back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::machine::{Machine, Network, founder, is_ready, joiner, node, until, worker};

async fn three(network: &Network) -> Vec<Machine> {
    let first = founder(network).await;
    let second = joiner(network, "b", &first).await;
    let third = joiner(network, "c", &second).await;
    vec![first, second, third]
}

fn note(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let data = Some(BTreeMap::from([("k".to_owned(), name.to_owned())]));
    ConfigMap { metadata, data, ..ConfigMap::default() }
}

async fn notes(machine: &Machine) -> Api<ConfigMap> {
    Api::namespaced(machine.admin().await, "default")
}

async fn wait_ready(machine: &Machine) {
    until(&format!("{} to be ready", machine.name), || async { machine.is_ready().await.then_some(()) })
        .await;
}

#[tokio::test]
async fn without_a_majority_nothing_is_written_and_with_it_all_is_there() {
    let network = Network::new();
    let mut servers = three(&network).await;
    notes(&servers[2]).await.create(&PostParams::default(), &note("before")).await.unwrap();
    servers[0].stop();
    until("two of three to write", || async {
        notes(&servers[1]).await.create(&PostParams::default(), &note("two")).await.ok()
    })
    .await;
    servers[1].stop();
    until("the survivor to notice", || async { (!servers[2].is_ready().await).then_some(()) }).await;
    let refused = notes(&servers[2]).await.create(&PostParams::default(), &note("alone")).await;
    assert!(refused.is_err());

    // The first comes back: its `server:` was never set, it is a member.
    servers[0].start("server");
    wait_ready(&servers[0]).await;
    wait_ready(&servers[2]).await;
    for name in ["before", "two"] {
        assert_eq!(notes(&servers[0]).await.get(name).await.unwrap().data.unwrap()["k"], name);
    }
}

#[tokio::test]
async fn after_a_power_cut_the_cluster_comes_back_without_its_server_address() {
    let network = Network::new();
    let mut servers = three(&network).await;
    let mut agent = worker(&network, "w", &servers[1]).await;
    agent.says("Successfully registered").await;
    until("the agent to know all servers", || async {
        let list = agent.read("var/lib/rancher/rke2/agent/etc/rke2-agent-load-balancer.json");
        servers.iter().all(|server| list.contains(&server.ip)).then_some(())
    })
    .await;
    notes(&servers[0]).await.create(&PostParams::default(), &note("kept")).await.unwrap();
    agent.stop();
    for server in &mut servers {
        server.stop();
        std::fs::remove_file(server.path("log")).unwrap();
        let dead = format!("server: {}\ntoken: {}", network.nobody(), server.token());
        server.configure(&dead);
    }
    servers[2].start("server");
    servers[2].says("Waiting for API server to become available").await;
    let closed = std::net::TcpStream::connect(format!("{}:6443", servers[2].ip));
    assert!(closed.is_err(), "one of three has no majority: its API must not open");
    servers[1].start("server");
    servers[1].is_up().await;
    servers[2].is_up().await;
    assert!(notes(&servers[2]).await.get("kept").await.is_ok());

    // The agent's address is dead, and its first server too: it remembers the others.
    let token = servers[1].token();
    agent.configure(&format!("server: {}\ntoken: {token}", network.nobody()));
    std::fs::remove_file(agent.path("log")).unwrap();
    agent.start("agent");
    agent.is_up().await;
    node(&servers[1].admin().await, "w", is_ready).await;
}

/// Whoever dies, whenever: what was acknowledged is there.
#[tokio::test]
async fn every_acknowledged_write_survives_the_loss_of_any_one_server() {
    let network = Network::new();
    let mut servers = three(&network).await;
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let victim = round % 3;
        let witness = (round + 1) % 3;
        let api = notes(&servers[witness]).await;
        for number in 0..5 {
            let name = format!("n{round}-{number}");
            if api.create(&PostParams::default(), &note(&name)).await.is_ok() {
                acknowledged.push(name);
            }
            if number == 2 {
                servers[victim].stop();
            }
        }
        servers[victim].start("server");
        wait_ready(&servers[victim]).await;
    }
    assert!(acknowledged.len() >= 10, "{acknowledged:?}");
    for server in &mut servers {
        server.stop();
    }
    servers[0].start("server");
    servers[1].start("server");
    wait_ready(&servers[1]).await;
    let api = notes(&servers[1]).await;
    for name in acknowledged {
        assert!(api.get_opt(&name).await.unwrap().is_some(), "{name} was acknowledged and is lost");
    }
}
