//! A node that has joined follows its context: files are written, RKE2 is restarted by nobody but the operator.
//!
//! ```text
//!  context changed ──▶ config.yaml, registries, proxy: written, count from RKE2's next start ──▶ RestartNeeded is told
//!                  ├─▶ registries or proxy taken back: removed if the agent wrote them, the same
//!                  ├─▶ manifests: written on every master, RKE2 applies them by itself
//!                  ├─▶ add-on taken back: stays, for it may hold data; how it goes is told
//!                  └─▶ identity, networks, CNI: kept, and told
//! ```
//!
//! What counts only from the next start is noted in `/run` with the run of the unit in which it was written: a restart by
//! whomever, and a reboot, settle it. `ONEAPP_K8S_FOLLOW_CONTEXT=NO` leaves the files of a joined node alone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Node, OnDisk, SERVER_TOKEN, files, host, write_if_different};
use crate::context::Config;
use crate::driver::Interests;
use crate::facts::{Active, Observed};
use crate::identity::Identity;
use crate::plan::{Condition, Content, Decision, Effect, FileSpec, Secret};
use crate::service::Role;

/// Names of what has changed since the unit started; on the first line that run of it.
const NOTE: &str = "/run/oneke-agent/restart-needed";
/// The service's shape decides about replicas: it is taken from a young answer only.
const FRESH: Duration = Duration::from_secs(120);
/// How often a master that does not lead looks at the shape of the service: RKE2 applies a server's manifests when it
/// starts there, so that one with old manifests would undo what the others have. The leader reads it all the time.
const LOOK_AT_SHAPE: Duration = Duration::from_secs(900);

/// What is looked at for it.
pub fn interests(config: &Config, role: &Role, interests: &mut Interests) {
    interests.files.push(NOTE.to_owned());
    interests.files.extend(files::withdrawn(config, role).into_iter().map(str::to_owned));
    if *role == Role::Master {
        interests.exists.extend(files::leftovers(config).into_iter().flat_map(|leftover| leftover.paths));
    }
    interests.symlinks.push(run_of(super::unit(role)));
}

/// systemd keeps the ID of each unit's current run where such a link leads (for journald: src/core/unit.c,
/// unit_export_invocation_id).
fn run_of(unit: &str) -> String {
    format!("/run/systemd/units/invocation:{unit}")
}

/// Writes what differs, and says what it needs.
pub fn decide(node: &Node<'_>, disk: &OnDisk, decision: &mut Decision) {
    // What another agent wrote is not ours to rewrite; and without OneGate the node's outer addresses are not known.
    let ours = matches!(Identity::observed(node.facts), Observed::Known(Ok(identity)) if !identity.adopted);
    if !ours || !node.config.node.follow_context || node.facts.me.last.known().is_none() {
        return;
    }
    let Observed::Known(there) = node.facts.file(super::CONFIG) else { return };
    let entry = entry(node, disk);
    let pinned = node.pinned();
    let changes = match files::changes(node.config, node.role, &pinned, &entry, there.content.expose()) {
        Ok(changes) => changes,
        Err(why) => return decision.told.push(Condition::unknown(KIND, "DiskUnreadable", why)),
    };
    let (manifests, others): (Vec<FileSpec>, Vec<FileSpec>) = node
        .files(&entry)
        .into_iter()
        .filter(|file| file.path != super::CONFIG)
        .partition(|file| file.path.starts_with(files::MANIFESTS));
    let mut changed: BTreeSet<String> = changes.settings.into_iter().collect();
    changed.extend(others.iter().filter(|file| differs(node, file)).map(|file| file.path.clone()));
    let withdrawn = files::withdrawn(node.config, node.role).into_iter().filter(|path| is_ours(node, path));
    let withdrawn: Vec<String> = withdrawn.map(str::to_owned).collect();
    changed.extend(withdrawn.iter().cloned());
    let pending = note(node, changed, decision);
    for file in others.into_iter().chain(changes.file) {
        write_if_different(node.facts, file, decision);
    }
    decision.effects.extend(withdrawn.into_iter().map(|path| Effect::RemoveFile { path }));
    if *node.role == Role::Master {
        apply(node, manifests, decision);
    }
    decision.told.push(condition(node, &pending, &changes.kept));
}

