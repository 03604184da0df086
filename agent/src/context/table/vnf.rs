//! What vnf VMs read.

use super::{Form, Origin, Roles, Served, Variable};

/// One listener's or instance's option that the old appliance lacked.
const fn new(name: &'static str, form: Form, default: &'static str, doc: &'static str) -> Variable {
    var(name, form, doc).default(default).from(Origin::New)
}

const fn var(name: &'static str, form: Form, doc: &'static str) -> Variable {
    super::var(name, form, Roles::VNF, doc)
}

const INTERFACES: &str =
    "What names no interface of this VM is warned about; the old scripts ignored it silently.";
const SERVICE: &str =
    "Where the old scripts crashed on this value or handed it on to be refused, it is refused here.";
const NO_DHCP: Served =
    Served::No("DHCP is no part of an OneKE service; OpenNebula gives its VMs their addresses");
const NO_SDNAT: Served = Served::No("forward ports with ONEAPP_VNF_NAT4_PORT_FWDn instead");
const NO_WIREGUARD: Served = Served::No("WireGuard is no part of an OneKE service");

pub(super) const ADDRESSES: &[Variable] = &[
    var("ONEAPP_VROUTER_ETHx_VIPn", Form::Ipv4Prefixed, "Virtual address n of a NIC.")
        .input()
        .differs("A length that is none counts as 32 and an IPv6 address is left out, as before, but with a warning. Refused are an address of another NIC, and the own address of the NIC that speaks VRRP: Keepalived takes it off the NIC, and stops."),
    var("ONEAPP_VNF_KEEPALIVED_INTERFACES", Form::Interfaces, "NICs that run VRRP; by default all.")
        .differs(INTERFACES),
    var(
        "ONEAPP_VNF_KEEPALIVED_VRID",
        Form::Number(1, 255),
        "Virtual router ID; by default SERVICE_ID modulo 255 plus 1, else the same of VMID, else 1.",
    )
    .differs(SERVICE),
    var("VROUTER_KEEPALIVED_ID", Form::Number(1, 255), "ONEAPP_VNF_KEEPALIVED_VRID by OpenNebula's name.")
        .from(Origin::Legacy),
    var("ONEAPP_VNF_KEEPALIVED_PASSWORD", Form::VrrpPassword, "VRRP's password.").secret(),
    var("VROUTER_KEEPALIVED_PASSWORD", Form::VrrpPassword, "The same by OpenNebula's name.")
        .from(Origin::Legacy)
        .secret(),
    var("VROUTER_KEEPALIVED_*", Form::Text, "Scripts of the older virtual router.")
        .from(Origin::Legacy)
        .served(Served::No("the agent checks and notifies by itself")),
    var("ONEAPP_VNF_KEEPALIVED_INTERVAL", Form::Interval, "Seconds between two adverts.")
        .default("1")
        .differs("Fractions are taken. A wrong one counts as 1, as before, but with a warning."),
    var("ONEAPP_VNF_KEEPALIVED_PRIORITY", Form::Number(1, 255), "Priority in the election.")
        .default("100")
        .differs("A wrong one counts as 100, as before, but with a warning."),
    var("ONEAPP_VNF_KEEPALIVED_ETHx_VRID", Form::Number(1, 255), "Virtual router ID of one NIC."),
    var("ONEAPP_VNF_KEEPALIVED_ETHx_PASSWORD", Form::VrrpPassword, "Password of one NIC.").secret(),
    var("ONEAPP_VNF_KEEPALIVED_ETHx_INTERVAL", Form::Interval, "Interval of one NIC."),
    var("ONEAPP_VNF_KEEPALIVED_ETHx_PRIORITY", Form::Number(1, 255), "Priority of one NIC."),
    var(
        "ONEAPP_VNF_KEEPALIVED_ETHx_SKIP",
        Form::Bool,
        "Run no VRRP on this NIC; another carries its addresses.",
    )
    .default("NO"),
    new(
        "ONEAPP_VNF_KEEPALIVED_UNICAST",
        Form::Bool,
        "NO",
        "Send adverts to the other vnf VMs one by one, where the network drops multicast. Needs a service: OneGate names the VMs. A VM that joins speaks only once the others know it, which takes up to four minutes.",
    ),
];

