//! The name server: `ONEAPP_VNF_DNS_*`.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::forms::{number, port};
use super::super::reader::Reader;
use super::super::{Nic, Selected};
use super::{Host, words};

/// What unbound shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Where it listens, beside the loopback.
    pub listen: Vec<Listen>,
    /// Who may ask, beside this VM.
    pub allowed: Vec<IpNet>,
    /// Whom it asks; `None`: the root servers; nobody: it knows the cluster's names only.
    pub forwarders: Option<Vec<Forwarder>>,
    /// Answers over TCP.
    pub tcp: bool,
    /// Answers over UDP; if not, it also asks over TCP.
    pub udp: bool,
    /// `ONEAPP_VNF_DNS_UPSTREAM_TIMEOUT`, milliseconds.
    pub timeout_ms: u32,
    /// `ONEAPP_VNF_DNS_MAX_CACHE_TTL`, seconds.
    pub max_ttl_secs: u32,
    /// The zone of the cluster's own names, without the final dot.
    pub domain: String,
    /// Those names, without the zone, and their addresses, sorted.
    pub records: Vec<(String, Ipv4Addr)>,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listen {
    /// The address.
    pub address: IpAddr,
    /// `None`: 53.
    pub port: Option<u16>,
}

/// A server to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarder {
    /// The address.
    pub address: IpAddr,
    /// `None`: 53.
    pub port: Option<u16>,
}

/// unbound reads numbers into a C int.
const MOST: u32 = i32::MAX.unsigned_abs();

pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Option<DnsConfig> {
    if !reader.flag("ONEAPP_VNF_DNS_ENABLED", false) {
        return None;
    }
    let tcp = !reader.flag("ONEAPP_VNF_DNS_TCP_DISABLED", false);
    let udp = !reader.flag("ONEAPP_VNF_DNS_UDP_DISABLED", false);
    if !tcp && !udp {
        let value = reader.text("ONEAPP_VNF_DNS_UDP_DISABLED").unwrap_or_default();
        let expected = "expected NO, as ONEAPP_VNF_DNS_TCP_DISABLED is YES: one protocol must remain";
        reader.problem("ONEAPP_VNF_DNS_UDP_DISABLED", value, expected);
    }
    let selected = reader.interfaces("ONEAPP_VNF_DNS_INTERFACES", true, nics);
    let chosen: Vec<&Nic> =
        nics.iter().filter(|nic| selected.iter().any(|selected| selected.nic == nic.index)).collect();
    let mut listen: Vec<Listen> = Vec::new();
    for selected in &selected {
        let nic = chosen.iter().find(|nic| nic.index == selected.nic);
        let all = nic.into_iter().flat_map(|nic| addresses(nic));
        let addresses: Vec<IpAddr> = selected.address.map_or_else(|| all.collect(), |address| vec![address]);
        listen.extend(addresses.into_iter().map(|address| Listen { address, port: selected.port }));
    }
    tell_strange(reader, nics, &selected);
    listen.sort_unstable();
    listen.dedup();
    Some(DnsConfig {
        listen,
        allowed: allowed(reader, &chosen),
        forwarders: forwarders(reader),
        tcp,
        udp,
        timeout_ms: reader
            .parse_leniently("ONEAPP_VNF_DNS_UPSTREAM_TIMEOUT", "expected milliseconds", |text| {
                number(text, 0, MOST)
            })
            .unwrap_or(1128),
        max_ttl_secs: reader
            .parse_leniently("ONEAPP_VNF_DNS_MAX_CACHE_TTL", "expected seconds", |text| number(text, 0, MOST))
            .unwrap_or(3600),
        domain: reader
            .parse("ONEAPP_VNF_DNS_CLUSTER_DOMAIN", "expected a domain name such as vr", domain)
            .unwrap_or_else(|| "vr".into()),
        records: records(nics),
    })
}

/// An IPv4 address that is named and that no NIC has, as far as the context knows: unbound takes it all the same, but
/// nobody reaches it. IPv6 addresses may come from router advertisements, which the context knows nothing of.
fn tell_strange(reader: &mut Reader<'_>, nics: &[Nic], selected: &[Selected]) {
    let known: Vec<IpAddr> = nics.iter().flat_map(addresses).collect();
    let named = selected.iter().filter_map(|selected| selected.address);
    for address in named.filter(|address| address.is_ipv4() && !known.contains(address)) {
        let message =
            format!("{address} is on no interface of this VM: the name server is not reached there");
        reader.warn("ONEAPP_VNF_DNS_INTERFACES", message);
    }
}

