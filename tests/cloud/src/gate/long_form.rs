//! A VM as `/service?extended` shows it: all of it, other VMs' contexts included.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::attributes::Attributes;
use crate::cloud::Cloud;
use crate::machine::host;
use crate::network::Nic;
use crate::vm::{Vm, VmState};

/// How long after its start the first figures of a VM arrive: one round of monitoring.
const FIRST_POLL: Duration = Duration::from_secs(30);

/// What oned's XML becomes where an element has nothing in it.
#[derive(Serialize)]
pub(super) struct Nothing {}

#[derive(Serialize)]
#[serde(untagged)]
enum MaybeText {
    Text(String),
    Nothing(Nothing),
}

#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

type Fields = BTreeMap<&'static str, String>;

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct LongForm<'a> {
    id: String,
    uid: String,
    gid: String,
    uname: &'a str,
    gname: &'a str,
    name: &'a str,
    permissions: Permissions,
    last_poll: String,
    state: String,
    lcm_state: String,
    prev_state: String,
    prev_lcm_state: String,
    resched: &'static str,
    stime: String,
    etime: String,
    deploy_id: MaybeText,
    monitoring: Fields,
    sched_actions: Nothing,
    template: Template<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_template: Option<&'a Attributes>,
    history_records: HistoryRecords,
    backups: Backups,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Permissions {
    owner_u: &'static str,
    owner_m: &'static str,
    owner_a: &'static str,
    group_u: &'static str,
    group_m: &'static str,
    group_a: &'static str,
    other_u: &'static str,
    other_m: &'static str,
    other_a: &'static str,
}

/// Alphabetical, as all that came out of a template.
#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Template<'a> {
    automatic_ds_requirements: &'static str,
    automatic_nic_requirements: &'static str,
    automatic_requirements: &'static str,
    context: &'a BTreeMap<String, String>,
    cpu: &'a str,
    created_by: String,
    memory: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nic: Option<OneOrMany<Fields>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nic_alias: Option<OneOrMany<Fields>>,
    os: Os<'a>,
    security_group_rule: [SecurityGroupRule; 2],
    template_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tm_mad_system: Option<&'static str>,
    vmid: String,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Os<'a> {
    arch: &'static str,
    uuid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct SecurityGroupRule {
    protocol: &'static str,
    rule_type: &'static str,
    security_group_id: &'static str,
    security_group_name: &'static str,
}

