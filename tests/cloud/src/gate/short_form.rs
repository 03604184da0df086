//! A VM as `/vm` and `/vms/ID` show it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json;
use crate::attributes::Attributes;
use crate::cloud::Cloud;
use crate::http::Response;
use crate::id::VmId;
use crate::network::Nic;

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Envelope<'a> {
    vm: ShortForm<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct ShortForm<'a> {
    name: &'a str,
    id: String,
    state: String,
    lcm_state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_template: Option<&'a Attributes>,
    template: Nics,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Nics {
    nic: Vec<BTreeMap<&'static str, String>>,
    nic_alias: Vec<BTreeMap<&'static str, String>>,
}

impl Cloud {
    pub(super) fn vm_response(&self, id: VmId) -> Response {
        let vm = &self.vms[&id];
        let (state, lcm_state) = vm.state.numbers();
        let hidden = self.faults.missing_user_template.contains(&id);
        let nics = |nics: &[Nic]| nics.iter().map(|nic| self.nic(nic)).collect();
        json(&Envelope {
            vm: ShortForm {
                name: &vm.name,
                id: id.to_string(),
                state: state.to_string(),
                lcm_state: lcm_state.to_string(),
                user_template: (!hidden).then_some(&vm.user_template),
                template: Nics { nic: nics(&vm.nics), nic_alias: nics(&vm.aliases) },
            },
        })
    }

    fn nic(&self, nic: &Nic) -> BTreeMap<&'static str, String> {
        let mut shown = BTreeMap::from([
            ("IP", nic.ip.to_string()),
            ("MAC", nic.mac.clone()),
            ("NAME", nic.name.clone()),
            ("NETWORK", nic.network.clone()),
        ]);
        if self.networks[nic.network_id as usize].spec.external {
            shown.insert("EXTERNAL", "YES".to_owned());
        }
        if let Some(ipv6) = nic.ipv6 {
            shown.insert("IP6_GLOBAL", ipv6.global.to_string());
            shown.insert("IP6_LINK", ipv6.link.to_string());
        }
        if let Some(parent) = &nic.parent {
            shown.insert("PARENT", parent.clone());
        }
        shown
    }
}