/// Writes what RKE2 applies; says what it goes on applying although nobody asks for it any more.
fn apply(node: &Node<'_>, manifests: Vec<FileSpec>, decision: &mut Decision) {
    if knows_shape(node) {
        host::link(node.config, node.facts, node.role, decision);
        for file in manifests {
            write_if_different(node.facts, file, decision);
        }
    } else if !manifests.is_empty() {
        // By the shape known so far something differs already: it need not wait for its turn.
        let differ = manifests.iter().any(|file| differs(node, file));
        decision.reads.service = Some(if differ { FRESH } else { LOOK_AT_SHAPE });
    }
    let stands = |path: &String| matches!(node.facts.exists.get(path), Some(Observed::Known(())));
    for files::Leftover { addon, enable, paths } in files::leftovers(node.config) {
        let paths: Vec<&str> = paths.iter().filter(|path| stands(path)).map(String::as_str).collect();
        if !paths.is_empty() {
            let (delete, remove, enable) = (paths.join(" -f "), paths.join(" "), enable.join(" or "));
            let message = format!(
                "{addon} stays installed, at least in part, though the context no longer asks for it ({enable}); \
                 to remove it with what it holds: kubectl delete -f {delete}; then on every master: rm {remove}"
            );
            decision.told.push(Condition::unmet("AddonsWanted", "LeftInstalled", message));
        }
    }
}

fn is_ours(node: &Node<'_>, path: &str) -> bool {
    node.facts.file(path).known().is_some_and(|file| files::is_ours(file.content.expose()))
}

const KIND: &str = "ContextFollowed";

/// How this node enters, were it to enter again. A founder learns the supervisor once there is a cluster: from then on it
/// is a master like the others, and one that has lost its datastore joins again instead of founding a second cluster
/// (invariant 1). A member with its datastore does not look at it (rke2.md).
fn entry(node: &Node<'_>, disk: &OnDisk) -> files::Entry {
    let named = node.config.node.supervisor.as_ref();
    let server = named.map(|(host, port)| format!("https://{}", super::host_port(host, *port)));
    // RKE2's own file is right after a rotation of the token as well.
    let token = match node.facts.file(SERVER_TOKEN) {
        Observed::Known(own) if *node.role == Role::Master => Some(Secret::new(own.content.expose().trim())),
        Observed::Known(_) | Observed::Absent | Observed::Unknown(_) => disk.token.clone(),
    };
    match (server.or_else(|| disk.server.clone()), token) {
        (Some(server), Some(token)) => {
            files::Entry::Join { server, token, agent_token: disk.agent_token.clone() }
        }
        _ => files::Entry::Found { agent_token: disk.agent_token.clone() },
    }
}

fn differs(node: &Node<'_>, file: &FileSpec) -> bool {
    match node.facts.file(&file.path) {
        Observed::Known(there) => there.content.expose() != file.content.as_str(),
        Observed::Absent => true,
        Observed::Unknown(_) => false,
    }
}

/// Notes what the running unit does not know yet, before it is written; returns all that it does not know.
fn note(node: &Node<'_>, changed: BTreeSet<String>, decision: &mut Decision) -> BTreeSet<String> {
    let runs =
        node.facts.unit(node.unit()).known().is_some_and(|unit| {
            matches!(unit.active, Active::Active | Active::Activating | Active::Reloading)
        });
    if !runs {
        // It will start with what is written now.
        return BTreeSet::new();
    }
    let run = node.facts.symlinks.get(&run_of(node.unit())).and_then(Observed::known);
    let run = run.map_or("unknown", String::as_str);
    let noted = node.facts.file(NOTE).known().map_or("", |file| file.content.expose());
    let noted = noted.strip_prefix(run).and_then(|rest| rest.strip_prefix('\n')).unwrap_or_default();
    let mut pending: BTreeSet<String> = noted.lines().map(str::to_owned).collect();
    if !changed.is_empty() {
        pending.extend(changed);
        let lines: String = pending.iter().map(|name| format!("{name}\n")).collect();
        let content = Content::Public(format!("{run}\n{lines}"));
        let file = FileSpec { path: NOTE.into(), mode: 0o644, content, checker: None };
        if differs(node, &file) {
            decision.effects.push(Effect::WriteFile(file));
        }
    }
    pending
}

/// The whole service was read lately.
fn knows_shape(node: &Node<'_>) -> bool {
    node.facts.service.fresh(node.facts.now, FRESH).is_some_and(|service| service.gap().is_none())
}

