//! Our nftables table is replaced whole and nobody else's is touched, tried on the kernel in a network namespace.
#![expect(clippy::disallowed_methods, reason = "a test starts nft")]

use std::process::Command;

use super::owners;

/// In the directory of the cases. Each line that is printed is a fault.
const SCRIPT: &str = r#"
file() { echo $1/expected/etc/nftables.d/oneke.nft; }
nft 'add table ip other; add chain ip other c { type nat hook postrouting priority 100; }; add rule ip other c counter'
nft 'add table inet filter; add table ip6 oneke; add table ip onekex'
others=$(nft list ruleset)
for case in nat-forwards nat-nothing-out nat-forwards nat-forwards; do nft -f $(file $case) || echo "$case: refused"; done
[ "$(nft list table ip oneke | grep -c 'dnat to')" = "$(grep -c 'dnat to' $(file nat-forwards))" ] || echo 'rules pile up'
ours=$(nft list ruleset)
{ cat $(file nat-nothing-out); echo 'table ip oneke { chain x { nonsense } }'; } | nft -f - 2>/dev/null && echo 'accepted nonsense'
[ "$(nft list ruleset)" = "$ours" ] || echo 'a refused file changed something'
sed '/^table ip oneke {/,$d' $(file nat-forwards) | nft -f -
[ "$(nft list ruleset)" = "$others" ] || echo 'other tables changed, or ours is still there'
"#;

#[test]
fn only_our_table_changes_and_it_changes_as_a_whole() {
    if let Some(why) = owners::unable() {
        println!("left out: {why}");
        return;
    }
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/vnf");
    let output = Command::new("unshare").args(["--net", "sh", "-c", SCRIPT]).current_dir(cases).output();
    let output = output.expect("unshare was tried a moment ago");
    let faults = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&faults), "");
}