pub(super) const HAPROXY: &[Variable] = &[
    new(
        "ONEAPP_VNF_HAPROXY_LBn_CHECK",
        Form::Choice(&["TCP", "API", "NONE"]),
        "",
        "Listener n: how its servers prove life; API is GET /readyz over TLS. By default API on port 6443 unless it has static servers, else TCP.",
    ),
    new(
        "ONEAPP_VNF_HAPROXY_LBn_PROXY_PROTOCOL",
        Form::Choice(&["NO", "V1", "V2"]),
        "NO",
        "Listener n: tells its servers the client's address.",
    ),
    var("ONEAPP_VNF_HAPROXY_ENABLED", Form::Bool, "Balance with HAProxy.").default("NO"),
    var("ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED", Form::Bool, "Take backends from OneGate too.").default("NO"),
    var("ONEAPP_VNF_HAPROXY_REFRESH_RATE", Form::Number(1, 86_400), "Seconds between two looks at OneGate.")
        .default("30")
        .input()
        .differs("A hint: what others need is pushed to the vnf VMs, so that backends appear sooner and cost less."),
    var("ONEAPP_VNF_HAPROXY_INTERFACES", Form::Interfaces, "NICs on whose addresses HAProxy listens, beside all virtual addresses; by default all.").input().differs(INTERFACES),
    var("ONEAPP_VNF_HAPROXY_LBn_IP", Form::Ipv4OrPlaceholder, "Listener n: its address.").differs("An address that is not ours is told, not dropped."),
    var("ONEAPP_VNF_HAPROXY_LBn_PORT", Form::Port, "Listener n: its port.").differs(SERVICE),
    var("ONEAPP_VNF_HAPROXY_LBn_PROTOCOL", Form::Text, "Listener n: unused with HAProxy."),
    var("ONEAPP_VNF_HAPROXY_LBn_METHOD", Form::Text, "Listener n: unused with HAProxy."),
    var("ONEAPP_VNF_HAPROXY_LBn_SCHEDULER", Form::Text, "Listener n: unused with HAProxy."),
    var("ONEAPP_VNF_HAPROXY_LBn_SERVERm_HOST", Form::Host, "Static backend m of listener n.").differs(SERVICE),
    var("ONEAPP_VNF_HAPROXY_LBn_SERVERm_PORT", Form::Port, "Its port.").differs(SERVICE),
    var("ONEAPP_VNF_HAPROXY_LBn_SERVERm_WEIGHT", Form::Number(0, 256), "Its share; 0: no new connections, those that there are live on.").differs("Honoured; the old scripts ignored it."),
    var("ONEAPP_VNF_HAPROXY_LBn_SERVERm_ULIMIT", Form::Id, "Its upper limit of connections; more wait for their turn (HAProxy's `maxconn`)."),
    var("ONEAPP_VNF_HAPROXY_LBn_SERVERm_LLIMIT", Form::Id, "Unused with HAProxy, which lets the next one in as soon as one ends."),
    var("ONEAPP_VNF_LB_ONEGATE_API", Form::Choice(&["auto", "vrouter"]), "Whether backends come from the service or from the virtual router's networks.")
        .default("auto")
        .differs("A virtual router outside of a service looks at its networks, one in a service at the service unless this says vrouter; where the old scripts would find nothing, this finds it."),
];

