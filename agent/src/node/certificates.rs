//! How long the certificates last by which this node and its control plane know each other.
//!
//! RKE2 renews them itself, but only when it starts and fewer than 120 days are left (rke2.md, "Keeping"): a node that
//! runs for a year without a restart loses its certificates while it runs.

use x509_cert::Certificate;

use super::Node;
use crate::facts::Observed;
use crate::plan::{Condition, Decision};
use crate::service::Role;

/// Those of every node: the kubelet as a server and as a client, and RKE2's own client.
const OF_NODES: [&str; 3] = [
    "/var/lib/rancher/rke2/agent/client-kubelet.crt",
    "/var/lib/rancher/rke2/agent/client-rke2-controller.crt",
    "/var/lib/rancher/rke2/agent/serving-kubelet.crt",
];
/// Those of servers beside: the API, the administrator's kubeconfig, etcd among its members and towards the API.
const OF_SERVERS: [&str; 4] = [
    "/var/lib/rancher/rke2/server/tls/client-admin.crt",
    "/var/lib/rancher/rke2/server/tls/etcd/peer-server-client.crt",
    "/var/lib/rancher/rke2/server/tls/etcd/server-client.crt",
    "/var/lib/rancher/rke2/server/tls/serving-kube-apiserver.crt",
];
/// From so many days before their end it is said how they are renewed.
const WARN_DAYS: i64 = 30;

/// The certificates of a node of this role.
pub fn paths(role: &Role) -> impl Iterator<Item = &'static str> {
    let servers = OF_SERVERS.iter().filter(move |_| *role == Role::Master);
    OF_NODES.iter().chain(servers).copied()
}

/// Until when all of them are valid, and what to do before. A certificate that is not there yet is RKE2's to make.
pub fn decide(node: &Node<'_>, decision: &mut Decision) {
    let mut first: Option<(i64, &str)> = None;
    for path in paths(node.role) {
        let ends = match node.facts.file(path) {
            Observed::Known(file) => valid_until(file.content.expose()),
            Observed::Absent => continue,
            Observed::Unknown(why) => Err(why),
        };
        match ends {
            Ok(ends) if first.is_none_or(|(earliest, _)| ends < earliest) => first = Some((ends, path)),
            Ok(_) => {}
            Err(why) => {
                let message = format!("{path} does not tell how long it is valid: {why}");
                return decision.told.push(Condition::unknown(KIND, "CertificateUnread", message));
            }
        }
    }
    if let Some((ends, path)) = first {
        decision.told.push(judged(
            ends,
            path,
            i64::try_from(node.facts.wall).unwrap_or(i64::MAX),
            node.unit(),
        ));
    }
}

const KIND: &str = "CertificatesValid";

fn judged(ends: i64, path: &str, now: i64, unit: &str) -> Condition {
    let day = jiff::Timestamp::from_second(ends)
        .map_or("the end of time".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
    let left = (ends - now).div_euclid(86_400);
    let renew = format!("RKE2 renews its certificates when it starts: systemctl restart {unit}");
    if left < 0 {
        return Condition::unmet(KIND, "Expired", format!("{path} expired on {day}; {renew}"));
    }
    if left < WARN_DAYS {
        let message = format!("{path} is valid until {day} only, {left} more days; {renew}");
        return Condition::unmet(KIND, "ExpiresSoon", message);
    }
    Condition::met(KIND, "Valid", format!("all certificates are valid until {day}"))
}

/// The end of the first certificate of a PEM file, in seconds since 1970; those behind it are its issuers.
fn valid_until(pem: &str) -> Result<i64, String> {
    let chain = Certificate::load_pem_chain(pem.as_bytes()).map_err(|error| error.to_string())?;
    let first = chain.first().ok_or("there is no certificate in it")?;
    let ends = first.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    i64::try_from(ends).map_err(|_| "its end is out of range".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl ca -selfsign -startdate 20260101000000Z -enddate 20270101000000Z` with a key of Ed25519.
    const PEM: &str = "\
        -----BEGIN CERTIFICATE-----\n\
        MIG+MHICAQEwBQYDK2VwMAwxCjAIBgNVBAMMAXgwHhcNMjYwMTAxMDAwMDAwWhcN\n\
        MjcwMTAxMDAwMDAwWjAMMQowCAYDVQQDDAF4MCowBQYDK2VwAyEA0Rci/U4BiBZV\n\
        X/HdfPlihL7O5yrFiAtd1iAIJewh6eIwBQYDK2VwA0EAWoP5yT9k1Vo/EwLcLrsh\n\
        CEXF81srv9tUVgAjXZqfZ0At0PUV2jQiJHhQhi8Q0Rd0s2WcEG1NMyvNngCyUlYh\n\
        Dw==\n\
        -----END CERTIFICATE-----\n";
    /// 2027-01-01T00:00:00Z.
    const ENDS: i64 = 1_798_761_600;

    #[test]
    fn the_end_is_read_of_the_first_in_a_chain() {
        assert_eq!(valid_until(PEM), Ok(ENDS));
        assert_eq!(valid_until(&format!("{PEM}{PEM}")), Ok(ENDS));
        assert!(valid_until("").is_err());
        assert!(valid_until(&PEM[..200]).is_err());
    }

    #[test]
    fn a_month_before_the_end_it_is_said_how_to_renew() {
        let reason = |days: i64| {
            let condition = judged(ENDS, "/x.crt", ENDS - days * 86_400, "rke2-server.service");
            (condition.status, condition.reason)
        };
        use crate::plan::Status::{False, True};
        assert_eq!(reason(120), (True, "Valid".into()));
        assert_eq!(reason(30), (True, "Valid".into()));
        assert_eq!(reason(29), (False, "ExpiresSoon".into()));
        assert_eq!(reason(-1), (False, "Expired".into()));
        let said = judged(ENDS, "/x.crt", ENDS - 86_400, "rke2-server.service").message;
        assert!(said.starts_with("/x.crt is valid until 2027-01-01 only, 1 more days"), "{said}");
        assert!(said.ends_with("systemctl restart rke2-server.service"), "{said}");
    }
}
