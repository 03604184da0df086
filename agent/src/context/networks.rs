//! The cluster's networks: pods and services apart from each other and from the nodes' own.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::forms;
use super::nics::Nic;
use super::reader::Reader;
use super::table::{Roles, find};

const CLUSTER: &str = "ONEAPP_K8S_CLUSTER_CIDR";
const SERVICE: &str = "ONEAPP_K8S_SERVICE_CIDR";

/// The pods' and the services' networks.
pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> (Vec<IpNet>, Vec<IpNet>) {
    let cluster = network(reader, CLUSTER);
    let service = network(reader, SERVICE);
    if families(&cluster) != families(&service) {
        let expected = format!("expected the same address families as {CLUSTER}={:?}", joined(&cluster));
        reader.problem(SERVICE, &joined(&service), expected);
    }
    if families(&cluster).0 == 0 && !cluster.is_empty() {
        let expected = "expected an IPv4 network, or one of each family: nodes are in their cluster by their IPv4 address";
        reader.problem(CLUSTER, &joined(&cluster), expected.to_owned());
    }
    large_enough(reader, &cluster, &service);
    if let Some((a, b)) = first_overlap(&service, &cluster) {
        let expected =
            format!("expected a network apart from the pods': {a} overlaps {CLUSTER}={:?}", b.to_string());
        reader.problem(SERVICE, &joined(&service), expected);
    }
    let own = [told(reader, nics), of_nics6(reader, nics)].concat();
    for (name, networks) in [(CLUSTER, &cluster), (SERVICE, &service)] {
        for (nic, net) in &own {
            let Some((a, b)) = first_overlap(networks, std::slice::from_ref(net)) else { continue };
            // The longer prefix wins in every routing table, so this works as long as no node has such an address; and
            // nobody chose it.
            if is_default(name, a) && b.prefix_len() < a.prefix_len() {
                let message =
                    format!("{a} is a part of {b} of {nic}: no machine there may have an address of it");
                reader.warn(name, message);
                continue;
            }
            let expected = format!("expected a network apart from this VM's: {a} overlaps {b} of {nic}");
            reader.problem(name, &joined(networks), expected);
        }
    }
    (cluster, service)
}

/// Each node takes a /24 and a /64 of the pods' networks (kube-controller-manager, `--node-cidr-mask-size-ipv4` and
/// `-ipv6`, which must not be more than 16 bits longer than an IPv6 network); of the services' the tenth address is the
/// cluster's name server.
fn large_enough(reader: &mut Reader<'_>, cluster: &[IpNet], service: &[IpNet]) {
    let extra = reader.text(crate::node::files::EXTRA_CONFIG).and_then(forms::base64_text);
    let own_sizes = extra.is_some_and(|extra| extra.contains("node-cidr-mask-size"));
    for network in cluster.iter().filter(|_| !own_sizes) {
        let (lengths, share) = match network {
            IpNet::V4(_) => (1..=24, "/24"),
            IpNet::V6(_) => (48..=64, "/64"),
        };
        if !lengths.contains(&network.prefix_len()) {
            let (shortest, longest) = (lengths.start(), lengths.end());
            let expected =
                format!("expected a length from /{shortest} to /{longest}: each node takes a {share} of it");
            reader.problem(CLUSTER, &network.to_string(), expected);
        }
    }
    for network in service.iter().filter(|net| net.max_prefix_len() - net.prefix_len() < 4) {
        let expected = "expected at least 16 addresses: the tenth is the cluster's name server".to_owned();
        reader.problem(SERVICE, &network.to_string(), expected);
    }
}

fn is_default(name: &str, network: IpNet) -> bool {
    find(name, Roles::NODES).is_some_and(|variable| variable.default == network.to_string())
}

fn network(reader: &mut Reader<'_>, name: &str) -> Vec<IpNet> {
    let networks = reader.value(name, Roles::NODES, forms::cidr_pair).unwrap_or_default();
    let typed = reader.text(name).unwrap_or_default();
    if typed.split(',').filter_map(forms::cidr).any(|net| net != net.trunc()) {
        reader.warn(name, format!("{typed:?} has host bits: {} is taken", joined(&networks)));
    }
    networks
}

/// The IPv4 network of each NIC that has an address.
pub(super) fn of_nics(nics: &[Nic]) -> Vec<(String, IpNet)> {
    let network = |nic: &Nic| {
        let net = Ipv4Net::new(nic.ip?, nic.prefix).ok()?.trunc();
        Some((nic.name(), IpNet::V4(net)))
    };
    nics.iter().filter_map(network).collect()
}

/// The IPv6 networks of each NIC, as far as the context tells its addresses; /64 where it tells no length, for that is
/// what a network with router advertisements has (RFC 4862).
pub(super) fn of_nics6(reader: &Reader<'_>, nics: &[Nic]) -> Vec<(String, IpNet)> {
    let network = |nic: &Nic, rest: &str| {
        let text = reader.text(&format!("ETH{}_{rest}", nic.index))?;
        let told = || reader.text(&format!("ETH{}_IP6_PREFIX_LENGTH", nic.index)).filter(|_| rest == "IP6");
        let length = text.split_once('/').map(|(_, length)| length).or_else(told);
        let length = length.and_then(|length| u8::try_from(forms::number(length, 1, 128)?).ok());
        let net = Ipv6Net::new(forms::ipv6(text)?, length.unwrap_or(64)).ok()?.trunc();
        Some((nic.name(), IpNet::V6(net)))
    };
    let of_one = |nic| ["IP6", "IPV6", "IP6_ULA"].into_iter().filter_map(move |rest| network(nic, rest));
    nics.iter().flat_map(of_one).collect()
}

/// Those networks whose length the context tells, by `/length` or a mask; an inferred length is too rough a guess to
/// refuse a cluster for: 10.0.0.1 alone would claim all of 10.0.0.0/8.
fn told(reader: &Reader<'_>, nics: &[Nic]) -> Vec<(String, IpNet)> {
    let told = |nic: &Nic| {
        let ip = reader.text(&format!("ETH{}_IP", nic.index)).unwrap_or_default();
        ip.contains('/') || reader.text(&format!("ETH{}_MASK", nic.index)).is_some()
    };
    of_nics(&nics.iter().filter(|nic| told(nic)).cloned().collect::<Vec<_>>())
}

fn families(networks: &[IpNet]) -> (usize, usize) {
    let v4 = networks.iter().filter(|net| net.addr().is_ipv4()).count();
    (v4, networks.len() - v4)
}

fn first_overlap(these: &[IpNet], those: &[IpNet]) -> Option<(IpNet, IpNet)> {
    let pairs = these.iter().flat_map(|a| those.iter().map(move |b| (*a, *b)));
    pairs.into_iter().find(|(a, b)| a.contains(b) || b.contains(a))
}

fn joined(networks: &[IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
