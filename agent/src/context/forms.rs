//! Parsers of values: each takes the whole text and says yes or no. Blanks at the ends are forgiven, since people type
//! them; nothing else is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use base64::{Engine, alphabet};
use ipnet::IpNet;

/// A whole number within bounds: digits only, no sign, no `0x`.
pub(super) fn number(text: &str, low: u32, high: u32) -> Option<u32> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (low..=high).contains(number))
}

/// 1 to 65535.
pub(super) fn port(text: &str) -> Option<u16> {
    number(text, 1, 65_535).and_then(|port| u16::try_from(port).ok())
}

pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    text.trim().parse().ok()
}

/// An IPv6 address; a `/length` behind it is taken off.
pub(super) fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let (ip, length) = text.trim().split_once('/').unwrap_or((text.trim(), "128"));
    number(length, 0, 128)?;
    ip.parse().ok()
}

/// A text of one line.
pub(super) fn line(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && !text.contains(|c: char| c.is_control())).then(|| text.to_owned())
}

/// An address and its `/length`, if it has one: 0 to 32.
pub(super) fn ipv4_prefixed(text: &str) -> Option<(Ipv4Addr, Option<u8>)> {
    match text.trim().split_once('/') {
        None => Some((ipv4(text)?, None)),
        Some((ip, length)) => Some((ip.parse().ok()?, Some(number(length, 0, 32)? as u8))),
    }
}

/// A netmask as its length; the length itself is taken as well.
pub(super) fn mask(text: &str) -> Option<u8> {
    let text = text.trim();
    if let Some(length) = number(text.strip_prefix('/').unwrap_or(text), 0, 32) {
        return Some(length as u8);
    }
    ipnet::ipv4_mask_to_prefix(text.parse().ok()?).ok()
}

/// Six pairs of hex digits; lower case.
pub(super) fn mac(text: &str) -> Option<String> {
    let text = text.trim();
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    let right = text.split(':').count() == 6 && text.split(':').all(pair);
    right.then(|| text.to_ascii_lowercase())
}

/// A network, whether or not its host bits are zero.
pub(super) fn cidr(text: &str) -> Option<IpNet> {
    let (_, length) = text.trim().split_once('/')?;
    number(length, 0, 128)?;
    text.trim().parse().ok()
}

/// One network, or one of each family; host bits cleared.
pub(super) fn cidr_pair(text: &str) -> Option<Vec<IpNet>> {
    let networks: Option<Vec<IpNet>> = text.split(',').map(|item| Some(cidr(item)?.trunc())).collect();
    networks.filter(|networks| match networks[..] {
        [_] => true,
        [a, b] => a.addr().is_ipv4() != b.addr().is_ipv4(),
        _ => false,
    })
}

/// `FIRST-LAST` in either order, one address (with or without a `-` behind it), or a network as its first and last
/// address.
pub(super) fn range(item: &str) -> Option<(IpAddr, IpAddr)> {
    if item.contains('/') {
        let network = cidr(item)?;
        return Some((network.network(), network.broadcast()));
    }
    let (first, last) = item.split_once('-').unwrap_or((item, ""));
    let first: IpAddr = first.trim().parse().ok()?;
    let last = if last.trim().is_empty() { first } else { last.trim().parse().ok()? };
    (first.is_ipv4() == last.is_ipv4()).then_some((first, last))
}

/// A host and a port. A scheme and final slashes are taken off, and an absent port is `None`: the caller warns.
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) scheme: bool,
}

pub(super) fn endpoint(text: &str) -> Option<Endpoint> {
    let text = text.trim();
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let place = bare.unwrap_or(text).trim_end_matches('/');
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else if place.parse::<Ipv6Addr>().is_ok() {
        (place, None)
    } else {
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
    };
    let port = match port {
        Some(text) => Some(self::port(text)?),
        None => None,
    };
    Some(Endpoint { host: self::host(host)?, port, scheme: bare.is_some() })
}

/// An address or a DNS name. What looks like an IPv4 address but is none is no name either.
pub(super) fn host(text: &str) -> Option<String> {
    let text = text.trim();
    if text.parse::<IpAddr>().is_ok() {
        return Some(text.to_owned());
    }
    is_dns_name(text).then(|| text.to_owned())
}

/// RFC 1123: labels of 1 to 63 letters, digits and inner hyphens, 253 in all; not digits alone at the end.
fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !numeric
}

/// The items of a list, without the empty ones: OneFlow's `${vnf...ETH0_IP}` is empty on vnf, and a line break comes
/// with a comma (onegate.md).
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty())
}

/// A name or an address for a certificate. A leading `*.` is allowed.
pub(super) fn certificate_name(item: &str) -> Option<String> {
    host(item.strip_prefix("*.").unwrap_or(item)).map(|_| item.to_owned())
}

