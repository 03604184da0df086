//! A translated session outlives a failover: the files of two vnf VMs, loaded by the real nft and conntrackd in network
//! namespaces, and the virtual addresses moved from one to the other. Needs root and the programs, like the owners'
//! checks.
//!
//! ```text
//!  client ── 172.20.0.200 ─┐ VM 6 ┌─ 10.0.0.200 ── server
//!                          └ VM 7 ┘
//! ```
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]
#![expect(clippy::disallowed_methods, reason = "a test starts the daemons that it is about")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::machine::Machine;
use super::owners;
use super::scenarios::machine_of;

/// `$1` is the prefix of all names, `$2` the directory with the VMs' files.
const SETUP: &str = r#"
set -e
for n in wire server client vm6 vm7; do ip netns add $1$n; ip -n $1$n link set lo up; done
for bridge in out in; do ip -n $1wire link add $bridge type bridge; ip -n $1wire link set $bridge up; done
plug() { # namespace, interface, bridge, address
  ip -n $1$2 link add $3 type veth peer name $2-$3 netns $1wire
  ip -n $1wire link set $2-$3 master $4 up; ip -n $1$2 addr add $5 dev $3; ip -n $1$2 link set $3 up; }
plug $1 server eth0 out 10.0.0.50/24; plug $1 client eth1 in 172.20.0.50/16
ip -n $1client route add default via 172.20.0.200
for n in 6 7; do
  plug $1 vm$n eth0 out 10.0.0.10$n/24; plug $1 vm$n eth1 in 172.20.0.10$n/16
  ip netns exec $1vm$n sysctl -qw net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.eth1.forwarding=1
  ip netns exec $1vm$n nft -f $2/$n.nft
done
"#;
/// `$2` is the VM that loses the addresses, if any, `$3` the one that gets them; neighbours hear of it at once.
const MOVE: &str = r#"
for pair in eth0:10.0.0.200/24 eth1:172.20.0.200/16; do
  [ -z "$2" ] || ip -n $1vm$2 addr del ${pair#*:} dev ${pair%:*}
  ip -n $1vm$3 addr add ${pair#*:} dev ${pair%:*}
done
for n in server client; do ip -n $1$n neigh flush all; done
"#;
/// Of the ports on which a server may listen without asking.
const PORT: u16 = 9000;
/// A line each 20 ms: enough of them for the addresses to move in between.
const LINES: usize = 100;

struct Lab {
    prefix: String,
    daemons: Vec<Child>,
}

impl Lab {
    fn new(name: &str, files: &Path) -> Self {
        let lab = Self { prefix: format!("oneke{}{name}-", std::process::id()), daemons: Vec::new() };
        lab.sh(SETUP, &[files.to_str().unwrap()]);
        lab.sh(MOVE, &["", "6"]);
        lab
    }

    fn sh(&self, script: &str, arguments: &[&str]) {
        let output =
            Command::new("sh").args(["-c", script, "sh", &self.prefix]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Each has a /run of its own, as its lock is there.
    fn sync(&mut self, files: &Path) {
        for vm in ["6", "7"] {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &format!("{}vm{vm}", self.prefix), "sh", "-c"]);
            command.args(["mount -t tmpfs tmpfs /run && exec conntrackd -C $0 >$0.log 2>&1"]);
            self.daemons.push(command.arg(files.join(format!("{vm}.conf"))).spawn().unwrap());
        }
        for vm in ["6", "7"] {
            let said = || std::fs::read_to_string(files.join(format!("{vm}.conf.log"))).unwrap_or_default();
            until(&format!("conntrackd of VM {vm} runs"), || said().contains("resync requested"));
        }
    }

    /// Sessions with the server in a VM's kernel.
    fn sessions(&self, vm: &str) -> String {
        let space = format!("{}vm{vm}", self.prefix);
        let arguments = ["netns", "exec", &space, "conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED"];
        String::from_utf8(Command::new("ip").args(arguments).output().unwrap().stdout).unwrap()
    }

    /// Runs in a namespace; a thread can be in another one than its process.
    fn within<T: Send + 'static>(
        &self,
        space: &str,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let space = File::open(format!("/run/netns/{}{space}", self.prefix)).unwrap();
        thread::spawn(move || {
            setns(&space, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill(); // it may have ended
            let _ = daemon.wait();
        }
        for space in ["client", "server", "vm6", "vm7", "wire"] {
            let space = format!("{}{space}", self.prefix);
            let _ = Command::new("ip").args(["netns", "del", &space]).status(); // it may not have been made
        }
    }
}

fn vm(id: &str, sync: &str) -> Machine {
    let mut machine = machine_of(&format!(
        "VMID='{id}' SERVICE_ID='4' ETH0_IP='10.0.0.10{id}' ETH0_MASK='255.255.255.0' \
         ETH1_IP='172.20.0.10{id}' ETH1_MASK='255.255.0.0' ONEAPP_VROUTER_ETH0_VIP0='10.0.0.200' \
         ONEAPP_VROUTER_ETH1_VIP0='172.20.0.200' ONEAPP_VNF_NAT4_ENABLED='YES' \
         ONEAPP_VNF_NAT4_INTERFACES_OUT='eth0' ONEAPP_VNF_NAT4_CONNTRACK_SYNC='{sync}'"
    ));
    machine.settle();
    machine
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within ten seconds");
        thread::sleep(Duration::from_millis(20));
    }
}

/// How many lines of the server reach the client through a failover.
fn lines_through_a_failover(name: &str, sync: &str) -> usize {
    let files = tempfile::tempdir().unwrap();
    for id in ["6", "7"] {
        let machine = vm(id, sync);
        let kept = |path: &str, suffix: &str| {
            std::fs::write(files.path().join(format!("{id}.{suffix}")), machine.file(path)).unwrap();
        };
        kept("/etc/nftables.d/oneke.nft", "nft");
        kept("/etc/conntrackd/conntrackd.conf", "conf");
    }
    let mut lab = Lab::new(name, files.path());
    if sync == "YES" {
        lab.sync(files.path());
    }
    let listener = lab.within("server", || TcpListener::bind(("0.0.0.0", PORT)).unwrap()).join().unwrap();
    // Only the server speaks: what it sends comes to a VM that has not seen the session begin.
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0]).unwrap();
        for line in 0..LINES {
            if writeln!(client, "{line}").is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let client = lab.within("client", || {
        let mut server = TcpStream::connect(("10.0.0.50", PORT)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        server.write_all(b"!").unwrap();
        BufReader::new(server).lines().map_while(Result::ok).count()
    });
    let told = if sync == "YES" { "7" } else { "6" };
    until(&format!("VM {told} knows the session"), || lab.sessions(told).contains("dport=9000"));
    lab.sh(MOVE, &["6", "7"]);
    client.join().unwrap()
}

#[test]
fn a_translated_session_outlives_a_failover_if_it_is_synced() {
    if let Some(why) = owners::unable() {
        println!("left out: {why}");
        return;
    }
    assert_eq!(lines_through_a_failover("y", "YES"), LINES);
    assert!(lines_through_a_failover("n", "NO") < LINES, "this test would not see a session end");
}
