//! `<ETHx_IP0>`, `<ETHx_VIPn>`, `<ETHx_EPn>`: addresses by their place. Nodes publish them verbatim, vnf resolves them.

use std::net::Ipv4Addr;

use super::nics::Nic;

/// The address that `text` means: a placeholder resolved over the NICs, or the address that it is, without its
/// `/length`. `None`: neither, so nothing can listen there.
pub fn resolve(nics: &[Nic], text: &str) -> Option<Ipv4Addr> {
    match inner(text) {
        Some(name) => named(nics, name),
        None => text.split('/').next()?.parse().ok(),
    }
}

/// True for a whole value of the form `<...>`, known or not.
pub fn is_placeholder(text: &str) -> bool {
    inner(text).is_some()
}

/// True for a placeholder that could resolve on some vnf.
pub fn is_well_formed(text: &str) -> bool {
    inner(text).and_then(parts).is_some_and(|(_, kind, index)| kind != Kind::Ip || index == 0)
}

/// The NIC and the number of the virtual address that a placeholder asks for.
pub(super) fn virtual_address(text: &str) -> Option<(u8, u8)> {
    inner(text).and_then(parts).filter(|(_, kind, _)| *kind != Kind::Ip).map(|(nic, _, index)| (nic, index))
}

fn inner(text: &str) -> Option<&str> {
    text.strip_prefix('<')?.strip_suffix('>').filter(|name| !name.is_empty())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ip,
    Vip,
    Endpoint,
}

/// `ETH0_VIP1` as NIC 0, VIP, 1. Upper case only, and numbers without leading zeros, as in the variables' names.
fn parts(name: &str) -> Option<(u8, Kind, u8)> {
    let (nic, rest) = name.strip_prefix("ETH")?.split_once('_')?;
    let (kind, index) = [("VIP", Kind::Vip), ("IP", Kind::Ip), ("EP", Kind::Endpoint)]
        .into_iter()
        .find_map(|(word, kind)| Some((kind, rest.strip_prefix(word)?)))?;
    Some((number(nic)?, kind, number(index)?))
}

/// A number as it stands in variable names: digits, no leading zero.
pub(super) fn number(text: &str) -> Option<u8> {
    let number: u8 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn named(nics: &[Nic], name: &str) -> Option<Ipv4Addr> {
    let (index, kind, n) = parts(name)?;
    let nic = nics.iter().find(|nic| nic.index == index)?;
    let ip = nic.ip.filter(|_| n == 0);
    let vip = nic.vips.iter().find(|(number, _, _)| *number == n).map(|(_, vip, _)| *vip);
    match kind {
        Kind::Ip => ip,
        Kind::Vip => vip,
        Kind::Endpoint => vip.or(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::super::nics::tests::nics;
    use super::*;

    #[test]
    fn placeholders_follow_the_contract() {
        let nics = nics(&[
            ("ETH0_IP", "10.0.0.1"),
            ("ONEAPP_VROUTER_ETH0_VIP1", "10.0.0.201/24"),
            ("ETH1_IP", "192.168.1.1"),
            ("ETH1_VROUTER_IP", "192.168.1.250"),
            ("ETH2_IP", "192.168.2.1"),
            ("ETH2_VROUTER_IP", "192.168.2.250"),
            ("ONEAPP_VROUTER_ETH2_VIP0", "192.168.2.99"),
        ]);
        let cases = [
            ("<ETH0_IP0>", "10.0.0.1"),
            ("<ETH0_EP0>", "10.0.0.1"),
            ("<ETH0_VIP0>", "none"),
            ("<ETH0_VIP1>", "10.0.0.201"),
            ("<ETH0_EP1>", "10.0.0.201"),
            ("<ETH0_IP1>", "none"),
            ("<ETH0_EP2>", "none"),
            ("<ETH1_EP0>", "192.168.1.250"),
            ("<ETH2_VIP0>", "192.168.2.99"),
            ("<ETH3_EP0>", "none"),
            ("<eth0_ep0>", "none"),
            ("<ETH0_EP00>", "none"),
            ("<ETH0_EP0>:80", "none"),
            ("10.9.9.9", "10.9.9.9"),
            ("10.9.9.9/24", "10.9.9.9"),
            ("ep0.eth0.vr", "none"),
            ("<>", "none"),
        ];
        for (text, expected) in cases {
            let found = resolve(&nics, text).map_or("none".to_owned(), |ip| ip.to_string());
            assert_eq!(found, expected, "{text}");
        }
        assert!(is_placeholder("<X>") && !is_well_formed("<X>") && !is_well_formed("<ETH0_IP1>"));
        assert!(is_well_formed("<ETH7_VIP3>") && !is_placeholder("<>") && !is_placeholder("x<Y>"));
    }
}
