//! What the VM, its NICs and its guest are told. The image's one-context package acts on most of it; the agent reads
//! the addresses.

use super::{Form, Origin, Roles, Served, Variable, var};

/// Something that oned writes or one-context reads.
const fn guest(name: &'static str, form: Form, doc: &'static str) -> Variable {
    var(name, form, Roles::ALL, doc).from(Origin::OpenNebula).served(Served::Guest)
}

/// The same, but the agent reads it too.
const fn read(name: &'static str, form: Form, doc: &'static str) -> Variable {
    guest(name, form, doc).served(Served::Agent)
}

pub(super) const SERVICE: &[Variable] = &[
    read("VMID", Form::Id, "This VM's ID. oned writes it where TOKEN is YES."),
    read("SERVICE_ID", Form::Id, "The OneFlow service's ID; the templates pass it on."),
    read("VROUTER_ID", Form::Id, "This VM belongs to a virtual router of OpenNebula."),
    read("ONEGATE_ENDPOINT", Form::HttpUrl, "Where OneGate answers. oned writes it where TOKEN is YES."),
    guest("ONEGATE_TOKEN", Form::Text, "OneGate's token for one_env; the agent reads token.txt instead.")
        .secret(),
    guest("TOKEN", Form::Bool, "Asks oned for token.txt, VMID and ONEGATE_ENDPOINT.").default("NO"),
    read("REPORT_READY", Form::Bool, "Publish READY=YES once this VM works.").default("NO").differs(
        "READY is published on proof, and again until OneGate has taken it; the old scripts tried once.",
    ),
    guest("READY_SCRIPT", Form::Text, "Ignored: the agent decides about READY.")
        .served(Served::No("the agent's own conditions decide about READY")),
    guest("READY_SCRIPT_PATH", Form::Path, "Ignored, as READY_SCRIPT.")
        .served(Served::No("the agent's own conditions decide about READY")),
    guest("RETRY_COUNT", Form::Id, "Ignored: READY is reported until it is told.")
        .default("3")
        .served(Served::No("READY is reported until it is told")),
    guest("RETRY_WAIT_PERIOD", Form::Id, "Ignored, as RETRY_COUNT.")
        .default("10")
        .served(Served::No("READY is reported until it is told")),
    guest("BACKEND", Form::Bool, "OneGate shows this VM's ONEGATE_* attributes in its network's leases."),
    guest("CREATED_BY", Form::Id, "The owner's ID in OpenNebula."),
    guest("DISK_ID", Form::Id, "The context disk's own ID."),
    guest("TARGET", Form::Text, "The context disk's own device name."),
    var(
        "ONEAPP_ONEGATE_CA",
        Form::Base64Pem,
        Roles::ALL,
        "Trust these certificates too when OneGate is spoken to.",
    )
    .from(Origin::New),
    var(
        "ONEAPP_ONEGATE_INSECURE",
        Form::Bool,
        Roles::ALL,
        "Speak to OneGate without checking its certificate.",
    )
    .default("NO")
    .from(Origin::New)
    .differs("The old scripts never checked it."),
];

pub(super) const NETWORK: &[Variable] = &[
    read("ETHx_IP", Form::Ipv4Prefixed, "The NIC's IPv4 address.")
        .differs("An address with /length is taken; with it the old scripts bound nothing to that NIC."),
    read("ETHx_MASK", Form::Mask, "Its netmask.")
        .differs("A length such as 24 is taken as well; a mask with holes is refused."),
    read(
        "ETHx_NETWORK",
        Form::Ipv4Prefixed,
        "Its network; tells the prefix length, in whole octets, if no mask does.",
    ),
    read("ETHx_GATEWAY", Form::Ipv4, "Its default gateway."),
    read("ETHx_MAC", Form::Mac, "Its hardware address, by which the NIC is found."),
    read("ETHx_MTU", Form::Number(68, 65_535), "Its MTU."),
    read(
        "ETHx_VROUTER_IP",
        Form::Ipv4Prefixed,
        "OpenNebula's floating address: VIP 0 of the NIC unless ONEAPP_VROUTER_ETHx_VIP0 is set.",
    ),
    read("ETHx_VROUTER_MANAGEMENT", Form::Bool, "Keep every network function off this NIC.").default("NO"),
    guest("ETHx_VROUTER_IP6", Form::Ipv6, "OpenNebula's floating IPv6 address.")
        .served(Served::No("VRRP is run for IPv4 only, as in the old appliance")),
    guest("ETHx_METHOD", Form::Choice(&["static", "dhcp", "skip"]), "How the NIC gets its IPv4 address."),
    guest("ETHx_METRIC", Form::Id, "Metric of its default route."),
    guest("ETHx_ROUTES", Form::Text, "Routes: DESTINATION via GATEWAY, separated by commas."),
    guest("ETHx_DNS", Form::Addresses, "Name servers."),
    guest("ETHx_SEARCH_DOMAIN", Form::Text, "Search domains."),
    guest("ETHx_VLAN_ID", Form::Number(0, 4_094), "VLAN of the NIC on the host."),
    guest("ETHx_EXTERNAL", Form::Bool, "The address is outside of the guest."),
    read("ETHx_IP6", Form::Ipv6, "IPv6 address; a node's second address in a cluster of two families."),
    read("ETHx_IPV6", Form::Ipv6, "ETHx_IP6 by its older name.").from(Origin::Legacy),
    read("ETHx_IP6_ULA", Form::Ipv6, "IPv6 address of the private range; used where there is no ETHx_IP6."),
    guest("ETHx_IP6_PREFIX_LENGTH", Form::Number(0, 128), "Prefix length of the IPv6 addresses.")
        .default("64"),
    guest("ETHx_IP6_GATEWAY", Form::Ipv6, "IPv6 gateway."),
    guest("ETHx_GATEWAY6", Form::Ipv6, "ETHx_IP6_GATEWAY by its older name.").from(Origin::Legacy),
    guest(
        "ETHx_IP6_METHOD",
        Form::Choice(&["static", "auto", "dhcp", "disable", "skip"]),
        "How the NIC gets its IPv6 address.",
    ),
    guest("ETHx_IP6_METRIC", Form::Id, "Metric of its IPv6 default route."),
    guest("ETHx_ALIASy_IP", Form::Ipv4, "A second address of the NIC."),
    guest("ETHx_ALIASy_EXTERNAL", Form::Bool, "That address is outside of the guest: a floating address."),
    guest("ETHx_ALIASy_DETACH", Form::Text, "That address is being taken away."),
    guest("ETHx_ALIASy_*", Form::Text, "Further attributes of an alias: as those of the NIC."),
    guest("PCIn_ADDRESS", Form::Text, "Guest's PCI address of a passed-through NIC."),
    guest("PCIn_*", Form::Text, "Further attributes of a passed-through NIC: as those of a NIC."),
    guest("DNS", Form::Addresses, "Name servers beside those of the NICs."),
    guest("SEARCH_DOMAIN", Form::Text, "Search domains beside those of the NICs."),
    guest("NETWORK", Form::Bool, "Asks oned for the ETHx_* variables.").default("NO"),
    guest(
        "NETCFG_TYPE",
        Form::Text,
        "Which network configuration is written: netplan, networkd, interfaces, nm.",
    ),
    guest(
        "NETCFG_NETPLAN_RENDERER",
        Form::Choice(&["networkd", "NetworkManager"]),
        "Renderer behind netplan.",
    ),
];

