//! IPVS, which needs a kernel of one's own: the agent's `virtual_server` block in a real Keepalived, connections through
//! it to servers in network namespaces of the machine, one of which dies and comes back.

use anyhow::{Result, ensure};

use crate::image::Image;
use crate::machine::{Machine, SOON};
use crate::scenarios::seen;

const CONTEXT: &str = "VMID='41'\nSERVICE_ID='3'\nONEGATE_ENDPOINT='http://172.20.0.1:5030'\n\
    ETH0_MAC='02:00:ac:14:00:6c'\nETH0_IP='172.20.0.106'\nETH0_MASK='255.255.0.0'\nETH0_NETWORK='172.20.0.0'\n\
    ONEAPP_VROUTER_ETH0_VIP0='172.20.0.200'\nONEAPP_VNF_LB_ENABLED='YES'\n\
    ONEAPP_VNF_LB0_IP='<ETH0_VIP0>'\nONEAPP_VNF_LB0_PORT='80'\nONEAPP_VNF_LB0_PROTOCOL='TCP'\n\
    ONEAPP_VNF_LB0_METHOD='NAT'\nONEAPP_VNF_LB0_SCHEDULER='rr'\n\
    ONEAPP_VNF_LB0_SERVER0_HOST='10.9.1.2'\nONEAPP_VNF_LB0_SERVER0_PORT='8080'\n\
    ONEAPP_VNF_LB0_SERVER1_HOST='10.9.2.2'\nONEAPP_VNF_LB0_SERVER1_PORT='8080'\n";
/// Namespaces 1 and 2 are the servers', 3 is the client's; replies come back through this machine.
const NETWORK: &str = "set -e
ip addr add 172.20.0.106/16 dev eth0
ip link set eth0 up
for n in 1 2 3; do
    ip netns add n$n
    ip link add v$n type veth peer name eth0 netns n$n
    ip addr add 10.9.$n.1/24 dev v$n
    ip link set v$n up
    sysctl -qw net.ipv4.conf.v$n.forwarding=1
    ip -n n$n link set lo up
    ip -n n$n addr add 10.9.$n.2/24 dev eth0
    ip -n n$n link set eth0 up
    ip -n n$n route add default via 10.9.$n.1
done";
/// Six connections: who answered how often.
const CONNECT: &str = "for n in 1 2 3 4 5 6; do
    ip netns exec n3 timeout 5 bash -c 'exec 3<>/dev/tcp/172.20.0.200/80 && cat <&3' || echo none
done | sort | uniq -c | sed 's/^ *//'";
/// How many servers the kernel balances to.
const SERVERS: &str = "ipvsadm -Ln | grep -c Masq || true";

/// A virtual server with two real ones, to the last connection of a dead one.
pub fn prove(image: &Image) -> Result<()> {
    let mut machine = Machine::new("ipvs", image, CONTEXT)?;
    seen(&format!("up in {:.0?}", machine.power_on(&[], "oneke.role=vnf")?));
    machine.ask(NETWORK)?;
    for server in [1, 2] {
        start(&mut machine, server)?;
    }
    seen(&machine.until_condition(SOON, "AddressesConfigured", "True")?);
    machine.until(SOON, "ip -br addr show eth0", |text| text.contains("172.20.0.200/16"))?;
    machine.until(SOON, SERVERS, |count| count == "2")?;
    seen(&machine.ask("keepalived --version 2>&1 | head -1; ipvsadm -Ln")?);
    serves(&mut machine, "both live", "3 server1\n3 server2")?;

    machine.ask("systemctl stop server1")?;
    let out = machine.until(SOON, SERVERS, |count| count == "1")?;
    ensure!(machine.ask("ipvsadm -Ln")?.contains("10.9.2.2:8080"), "the wrong server was taken out");
    serves(&mut machine, &format!("server1 died and was taken out in {out:.0?}"), "6 server2")?;

    start(&mut machine, 1)?;
    let back = machine.until(SOON, SERVERS, |count| count == "2")?;
    serves(&mut machine, &format!("server1 lives again and is back in {back:.0?}"), "3 server1\n3 server2")?;
    let complaints = machine.complaints()?;
    ensure!(complaints.is_empty(), "complaints:\n{complaints}");
    machine.power_off().map(drop)
}

/// A server that says its name to whoever connects, and outlives the checks, which do not listen.
fn start(machine: &mut Machine, server: u8) -> Result<()> {
    let serve = format!(
        "$SIG{{PIPE}} = \"IGNORE\"; $s = IO::Socket::INET->new(Listen => 9, LocalPort => 8080, ReuseAddr => 1) or die; \
         while ($c = $s->accept) {{ print $c \"server{server}\\n\"; close $c }}"
    );
    let run = format!(
        "systemd-run --quiet --unit=server{server} ip netns exec n{server} perl -MIO::Socket::INET -e '{serve}'"
    );
    machine.ask(&run).map(drop)
}

fn serves(machine: &mut Machine, what: &str, expected: &str) -> Result<()> {
    let answers = machine.ask(CONNECT)?;
    seen(&format!("{what}; 6 connections: {}", answers.replace('\n', ", ")));
    ensure!(answers == expected, "{what}: expected {expected:?}");
    Ok(())
}
