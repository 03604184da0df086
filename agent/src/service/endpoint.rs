//! Where OneGate is.

use std::net::IpAddr;

/// True if the endpoint's host is a link-local address: it answers only through a route of its own, which the guest
/// must set (the transparent proxy of OpenNebula is `http://169.254.16.9:5030`).
pub fn needs_link_route(endpoint: &str) -> bool {
    match host(endpoint).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local(),
        Err(_) => false, // A name: whoever resolves it routes it.
    }
}

/// The host of a URL, without brackets; empty if there is none.
fn host(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.strip_prefix('[') {
        Some(bracketed) => bracketed.split([']', '%']).next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_link_local_addresses_need_a_route() {
        for endpoint in
            ["http://169.254.16.9:5030", "https://169.254.0.1/onegate", "http://[fe80::1%25eth0]:5030"]
        {
            assert!(needs_link_route(endpoint), "{endpoint}");
        }
        for endpoint in
            ["http://10.0.0.1:5030", "http://169.254.example", "http://[2001:db8::1]:5030", "", "http://"]
        {
            assert!(!needs_link_route(endpoint), "{endpoint}");
        }
    }
}