pub(super) const GUEST: &[Variable] = &[
    guest("SSH_PUBLIC_KEY", Form::SshKeys, "Keys of the user.")
        .differs("The comma that OneFlow puts at the end of each key but the last is taken off."),
    guest("EC2_PUBLIC_KEY", Form::SshKeys, "As SSH_PUBLIC_KEY."),
    guest("USERNAME", Form::Text, "The user.").default("root"),
    guest("USERNAME_SUDO", Form::Bool, "The user may become root.").default("YES"),
    guest("GRANT_SUDO", Form::Bool, "As USERNAME_SUDO.").default("YES"),
    guest("USERNAME_SHELL", Form::Path, "The user's shell."),
    guest("USERNAME_PASSWORD_RESET", Form::Bool, "The user must change the password at the first login."),
    guest("PASSWORD", Form::Text, "The user's password.").secret(),
    guest("PASSWORD_BASE64", Form::Base64, "The user's password.").secret(),
    guest("CRYPTED_PASSWORD", Form::Text, "The user's password, hashed.").secret(),
    guest("CRYPTED_PASSWORD_BASE64", Form::Base64, "The user's password, hashed.").secret(),
    guest("SET_HOSTNAME", Form::Text, "The host's name."),
    guest("DNS_HOSTNAME", Form::Bool, "Name the host by what DNS says of its address.").default("NO"),
    guest("EC2_HOSTNAME", Form::Bool, "Name the host as EC2 would.").default("NO"),
    guest("TIMEZONE", Form::Text, "Time zone."),
    guest("GROW_ROOTFS", Form::Bool, "Let the root file system grow with its disk.").default("YES"),
    guest("GROW_FS", Form::Text, "Mount points whose file systems grow with their disks."),
    guest("IGNORE_SWAP", Form::Bool, "Leave swap devices alone. The image never uses swap.").default("NO"),
    guest("DISKn_MOUNT_TAG", Form::Text, "A virtiofs share."),
    guest("DISKn_MOUNT_POINT", Form::Path, "Where it is mounted."),
    guest("RECREATE_RUN", Form::Bool, "Containers only: copy /run."),
    guest("SECURETTY", Form::Bool, "Use of pam_securetty."),
    guest("START_SCRIPT", Form::Text, "A script that is run at each boot.")
        .secret()
        .differs("OneFlow damages it (a comma before each line break): prefer START_SCRIPT_BASE64."),
    guest("START_SCRIPT_BASE64", Form::Base64, "The same in base64, which nothing damages.").secret(),
    guest("INIT_SCRIPTS", Form::Text, "Scripts of the context disk that are run at each boot.")
        .default("init.sh"),
    guest("USER_DATA", Form::Text, "cloud-init's user data: write_files and runcmd.").secret(),
    guest("USERDATA", Form::Text, "As USER_DATA.").secret(),
    guest("USER_DATA_ENCODING", Form::Choice(&["base64"]), "How USER_DATA is encoded."),
    guest("USERDATA_ENCODING", Form::Choice(&["base64"]), "As USER_DATA_ENCODING."),
    guest("DEBUG", Form::Text, "one-context logs more."),
    guest("TIMEOUT", Form::Text, "How long one-context waits for its scripts."),
];
