//! Keeps swap off: what is in use is given back, and nothing is taken into use at the next boot.
//!
//! Kubernetes counts memory that is there; a node that swaps misses etcd's and the kubelet's deadlines long before its
//! memory is full. RKE2 starts all the same, so nothing waits for this.

use crate::driver::Interests;
use crate::facts::{Active, Facts, Observed};
use crate::plan::{Condition, Decision, Effect};

/// What the kernel uses.
const IN_USE: &str = "/proc/swaps";
/// Masked, nothing of fstab, the partition table or zram's generator is taken into use at boot: all of it is wanted by
/// this target alone (systemd.swap(5)).
const TARGET: &str = "/etc/systemd/system/swap.target";
/// What a masked unit leads to.
const MASK: &str = "/dev/null";

/// What is looked at for it.
pub fn interests(facts: &Facts, interests: &mut Interests) {
    interests.files.push(IN_USE.to_owned());
    interests.symlinks.push(TARGET.to_owned());
    interests.units.extend(units(facts));
}

/// Turns it off. Nothing else suffers if that fails, as it does while memory does not suffice.
pub fn decide(facts: &Facts, decision: &mut Decision) {
    match facts.symlinks.get(TARGET) {
        None | Some(Observed::Unknown(_)) => {}
        Some(Observed::Known(target)) if target == MASK => {}
        Some(Observed::Known(_) | Observed::Absent) => {
            decision.asides.push(Effect::Link { path: TARGET.into(), target: MASK.into() });
        }
    }
    let mut used = Vec::new();
    for unit in units(facts) {
        if let Observed::Known(state) = facts.unit(&unit)
            && matches!(state.active, Active::Active | Active::Reloading)
        {
            decision.asides.push(Effect::StopUnit(unit.clone()));
            used.push(unit);
        }
    }
    if !used.is_empty() {
        let message =
            format!("{} is being turned off; if that lasts, the memory is too small", used.join(", "));
        decision.told.push(Condition::unmet("SwapOff", "SwapInUse", message));
    }
}

/// The units of all swap in use. In a container these are the host's, which systemd does not know there.
fn units(facts: &Facts) -> Vec<String> {
    let Observed::Known(file) = facts.file(IN_USE) else { return Vec::new() };
    let paths = file.content.expose().lines().skip(1).filter_map(|line| line.split_whitespace().next());
    paths.filter(|path| path.starts_with('/')).map(unit).collect()
}

/// The unit of a swap device or file (systemd-escape(1), `--path --suffix=swap`). The kernel writes a blank as `\040`.
fn unit(path: &str) -> String {
    let path = path.replace("\\040", " ");
    let mut name = String::new();
    for (index, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(char::from(byte)),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    name + ".swap"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{File, Unit};
    use crate::plan::Secret;

    fn facts(swaps: &str, target: Observed<String>) -> Facts {
        let mut facts = Facts::default();
        let file =
            File { mode: 0o444, content: Secret::new(format!("Filename Type Size Used Priority\n{swaps}")) };
        facts.files.insert(IN_USE.into(), Observed::Known(file));
        facts.symlinks.insert(TARGET.into(), target);
        facts
    }

    fn effects(facts: &Facts) -> Vec<String> {
        let mut decision = Decision::default();
        decide(facts, &mut decision);
        assert_eq!(decision.effects, []);
        decision.asides.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn swap_is_turned_off_and_stays_off() {
        let mut facts = facts("/dev/vda2 partition 1048572 0 -2\n/swap.img file 4 0 -3\n", Observed::Absent);
        let mut interests_ = Interests::default();
        interests(&facts, &mut interests_);
        assert_eq!(interests_.units, ["dev-vda2.swap", "swap.img.swap"]);
        let known = |active| {
            let loaded = None;
            Observed::Known(Unit { active, enabled: false, restarts: 0, status: String::new(), loaded })
        };
        facts.units.insert("dev-vda2.swap".into(), known(Active::Active));
        // The host's own, seen from a container.
        facts.units.insert("swap.img.swap".into(), Observed::Absent);
        let expected = ["link /etc/systemd/system/swap.target to /dev/null", "stop dev-vda2.swap"];
        assert_eq!(effects(&facts), expected);
        facts.units.insert("dev-vda2.swap".into(), known(Active::Deactivating));
        facts.symlinks.insert(TARGET.into(), Observed::Known(MASK.into()));
        assert_eq!(effects(&facts), [""; 0]);
    }

    #[test]
    fn what_could_not_be_seen_is_left_alone() {
        assert_eq!(effects(&Facts::default()), [""; 0]);
        assert_eq!(effects(&facts("", Observed::Unknown("denied".into()))), [""; 0]);
    }

    #[test]
    fn units_are_named_as_systemd_names_them() {
        assert_eq!(unit("/dev/dm-0"), "dev-dm\\x2d0.swap");
        assert_eq!(unit("/var/my\\040swap"), "var-my\\x20swap.swap");
        assert_eq!(unit("/.hidden"), "\\x2ehidden.swap");
    }
}
