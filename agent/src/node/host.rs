//! Keeps the machine as RKE2 wants it, member or not: its files and kernel parameters at each pass, and the links to what
//! the image carries before RKE2 starts.

use super::files::host::{MODULES, is_set};
use super::{files, write_if_different};
use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Facts, Observed};
use crate::plan::{Condition, Decision, Effect};
use crate::service::Role;

/// Loads what [`MODULES`] names; systemd does it at each boot.
const MODULES_LOAD: &str = "systemd-modules-load.service";

/// What is looked at for it.
pub fn interests(config: &Config, role: &Role, interests: &mut Interests) {
    interests.files.extend(files::host(config, role).into_iter().map(|file| file.path));
    interests.sysctls.extend(files::parameters(config).map(|(key, _)| key.to_owned()));
    interests.symlinks.extend(files::links(config, role).into_iter().map(|link| link.path));
    interests.exists.extend(files::devices(config, role).map(|device| device.path.clone()));
}

/// The machine's own files.
pub fn prepare(config: &Config, facts: &Facts, role: &Role, decision: &mut Decision) {
    let before = decision.effects.len();
    for file in files::host(config, role) {
        write_if_different(facts, file, decision);
    }
    let is_modules = |effect: &Effect| matches!(effect, Effect::WriteFile(file) if file.path == MODULES);
    if decision.effects[before..].iter().any(is_modules) {
        // Lost in a crash, or refused where modules cannot be loaded: RKE2 loads its own, and the next boot the rest.
        decision.effects.push(Effect::RestartUnit(MODULES_LOAD.into()));
    }
}

/// The kernel's parameters. One that the kernel refuses holds up nothing else.
pub fn tune(config: &Config, facts: &Facts, decision: &mut Decision) {
    for (key, wanted) in files::parameters(config) {
        match facts.sysctls.get(key) {
            // Absent: a module that is not loaded yet.
            None | Some(Observed::Absent) => {}
            Some(Observed::Known(value)) if is_set(key, value, wanted) => {}
            Some(Observed::Known(_)) => {
                decision.asides.push(Effect::SetSysctl { key: key.into(), value: wanted.into() });
            }
            Some(Observed::Unknown(why)) => {
                decision.conditions.push(Condition::unknown("HostPrepared", "ParametersUnseen", why.clone()));
            }
        }
    }
}

/// What an add-on finds on this machine, or not. The node works without it; the add-on does not work on the node.
pub fn devices(config: &Config, facts: &Facts, role: &Role, decision: &mut Decision) {
    for device in files::devices(config, role) {
        if facts.exists.get(&device.path).is_some_and(Observed::is_absent) {
            let message = format!("there is no {} here: {}", device.path, device.hint);
            decision.told.push(Condition::unmet("DevicesThere", "DeviceMissing", message));
        }
    }
}

/// The links that must stand before RKE2 starts.
pub fn link(config: &Config, facts: &Facts, role: &Role, decision: &mut Decision) {
    for files::Link { path, target } in files::links(config, role) {
        match facts.symlinks.get(&path) {
            Some(Observed::Known(there)) if *there == target => {}
            // Made once too often does no harm.
            None | Some(Observed::Known(_) | Observed::Absent | Observed::Unknown(_)) => {
                decision.effects.push(Effect::Link { path, target });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::File;
    use crate::plan::Secret;

    #[test]
    fn only_limits_that_are_lower_are_raised() {
        let mut facts = Facts::default();
        let mut set = |key: &str, value: &str| {
            facts.sysctls.insert(key.into(), Observed::Known(value.into()));
        };
        set("fs.inotify.max_user_instances", "128");
        set("fs.inotify.max_user_watches", "1048576");
        set("net.ipv4.ip_forward", "1");
        facts.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), Observed::Absent);
        let mut decision = Decision::default();
        tune(&fixture::config(), &facts, &mut decision);
        let told: Vec<String> = decision.asides.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["set fs.inotify.max_user_instances = 8192"]);
        assert_eq!(decision.conditions, []);
        // A hardened RKE2 wants its parameters to the letter.
        facts.sysctls.insert("vm.panic_on_oom".into(), Observed::Known("1".into()));
        let mut config = fixture::config();
        config.node.extra_config = Some(Secret::new("profile: cis\n"));
        let mut hardened = Decision::default();
        tune(&config, &facts, &mut hardened);
        assert_eq!(hardened.asides.last().map(ToString::to_string), Some("set vm.panic_on_oom = 0".into()));
    }

    #[test]
    fn modules_are_loaded_when_their_list_changes_and_then_no_more() {
        let (config, role) = (fixture::config(), fixture::worker());
        let mut facts = Facts::default();
        let absent = |file: crate::plan::FileSpec| (file.path, Observed::Absent);
        facts.files = files::host(&config, &role).into_iter().map(absent).collect();
        let mut decision = Decision::default();
        prepare(&config, &facts, &role, &mut decision);
        assert_eq!(
            decision.effects.last(),
            Some(&Effect::RestartUnit("systemd-modules-load.service".into()))
        );
        for effect in &decision.effects {
            if let Effect::WriteFile(file) = effect {
                let there = File { mode: file.mode, content: Secret::new(file.content.as_str()) };
                facts.files.insert(file.path.clone(), Observed::Known(there));
            }
        }
        let mut again = Decision::default();
        prepare(&config, &facts, &role, &mut again);
        assert_eq!(again, Decision::default());
    }

    #[test]
    fn kubevirt_looks_for_kvm_on_workers_unless_it_emulates() {
        let mut config = fixture::config();
        let mut facts = Facts::default();
        facts.exists.insert("/dev/kvm".into(), Observed::Absent);
        let told = |config: &Config, role: &Role| {
            let mut decision = Decision::default();
            devices(config, &facts, role, &mut decision);
            decision.told.iter().map(|it| it.message.clone()).collect::<Vec<_>>()
        };
        assert_eq!(told(&config, &fixture::worker()), [""; 0]);
        let on = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true.into())).collect();
        config.node.addons = on(&["ONEAPP_K8S_KUBEVIRT_ENABLED"]);
        assert_eq!(told(&config, &Role::Master), [""; 0]);
        let said = told(&config, &fixture::worker());
        assert!(said[0].starts_with("there is no /dev/kvm here: ") && said[0].contains("nested"), "{said:?}");
        config.node.addons = on(&["ONEAPP_K8S_KUBEVIRT_ENABLED", "ONEAPP_K8S_KUBEVIRT_EMULATION"]);
        assert_eq!(told(&config, &fixture::worker()), [""; 0]);
    }

    #[test]
    fn links_are_made_until_they_lead_where_they_shall() {
        let mut config = fixture::config();
        config.node.airgapped = true;
        let link_of = |facts: &Facts| {
            let mut decision = Decision::default();
            link(&config, facts, &fixture::worker(), &mut decision);
            decision.effects.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let mut facts = Facts::default();
        let core = "/var/lib/rancher/rke2/agent/images/rke2-images-core.tar.zst";
        facts.symlinks.insert(core.into(), Observed::Known("/elsewhere".into()));
        assert_eq!(link_of(&facts).len(), 2);
        let target = "/opt/one-appliance/airgap/rke2-images-core.tar.zst";
        assert_eq!(link_of(&facts)[0], format!("link {core} to {target}"));
        facts.symlinks.insert(core.into(), Observed::Known(target.into()));
        assert_eq!(link_of(&facts).len(), 1);
    }
}
