//! RKE2 as deciders meet it: who founds, who may join, when there is a quorum, which nodes are Ready.
//!
//! Kept far from the agent's own ideas: it follows rke2.md alone. Servers with data always restart as members; one
//! learner at a time; the API needs a majority of voting members; agents with credentials always restart.

use std::collections::BTreeMap;
use std::time::Duration;

use oneke_agent::facts::Active;
use oneke_agent::node::{AGENT_TOKEN, CONFIG, ETCD, KUBELET, SERVER_TOKEN};
use oneke_agent::service::VmId;
use oneke_agent::service::told::Told;

use crate::machine::Machine;
use crate::universe::Universe;

/// Delays of the stood-in RKE2, by seed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the start of the unit until etcd or the kubelet does something.
    pub start: Duration,
    /// From a learner to a voting member.
    pub promotion: Duration,
    /// From registration to Ready.
    pub node_ready: Duration,
    /// `RestartSec` of the units.
    pub restart: Duration,
}

/// A cluster that was founded.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its CA's hash.
    pub ca: String,
    /// Full server token.
    pub server_token: String,
    /// Full agent token.
    pub agent_token: String,
    /// The founder's `agent-token:` setting: a critical value.
    pub agent_setting: Option<String>,
    /// etcd's members and when each votes.
    pub members: BTreeMap<VmId, Duration>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// The Lease: holder and version.
    pub lease: Option<(String, u64)>,
    /// When it was founded and by whom.
    pub founded: (Duration, VmId),
}

/// A Node object.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its VM.
    pub vm: VmId,
    /// When it becomes Ready, if its kubelet lives.
    pub ready_at: Duration,
    /// The kubelet's last heartbeat.
    pub beat: Duration,
    /// The annotation for the leader.
    pub told: Option<Told>,
}

/// A Node is NotReady after so long without a heartbeat (Kubernetes' node-monitor-grace-period).
const GRACE: Duration = Duration::from_secs(40);

impl Universe {
    /// Lets RKE2 on every machine go on.
    pub fn step_rke2(&mut self, now: Duration) {
        for vm in self.machines.keys().copied().collect::<Vec<_>>() {
            let machine = &self.machines[&vm];
            let Some(unit) = machine.units.get(machine.rke2_unit()).filter(|_| machine.up) else { continue };
            let due = now.saturating_sub(unit.since) >= self.pace.start;
            match unit.active {
                Active::Activating if due && machine.role == "master" => self.step_server(vm, now),
                Active::Activating if due => self.step_agent(vm, now),
                Active::Active => self.beat(vm, now),
                _ => {}
            }
        }
    }

    /// A server's etcd runs: it has data and its unit is past its start.
    pub fn etcd_runs(&self, vm: VmId, now: Duration) -> bool {
        self.machines.get(&vm).is_some_and(|machine| {
            let unit = machine.units.get("rke2-server.service");
            let past = |since: Duration| now.saturating_sub(since) >= self.pace.start;
            machine.disk.etcd.is_some()
                && unit.is_some_and(|u| {
                    machine.up && matches!(u.active, Active::Active | Active::Activating) && past(u.since)
                })
        })
    }

    /// A majority of the cluster's voting members runs.
    pub fn quorum(&self, cluster: usize, now: Duration) -> bool {
        let voting: Vec<VmId> =
            self.clusters[cluster].members.iter().filter(|(_, at)| **at <= now).map(|(vm, _)| *vm).collect();
        let alive = voting
            .iter()
            .filter(|vm| {
                self.machines.get(vm).is_some_and(|m| m.disk.etcd == Some(cluster))
                    && self.etcd_runs(**vm, now)
            })
            .count();
        alive * 2 > voting.len()
    }

    fn step_server(&mut self, vm: VmId, now: Duration) {
        let machine = &self.machines[&vm];
        let Some(config) = machine.disk.files.get(CONFIG).map(|f| f.1.clone()) else {
            return self.fail(vm, now);
        };
        if let Some(cluster) = machine.disk.etcd {
            // A learner's API answers nobody: etcd lets it read nothing until it votes.
            let votes = self.clusters[cluster].members.get(&vm).is_none_or(|at| *at <= now);
            if votes && self.quorum(cluster, now) {
                self.register(vm, cluster, node_name(&config), now);
                self.set_active(vm, now);
            }
            return;
        }
        match setting(&config, "server") {
            None => self.found(vm, &config, now),
            Some(server) => self.join_server(vm, &server, &config, now),
        }
    }