/// The own addresses and the virtual ones: a name server that listens on a NIC answers on all of them.
fn addresses(nic: &Nic) -> impl Iterator<Item = IpAddr> {
    let v4 = nic.ip.into_iter().chain(nic.vips.iter().map(|(_, vip, _)| *vip)).map(IpAddr::V4);
    v4.chain(nic.ip6.map(IpAddr::V6))
}

fn allowed(reader: &mut Reader<'_>, chosen: &[&Nic]) -> Vec<IpNet> {
    let name = "ONEAPP_VNF_DNS_ALLOWED_NETWORKS";
    let given = reader.parse(name, "expected networks such as 10.0.0.0/8, or addresses", |text| {
        words(text)
            .map(|word| word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from)))
            .collect()
    });
    let mut networks: Vec<IpNet> = given.unwrap_or_else(|| {
        let own = chosen.iter().filter_map(|nic| Some((nic.ip?, nic.prefix)));
        let virtual_ones =
            chosen.iter().flat_map(|nic| nic.vips.iter().map(|(_, vip, prefix)| (*vip, *prefix)));
        let v6 = chosen.iter().filter_map(|nic| Ipv6Net::new(nic.ip6?, prefix6(reader, nic)).ok());
        own.chain(virtual_ones)
            .filter_map(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok())
            .map(IpNet::V4)
            .chain(v6.map(IpNet::V6))
            .collect()
    });
    networks.iter_mut().for_each(|network| *network = network.trunc());
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// 64 unless the context says otherwise, as OpenNebula's own scripts have it.
fn prefix6(reader: &Reader<'_>, nic: &Nic) -> u8 {
    let text = reader.text(&format!("ETH{}_IP6_PREFIX_LENGTH", nic.index));
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(64)
}

fn forwarders(reader: &mut Reader<'_>) -> Option<Vec<Forwarder>> {
    let name = "ONEAPP_VNF_DNS_NAMESERVERS";
    if reader.flag("ONEAPP_VNF_DNS_USE_ROOTSERVERS", true) {
        return None;
    }
    let mut forwarders: Vec<Forwarder> = Vec::new();
    let form = "expected addresses of name servers, as ONEAPP_VNF_DNS_USE_ROOTSERVERS is NO";
    let parsed: Option<Vec<Forwarder>> =
        reader.parse(name, form, |text| words(text).map(forwarder).collect::<Option<_>>());
    if parsed.as_ref().is_none_or(Vec::is_empty) && !reader.has_problem(name) {
        reader.warn(name, format!("names none, so only the cluster's own names are known: {form}"));
    }
    for forwarder in parsed.unwrap_or_default() {
        if !forwarders.contains(&forwarder) {
            forwarders.push(forwarder);
        }
    }
    Some(forwarders)
}

/// `ADDRESS[@PORT][#NAME]`: the name is for TLS, which is not spoken here.
fn forwarder(word: &str) -> Option<Forwarder> {
    let word = word.split_once('#').map_or(word, |(place, _)| place);
    let (address, port_text) =
        word.split_once('@').map_or((word, None), |(address, port)| (address, Some(port)));
    let port = port_text.map_or(Some(None), |text| port(text).map(Some))?;
    Some(Forwarder { address: address.parse().ok()?, port })
}

fn domain(text: &str) -> Option<String> {
    match Host::parse(text.trim_end_matches('.'))? {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

/// `ip0.eth0`, `vip0.eth0`, `ep0.eth0`, ...: an endpoint is the virtual address, or where there is none the NIC's own.
fn records(nics: &[Nic]) -> Vec<(String, Ipv4Addr)> {
    let mut records = Vec::new();
    for nic in nics {
        let name = |kind: &str, n: u8| format!("{kind}{n}.{}", nic.name());
        if let Some(ip) = nic.ip {
            records.push((name("ip", 0), ip));
            if !nic.vips.iter().any(|(n, _, _)| *n == 0) {
                records.push((name("ep", 0), ip));
            }
        }
        for (n, vip, _) in &nic.vips {
            records.push((name("vip", *n), *vip));
            records.push((name("ep", *n), *vip));
        }
    }
    records.sort();
    records
}
