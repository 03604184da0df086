//! Default routes of IPv4, through `ip`; and by which file systemd-networkd configured an interface.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::bail;

use super::command;
use crate::facts::{DefaultRoute, Observed, Routes};

const LIMIT: Duration = Duration::from_secs(5);

/// The ways out, and the files of these interfaces. Without an interface nothing is looked at.
pub async fn read(devices: &[String]) -> Observed<Routes> {
    if devices.is_empty() {
        return Observed::default();
    }
    let networkd = devices.iter().filter_map(|device| Some((device.clone(), network_file(device)?)));
    let networkd: BTreeMap<_, _> = networkd.collect();
    match defaults().await {
        Ok(defaults) => Observed::Known(Routes { defaults, networkd }),
        Err(error) => Observed::Unknown(format!("{error:#}")),
    }
}

async fn defaults() -> anyhow::Result<Vec<DefaultRoute>> {
    // -N: protocols by number, whatever names /etc/iproute2 gives them.
    let outcome = command::run("ip", ["-N", "-4", "route", "show", "default"], LIMIT).await?;
    if outcome.code != Some(0) {
        bail!("could not list the default routes: {}", outcome.said);
    }
    Ok(outcome.said.lines().filter_map(default_route).collect())
}

/// A line of `ip route`: `default via 10.0.0.1 dev eth0 proto 4 metric 100 onlink`.
fn default_route(line: &str) -> Option<DefaultRoute> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |key: &str| words.windows(2).find(|pair| pair[0] == key).map(|pair| pair[1]);
    if words.first() != Some(&"default") {
        return None;
    }
    Some(DefaultRoute {
        // None for `via inet6 ADDRESS` as well, which is not ours.
        via: after("via").and_then(|via| via.parse().ok()),
        // A route with several next hops names them in lines of their own.
        device: after("dev").unwrap_or_default().to_owned(),
        // Not printed: RTPROT_BOOT, what `ip route add` gives by itself (iproute.c).
        protocol: after("proto").and_then(|proto| proto.parse().ok()).unwrap_or(3),
    })
}

/// What systemd-networkd says of an interface in its state files; sd_network_link_get_network_file, by which `networkctl
/// status` shows the Network File, reads the same line. They are systemd's own affair: should the line go one day, the
/// agent alone sets the route. None if networkd does not manage the interface, or does not run.
fn network_file(device: &str) -> Option<String> {
    let index = std::fs::read_to_string(format!("/sys/class/net/{device}/ifindex")).ok()?;
    let state = std::fs::read_to_string(format!("/run/systemd/netif/links/{}", index.trim())).ok()?;
    state.lines().find_map(|line| line.strip_prefix("NETWORK_FILE=")).map(str::to_owned)
}

/// Sets the default route of metric 0.
///
/// # Errors
/// What `ip` said.
pub async fn set(via: Ipv4Addr, device: &str, protocol: u8) -> anyhow::Result<()> {
    let (via, protocol) = (via.to_string(), protocol.to_string());
    let words = ["-4", "route", "replace", "default", "via", &via, "dev", device, "proto", &protocol];
    let outcome = command::run("ip", words, LIMIT).await?;
    if outcome.code != Some(0) {
        bail!("ip refused it: {}", outcome.said);
    }
    Ok(())
}

/// Removes this very default route; absent already is success.
///
/// # Errors
/// What `ip` said, if the route is still there.
pub async fn remove(via: Option<Ipv4Addr>, device: &str, protocol: u8) -> anyhow::Result<()> {
    let number = protocol.to_string();
    let gateway = via.map(|via| via.to_string());
    let mut words = vec!["-4", "route", "del", "default", "dev", device, "proto", &number];
    if let Some(gateway) = &gateway {
        words.extend(["via", gateway]);
    }
    let outcome = command::run("ip", words, LIMIT).await?;
    let gone = DefaultRoute { via, device: device.to_owned(), protocol };
    if outcome.code != Some(0) && defaults().await?.contains(&gone) {
        bail!("ip refused it: {}", outcome.said);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(Option<&str>, &str, u8)>) {
        let expected = expected.map(|(via, device, protocol)| DefaultRoute {
            via: via.map(|via| via.parse().unwrap()),
            device: device.to_owned(),
            protocol,
        });
        assert_eq!(default_route(line), expected, "{line}");
    }

    #[test]
    fn routes_are_read_as_ip_prints_them() {
        check("default via 10.0.0.1 dev eth0 proto 4 metric 100 onlink", Some((Some("10.0.0.1"), "eth0", 4)));
        check("default via 172.20.0.100 dev eth0 proto 199 ", Some((Some("172.20.0.100"), "eth0", 199)));
        check("default via 10.0.0.1 dev eth0 linkdown", Some((Some("10.0.0.1"), "eth0", 3)));
        check("default dev ppp0 proto 4 scope 253", Some((None, "ppp0", 4)));
        check("default via inet6 fe80::1 dev eth0 proto 4", Some((None, "eth0", 4)));
        check("default proto 4 metric 20", Some((None, "", 4)));
        check("\tnexthop via 10.0.0.1 dev eth0 weight 1", None);
    }

    #[tokio::test]
    async fn nothing_is_looked_at_unless_asked() {
        assert_eq!(read(&[]).await, Observed::default());
    }
}
