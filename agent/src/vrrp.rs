//! VRRP on the wire: reads the adverts by which virtual routers speak, version 2 (RFC 3768) and 3 (RFC 5798) of IPv4.
//!
//! What Keepalived would not believe either (a wrong checksum, a packet that a router passed on) is no advert: it
//! moves no address, and anybody could send it from afar.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::facts::Moment;

/// VRRP's number among IP's protocols.
pub const PROTOCOL: u8 = 112;
/// The group to which adverts go (RFC 5798, 5.1.1.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// One advert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Who speaks.
    pub source: Ipv4Addr,
    /// The virtual router ID that it speaks for.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// 0: it gives its addresses up in this moment.
    pub priority: u8,
    /// When it speaks next.
    pub interval: Duration,
    /// The addresses that it holds.
    pub addresses: Vec<Ipv4Addr>,
}

/// A virtual router that was heard a while ago at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// On which interface.
    pub interface: String,
    /// Its last advert.
    pub advert: Advert,
    /// Since when it speaks without a longer silence.
    pub since: Moment,
    /// When it spoke last.
    pub at: Moment,
}

impl Heard {
    /// True while it holds its addresses, as far as one can hear: backups are silent, and three adverts that fail to
    /// come make one of them the master.
    pub fn is_master(&self, now: Moment) -> bool {
        self.advert.priority > 0 && now.saturating_sub(self.at) <= self.advert.interval * 3
    }
}

/// The advert in an IPv4 packet with its header; `None` for everything else, and for whatever is cut off or damaged.
pub fn parse(packet: &[u8]) -> Option<Advert> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let whole = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let is_ipv4 = packet[0] >> 4 == 4 && header >= 20;
    // 255 cannot come from beyond a router (RFC 5798, 5.1.1.3).
    let is_near = packet.get(8) == Some(&255);
    if !is_ipv4 || !is_near || packet.get(9) != Some(&PROTOCOL) {
        return None;
    }
    let source = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
    let message = packet.get(header..whole)?;
    let [kind, vrid, priority, count, high, low, _, _, rest @ ..] = message else { return None };
    let version = kind >> 4;
    let is_advert = kind & 0x0f == 1 && *vrid != 0;
    let interval = match version {
        2 if sums_up(&[message]) => Duration::from_secs(u64::from(*low)),
        3 if sums_up(&[message]) || sums_up(&[&pseudo_header(packet, message.len())?, message]) => {
            Duration::from_millis(u64::from(u16::from_be_bytes([high & 0x0f, *low])) * 10)
        }
        _ => return None,
    };
    // Version 2 has eight bytes of password behind the addresses.
    let addresses = rest.get(..usize::from(*count) * 4).filter(|_| is_advert)?;
    let addresses = addresses.chunks_exact(4).map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3])).collect();
    Some(Advert { source, vrid: *vrid, version, priority: *priority, interval, addresses })
}

/// What version 3 sums up beside the message (RFC 5798, 5.2.8); some routers leave it out.
fn pseudo_header(packet: &[u8], length: usize) -> Option<[u8; 12]> {
    let mut header = [0; 12];
    header[..8].copy_from_slice(packet.get(12..20)?);
    header[9] = PROTOCOL;
    header[10..].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    Some(header)
}

/// The Internet's checksum (RFC 1071): all words, the sum among them, make up all ones.
fn sums_up(parts: &[&[u8]]) -> bool {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    // A packet has under 32,768 words, so two folds suffice.
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.bytes().filter_map(|b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn shown(packet: &[u8]) -> Option<String> {
        parse(packet).map(|Advert { source, vrid, version, priority, interval, addresses }| {
            format!("{source} v{version} vrid {vrid} priority {priority} {interval:?} {addresses:?}")
        })
    }

    // What Keepalived 2.2.7 sent.
    const V2: &str = "45c0002800010000ff70d0880a090001e0000012 21076401000170890a090064 0000000000000000";
    const V2_PASSWORD: &str =
        "45c0002800010000ff70d0880a090001e0000012 210764010101333d0a090064 7365637265740000";
    const V3: &str = "45c0002000010000ff70d0900a090001e0000012 31076401001475dd0a090064";
    const V3_LEAVING: &str = "45c0002000190000ff70d0780a090001e0000012 310700010014d9dd0a090064";

    #[test]
    fn both_versions_are_read() {
        assert_eq!(shown(&bytes(V2)).as_deref(), Some("10.9.0.1 v2 vrid 7 priority 100 1s [10.9.0.100]"));
        assert_eq!(
            shown(&bytes(V2_PASSWORD)).as_deref(),
            Some("10.9.0.1 v2 vrid 7 priority 100 1s [10.9.0.100]")
        );
        assert_eq!(shown(&bytes(V3)).as_deref(), Some("10.9.0.1 v3 vrid 7 priority 100 200ms [10.9.0.100]"));
        assert_eq!(
            shown(&bytes(V3_LEAVING)).as_deref(),
            Some("10.9.0.1 v3 vrid 7 priority 0 200ms [10.9.0.100]")
        );
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_none() {
        for packet in [bytes(V2), bytes(V3)] {
            for length in 0..packet.len() {
                assert_eq!(parse(&packet[..length]), None, "{length} bytes");
            }
            // Of the IP header only version, length, hop limit, protocol and addresses are looked at.
            for at in (8..10).chain(20..packet.len()) {
                let mut damaged = packet.clone();
                damaged[at] ^= 1;
                assert_eq!(parse(&damaged), None, "byte {at}");
            }
        }
    }

    #[test]
    fn a_count_that_promises_more_than_there_is_is_refused() {
        let mut packet = bytes(V2);
        // One address more, and the checksum made good: its high byte was not 0.
        packet[23] += 1;
        let sum = u16::from_be_bytes([packet[26], packet[27]]) - 1;
        packet[26..28].copy_from_slice(&sum.to_be_bytes());
        // Version 2's password is room for two more addresses, which then would be taken for one.
        assert!(parse(&packet).is_some_and(|advert| advert.addresses.len() == 2));
        packet[23] += 9;
        let sum = u16::from_be_bytes([packet[26], packet[27]]) - 9;
        packet[26..28].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&packet), None);
    }

    #[test]
    fn a_router_is_master_while_it_speaks() {
        let advert = parse(&bytes(V3)).unwrap();
        let at = Duration::from_secs(100);
        let mut heard = Heard { interface: "eth0".into(), advert, since: at, at };
        assert!(heard.is_master(at + Duration::from_millis(600)));
        assert!(!heard.is_master(at + Duration::from_millis(601)));
        heard.advert.priority = 0;
        assert!(!heard.is_master(at));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(packet in proptest::collection::vec(proptest::num::u8::ANY, 0..128)) {
            let _ = parse(&packet);
        }
    }
}