    fn found(&mut self, vm: VmId, config: &str, now: Duration) {
        let ca = oneke_agent::plan::digest(&format!("ca of {} at {now:?}", vm.0));
        let agent_setting = setting(config, "agent-token");
        let server_token = format!("K10{ca}::server:{}", self.chance.hex());
        let agent_token = agent_setting
            .as_ref()
            .map_or_else(|| server_token.clone(), |short| format!("K10{ca}::node:{short}"));
        self.clusters.push(Cluster {
            ca,
            server_token,
            agent_token,
            agent_setting,
            members: BTreeMap::from([(vm, now)]),
            nodes: BTreeMap::new(),
            lease: None,
            founded: (now, vm),
        });
        let cluster = self.clusters.len() - 1;
        self.note(now, format!("VM {vm} founds cluster {cluster}"));
        self.check_founding(vm, cluster, now);
        self.lay_server_files(vm, cluster);
    }

    fn lay_server_files(&mut self, vm: VmId, cluster: usize) {
        let (server, agent) =
            (self.clusters[cluster].server_token.clone(), self.clusters[cluster].agent_token.clone());
        let machine = self.machines.get_mut(&vm).expect("the VM was stepped a moment ago");
        machine.disk.etcd = Some(cluster);
        machine.disk.kubelet = Some(cluster);
        machine.disk.files.insert(SERVER_TOKEN.into(), (0o600, format!("{server}\n")));
        machine.disk.files.insert(AGENT_TOKEN.into(), (0o600, format!("{agent}\n")));
    }

    fn join_server(&mut self, vm: VmId, server: &str, config: &str, now: Duration) {
        let token = setting(config, "token").unwrap_or_default();
        let Ok(cluster) = self.supervisor(server, now) else { return self.fail(vm, now) };
        let there = &self.clusters[cluster];
        let learner = there.members.iter().find(|(_, at)| **at > now).map(|(vm, _)| *vm);
        let known = there.members.contains_key(&vm);
        let accepted = token == there.server_token && setting(config, "agent-token") == there.agent_setting;
        if !accepted || learner.is_some() || known || !self.quorum(cluster, now) {
            self.check_learners(vm, learner.filter(|_| accepted && !known), now);
            return self.fail(vm, now);
        }
        let votes_at = now + self.pace.promotion;
        self.clusters[cluster].members.insert(vm, votes_at);
        self.note(now, format!("VM {vm} joins cluster {cluster} as a learner"));
        self.lay_server_files(vm, cluster);
    }

    fn step_agent(&mut self, vm: VmId, now: Duration) {
        let machine = &self.machines[&vm];
        let Some(config) = machine.disk.files.get(CONFIG).map(|f| f.1.clone()) else {
            return self.fail(vm, now);
        };
        if machine.disk.kubelet.is_some() {
            return self.set_active(vm, now);
        }
        let token = setting(&config, "token").unwrap_or_default();
        let server = setting(&config, "server").unwrap_or_default();
        let Ok(cluster) = self.supervisor(&server, now) else { return self.fail(vm, now) };
        let there = &self.clusters[cluster];
        let name = setting(&config, "node-name").unwrap_or_default();
        let password =
            there.nodes.get(&name).is_none_or(|node| node.vm == vm && !self.machines[&vm].recreated);
        if (token != there.agent_token && token != there.server_token) || !password {
            return self.fail(vm, now);
        }
        let machine = self.machines.get_mut(&vm).expect("the VM was stepped a moment ago");
        machine.disk.kubelet = Some(cluster);
        self.note(now, format!("VM {vm} joins cluster {cluster} as an agent"));
        self.set_active(vm, now);
    }

    /// The unit's process exits; systemd starts it again.
    fn fail(&mut self, vm: VmId, now: Duration) {
        let restart = self.pace.restart;
        let machine = self.machines.get_mut(&vm).expect("the VM was stepped a moment ago");
        if let Some(unit) = machine.units.get_mut(machine.rke2_unit()) {
            unit.restarts += 1;
            unit.since = now + restart;
        }
    }

    fn set_active(&mut self, vm: VmId, now: Duration) {
        let machine = self.machines.get_mut(&vm).expect("the VM was stepped a moment ago");
        if let Some(unit) = machine.units.get_mut(machine.rke2_unit()) {
            unit.active = Active::Active;
            unit.since = now - self.pace.start.min(now);
        }
    }

    /// A running kubelet registers its node and beats.
    fn beat(&mut self, vm: VmId, now: Duration) {
        let machine = &self.machines[&vm];
        let Some(cluster) = machine.disk.kubelet else { return };
        let Some(name) = machine.disk.files.get(CONFIG).map(|f| node_name(&f.1)) else { return };
        if self.quorum(cluster, now) {
            self.register(vm, cluster, name, now);
        }
    }

