//! The other commands: certificates, snapshots, resets, tokens, the installation, and the knobs that break things.

use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::machine::{Network, founder, joiner, until, worker};

#[tokio::test]
async fn a_snapshot_restores_what_was_there_then() {
    let network = Network::new();
    let mut first = founder(&network).await;
    let note = |name: &str| ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let notes: Api<ConfigMap> = Api::namespaced(first.admin().await, "default");
    notes.create(&PostParams::default(), &note("old")).await.unwrap();
    assert!(first.run(&["etcd-snapshot", "save", "--name", "mine"]).0);
    let (_, list) = first.run(&["etcd-snapshot", "ls"]);
    let location = list.split_whitespace().find_map(|word| word.strip_prefix("file://")).unwrap().to_owned();
    notes.create(&PostParams::default(), &note("new")).await.unwrap();
    first.stop();
    let restore = format!("--cluster-reset-restore-path={location}");
    let (good, text) = first.run(&["server", "--cluster-reset", &restore]);
    assert!(good && text.contains("membership has been reset"), "{text}");
    assert!(!first.run(&["server", "--cluster-reset"]).0, "a second reset needs a start between");
    std::fs::remove_file(first.path("log")).unwrap();
    first.start("server");
    first.is_up().await;
    let notes: Api<ConfigMap> = Api::namespaced(first.admin().await, "default");
    assert!(notes.get_opt("old").await.unwrap().is_some());
    assert!(notes.get_opt("new").await.unwrap().is_none());
}

#[tokio::test]
async fn a_sole_survivor_resets_and_the_others_join_again() {
    let network = Network::new();
    let mut first = founder(&network).await;
    let mut second = joiner(&network, "b", &first).await;
    first.stop();
    second.stop();
    assert!(first.run(&["server", "--cluster-reset"]).0);
    std::fs::remove_file(first.path("log")).unwrap();
    first.start("server");
    first.is_up().await;
    std::fs::remove_dir_all(second.path("var/lib/rancher/rke2/server/db")).unwrap();
    std::fs::remove_file(second.path("log")).unwrap();
    second.start("server");
    second.is_up().await;
}

#[tokio::test]
async fn after_a_token_rotation_the_old_token_is_worth_nothing() {
    let network = Network::new();
    let mut first = founder(&network).await;
    let old = first.token();
    let (good, text) = first.run(&["token", "rotate", "--token", &old, "--new-token", "fresh"]);
    assert!(good, "{text}");
    let mut late = network.machine("late");
    late.configure(&format!("server: https://{}:9345\ntoken: {old}", first.ip));
    late.start("agent");
    assert!(late.fails().await.contains("401 Unauthorized"));
    until("the token file to change", || async { first.token().ends_with("::server:fresh").then_some(()) })
        .await;
    worker(&network, "w", &first).await;
    first.stop();
    first.start("server");
    assert!(first.fails().await.contains("encrypted with different token"));
}

#[tokio::test]
async fn certificates_tell_their_dates_and_are_renewed_when_rotated() {
    let network = Network::new();
    let mut first = network.machine("a");
    first.configure("token: x");
    first.tune("certificate-lifetime-s = 8640000");
    first.start("server");
    first.is_up().await;
    let (good, table) = first.run(&["certificate", "check", "--output", "table"]);
    assert!(good, "{table}");
    let admin = table.lines().find(|line| line.starts_with("client-admin.crt")).unwrap();
    assert!(
        admin.contains("system:admin") && admin.contains("99 days") && admin.ends_with("WARNING"),
        "{admin}"
    );
    let authority = table.lines().find(|line| line.starts_with("server-ca.crt")).unwrap();
    assert!(authority.contains("rke2-server-ca@") && authority.ends_with("OK"), "{authority}");
    first.stop();
    first.tune("certificate-lifetime-s = 31536000");
    assert!(first.run(&["certificate", "rotate"]).0);
    std::fs::remove_file(first.path("log")).unwrap();
    first.start("server");
    first.is_up().await;
    let (_, table) = first.run(&["certificate", "check", "--output", "table"]);
    assert!(!table.contains("WARNING"), "{table}");
}

#[tokio::test]
async fn knobs_make_it_crash_a_number_of_times() {
    let network = Network::new();
    let mut first = network.machine("a");
    first.configure("token: x");
    first.tune("crash-at-start = 2");
    for _ in 0..2 {
        first.start("server");
        assert!(first.fails().await.contains("crashing at start"));
    }
    first.start("server");
    first.is_up().await;
}

#[test]
fn the_installation_is_laid_out_as_the_release_is() {
    let network = Network::new();
    let machine = network.machine("a");
    let root = machine.path("image");
    assert!(machine.run(&["standin", "install", "--root", root.to_str().unwrap()]).0);
    for program in ["rke2", "rke2-killall.sh", "rke2-uninstall.sh"] {
        let mode = std::fs::metadata(root.join("usr/local/bin").join(program)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{program}");
    }
    for kind in ["server", "agent"] {
        let unit = root.join(format!("usr/local/lib/systemd/system/rke2-{kind}.service"));
        let text = std::fs::read_to_string(unit).unwrap();
        for line in [
            "Type=notify",
            "KillMode=process",
            "Delegate=yes",
            "Restart=always",
            "RestartSec=5s",
            "TimeoutStartSec=0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}");
        }
    }
    let (good, version) = machine.run(&["--version"]);
    assert!(good && version.starts_with("rke2 version v1.33.4+rke2r1"));
    assert!(!machine.run(&["nonsense"]).0);
}
