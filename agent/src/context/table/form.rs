//! What a variable may hold, in words; `super::super::forms` parses them.

use std::fmt;

/// The form of a value. `Display` completes "expected ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// True iff `YES`, in any case, or `1`.
    Bool,
    /// Anything.
    Text,
    /// A whole number in the range.
    Number(u32, u32),
    /// Seconds between two VRRP adverts, fractions allowed.
    Interval,
    /// An ID of OpenNebula or another whole number.
    Id,
    /// A TCP or UDP port.
    Port,
    /// `10.0.0.1`.
    Ipv4,
    /// `10.0.0.1` or `10.0.0.1/24`.
    Ipv4Prefixed,
    /// `fd00::1`.
    Ipv6,
    /// An IPv4 address or `<ETHx_EPy>`, `<ETHx_VIPy>`, `<ETHx_IP0>`.
    Ipv4OrPlaceholder,
    /// An address, a name or a placeholder.
    Host,
    /// `02:00:0a:00:00:01`.
    Mac,
    /// `255.255.255.0`.
    Mask,
    /// `10.0.0.0/24`.
    Cidr,
    /// Networks separated by commas.
    CidrList,
    /// One network, or one of each family.
    CidrPair,
    /// `IP`, `IP-IP` or a network; several separated by commas.
    Ranges,
    /// `ethX`, `ethX/ADDRESS`, `ADDRESS`, each with `@PORT`, `!ethX`.
    Interfaces,
    /// `ethX`.
    Interface,
    /// `0`, `eth0`, or the name of its virtual network.
    Nic,
    /// `host:port`.
    Endpoint,
    /// OneGate's address.
    HttpUrl,
    /// `http://host:port`.
    Proxy,
    /// Names and addresses separated by commas.
    Names,
    /// Addresses, separated by blanks or commas.
    Addresses,
    /// Base64 of YAML documents.
    Base64Yaml,
    /// Base64 of PEM certificates.
    Base64Pem,
    /// Base64 of anything.
    Base64,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A DNS zone.
    Zone,
    /// What Kubernetes takes as the name of a class.
    Class,
    /// `key=value`, separated by commas.
    Labels,
    /// `key[=value]:effect`, separated by commas.
    Taints,
    /// `/dev/...`, `serial:...`, `disk:N`, `label:...`, `blank`.
    Device,
    /// Those without `blank`, separated by commas.
    Devices,
    /// An absolute path.
    Path,
    /// `[DEST:]PORT:NEWDEST[:NEWPORT]`.
    Forward,
    /// `CIDR:START-END`.
    DhcpRange,
    /// At most eight characters.
    VrrpPassword,
    /// Public keys, one a line.
    SshKeys,
    /// `v1.33.5+rke2r1`.
    Rke2Version,
    /// `v1.33`, `stable`.
    Rke2Channel,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Bool => "YES or NO",
            Self::Text => "text",
            Self::Number(low, high) => return write!(f, "a number from {low} to {high}"),
            // VRRPv2 counts seconds in 8 bits, VRRPv3 centiseconds in 12 (RFC 3768, 5.3.7; RFC 5798, 5.2.7).
            Self::Interval => "seconds: 1 to 255, or with a fraction 0.01 to 40.95",
            Self::Id => "a whole number",
            Self::Port => "a port from 1 to 65535",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv4Prefixed => "an IPv4 address, with or without /length",
            Self::Ipv6 => "an IPv6 address",
            Self::Ipv4OrPlaceholder => "an IPv4 address or a placeholder such as <ETH0_EP0>",
            Self::Host => "an address, a host name or a placeholder such as <ETH0_EP0>",
            Self::Mac => "a MAC address such as 02:00:0a:00:00:01",
            Self::Mask => "a netmask such as 255.255.255.0",
            Self::Cidr => "a network such as 10.0.0.0/24",
            Self::CidrList => "networks such as 10.0.0.0/24, separated by commas",
            Self::CidrPair => {
                "a network such as 10.42.0.0/16, or for dual stack one IPv4 and one IPv6 network separated by a comma"
            }
            Self::Ranges => {
                "addresses as FIRST-LAST, one ADDRESS or a network such as 10.0.0.0/28, separated by commas"
            }
            Self::Interfaces => "interfaces such as eth0,eth1 or !eth0, with /ADDRESS and @PORT where needed",
            Self::Interface => "an interface such as eth0",
            Self::Nic => "a NIC such as 0 or eth0, or the name of its virtual network",
            Self::Endpoint => "host:port, such as 10.0.0.1:6443 or ep0.eth0.vr:6443",
            Self::HttpUrl => "a URL such as http://192.0.2.1:5030",
            Self::Proxy => "a URL such as http://proxy.example:3128",
            Self::Names => "names and addresses separated by commas",
            Self::Addresses => "addresses separated by commas or blanks",
            Self::Base64Yaml => "base64 of YAML documents",
            Self::Base64Pem => "base64 of PEM certificates",
            Self::Base64 => "base64",
            Self::Choice(words) => return write!(f, "one of {}", words.join(", ")),
            Self::Zone => "a DNS zone such as vr",
            Self::Class => "a class name of letters, digits, '-', '_', '.' and '/'",
            Self::Labels => "labels such as example.org/rack=r1, separated by commas",
            Self::Taints => "taints such as example.org/gpu=yes:NoSchedule, separated by commas",
            Self::Device => {
                "a disk: /dev/vdb, serial:SERIAL, disk:DISK_ID, label:LABEL, or blank for the only blank one"
            }
            Self::Devices => {
                "disks by their names, separated by commas: /dev/vdb, serial:SERIAL, disk:DISK_ID, label:LABEL"
            }
            Self::Path => "an absolute path other than /",
            Self::Forward => "[DESTINATION:]PORT:NEW-DESTINATION[:NEW-PORT]",
            Self::DhcpRange => "NETWORK:FIRST-LAST, such as 10.0.0.0/24:10.0.0.10-10.0.0.99",
            Self::VrrpPassword => "at most eight characters, none of { } \" \\ ~",
            Self::SshKeys => "public keys, one a line",
            Self::Rke2Version => "a version of RKE2 such as v1.33.5+rke2r1",
            Self::Rke2Channel => "a channel of RKE2's releases such as v1.33, stable or latest",
        };
        f.write_str(words)
    }
}
