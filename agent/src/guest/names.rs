//! The name server of a node, unless `ONEAPP_VNF_DNS_ENABLED` is off: `ONEAPP_VROUTER_ETH1_VIP0`, else `FALLBACK_DNS`
//! (contract.md 1.1).
//!
//! - Where /etc/resolv.conf is systemd-resolved's link, by a drop-in of ours: all names are asked of the vnf.
//! - Where it is a file, by its `nameserver` lines; the rest of it stays. The file as it was is kept as [`BEFORE`], and
//!   put back when the context drops the server. When somebody else (one-context) writes it anew, that is the new
//!   "before".
//! - Where it is anybody else's link it is left alone, and told.
//!
//! It counts for Ready only where the cluster's endpoints are names, which the vnf alone may know.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{keep, public, unfulfilled};
use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Active, Facts, Observed};
use crate::plan::{Condition, Decision, Effect, Load, digest};

/// What every resolver reads.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// That file as it was before us.
pub const BEFORE: &str = "/var/lib/oneke-agent/resolv.conf.before";
/// Our drop-in for systemd-resolved.
pub const RESOLVED: &str = "/etc/systemd/resolved.conf.d/oneke.conf";

const UNIT: &str = "systemd-resolved.service";
const KIND: &str = "NamesResolved";
/// The first line of a resolv.conf of ours.
const MARK: &str = "# kept by oneke-agent: the name server of the service; the file as it was: ";

/// Who resolves names, and what we have there.
pub fn interests(interests: &mut Interests) {
    interests.files.extend([RESOLV_CONF, BEFORE, RESOLVED].map(str::to_owned));
    interests.symlinks.push(RESOLV_CONF.into());
    interests.units.push(UNIT.into());
}

/// Makes the node ask the service's name server, or no longer.
pub fn decide(config: &Config, facts: &Facts, decision: &mut Decision) {
    let wish = wish(config);
    let outcome = match resolver(facts) {
        Resolver::Resolved => {
            keep(BEFORE, None, facts, decision);
            resolved(wish, facts, decision)
        }
        Resolver::File => {
            // Where systemd cannot be asked our drop-in stays a pass longer: nothing that matters reads it here.
            resolved(None, facts, decision).ok();
            match wish {
                Some(server) => file(server, facts, decision),
                None => put_back(facts, decision),
            }
        }
        Resolver::Foreign(target) => {
            keep(BEFORE, None, facts, decision);
            // As above.
            resolved(None, facts, decision).ok();
            let why =
                format!("{RESOLV_CONF} is a link to {target}, which is not ours to change: add it there");
            Err(Shortfall::Left(why))
        }
        Resolver::Unseen(why) => Err(Shortfall::Unseen(why)),
    };
    let Some(server) = wish else { return };
    if outcome.is_err() {
        decision.look_again_within(Duration::from_secs(5));
    }
    decision.conditions.push(condition(config, server, outcome));
}

fn wish(config: &Config) -> Option<Ipv4Addr> {
    config.node.eth1_vip0.or(config.node.fallback_dns).filter(|_| config.node.vnf_dns)
}

/// Who answers this machine's questions.
enum Resolver {
    Resolved,
    File,
    Foreign(String),
    Unseen(String),
}

fn resolver(facts: &Facts) -> Resolver {
    match facts.symlinks.get(RESOLV_CONF) {
        Some(Observed::Known(target)) => {
            let below = target.trim_start_matches("../").trim_start_matches('/');
            // The three files that systemd-resolved(8) names; /lib is /usr/lib.
            let is_resolved = below.starts_with("run/systemd/resolve/")
                || matches!(below, "usr/lib/systemd/resolv.conf" | "lib/systemd/resolv.conf");
            if is_resolved { Resolver::Resolved } else { Resolver::Foreign(target.clone()) }
        }
        Some(Observed::Absent) => Resolver::File,
        Some(Observed::Unknown(why)) => Resolver::Unseen(why.clone()),
        None => Resolver::Unseen(format!("{RESOLV_CONF} was not looked at")),
    }
}

/// Why the server is not asked.
enum Shortfall {
    /// It will be in a moment.
    Changing(String),
    /// It is not for us to do.
    Left(String),
    Unseen(String),
}