pub(super) const LVS: &[Variable] = &[
    var("ONEAPP_VNF_LB_ENABLED", Form::Bool, "Balance with LVS.").default("NO"),
    var("ONEAPP_VNF_LB_ONEGATE_ENABLED", Form::Bool, "Take backends from OneGate too.").default("NO"),
    var("ONEAPP_VNF_LB_REFRESH_RATE", Form::Number(1, 86_400), "Seconds between two looks at OneGate.")
        .default("30"),
    var("ONEAPP_VNF_LB_FWMARK_OFFSET", Form::Id, "Read and unused, as in the old scripts.").default("10000"),
    var("ONEAPP_VNF_LB_INTERFACES", Form::Interfaces, "NICs whose traffic is balanced; by default all.")
        .differs(INTERFACES),
    var("ONEAPP_VNF_LBn_IP", Form::Ipv4OrPlaceholder, "Virtual server n: its address."),
    var("ONEAPP_VNF_LBn_PORT", Form::Port, "Virtual server n: its port; unset: all.")
        .differs("What Keepalived leaves out is left out as before (a balancer or a server with a wrong port, a server by name, an unknown word), but with a warning."),
    var(
        "ONEAPP_VNF_LBn_PROTOCOL",
        Form::Choice(&["TCP", "UDP", "SCTP"]),
        "Virtual server n: its protocol; unset: UDP, as Keepalived has it.",
    ),
    var(
        "ONEAPP_VNF_LBn_METHOD",
        Form::Choice(&["NAT", "DR", "TUN"]),
        "Virtual server n: how packets are forwarded.",
    ),
    var("ONEAPP_VNF_LBn_SCHEDULER", Form::Text, "Virtual server n: how a server is chosen."),
    var("ONEAPP_VNF_LBn_SERVERm_HOST", Form::Host, "Static server m of virtual server n."),
    var("ONEAPP_VNF_LBn_SERVERm_PORT", Form::Port, "Its port."),
    var("ONEAPP_VNF_LBn_SERVERm_WEIGHT", Form::Number(0, 65_535), "Its weight."),
    var("ONEAPP_VNF_LBn_SERVERm_ULIMIT", Form::Id, "Its upper limit of connections."),
    var("ONEAPP_VNF_LBn_SERVERm_LLIMIT", Form::Id, "Its lower limit of connections."),
];

pub(super) const ROUTING: &[Variable] = &[
    var(
        "ONEAPP_VNF_ROUTER4_ENABLED",
        Form::Bool,
        "Forward between NICs; by default YES for a virtual router, else NO.",
    )
    .input(),
    var("ONEAPP_VNF_ROUTER4_INTERFACES", Form::Interfaces, "NICs that forward; by default all.")
        .input()
        .differs(INTERFACES),
    var("ONEAPP_VNF_NAT4_ENABLED", Form::Bool, "Translate addresses.").default("NO").input(),
    var(
        "ONEAPP_VNF_NAT4_INTERFACES_OUT",
        Form::Interfaces,
        "NICs behind whose address the others hide; by default none.",
    )
    .input()
    .differs(INTERFACES),
    new(
        "ONEAPP_VNF_NAT4_CONNTRACK_SYNC",
        Form::Bool,
        "NO",
        "Let translated sessions outlive a failover: the vnf VMs tell each other their sessions (conntrackd), and what leaves by a NIC with a virtual address takes that address instead of the VM's own.",
    ),
    var("ONEAPP_VNF_NAT4_PORT_FWDn", Form::Forward, "A port that is forwarded, TCP and UDP.")
        .differs("What has not its form is left out, as before, but with a warning; ports that are none are refused."),
    var("ONEAPP_VNF_DNS_ENABLED", Form::Bool, "Serve names with unbound.").default("NO").input(),
    var(
        "ONEAPP_VNF_DNS_INTERFACES",
        Form::Interfaces,
        "NICs on which names are served, on all their addresses; by default all.",
    )
    .input()
    .differs("On the NIC's IPv6 address, too, if the context gives one. What names no interface of this VM is warned about; the old scripts ignored it silently."),
    var("ONEAPP_VNF_DNS_ALLOWED_NETWORKS", Form::CidrList, "Who may ask; by default the NICs' own networks.")
        .differs(SERVICE),
    var("ONEAPP_VNF_DNS_NAMESERVERS", Form::Addresses, "Whom to ask instead of the root servers; without any only the cluster's own names are known.")
        .input()
        .differs(SERVICE),
    var("ONEAPP_VNF_DNS_USE_ROOTSERVERS", Form::Bool, "Ask the root servers.").default("YES"),
    var("ONEAPP_VNF_DNS_TCP_DISABLED", Form::Bool, "Do not serve names over TCP.").default("NO"),
    var("ONEAPP_VNF_DNS_UDP_DISABLED", Form::Bool, "Do not serve names over UDP.").default("NO"),
    var(
        "ONEAPP_VNF_DNS_UPSTREAM_TIMEOUT",
        Form::Number(0, 2_147_483_647),
        "Milliseconds to wait for another server.",
    )
    .default("1128"),
    var(
        "ONEAPP_VNF_DNS_MAX_CACHE_TTL",
        Form::Number(0, 2_147_483_647),
        "Seconds that an answer is kept at most.",
    )
    .default("3600"),
    var("ONEAPP_VNF_DNS_CLUSTER_DOMAIN", Form::Zone, "Zone of the names ipN.ethX, vipN.ethX and epN.ethX.")
        .default("vr"),
];