/// A proxy, with or without a path: `http://`, `https://`, `socks5://` or `socks5h://`, or bare `host:port`, which Go's
/// clients take as http. Go takes no quotes, backslashes or backticks in a URL, but `$` and `'` in its user part.
pub(super) fn proxy(text: &str) -> Option<String> {
    let text = text.trim();
    let place = match text.split_once("://") {
        Some(("http" | "https" | "socks5" | "socks5h", place)) => place,
        Some(_) => return None,
        None => text,
    };
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let place = place.split('/').next().unwrap_or(place);
    let wild = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '`');
    (!text.contains(wild) && endpoint(place).is_some_and(|e| !e.scheme)).then(|| text.to_owned())
}

/// What is reached without the proxy: a list that ends up in a file of variables, on one line, whatever parted it. Quotes
/// around the whole are taken off, as systemd does in such a file.
pub(super) fn no_proxy(text: &str) -> Option<String> {
    let text = text.trim();
    let bare = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let wild = |c: char| matches!(c, '"' | '\'' | '\\' | '`' | '$');
    let list = items(bare.unwrap_or(text)).collect::<Vec<_>>().join(",");
    (!list.contains(|c: char| wild(c) || c.is_control())).then_some(list)
}

/// An HTTP URL without its final slash.
pub(super) fn http_url(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let place = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let authority = place.split('/').next()?;
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    (clean && endpoint(authority).is_some_and(|e| !e.scheme)).then(|| text.to_owned())
}

/// Base64 to text, with the line breaks forgiven that editors and OneFlow (`,` and a break) put in, and the padding that
/// gets lost: the old scripts did not look for it.
pub(super) fn base64_text(text: &str) -> Option<String> {
    let whole: String = text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
    String::from_utf8(UNPADDED.decode(whole.trim_end_matches('=')).ok()?).ok()
}

const UNPADDED: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

/// What Kubernetes takes as a load balancer class: an optional DNS prefix, a slash, and a label.
pub(super) fn class(text: &str) -> Option<String> {
    let text = text.trim();
    let part = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        let ends = part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric());
        inner && ends && part.len() <= 63
    };
    (text.split('/').count() <= 2 && text.split('/').all(part)).then(|| text.to_owned())
}

/// `v1.33.5+rke2r1`, and `-` for `+` as tags of images write it.
pub(super) fn rke2_version(text: &str) -> Option<String> {
    let text = text.trim();
    let (kubernetes, release) = text.strip_prefix('v')?.split_once(['+', '-'])?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    // A candidate is v1.33.5-rc1+rke2r1.
    let release = release.rsplit('+').next().unwrap_or(release);
    let whole = kubernetes.split('.').count() == 3 && kubernetes.split('.').all(is_number);
    (whole && is_number(release.strip_prefix("rke2r")?)).then(|| text.to_owned())
}

/// The name of a channel: it becomes a part of a URL.
pub(super) fn rke2_channel(text: &str) -> Option<String> {
    let text = text.trim();
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    (!text.is_empty() && text.bytes().all(safe)).then(|| text.to_owned())
}

/// An absolute path, neither `/` itself nor with `..`, control characters or blanks.
pub(super) fn path(text: &str) -> Option<String> {
    let text = text.trim();
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let inside = text.len() > 1 && !text.split('/').any(|part| part == "..");
    let absolute = text.starts_with('/') && !text.trim_matches('/').is_empty();
    (clean && inside && absolute).then(|| text.trim_end_matches('/').to_owned())
}