fn condition(node: &Node<'_>, pending: &BTreeSet<String>, kept: &[String]) -> Condition {
    let unit = node.unit();
    if !pending.is_empty() {
        let names = pending.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let care = if *node.role == Role::Master {
            ", one master after another, each once the one before is Ready"
        } else {
            ""
        };
        let message =
            format!("{names} changed and count from the next start: systemctl restart {unit}{care}");
        return Condition::unmet(KIND, "RestartNeeded", message);
    }
    if !kept.is_empty() {
        let message = format!(
            "what a node joined with stays: {} is not followed; take the variable back, or deploy anew",
            kept.join(", ")
        );
        return Condition::unmet(KIND, "IdentityKept", message);
    }
    Condition::met(KIND, "Followed", format!("{unit} runs with what the context says"))
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;
    use crate::facts::{Facts, File, Unit};
    use crate::service::Vm;

    /// What a master of the default service has on disk, and what runs there.
    struct Machine {
        config: Config,
        facts: Facts,
    }

    impl Machine {
        fn new(entry: &files::Entry) -> Self {
            let (config, mut facts) = (fixture::config(), Facts::default());
            let pinned = fixture::pinned();
            let identity = Identity {
                vm: pinned.vm,
                service: Some(7),
                role: Role::Master,
                node_name: Some(pinned.name.clone()),
                node_ip: Some(pinned.ip),
                adopted: false,
            };
            let Effect::WriteFile(file) = identity.pin() else { panic!("it is a file") };
            let written = files::rke2(&config, &Role::Master, &pinned, entry, &fixture::shape(3, 2, 0));
            facts.me = crate::facts::Reading::of(Vm::from_json(r#"{"VM":{"ID":"42","STATE":"3","LCM_STATE":"3","USER_TEMPLATE":{},"TEMPLATE":{"NIC":[]}}}"#).unwrap(), facts.now);
            let active = Active::Active;
            let unit = Unit { active, enabled: true, restarts: 0, status: String::new(), loaded: None };
            facts.units.insert("rke2-server.service".into(), Observed::Known(unit));
            facts.files.insert(NOTE.into(), Observed::Absent);
            let mut machine = Self { config, facts };
            machine.write(file);
            written.into_iter().for_each(|file| machine.write(file));
            machine.runs_as("1");
            machine
        }

        fn write(&mut self, file: FileSpec) {
            let there = File { mode: file.mode, content: Secret::new(file.content.as_str()) };
            self.facts.files.insert(file.path, Observed::Known(there));
        }

        fn runs_as(&mut self, run: &str) {
            self.facts.symlinks.insert(run_of("rke2-server.service"), Observed::Known(run.into()));
        }

        /// One pass: what it writes, and what it tells.
        fn pass(&mut self) -> (Vec<String>, String) {
            let mut decision = Decision::default();
            {
                let node =
                    Node::of(&self.config, &self.facts, &Role::Master).map_err(|why| why.message).unwrap();
                let Observed::Known(there) = self.facts.file(super::super::CONFIG) else {
                    panic!("it is there")
                };
                let disk = files::on_disk(there.content.expose()).unwrap();
                decide(&node, &disk, &mut decision);
            }
            assert_eq!((decision.asides.len(), decision.conditions.len()), (0, 0));
            let mut written = Vec::new();
            for effect in decision.effects {
                match effect {
                    Effect::WriteFile(file) => {
                        written.push(file.path.clone());
                        self.write(file);
                    }
                    Effect::RemoveFile { path } => {
                        self.facts.files.insert(path.clone(), Observed::Absent);
                        written.push(path);
                    }
                    other => panic!("{other}"),
                }
            }
            (written, decision.told.first().map_or(String::new(), |it| it.reason.clone()))
        }
    }

    fn none(reason: &str) -> (Vec<String>, String) {
        (vec![], reason.to_owned())
    }

    #[test]
    fn what_changed_is_written_once_and_told_until_the_unit_restarts() {
        let mut machine = Machine::new(&fixture::joins());
        assert_eq!(machine.pass(), none("Followed"));
        machine.config.node.extra_sans.push("more.example".into());
        let registries = Secret::new("mirrors: {}\n");
        machine.config.node.registries = Some(registries);
        machine.facts.files.insert("/etc/rancher/rke2/registries.yaml".into(), Observed::Absent);
        let written = [NOTE, "/etc/rancher/rke2/registries.yaml", super::super::CONFIG].map(str::to_owned);
        assert_eq!(machine.pass(), (written.to_vec(), "RestartNeeded".into()));
        assert_eq!(machine.pass(), none("RestartNeeded"));
        machine.config.node.extra_sans.push("even.more.example".into());
        assert_eq!(machine.pass().0, [super::super::CONFIG], "it is noted already");
        machine.runs_as("2");
        assert_eq!(machine.pass(), none("Followed"));
    }

    #[test]
    fn a_unit_that_does_not_run_needs_no_restart() {
        let mut machine = Machine::new(&fixture::joins());
        machine.config.node.extra_sans.push("more.example".into());
        machine.facts.units.clear();
        assert_eq!(machine.pass(), (vec![super::super::CONFIG.to_owned()], "Followed".into()));
    }

    #[test]
    fn a_founder_learns_its_supervisor_and_that_is_all() {
        let mut machine = Machine::new(&fixture::founds());
        assert_eq!(machine.pass(), none("Followed"), "not before it has its token");
        let token = "K10ab::server:cd\n".to_owned();
        let content = Content::Secret(Secret::new(token));
        machine.write(FileSpec { path: SERVER_TOKEN.into(), mode: 0o600, content, checker: None });
        assert_eq!(machine.pass(), (vec![super::super::CONFIG.to_owned()], "Followed".into()));
        assert_eq!(machine.pass(), none("Followed"));
    }

    #[test]
    fn files_are_left_alone_where_that_is_wished_or_another_wrote_them() {
        let mut machine = Machine::new(&fixture::joins());
        machine.config.node.extra_sans.push("more.example".into());
        machine.config.node.follow_context = false;
        assert_eq!(machine.pass(), none(""));
        machine.config.node.follow_context = true;
        machine.facts.files.insert(crate::identity::PATH.into(), Observed::Absent);
        assert_eq!(machine.pass(), none(""));
        let mut machine = Machine::new(&fixture::joins());
        machine.facts.me = Default::default();
        machine.config.node.extra_sans.push("more.example".into());
        assert_eq!(machine.pass(), none(""), "its outer addresses are not known");
    }

    #[test]
    fn registries_and_proxy_go_with_their_variables_unless_a_script_wrote_them() {
        const REGISTRIES: &str = "/etc/rancher/rke2/registries.yaml";
        let mut machine = Machine::new(&fixture::joins());
        machine.config.node.registries = Some(Secret::new("mirrors: {}\n"));
        machine.facts.files.insert(REGISTRIES.into(), Observed::Absent);
        machine.pass();
        machine.runs_as("2");
        machine.config.node.registries = None;
        let paths = vec![NOTE.to_owned(), REGISTRIES.to_owned()];
        assert_eq!(machine.pass(), (paths, "RestartNeeded".into()));
        assert_eq!(machine.pass(), none("RestartNeeded"));
        machine.runs_as("3");
        assert_eq!(machine.pass(), none("Followed"));
        let content = Content::Secret(Secret::new("mirrors: {}\n"));
        machine.write(FileSpec { path: REGISTRIES.into(), mode: 0o600, content, checker: None });
        assert_eq!(machine.pass(), none("Followed"), "somebody else's");
    }

    #[test]
    fn an_addon_that_is_no_longer_asked_for_is_told_until_its_manifests_are_gone() {
        let told = |machine: &Machine| {
            let mut decision = Decision::default();
            let node = Node::of(&machine.config, &machine.facts, &Role::Master).map_err(|why| why.message);
            apply(&node.unwrap(), vec![], &mut decision);
            decision.told.iter().map(|it| it.message.clone()).collect::<Vec<_>>()
        };
        let mut machine = Machine::new(&fixture::joins());
        assert_eq!(told(&machine), [""; 0]);
        for name in ["one-longhorn", "one-longhorn-values"] {
            let path = format!("{}/{name}.yaml", files::MANIFESTS);
            machine.facts.exists.insert(path, Observed::Known(()));
        }
        let said = told(&machine).join("\n");
        assert!(said.starts_with("longhorn stays installed") && said.contains("LONGHORN_ENABLED"), "{said}");
        assert!(
            said.ends_with(
                "/one-longhorn.yaml /var/lib/rancher/rke2/server/manifests/one-longhorn-values.yaml"
            ),
            "{said}"
        );
        machine.config.node.longhorn = true;
        assert_eq!(told(&machine), [""; 0]);
    }

    /// RKE2 applies a server's manifests whenever it starts there: all masters must have the same.
    #[test]
    fn a_master_that_does_not_lead_looks_at_the_shape_seldom_and_sooner_if_something_differs() {
        let reads = |machine: &Machine| {
            let node = Node::of(&machine.config, &machine.facts, &Role::Master).map_err(|why| why.message);
            let node = node.unwrap();
            let mut decision = Decision::default();
            let manifests = node.files(&fixture::joins());
            let manifests = manifests.into_iter().filter(|file| file.path.starts_with(files::MANIFESTS));
            apply(&node, manifests.collect(), &mut decision);
            decision.reads.service
        };
        let mut machine = Machine::new(&fixture::joins());
        assert_eq!(reads(&machine), Some(LOOK_AT_SHAPE));
        machine.config.node.cilium_bgp = true;
        assert_eq!(reads(&machine), Some(FRESH));
        machine.config.node.cni = "none".into();
        assert_eq!(reads(&machine), None, "there is nothing that the shape could change");
    }

    #[test]
    fn manifests_wait_for_the_shape_of_the_service() {
        let mut machine = Machine::new(&fixture::joins());
        machine.config.node.traefik = true;
        // Only the setting: how many replicas there shall be is not known.
        let (written, _) = machine.pass();
        assert_eq!(written, [NOTE, super::super::CONFIG]);
    }
}