/// Keeps our drop-in, or none. What systemd-resolved has read is remembered until the next boot, so a crash between
/// the two effects heals; the price is one more reading after each boot.
fn resolved(wish: Option<Ipv4Addr>, facts: &Facts, decision: &mut Decision) -> Result<(), Shortfall> {
    let text = wish.map(|server| {
        format!("# The service's name server; kept by oneke-agent.\n[Resolve]\nDNS={server}\nDomains=~.\n")
    });
    let unit = match facts.unit(UNIT) {
        Observed::Known(unit) => unit,
        Observed::Absent if wish.is_none() => {
            keep(RESOLVED, None, facts, decision);
            return Ok(());
        }
        Observed::Absent => {
            let why = format!("{RESOLV_CONF} is a link into systemd-resolved, which is not installed");
            return Err(Shortfall::Left(why));
        }
        Observed::Unknown(why) => return Err(Shortfall::Unseen(why)),
    };
    if let Observed::Unknown(why) = facts.file(RESOLVED) {
        return Err(Shortfall::Unseen(why));
    }
    let wanted = digest(text.as_deref().unwrap_or_default());
    let has_read = match &unit.loaded {
        Some(loaded) => *loaded == wanted,
        // Without our drop-in there is nothing of ours that it could have read.
        None => text.is_none() && facts.file(RESOLVED).is_absent(),
    };
    keep(RESOLVED, text, facts, decision);
    let runs = !matches!(unit.active, Active::Inactive | Active::Failed);
    // To withdraw a server nobody needs to be started.
    if (has_read && runs) || (wish.is_none() && !runs) {
        return Ok(());
    }
    decision.asides.push(if has_read {
        Effect::StartUnit(UNIT.into())
    } else {
        Effect::LoadConfig { unit: UNIT.into(), how: Load::Reload, digest: wanted }
    });
    let what = if runs { "is taking it in" } else { "does not run: starting it" };
    Err(Shortfall::Changing(format!("{UNIT} {what}")))
}

/// Keeps the `nameserver` line of a plain resolv.conf ours.
fn file(server: Ipv4Addr, facts: &Facts, decision: &mut Decision) -> Result<(), Shortfall> {
    let there = match facts.file(RESOLV_CONF) {
        Observed::Known(file) => file.content.expose(),
        Observed::Absent => "",
        Observed::Unknown(why) => return Err(Shortfall::Unseen(why)),
    };
    let wanted = with_server(there, server);
    if there == wanted {
        return Ok(());
    }
    if !there.starts_with(MARK) {
        if let Observed::Unknown(why) = facts.file(BEFORE) {
            return Err(Shortfall::Unseen(why));
        }
        // First, so that a crash between the two loses nothing. Where there was no file there shall be none again.
        let before = facts.file(RESOLV_CONF).known().map(|_| there.to_owned());
        keep(BEFORE, before, facts, decision);
    }
    decision.asides.push(Effect::WriteFile(public(RESOLV_CONF, wanted)));
    Err(Shortfall::Changing(format!("{RESOLV_CONF} is being changed")))
}

/// The text with this server instead of its own; search, options and comments stay.
fn with_server(text: &str, server: Ipv4Addr) -> String {
    let is_kept =
        |line: &&str| !line.starts_with(MARK) && line.split_whitespace().next() != Some("nameserver");
    let kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    format!("{MARK}{BEFORE}\nnameserver {server}\n{kept}")
}

/// Undoes what [`file`] did, if it did; a file that somebody else has written since stays as it is.
fn put_back(facts: &Facts, decision: &mut Decision) -> Result<(), Shortfall> {
    let (there, before) = match (facts.file(RESOLV_CONF), facts.file(BEFORE)) {
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => return Err(Shortfall::Unseen(why)),
        (there, before) => (there, before),
    };
    if there.known().is_some_and(|file| file.content.expose().starts_with(MARK)) {
        let before = before.known().map(|file| file.content.expose().to_owned());
        keep(RESOLV_CONF, before, facts, decision);
    }
    keep(BEFORE, None, facts, decision);
    Ok(())
}

fn condition(config: &Config, server: Ipv4Addr, outcome: Result<(), Shortfall>) -> Condition {
    let endpoints = [&config.node.supervisor, &config.node.control_plane];
    let needed = endpoints.into_iter().flatten().any(|(host, _)| host.parse::<IpAddr>().is_err());
    match outcome {
        Ok(()) => Condition::met(KIND, "Set", format!("names are asked of {server}")),
        Err(Shortfall::Changing(how)) => {
            let message = format!("names are to be asked of {server}: {how}");
            unfulfilled(KIND, needed, "Setting", message)
        }
        Err(Shortfall::Left(why)) => {
            let message = format!("names are not asked of {server}: {why}");
            unfulfilled(KIND, needed, "LeftAlone", message)
        }
        Err(Shortfall::Unseen(why)) => {
            let message = format!("whether names are asked of {server} could not be seen: {why}");
            Condition::unknown(KIND, "NotSeen", message)
        }
    }
}