/// A path in `/dev`.
pub(super) fn device(text: &str) -> Option<String> {
    path(text).filter(|path| path.starts_with("/dev/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_releases_of_rke2() {
        for version in ["v1.33.5+rke2r1", "v1.33.5-rke2r1", "v1.34.0-rc1+rke2r2"] {
            assert!(rke2_version(version).is_some(), "{version}");
        }
        for version in ["1.33", "v1.33", "v1.33.5", "1.33.5+rke2r1", "v1.33.5+k3s1", "v1.33.x+rke2r1", ""] {
            assert!(rke2_version(version).is_none(), "{version}");
        }
        assert_eq!(rke2_channel(" v1.33 ").as_deref(), Some("v1.33"));
        assert!(rke2_channel("../x").is_none());
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(port("6443"), Some(6443));
        for wrong in ["0", "70000", "0x50", "1_000", "+80", "-1", "", "80 81"] {
            assert_eq!(port(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn prefixes_are_in_range() {
        assert_eq!(ipv4_prefixed("10.0.0.1/24 "), Some(([10, 0, 0, 1].into(), Some(24))));
        for wrong in
            ["10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/abc", "10.0.0.1/", "fd00::1", "10.0.0", "010.0.0.1"]
        {
            assert_eq!(ipv4_prefixed(wrong), None, "{wrong}");
        }
        assert_eq!((mask("255.255.255.0"), mask("24"), mask("/24")), (Some(24), Some(24), Some(24)));
        assert_eq!((mask("255.0.255.0"), mask("ffff:ffff::")), (None, None));
        for wrong in ["10.0.0.0", "10.0.0.0/-1", "10.0.0.0/0x10", "10.0.0.0/33", "/24"] {
            assert_eq!(cidr(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn endpoints_have_a_host() {
        let check = |text: &str| {
            endpoint(text).map(|e| {
                let port = e.port.map_or("none".to_owned(), |port| port.to_string());
                format!("{} {port}{}", e.host, if e.scheme { " scheme" } else { "" })
            })
        };
        assert_eq!(check("ep0.eth0.vr:9345").as_deref(), Some("ep0.eth0.vr 9345"));
        assert_eq!(check("https://10.0.0.1:6443/").as_deref(), Some("10.0.0.1 6443 scheme"));
        assert_eq!(check("[fd00::1]:6443").as_deref(), Some("fd00::1 6443"));
        assert_eq!(check("fd00::1").as_deref(), Some("fd00::1 none"));
        assert_eq!(check("host").as_deref(), Some("host none"));
        assert_eq!(check("host:1/").as_deref(), Some("host 1"));
        for wrong in [
            ":9345",
            "",
            "a:b",
            "a:0",
            "<ETH0_EP0>:9345",
            "10.0.0.300:1",
            "a/b:1",
            "ftp://a:1",
            "a b:1",
            "[x]:1",
        ] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_are_kind() {
        let check = |text: &str| range(text).map(|(a, b)| format!("{a}-{b}"));
        for (text, expected) in [
            (" 10.0.0.1 - 10.0.0.9 ", "10.0.0.1-10.0.0.9"),
            ("10.0.1.1", "10.0.1.1-10.0.1.1"),
            ("10.0.1.1-", "10.0.1.1-10.0.1.1"),
            ("10.0.0.0/28", "10.0.0.0-10.0.0.15"),
            ("fd00::1-fd00::ff", "fd00::1-fd00::ff"),
        ] {
            assert_eq!(check(text).as_deref(), Some(expected));
        }
        for wrong in ["10.0.0.1-fd00::1", "-10.0.0.1", "x", "10.0.0.0/99", "10.0.0.1-10.0.0.2-10.0.0.3", ""] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn urls_paths_and_names_cannot_inject() {
        for right in ["http://user:p$s'@proxy.example:3128/", "proxy:3128", "socks5h://p:1", "http://p:1/x"] {
            assert!(proxy(right).is_some(), "{right}");
        }
        assert_eq!(no_proxy("'10.0.0.0/8,\n .svc, ,a b'").as_deref(), Some("10.0.0.0/8,.svc,a,b"));
        assert_eq!((no_proxy("a,\"b\""), no_proxy("$(id)")), (None, None));
        for wrong in
            ["ftp://p:1", "http://", "http://a b", "http://p:x", "http://p\nX=1", "http://p:1\"", "://x"]
        {
            assert_eq!(proxy(wrong), None, "{wrong}");
        }
        assert_eq!(http_url("http://169.254.16.9:5030/").as_deref(), Some("http://169.254.16.9:5030"));
        assert_eq!((http_url("169.254.16.9:5030"), http_url("http://x y")), (None, None));
        assert_eq!(path("/var/lib/longhorn/").as_deref(), Some("/var/lib/longhorn"));
        for wrong in ["/", "//", "var", "/a/../b", "/a b", "/a\nb", ""] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
        assert_eq!((device("/dev/vdb").is_some(), device("/etc/passwd")), (true, None));
        assert_eq!(items("a,\nb, ,c d,").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert!(["localhost", "127.0.0.1", "*.x.org"].iter().all(|name| certificate_name(name).is_some()));
        assert!(["https://x", "b:1", "300.1.1.1"].iter().all(|name| certificate_name(name).is_none()));
        assert!(class("metallb").is_some() && class("a.b/c-d").is_some() && class("a b").is_none());
    }

    #[test]
    fn base64_forgives_line_breaks() {
        assert_eq!(base64_text("YToK,\nIC0geAo=").as_deref(), Some("a:\n - x\n"));
        assert_eq!(base64_text("YTogMQ").as_deref(), Some("a: 1"), "without its padding");
        assert_eq!((base64_text("a: b"), base64_text("/w==")), (None, None));
    }
}
