//! A rendered file counts only when its owner accepts it: `haproxy -c`, `keepalived -t`, `nft -c`, `unbound-checkconf`;
//! conntrackd has no checker, so it runs for a second.
//!
//! Keepalived looks for the interfaces that the file names, so each check runs in a network namespace that has them.
//! That needs root; without root or without the programs the checks are left out, and say so, unless `ONEKE_OWNERS=1`
//! makes that a failure.
#![expect(clippy::disallowed_methods, reason = "a test starts the daemons' own checkers")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// One shell for all cases: `$1` and so on are their directories. Keepalived's status 5 is acceptance with warnings.
const SCRIPT: &str = r#"
# Keepalived 2.3 of Debian keeps a file of its own there, which it needs.
mount -t tmpfs tmpfs /mnt && cp -r /etc/keepalived/. /mnt && mount --move /mnt /etc/keepalived
mount -t tmpfs tmpfs /run
ip link set lo up
for n in 0 1 2 3 4 5; do ip link add eth$n type veth peer name peer$n; ip link set eth$n up; done
for case; do
  cd "$case/expected" || continue
  accept() { owner=$1; shift; out=$("$@" 2>&1); status=$?
    [ $status = 0 ] || { [ $owner = keepalived ] && [ $status = 5 ]; } || echo "== $case: $owner: status $status: $out"; }
  [ ! -e etc/haproxy/haproxy.cfg ] || accept haproxy haproxy -c -q -f etc/haproxy/haproxy.cfg
  [ ! -e etc/nftables.d/oneke.nft ] || accept nft nft -c -f etc/nftables.d/oneke.nft
  [ ! -e etc/unbound/unbound.conf.d/oneke.conf ] || accept unbound unbound-checkconf etc/unbound/unbound.conf.d/oneke.conf
  conntrackd=etc/conntrackd/conntrackd.conf
  [ ! -e $conntrackd ] || {
    own=$(awk '/^    (UDP|Multicast)/ { inside = 1 } inside && /IPv4_(interface|address) 1/ { print $2; exit }' $conntrackd)
    nic=$(awk '$1 == "Interface" { print $2 }' $conntrackd)
    ip addr add $own/24 dev $nic
    out=$(timeout 1 conntrackd -C $conntrackd 2>&1); status=$?
    [ $status = 124 ] || echo "== $case: conntrackd: status $status: $out"
    rm -f /run/conntrackd.*
    ip addr del $own/24 dev $nic; }
  [ ! -e etc/keepalived/keepalived.conf ] || {
    install -m 755 etc/keepalived/check-haproxy /etc/keepalived/ 2>/dev/null
    install -m 600 etc/keepalived/keepalived.conf /etc/keepalived/
    accept keepalived keepalived -t -f /etc/keepalived/keepalived.conf; }
done
"#;

/// What the owners refuse.
pub fn check(cases: &[PathBuf]) -> Vec<String> {
    if let Some(why) = unable() {
        println!("the owners' checks are left out: {why}");
        let demanded = std::env::var_os("ONEKE_OWNERS").is_some();
        return demanded.then(|| format!("ONEKE_OWNERS is set, but {why}")).into_iter().collect();
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", SCRIPT, "owners"]).args(cases);
    let output = command.output().expect("unshare was tried a moment ago");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if said.trim().is_empty() { Vec::new() } else { vec![said] }
}

/// Why the checks cannot run here.
pub fn unable() -> Option<String> {
    let programs =
        ["conntrack", "conntrackd", "haproxy", "keepalived", "nft", "unbound-checkconf", "unshare", "ip"];
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |program: &str| places.iter().any(|place| Path::new(place).join(program).exists());
    if let Some(missing) = programs.into_iter().find(|program| !is_there(program)) {
        return Some(format!("{missing} is not installed"));
    }
    let probe = Command::new("unshare").args(["--net", "--mount", "true"]).output();
    let is_root = probe.is_ok_and(|output| output.status.success());
    (!is_root).then(|| "network namespaces need root".into())
}