#[derive(Serialize)]
struct HistoryRecords {
    #[serde(rename = "HISTORY", skip_serializing_if = "Option::is_none")]
    history: Option<History>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct History {
    oid: String,
    seq: &'static str,
    hostname: String,
    hid: String,
    cid: &'static str,
    stime: String,
    etime: String,
    vm_mad: &'static str,
    tm_mad: &'static str,
    ds_id: &'static str,
    plan_id: &'static str,
    action_id: &'static str,
    pstime: String,
    petime: String,
    rstime: String,
    retime: String,
    estime: String,
    eetime: String,
    action: &'static str,
    uid: String,
    gid: String,
    request_id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Backups {
    backup_config: Nothing,
    backup_ids: Nothing,
}

impl Cloud {
    pub(super) fn long_form<'a>(&'a self, now: Duration, vm: &'a Vm) -> LongForm<'a> {
        let polled = vm.started.map(|started| started + FIRST_POLL).filter(|polled| *polled <= now);
        let owner = &self.options.owner;
        let (state, lcm_state) = vm.state.numbers();
        let (state, lcm_state) = (state.to_string(), lcm_state.to_string());
        let on_host = vm.started.is_some() && vm.state != VmState::BootFailure;
        let deploy_id = MaybeText::Text(format!("{}:{}:dummy", host(vm.id), vm.name));
        LongForm {
            id: vm.id.to_string(),
            uid: owner.id.to_string(),
            gid: owner.group_id.to_string(),
            uname: &owner.name,
            gname: &owner.group,
            name: &vm.name,
            permissions: PERMISSIONS,
            last_poll: self.time(polled),
            prev_state: state.clone(),
            prev_lcm_state: lcm_state.clone(),
            state,
            lcm_state,
            resched: "0",
            stime: self.time(Some(vm.created)),
            etime: self.time(vm.ended),
            deploy_id: if on_host { deploy_id } else { MaybeText::Nothing(Nothing {}) },
            monitoring: polled.map_or_else(Fields::new, |polled| self.monitoring(vm, polled)),
            sched_actions: Nothing {},
            template: self.template(vm),
            user_template: (!self.faults.missing_user_template.contains(&vm.id)).then_some(&vm.user_template),
            history_records: HistoryRecords { history: vm.started.map(|started| self.record(vm, started)) },
            backups: Backups { backup_config: Nothing {}, backup_ids: Nothing {} },
        }
    }

    fn time(&self, at: Option<Duration>) -> String {
        at.map_or(0, |at| self.unix(at)).to_string()
    }

    fn monitoring(&self, vm: &Vm, polled: Duration) -> Fields {
        let fields = ["CPU", "DISKRDBYTES", "DISKRDIOPS", "DISKWRBYTES", "DISKWRIOPS", "NETRX", "NETTX"];
        let mut monitoring: Fields = fields.map(|field| (field, "0".to_owned())).into();
        monitoring.insert("ID", vm.id.to_string());
        monitoring.insert("MEMORY", "65536".to_owned());
        monitoring.insert("TIMESTAMP", self.unix(polled).to_string());
        monitoring
    }

    fn template<'a>(&'a self, vm: &'a Vm) -> Template<'a> {
        let nics = |nics: &[Nic], first: usize| {
            let fields = nics.iter().enumerate().map(|(index, nic)| self.full_nic(vm, nic, first + index));
            let mut fields: Vec<Fields> = fields.collect();
            match fields.len() {
                0 => None,
                1 => fields.pop().map(OneOrMany::One),
                _ => Some(OneOrMany::Many(fields)),
            }
        };
        let rule = |rule_type| SecurityGroupRule {
            protocol: "ALL",
            rule_type,
            security_group_id: "0",
            security_group_name: "default",
        };
        Template {
            automatic_ds_requirements: "(\"CLUSTERS/ID\" @> 0)",
            automatic_nic_requirements: "(\"CLUSTERS/ID\" @> 0)",
            automatic_requirements: "(CLUSTER_ID = 0) & !(PIN_POLICY = PINNED)",
            context: &vm.context,
            cpu: &vm.hardware.cpu,
            created_by: self.options.owner.id.to_string(),
            memory: &vm.hardware.memory,
            nic: nics(&vm.nics, 0),
            nic_alias: nics(&vm.aliases, vm.nics.len()),
            os: Os { arch: "x86_64", uuid: &vm.hardware.uuid },
            security_group_rule: [rule("OUTBOUND"), rule("INBOUND")],
            template_id: vm.hardware.template_id.to_string(),
            tm_mad_system: vm.started.map(|_| "dummy"),
            vmid: vm.id.to_string(),
        }
    }

    fn full_nic(&self, vm: &Vm, nic: &Nic, number: usize) -> Fields {
        let network = &self.networks[nic.network_id as usize].spec;
        let mut fields: Fields = [
            ("AR_ID", "0".to_owned()),
            ("BRIDGE", network.bridge.clone()),
            ("BRIDGE_TYPE", "linux".to_owned()),
            ("CLUSTER_ID", "0".to_owned()),
            ("IP", nic.ip.to_string()),
            ("MAC", nic.mac.clone()),
            ("NAME", nic.name.clone()),
            ("NETWORK", nic.network.clone()),
            ("NETWORK_ID", nic.network_id.to_string()),
            ("NIC_ID", number.to_string()),
            ("SECURITY_GROUPS", "0".to_owned()),
            ("TARGET", format!("one-{}-{number}", vm.id)),
            ("VN_MAD", "dummy".to_owned()),
        ]
        .into();
        if !network.dns.is_empty() {
            fields.insert("DNS", network.dns.clone());
        }
        if let Some(gateway) = network.gateway {
            fields.insert("GATEWAY", gateway.to_string());
        }
        if let Some(parent) = &nic.parent {
            fields.insert("PARENT", parent.clone());
        }
        fields
    }

    fn record(&self, vm: &Vm, started: Duration) -> History {
        let owner = &self.options.owner;
        let started = self.unix(started).to_string();
        let (uid, gid) = match vm.ended {
            Some(_) => (owner.id.to_string(), owner.group_id.to_string()),
            None => ("-1".to_owned(), "-1".to_owned()),
        };
        History {
            oid: vm.id.to_string(),
            seq: "0",
            hostname: host(vm.id),
            hid: (vm.id.0 % 4).to_string(),
            cid: "0",
            stime: started.clone(),
            etime: self.time(vm.ended),
            vm_mad: "dummy",
            tm_mad: "dummy",
            ds_id: "100",
            plan_id: "-1",
            action_id: "0",
            pstime: started.clone(),
            petime: started.clone(),
            rstime: started,
            retime: self.time(vm.stopped),
            estime: self.time(vm.ended),
            eetime: self.time(vm.ended),
            // 27 is terminate (include/History.h).
            action: if vm.ended.is_some() { "27" } else { "0" },
            uid,
            gid,
            request_id: if vm.ended.is_some() { "0" } else { "-1" },
        }
    }
}

const PERMISSIONS: Permissions = Permissions {
    owner_u: "1",
    owner_m: "1",
    owner_a: "0",
    group_u: "0",
    group_m: "0",
    group_a: "0",
    other_u: "0",
    other_m: "0",
    other_a: "0",
};
