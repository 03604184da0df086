//! The invariants of the design, asserted on the simulated world itself, never on what the agents claim.

use std::collections::BTreeSet;
use std::time::Duration;

use oneke_agent::plan::{Effect, ServerChange, To};
use oneke_agent::service::VmId;
use oneke_agent::vnf::haproxy;

use crate::universe::Universe;

/// A proof may be so old when it reaches OneGate: the API is asked every 5 s, and a request may be retried.
const PROOF_LASTS: Duration = Duration::from_secs(20);
/// More passes than this in a minute are a spin (invariant 12). Two a second are looks at what is awaited; the others are
/// effects, which settle for 100 ms and slow down when they repeat.
const MOST_PASSES: u32 = 240;
/// A broken context is seen within half a minute, and a pass that began before may still wait for answers.
const CONTEXT_SEEN: Duration = Duration::from_secs(90);
/// After so long without OneGate and without a further power loss, whoever was READY works again by itself.
const ALONE: Duration = Duration::from_secs(150);
/// Until every vnf VM has heard that a machine is back, or has forgotten that it went down.
const REST_SEEN: Duration = Duration::from_secs(15 * 60);
/// An answer about others that was older when the pass decided is not acted upon: much may have happened since then.
const ANSWER_LASTS: Duration = Duration::from_secs(10);

impl Universe {
    /// Invariant 1: one service founds at most one cluster, and the lowest master founds it.
    pub fn check_founding(&mut self, founder: VmId, cluster: usize, now: Duration) {
        let earlier = |trace: Option<usize>| trace.is_some_and(|c| c != cluster);
        let elsewhere =
            self.machines.values().find(|m| earlier(m.disk.etcd) || earlier(m.disk.kubelet)).map(|m| m.vm);
        if let Some(vm) = elsewhere {
            self.violate(
                now,
                format!(
                    "1: VM {founder} founds a second cluster while VM {vm} has the first one on its disk"
                ),
            );
        }
        let lower = self.machines.values().find(|m| m.role == "master" && m.vm < founder).map(|m| m.vm);
        if let Some(vm) = lower {
            self.violate(now, format!("1: VM {founder} founds although master VM {vm} is lower"));
        }
    }

    /// Masters join one after another: etcd refuses a second learner, and RKE2's start fails. Nobody gives out turns where
    /// the tokens are plain.
    pub fn check_learners(&mut self, vm: VmId, learner: Option<VmId>, now: Duration) {
        if let Some(other) = learner.filter(|_| !self.has_plain_tokens(vm)) {
            self.violate(now, format!("etcd: VM {vm} is to join while VM {other} is a learner"));
        }
    }

    /// Invariant 3: READY=YES only on proof, and no other text that opens the gate.
    pub fn check_publication(&mut self, vm: VmId, body: &[u8], now: Duration) {
        let body = String::from_utf8_lossy(body);
        let others = body.lines().filter(|line| *line != "READY=YES").collect::<String>();
        if others.replace([' ', '"', '\''], "").contains("READY=YES") {
            self.violate(now, format!("3: VM {vm} publishes a text that opens the gate: {others}"));
        }
        let recently = self.last_ready.get(&vm).is_some_and(|at| now.saturating_sub(*at) <= PROOF_LASTS);
        let proven = recently || self.machines.contains_key(&vm) && self.works(vm, now);
        if body.lines().any(|line| line == "READY=YES") && !proven {
            self.violate(now, format!("3: VM {vm} says READY=YES but was not seen to work"));
        }
        if body.lines().any(|line| line == "READY=YES")
            && let Some(machine) = self.machines.get_mut(&vm)
        {
            machine.told_ready = true;
        }
        let secret =
            self.clusters.iter().any(|c| body.contains(&c.server_token) || body.contains(&c.agent_token));
        if secret && !self.has_plain_tokens(vm) {
            self.violate(now, format!("8: VM {vm} publishes a token in clear"));
        }
    }

    fn has_plain_tokens(&self, vm: VmId) -> bool {
        self.machines.get(&vm).is_some_and(|m| m.context.contains("ONEAPP_K8S_TOKEN_MODE='plain'"))
    }

    /// Invariant 2: what was READY starts at boot by itself, without an agent and a cloud.
    pub fn check_boot(&mut self, vm: VmId, now: Duration) {
        let asleep = |m: &&crate::machine::Machine| m.role != "vnf" && m.told_ready && !m.runs(m.rke2_unit());
        if self.machines.get(&vm).filter(asleep).is_some() {
            self.violate(now, format!("2: VM {vm} was READY, but nothing starts its RKE2 at boot"));
        }
    }

    /// Invariant 2: whoever was READY works while OneGate is away, however often all of them were switched off.
    pub fn check_alone(&mut self, now: Duration) {
        let settled = self.machines.values().all(|m| now.saturating_sub(m.booted) > ALONE);
        if !settled || self.may_wait_for_ever() {
            return;
        }
        let ready: Vec<VmId> = self.machines.values().filter(|m| m.told_ready).map(|m| m.vm).collect();
        for vm in ready {
            if !self.works(vm, now) {
                self.violate(now, format!("2: VM {vm} was READY, but does not work while OneGate is away"));
            }
        }
    }

    /// One reader acts for many listeners: never by an old answer. `age` is the answer's when the pass decided.
    pub fn check_acting(&mut self, vm: VmId, age: Option<Duration>, now: Duration) {
        if age.is_none_or(|age| age > ANSWER_LASTS) {
            self.violate(now, format!("7: VM {vm} writes onto other VMs by an answer of {age:?} ago"));
        }
    }