    fn register(&mut self, vm: VmId, cluster: usize, name: String, now: Duration) {
        let ready_at = now + self.pace.node_ready;
        let node =
            self.clusters[cluster].nodes.entry(name).or_insert(Node { vm, ready_at, beat: now, told: None });
        node.beat = now;
    }

    /// This machine's way to the API is there: a server asks its own.
    pub fn asks_api(&self, machine: &Machine, cluster: usize, now: Duration) -> bool {
        let own = machine.role != "master"
            || machine.units.get("rke2-server.service").is_some_and(|unit| unit.active == Active::Active);
        machine.up && own && self.quorum(cluster, now)
    }

    /// What a watch of the Nodes shows to this machine.
    pub fn words(&self, vm: VmId, now: Duration) -> impl Iterator<Item = Told> {
        let machine = self.machines.get(&vm);
        let cluster =
            machine.and_then(|machine| machine.disk.kubelet.filter(|c| self.asks_api(machine, *c, now)));
        let nodes = cluster.into_iter().flat_map(|cluster| self.clusters[cluster].nodes.values());
        nodes.filter_map(|node| node.told.clone())
    }

    /// A machine annotates its own Node.
    ///
    /// # Errors
    /// If the API does not answer it, or there is no such Node.
    pub fn annotate(&mut self, vm: VmId, name: &str, told: &Told) -> Result<(), String> {
        let now = self.now();
        let machine = self.machines.get(&vm).ok_or("the machine is gone")?;
        let cluster = machine.disk.kubelet.filter(|c| self.asks_api(machine, *c, now));
        let nodes = &mut self.clusters[cluster.ok_or("the Kubernetes API does not answer")?].nodes;
        let node = nodes.get_mut(name).filter(|node| node.vm == vm).ok_or("403: not its own Node")?;
        node.told = Some(told.clone());
        Ok(())
    }

    /// The Node is Ready at this moment.
    pub fn node_ready(&self, cluster: usize, name: &str, now: Duration) -> Option<bool> {
        let node = self.clusters[cluster].nodes.get(name)?;
        Some(now >= node.ready_at && now.saturating_sub(node.beat) < GRACE)
    }

    /// Which cluster answers at `https://host:port`: a master's own address, or a vnf's listener in front of one.
    ///
    /// # Errors
    /// Why nobody answers there.
    pub fn supervisor(&self, server: &str, now: Duration) -> Result<usize, String> {
        let address = server.strip_prefix("https://").unwrap_or(server);
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let direct = self.machines.values().find(|m| m.role == "master" && self.address(m.vm) == host);
        if let Some(machine) = direct {
            return self.serving(machine.vm, now).ok_or_else(|| format!("connection to {address} refused"));
        }
        let routers = self
            .machines
            .values()
            .filter(|m| m.role == "vnf" && m.runs("haproxy.service") && m.runs("keepalived.service"));
        let used = routers.flat_map(|router| router.haproxy.servers.iter().filter(|(_, it)| it.weight > 0));
        let mut behind = used.map(|(name, _)| name);
        behind
            .find_map(|name| {
                let (_, place) = name.split_once('_').filter(|(_, place)| place.ends_with("_9345"))?;
                let ip = place.trim_end_matches("_9345");
                let master =
                    self.machines.values().find(|m| m.role == "master" && self.address(m.vm) == *ip)?;
                self.serving(master.vm, now)
            })
            .ok_or_else(|| format!("no server behind {address} answers"))
    }

    /// The cluster whose supervisor this master serves now.
    fn serving(&self, vm: VmId, now: Duration) -> Option<usize> {
        let machine = self.machines.get(&vm)?;
        let cluster = machine.disk.etcd.filter(|_| self.etcd_runs(vm, now))?;
        (machine.units["rke2-server.service"].active == Active::Active && self.quorum(cluster, now))
            .then_some(cluster)
    }

    /// Traces on the disk by which the agent knows a member.
    pub fn exists(&self, vm: VmId, path: &str) -> bool {
        let disk = &self.machines[&vm].disk;
        match path {
            ETCD => disk.etcd.is_some(),
            KUBELET => disk.kubelet.is_some(),
            other => disk.files.contains_key(other),
        }
    }
}

fn node_name(config: &str) -> String {
    setting(config, "node-name").unwrap_or_default()
}

/// A scalar setting of a config.yaml.
pub fn setting(config: &str, key: &str) -> Option<String> {
    config.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix(':')?.trim();
        let value = value.trim_matches('"').trim_matches('\'');
        (!value.is_empty()).then(|| value.to_owned())
    })
}
