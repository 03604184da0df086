//! Renders `/etc/conntrackd/conntrackd.conf`: what this VM translates is known to its fellows, so that sessions outlive a
//! failover.
//!
//! Fellows put what they are told into their kernels at once (`DisableExternalCache`), so nothing has to run when the
//! addresses move. A VM that starts asks for all of it (`StartupResync`). Sessions that end at this VM itself are left
//! out: HAProxy's cannot be carried on by another. Checked with conntrackd 1.4.7; it has no checker of its own.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::links::Names;
use super::peers::Peers;
use crate::context::Nic;
use crate::context::vnf::Instance;

/// Where it is.
pub const PATH: &str = "/etc/conntrackd/conntrackd.conf";
/// Its unit.
pub const UNIT: &str = "conntrackd.service";
/// conntrackd's customary port.
const PORT: u16 = 3780;

/// The whole file. It speaks where VRRP does, to a group of the VRID's own: what two services on one network may not
/// share is the VRID.
pub fn render(instance: &Instance, nics: &[Nic], names: &Names, peers: &Peers) -> String {
    let (own, nic) = (instance.network.0, names.of(instance.nic));
    let channel = match peers.get(&instance.nic).map(Vec::as_slice) {
        // It knows one destination; several lines mean several ways to the same one.
        Some([peer]) => format!(
            "    UDP {{\n        IPv4_address {own}\n        IPv4_Destination_Address {peer}\n        Port {PORT}\n"
        ),
        // Administratively scoped (RFC 2365).
        _ => format!(
            "    Multicast {{\n        IPv4_address 239.255.112.{}\n        Group {PORT}\n        IPv4_interface {own}\n",
            instance.vrid
        ),
    };
    let ignored: BTreeSet<Ipv4Addr> =
        nics.iter().flat_map(|nic| nic.ip.into_iter().chain(nic.vips.iter().map(|(_, ip, _)| *ip))).collect();
    let ignored: String = ignored.iter().map(|ip| format!("            IPv4_address {ip}\n")).collect();
    format!(
        "\
# Written by oneke-agent from the VM's context; changes here are overwritten.
Sync {{
    Mode FTFW {{
        DisableExternalCache on
        StartupResync on
    }}
{channel}        Interface {nic}
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}

General {{
    Systemd on
    Syslog on
    LockFile /run/conntrackd.lock
    HashSize 32768
    HashLimit 262144
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    UNIX {{
        Path /run/conntrackd.ctl
    }}
    Filter From Userspace {{
        Protocol Accept {{
            TCP
            UDP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
{ignored}        }}
    }}
}}
"
    )
}
