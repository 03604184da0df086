//! From OneGate's JSON to a [`Vm`] or a [`Service`]: forgiving about how a thing is written, never about what is missing.
//!
//! The same VM is written in several ways (onegate.md, "Shapes"): numbers as text, one NIC as an object and two as a
//! list, `{}` for empty. All of them are read. But a role without its list of nodes, or an ID that is none, makes the
//! whole answer an error: taken for "nobody there" it would found a second cluster or remove a live backend.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde_json::Value;

use super::answer::{AnswerError, At, read, scalar};
use super::{Service, ServiceNode, ServiceRole, Vm, VmId, VmNic};

impl Vm {
    /// Reads the answer to `GET /vm` or `GET /vms/ID`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(text: &str) -> Result<Self, AnswerError> {
        vm(&At::root(&read(text)?, "VM")?)
    }
}

impl Service {
    /// Reads the answer to `GET /service` (VMs without data, so that [`Service::gap`] says that it knows little) or to
    /// `GET /service?extended`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(text: &str) -> Result<Self, AnswerError> {
        let answer = read(text)?;
        let at = At::root(&answer, "SERVICE")?;
        let roles = at.key("roles")?;
        let service = Self {
            id: at.key("id")?.integer("the service's ID")?,
            state: at.key("state")?.integer("the service's state")?,
            roles: roles.list()?.iter().map(role).collect::<Result<_, _>>()?,
        };
        // The asking VM itself belongs to a role: an empty list cannot be true.
        if service.roles.is_empty() { Err(roles.fault("at least one role")) } else { Ok(service) }
    }
}

fn role(at: &At<'_>) -> Result<ServiceRole, AnswerError> {
    let name = at.key("name")?;
    let role = ServiceRole {
        name: name.text()?,
        cardinality: at.key("cardinality")?.integer("how many VMs the role shall have")?,
        state: at.key("state")?.integer("the role's state")?,
        nodes: at.key("nodes")?.list()?.iter().map(node).collect::<Result<_, _>>()?,
    };
    if role.name.is_empty() { Err(name.fault("the role's name")) } else { Ok(role) }
}

/// A node has its VM's data only if the VM's states are there: `/service` names a VM but tells nothing of it.
fn node(at: &At<'_>) -> Result<ServiceNode, AnswerError> {
    let id = at.key("deploy_id")?.integer("a VM's ID").map(VmId)?;
    let data = at.key("vm_info")?.key("VM")?;
    if data.is_missing() {
        return Ok(ServiceNode { id, vm: None });
    }
    let own = data.key("ID")?;
    if own.integer("a VM's ID").map(VmId)? != id {
        return Err(own.fault(&format!("{id} as in deploy_id")));
    }
    let told = !data.key("STATE")?.is_missing() && !data.key("LCM_STATE")?.is_missing();
    Ok(ServiceNode { id, vm: told.then(|| vm(&data)).transpose()? })
}

fn vm(at: &At<'_>) -> Result<Vm, AnswerError> {
    let template = at.key("TEMPLATE")?;
    let mut nics = Vec::new();
    for (key, alias) in [("NIC", false), ("NIC_ALIAS", true)] {
        for entry in template.key(key)?.several()? {
            nics.push(nic(&entry, alias)?);
        }
    }
    Ok(Vm {
        id: at.key("ID")?.integer("a VM's ID").map(VmId)?,
        name: at.key("NAME")?.text()?,
        state: at.key("STATE")?.integer("a VM's state")?,
        lcm_state: at.key("LCM_STATE")?.integer("a VM's LCM state")?,
        attributes: at.key("USER_TEMPLATE")?.entries()?.map(|entries| attributes(entries.iter())),
        nics,
    })
}

fn nic(at: &At<'_>, alias: bool) -> Result<VmNic, AnswerError> {
    let mut ip6 = None;
    for key in ["IP6", "IP6_GLOBAL", "IP6_ULA"] {
        ip6 = ip6.or(at.key(key)?.parsed::<Ipv6Addr>("an IPv6 address")?);
    }
    Ok(VmNic {
        mac: at.key("MAC")?.text()?.to_ascii_lowercase(),
        ip: at.key("IP")?.parsed("an IP address")?,
        ip6,
        network: at.key("NETWORK")?.text()?,
        external: at.key("EXTERNAL")?.text()?.eq_ignore_ascii_case("YES"),
        alias,
    })
}

/// The scalar ones. A vector (`VEC = [ A = 1 ]`) is skipped; `{}` is empty; of a key given twice the later one counts.
pub(super) fn attributes<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Value)>,
) -> BTreeMap<String, String> {
    entries.filter_map(|(name, value)| Some((name.clone(), attribute(value)?))).collect()
}

