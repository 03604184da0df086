//! What masters read about MetalLB.

use std::net::IpAddr;

use ipnet::IpNet;

use super::nics::Nic;
use super::reader::Reader;
use super::table::{Form, Roles};
use super::{forms, manifests, networks};

const NODES: Roles = Roles::NODES;
const RANGE: &str = "ONEAPP_K8S_METALLB_RANGE";
const CLASS: &str = "ONEAPP_K8S_METALLB_CLASS";

/// What the variables of MetalLB hold.
pub(super) struct Metallb {
    pub(super) enabled: bool,
    pub(super) class: String,
    pub(super) config: Option<String>,
    pub(super) ranges: Vec<(IpAddr, IpAddr)>,
}

impl Metallb {
    pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic]) -> Self {
        let enabled = reader.on("ONEAPP_K8S_METALLB_ENABLED", NODES);
        reader.only_if(enabled, |reader| {
            // The old image had it fixed, so that any value came up.
            let class = reader.forgiving(CLASS, NODES, "metallb is taken", forms::class).unwrap_or_default();
            let config = manifests::read(reader, "ONEAPP_K8S_METALLB_CONFIG");
            let ranges = reader.only_if(config.is_none(), |reader| Self::ranges(reader, nics));
            if enabled && config.is_none() && ranges.is_empty() {
                let message = "MetalLB has no addresses to give: set ONEAPP_K8S_METALLB_RANGE";
                reader.warn(RANGE, message);
            }
            Self { enabled, class, config, ranges }
        })
    }

    /// MetalLB's generated pool answers ARP and neighbour solicitations on the nodes' own networks, so a range elsewhere
    /// reaches nobody. A family of which the context tells no network is not judged.
    fn ranges(reader: &mut Reader<'_>, nics: &[Nic]) -> Vec<(IpAddr, IpAddr)> {
        let mut all = Vec::new();
        let subnets = [networks::of_nics(nics), networks::of_nics6(reader, nics)].concat();
        for name in reader.vars().names(RANGE) {
            let value = reader.text(&name).unwrap_or_default();
            for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                let Some((first, last)) = forms::range(item) else {
                    reader.warn(&name, format!("{item:?} is not {}: it is passed over", Form::Ranges));
                    continue;
                };
                if let Some(expected) = misplaced(first, last, &subnets) {
                    reader.problem(&name, value, expected);
                }
                all.push((first, last));
            }
        }
        all
    }
}

/// What should stand in place of a range from which MetalLB can give nothing.
fn misplaced(first: IpAddr, last: IpAddr, subnets: &[(String, IpNet)]) -> Option<String> {
    if last < first {
        return Some(format!("expected {}: the last address is below the first", Form::Ranges));
    }
    let same_family = |(_, net): &&(String, IpNet)| net.addr().is_ipv4() == first.is_ipv4();
    let subnets: Vec<_> = subnets.iter().filter(same_family).collect();
    let near = subnets.iter().any(|(_, net)| net.contains(&first) && net.contains(&last));
    let own: Vec<String> = subnets.iter().map(|(nic, net)| format!("{nic} {net}")).collect();
    let expected = || format!("expected addresses of a network of this VM: {}", own.join(", "));
    (!subnets.is_empty() && !near).then(expected)
}
