//! Context files, byte for byte.

use oneke_cloud::{Templates, VmId, VmTemplate};

use crate::recorded::{KEYS, World, context, instantiate, nic, templates, text, vm_template};
use crate::story::many_nics;

/// A world whose next VM has this number and whose next private address this index.
fn world(vm: u32, private: u32) -> World {
    let mut world = World::new();
    world.use_up_numbers(vm);
    world.use_up_addresses(private);
    world
}

fn check(world: &World, vm: u32, name: &str) {
    let vm = world.cloud.vm(VmId(vm)).expect("it was just made");
    assert_eq!(vm.context_sh(), text(name), "{name}");
}

#[test]
fn of_vms_on_their_own() {
    let mut one = world(4, 4);
    one.cloud.create_vm(one.now, "solo", &vm_template(), vec![nic("private")]).expect("there are addresses");
    check(&one, 4, "context-direct-one-nic.sh");

    let plain =
        VmTemplate { context: context(&[("NETWORK", "YES"), ("TOKEN", "YES")]), ..VmTemplate::default() };
    let mut many = world(180, 170);
    for _ in 0..2 {
        let not_made = vec![nic("public"), nic("no such network")];
        many.cloud.create_vm(many.now, "never", &plain, not_made).expect_err("a network is missing");
    }
    many.cloud.create_vm(many.now, "manynics", &plain, many_nics()).expect("there are addresses");
    many.cloud.create_vm(many.now, "nonic", &plain, Vec::new()).expect("it needs none");
    check(&many, 180, "context-many-nics-alias-external-ipv6.sh");
    check(&many, 181, "context-no-nic.sh");
}

#[test]
fn of_vms_of_a_service() {
    let mut world = world(6, 6);
    let not_made = vec![nic("public"), nic("no such network")];
    world.cloud.create_vm(world.now, "never", &vm_template(), not_made).expect_err("a network is missing");
    instantiate(&mut world);
    world.pass(10.0);
    world.send(6, "PUT", "/vm", "READY=YES");
    world.pass(2.0);
    check(&world, 6, "context-oneflow-vnf-two-nics.sh");
    check(&world, 8, "context-oneflow-worker-one-nic.sh");
}

#[test]
fn of_a_virtual_router() {
    let mut world = world(182, 171);
    for _ in 0..4 {
        let not_made = vec![nic("public"), nic("no such network")];
        world
            .cloud
            .create_vm(world.now, "never", &vm_template(), not_made)
            .expect_err("a network is missing");
    }
    let mut router = vm_template();
    router.context = context(&[("NETWORK", "YES"), ("TOKEN", "YES"), ("BACKEND", "YES")]);
    let networks = [("private", true), ("public", false)];
    world.cloud.create_virtual_router(world.now, "vr1", &router, &networks, 1).expect("there are addresses");
    check(&world, 182, "context-vrouter.sh");
}

#[test]
fn with_odd_values() {
    let template = VmTemplate { context: odd_values(), ..VmTemplate::default() };
    let mut direct = world(11, 13);
    direct.cloud.create_vm(direct.now, "odd", &template, vec![nic("private")]).expect("there are addresses");
    check(&direct, 11, "context-odd-values-direct.sh");

    let mut through = world(24, 14);
    let Templates { mut service, mut vms } = templates();
    service.roles.retain(|role| role.name == "worker");
    service.roles[0].parents.clear();
    vms.insert("node".to_owned(), template);
    let request = oneke_cloud::Instantiate::oneke();
    through.cloud.instantiate(through.now, &Templates { service, vms }, &request).expect("all is given");
    check(&through, 24, "context-odd-values-via-oneflow.sh");
}

/// As they were written into the template.
fn odd_values() -> std::collections::BTreeMap<String, String> {
    let bare = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAR5lewF9ny1vcWt96kQ/x9h5BTrUdHsFb+QzudWTW0y";
    let mut keys: Vec<&str> = KEYS.lines().collect();
    keys.insert(1, bare);
    context(&[
        ("AMP", "a&b <c> &amp; &#39;"),
        ("BACKTICK", "`id`"),
        ("BRACKETS", "[x] {y}"),
        ("BS", "a\\\\b and C:\\\\dir\\\\n and \\n and \\t end"),
        ("COMMA", "a,b, c"),
        ("DQ", "say \"hi\" now"),
        ("EMPTY", ""),
        ("EQUALS", "a=b==c"),
        ("HASH", "# not a comment"),
        ("lower_case", "lower"),
        ("NETWORK", "YES"),
        ("NL", "line1\nline2\n  line3 indented\n\nafter blank"),
        ("ONEAPP_K8S_EXTRA", "{\"a\": [1, 2], \"b\": \"c'd\"}"),
        ("PASSWORD", "s3cr'et"),
        ("PERCENT", "100%"),
        ("REPORT_READY", "YES"),
        ("SPACES", "  lead and trail  "),
        ("SQ", "it's 'quoted'"),
        ("SQ_END", "ends with '"),
        ("SSH_PUBLIC_KEY", &keys.join("\n")),
        ("START_SCRIPT", "#!/bin/bash\necho \"hello\"\ncat <<'E'\nit's\nE\n"),
        ("START_SCRIPT_BASE64", "ZWNobyBoZWxsbwo="),
        ("TABS", "a\tb"),
        ("TOKEN", "YES"),
        ("TRAILNL", "abc\n"),
        ("UNICODE", "žluť ✓"),
    ])
}