fn attribute(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) if map.is_empty() => Some(String::new()),
        Value::Array(given) => given.iter().rev().find_map(attribute),
        other => scalar(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIC: &str = r#"{"IP":"10.0.0.1","MAC":"02:00:0A:00:00:01","NETWORK":"n"}"#;

    fn vm_with(user_template: &str, nic: &str) -> Result<Vm, AnswerError> {
        Vm::from_json(&format!(
            r#"{{"VM":{{"ID":"7","NAME":"n","STATE":"3","LCM_STATE":"3",
                "USER_TEMPLATE":{user_template},"TEMPLATE":{{"NIC":{nic}}}}}}}"#
        ))
    }

    fn service_with(nodes: &str) -> Result<Service, AnswerError> {
        Service::from_json(&format!(
            r#"{{"SERVICE":{{"id":"1","state":2,"roles":[{{"name":"master","cardinality":1,"state":2,"nodes":{nodes}}}]}}}}"#
        ))
    }

    fn attributes_of(user_template: &str) -> Vec<(String, String)> {
        vm_with(user_template, "[]").unwrap().attributes.unwrap().into_iter().collect()
    }

    #[track_caller]
    fn check_refused<T: std::fmt::Debug>(answer: Result<T, AnswerError>, message: &str) {
        assert_eq!(answer.unwrap_err().to_string(), message);
    }

    #[test]
    fn numbers_may_be_text_and_text_numbers() {
        let vm = Vm::from_json(r#"{"VM":{"ID":7,"NAME":8,"STATE":3,"LCM_STATE":" 3 "}}"#).unwrap();
        assert_eq!((vm.id, vm.name.as_str(), vm.state, vm.lcm_state), (VmId(7), "8", 3, 3));
    }

    #[test]
    fn nics_may_be_one_several_or_none() {
        let count = |nic: &str| vm_with("{}", nic).unwrap().nics.len();
        assert_eq!(count(NIC), 1);
        assert_eq!(count(&format!("[{NIC},{NIC}]")), 2);
        for none in ["[]", "{}", "null", "\"\""] {
            assert_eq!(count(none), 0, "{none}");
        }
        assert_eq!(vm_with("{}", NIC).unwrap().nics[0].mac, "02:00:0a:00:00:01");
    }

    #[test]
    fn an_attribute_is_a_scalar_and_the_later_of_two() {
        let given = r#"{"A":["1","2"],"B":{"X":"1"},"C":{},"D":4,"E":null,"F":["1",{"X":"2"}]}"#;
        let expected = [("A", "2"), ("C", ""), ("D", "4"), ("F", "1")];
        assert_eq!(attributes_of(given), expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn no_attributes_and_attributes_unknown_differ() {
        assert_eq!(vm_with("{}", "[]").unwrap().attributes, Some(BTreeMap::new()));
        assert_eq!(vm_with("null", "[]").unwrap().attributes, None);
    }

    #[test]
    fn a_node_without_data_stays_a_node() {
        for data in ["null", "{}", r#"{"VM":null}"#, r#"{"VM":{}}"#, r#"{"VM":{"ID":"5","NAME":"n"}}"#] {
            let service = service_with(&format!(r#"[{{"deploy_id":5,"vm_info":{data}}}]"#)).unwrap();
            assert_eq!(service.roles[0].nodes, [ServiceNode { id: VmId(5), vm: None }], "{data}");
            assert!(service.gap().is_some_and(|gap| gap.contains("VM 5")), "{data}");
        }
    }

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let answer = r#"{"VM":{"ID":"1","TEMPLATE":{"CONTEXT":{"PASSWORD":"opennebula"},"NIC":[]}}}"#;
        assert!(!read(answer).unwrap().to_string().contains("opennebula"));
    }

    #[test]
    fn a_wrong_shape_says_what_and_where() {
        check_refused(service_with("null"), "SERVICE.roles[0].nodes: expected a list, found nothing");
        check_refused(
            service_with(r#"[{"deploy_id":"x"}]"#),
            "SERVICE.roles[0].nodes[0].deploy_id: expected a VM's ID, found \"x\"",
        );
        check_refused(
            service_with(r#"[{"deploy_id":5,"vm_info":{"VM":{"ID":"6"}}}]"#),
            "SERVICE.roles[0].nodes[0].vm_info.VM.ID: expected 5 as in deploy_id, found \"6\"",
        );
        check_refused(
            Service::from_json(r#"{"SERVICE":{"id":1,"state":2,"roles":[]}}"#),
            "SERVICE.roles: expected at least one role, found a list",
        );
        check_refused(vm_with("[]", "[]"), "VM.USER_TEMPLATE: expected an object, found a list");
        check_refused(
            vm_with("{}", r#"{"IP":"10.0.0.256"}"#),
            "VM.TEMPLATE.NIC.IP: expected an IP address, found \"10.0.0.256\"",
        );
        check_refused(Vm::from_json(r#"{"VM":null}"#), "VM: expected an object, found nothing");
        check_refused(Vm::from_json("[]"), "the answer: expected an object, found a list");
    }

    #[test]
    fn half_an_answer_is_none() {
        let whole = r#"{"VM":{"ID":"7","NAME":"n","STATE":"3","LCM_STATE":"3","USER_TEMPLATE":{}}}"#;
        assert!(Vm::from_json(whole).is_ok());
        for end in 0..whole.len() {
            assert!(
                matches!(Vm::from_json(&whole[..end]), Err(AnswerError::NotJson(_))),
                "{}",
                &whole[..end]
            );
        }
        assert!(Vm::from_json(&format!("{whole}x")).is_err());
    }
}