    /// Notes which VMs work now, by the world's own standard.
    pub fn watch_readiness(&mut self, now: Duration) {
        let working: Vec<VmId> = self.machines.keys().copied().filter(|vm| self.works(*vm, now)).collect();
        self.last_ready.extend(working.into_iter().map(|vm| (vm, now)));
    }

    /// A node is Ready in a cluster with a quorum; a vnf VM runs its daemons.
    pub fn works(&self, vm: VmId, now: Duration) -> bool {
        let machine = &self.machines[&vm];
        if machine.role == "vnf" {
            return machine.runs("haproxy.service") && machine.runs("keepalived.service");
        }
        let Some(cluster) = machine.disk.kubelet.filter(|_| machine.runs(machine.rke2_unit())) else {
            return false;
        };
        let config = machine.disk.files.get(oneke_agent::node::CONFIG).map_or("", |file| file.1.as_str());
        let name = crate::rke2::setting(config, "node-name").unwrap_or_default();
        self.quorum(cluster, now) && self.node_ready(cluster, &name, now) == Some(true)
    }

    /// Invariant 7: a live backend is taken out only if its machine is gone.
    pub fn check_backends(&mut self, vm: VmId, old: &str, new: &str, now: Duration) {
        let kept: BTreeSet<String> = servers_of(new).into_iter().map(|(_, address)| address).collect();
        let dropped: BTreeSet<String> =
            servers_of(old).into_iter().map(|(_, address)| address).filter(|a| !kept.contains(a)).collect();
        for address in dropped {
            let ip = address.rsplit_once(':').map_or(address.as_str(), |(ip, _)| ip);
            self.check_gone(vm, ip, &address, now);
        }
    }

    /// The same for one that the running HAProxy shall give up.
    pub fn check_servers(&mut self, vm: VmId, changes: &[ServerChange], now: Duration) {
        for change in changes.iter().filter(|change| matches!(change.to, To::Removed | To::Weight(0))) {
            let ip = change.server.split('_').nth(1).unwrap_or_default();
            if matches!(change.to, To::Weight(0)) && self.may_rest(ip, now) {
                continue;
            }
            self.check_gone(vm, ip, &change.server, now);
        }
    }

    /// The machine at this address went down lately, and may have asked for it.
    fn may_rest(&self, ip: &str, now: Duration) -> bool {
        let owner = self.machines.values().find(|machine| self.address(machine.vm) == ip);
        let rested = owner.and_then(|machine| machine.rested);
        rested.is_some_and(|at| now.saturating_sub(at) < REST_SEEN)
    }

    /// A server that a running HAProxy gives no new connections, in the end: its machine came back long ago.
    pub fn resting_server(&self, vm: VmId) -> Option<&str> {
        let servers = &self.machines[&vm].haproxy.servers;
        let runs = self.machines[&vm].runs(haproxy::UNIT);
        servers.iter().find(|(_, server)| runs && server.weight == 0).map(|(name, _)| name.as_str())
    }

    fn check_gone(&mut self, vm: VmId, ip: &str, backend: &str, now: Duration) {
        if let Some(owner) = self.machines.keys().copied().find(|owner| self.address(*owner) == ip) {
            self.violate(
                now,
                format!("7: VM {vm} removes the backend {backend} although VM {owner} is still there"),
            );
        }
    }

    /// A HAProxy that runs serves what its file says: the servers that were changed at run time, too.
    pub fn serves_its_file(&self, vm: VmId) -> bool {
        let machine = &self.machines[&vm];
        let file = machine.disk.files.get(haproxy::PATH).map_or("", |(_, text)| text.as_str());
        !machine.runs(haproxy::UNIT) || machine.haproxy == haproxy::running(file)
    }

    /// Invariant 12: nobody spins. Invariant 13: a refused context changes nothing.
    pub fn count_pass(&mut self, vm: VmId) {
        let now = self.now();
        self.passes += 1;
        let Some(machine) = self.machines.get_mut(&vm) else { return };
        let minute = now.as_secs() / 60;
        machine.passes =
            if machine.passes.0 == minute { (minute, machine.passes.1 + 1) } else { (minute, 1) };
        if machine.passes.1 == MOST_PASSES {
            self.violate(
                now,
                format!("12: the agent of VM {vm} spins: {MOST_PASSES} passes within a minute"),
            );
        }
    }

    /// Called with each effect that is about to be applied.
    pub fn check_effect(&mut self, vm: VmId, effect: &Effect, now: Duration) {
        let context = self.machines.get(&vm).map(|machine| machine.context.as_str());
        let spoilt = self.spoilt.get(&vm).filter(|(_, good)| context != Some(good));
        if let Some((since, _)) = spoilt {
            let seen = self.refused.contains(&vm) || now.saturating_sub(*since) > CONTEXT_SEEN;
            if seen {
                self.violate(now, format!("13: VM {vm} applies «{effect}» although its context is bad"));
            }
        }
        if !matches!(effect, Effect::HoldLease { .. }) {
            self.last_effect = Some((now, format!("VM {vm}: {effect}")));
        }
    }
}

/// `server NAME ADDRESS ...` lines of an HAProxy configuration.
pub fn servers_of(config: &str) -> Vec<(String, String)> {
    let mut words = config.lines().map(str::split_whitespace);
    let mut servers = Vec::new();
    for line in &mut words {
        let line: Vec<&str> = line.take(3).collect();
        if let ["server", name, address] = line[..] {
            servers.push((name.to_owned(), address.to_owned()));
        }
    }
    servers
}