const fn unserved(
    name: &'static str,
    form: Form,
    served: Served,
    default: &'static str,
    doc: &'static str,
) -> Variable {
    var(name, form, doc).default(default).served(served)
}

pub(super) const OTHERS: &[Variable] = &[
    unserved("ONEAPP_VNF_DHCP4_ENABLED", Form::Bool, NO_DHCP, "NO", "Serve DHCP."),
    unserved(
        "ONEAPP_VNF_DHCP4_AUTHORITATIVE",
        Form::Bool,
        NO_DHCP,
        "YES",
        "Read and unused in the old scripts too.",
    ),
    unserved(
        "ONEAPP_VNF_DHCP4_MAC2IP_ENABLED",
        Form::Bool,
        NO_DHCP,
        "YES",
        "Derive addresses from OpenNebula's MACs.",
    ),
    unserved("ONEAPP_VNF_DHCP4_MAC2IP_MACPREFIX", Form::Text, NO_DHCP, "02:00", "Prefix of such MACs."),
    unserved(
        "ONEAPP_VNF_DHCP4_LEASE_TIME",
        Form::Number(1, u32::MAX),
        NO_DHCP,
        "3600",
        "Seconds of a lease.",
    ),
    unserved("ONEAPP_VNF_DHCP4_GATEWAY", Form::Ipv4OrPlaceholder, NO_DHCP, "", "Gateway that is offered."),
    unserved("ONEAPP_VNF_DHCP4_DNS", Form::Ipv4OrPlaceholder, NO_DHCP, "", "Name server that is offered."),
    unserved("ONEAPP_VNF_DHCP4_INTERFACES", Form::Interfaces, NO_DHCP, "", "NICs that serve DHCP."),
    unserved("ONEAPP_VNF_DHCP4_ETHx", Form::DhcpRange, NO_DHCP, "", "Range of one NIC."),
    unserved("ONEAPP_VNF_DHCP4_ETHx_GATEWAY", Form::Ipv4OrPlaceholder, NO_DHCP, "", "Gateway on one NIC."),
    unserved("ONEAPP_VNF_DHCP4_ETHx_DNS", Form::Ipv4OrPlaceholder, NO_DHCP, "", "Name server on one NIC."),
    unserved("ONEAPP_VNF_DHCP4_ETHx_MTU", Form::Number(68, 65_535), NO_DHCP, "", "MTU on one NIC."),
    unserved("ONEAPP_VNF_SDNAT4_ENABLED", Form::Bool, NO_SDNAT, "NO", "1:1 NAT for external aliases."),
    unserved(
        "ONEAPP_VNF_SDNAT4_REFRESH_RATE",
        Form::Number(1, 86_400),
        NO_SDNAT,
        "30",
        "Seconds between two looks at OneGate.",
    ),
    unserved("ONEAPP_VNF_SDNAT4_INTERFACES", Form::Interfaces, NO_SDNAT, "", "NICs of such aliases."),
    unserved("ONEAPP_VNF_WG_ENABLED", Form::Bool, NO_WIREGUARD, "NO", "A WireGuard server."),
    unserved("ONEAPP_VNF_WG_INTERFACE_OUT", Form::Interface, NO_WIREGUARD, "", "NIC that peers reach."),
    unserved("ONEAPP_VNF_WG_INTERFACE_IN", Form::Interface, NO_WIREGUARD, "", "NIC that peers get to."),
    unserved("ONEAPP_VNF_WG_LISTEN_PORT", Form::Port, NO_WIREGUARD, "51820", "Its port."),
    unserved("ONEAPP_VNF_WG_PEERS", Form::Number(0, 65_535), NO_WIREGUARD, "5", "How many peers."),
    unserved("ONEAPP_VNF_WG_SUBNET", Form::Cidr, NO_WIREGUARD, "169.254.33.0/24", "The peers' network."),
    unserved("ONEAPP_VNF_WG_DEVICE", Form::Text, NO_WIREGUARD, "wg0", "Name of the device."),
];
