//! `PUT /vm`: what becomes of a VM's attributes.

use std::time::Duration;

use super::{Parameters, internal_error};
use crate::cloud::{Cloud, Timer};
use crate::faults::seconds;
use crate::http::{Request, Response};
use crate::id::VmId;
use crate::text::{parse, quote};

/// What OneGate lets nobody change, however small its letters are.
const RESTRICTED: [&str; 3] = ["SCHED_REQUIREMENTS", "SERVICE_ID", "ROLE_NAME"];
/// What oned lets no tenant change (VM_RESTRICTED_ATTR in oned.conf).
const RESTRICTED_BY_ONED: [&str; 3] = ["CPU_COST", "MEMORY_COST", "DISK_COST"];

impl Cloud {
    pub(super) fn update(
        &mut self,
        now: Duration,
        vm: VmId,
        request: &Request,
        parameters: &Parameters,
    ) -> Result<Response, Response> {
        let raw = || String::from_utf8_lossy(&request.body).into_owned();
        let data = parameters.data.clone().unwrap_or_else(raw);
        // Anything that is not 1 erases.
        let appends = parameters.kind.as_deref().is_none_or(|kind| super::ruby_number(kind) == VmId(1));
        if let Some(name) = restricted(&data) {
            let verb = if appends { "modified" } else { "deleted" };
            return Err(Response::new(403, format!("Attribute ({name}) cannot be {verb}")));
        }
        let response = if appends { self.append(now, vm, &data) } else { self.erase(now, vm, &data) };
        self.remember(now);
        response
    }

    fn append(&mut self, now: Duration, vm: VmId, data: &str) -> Result<Response, Response> {
        let text = quote(data);
        let attributes = parse(&text).map_err(|_| internal_error())?;
        if attributes.iter().any(|(name, _)| RESTRICTED_BY_ONED.contains(&name.as_str())) {
            return Err(internal_error());
        }
        self.vms.entry(vm).and_modify(|vm| vm.user_template.append(attributes));
        if opens_gate(&text) {
            self.ready_seen(now, vm);
        }
        Ok(Response::new(200, ""))
    }

    /// Reads everything, takes one attribute out and writes everything back, without a lock.
    fn erase(&mut self, now: Duration, vm: VmId, data: &str) -> Result<Response, Response> {
        let expression = quote(data);
        match Selection::of(&expression) {
            Selection::Nonsense => {
                return Err(Response::new(500, format!("Invalid expression: USER_TEMPLATE/{expression}")));
            }
            Selection::Truth => return Err(Response::new(500, "node_set must be a Nokogiri::XML::NodeSet")),
            Selection::Name => {}
        }
        let mut rest = self.vms[&vm].user_template.clone();
        // XPath looks for the name as it is written.
        if !rest.iter().any(|(name, _)| *name == expression) || !rest.remove(&expression) {
            return Err(internal_error());
        }
        let ready = rest.text("READY") == Some("YES");
        let window = seconds(self.faults.erase_window);
        if window.is_zero() {
            self.vms.entry(vm).and_modify(|vm| vm.user_template = rest);
        } else {
            self.at(now + window, Timer::FinishErase { vm, rest });
        }
        if ready {
            self.ready_seen(now, vm);
        }
        let mut response = Response::new(200, "");
        response.delivery.delay = window;
        Ok(response)
    }
}

/// The first name that may not be changed; a blank before or after it hides it from this check.
fn restricted(data: &str) -> Option<&str> {
    let names = data.split('\n').map(|line| line.split('=').next().unwrap_or_default());
    names.into_iter().find(|name| RESTRICTED.contains(&name.to_uppercase().as_str()))
}

/// OneFlow looks for a text, not for an attribute.
fn opens_gate(text: &str) -> bool {
    let bare: String = text.chars().filter(|character| !matches!(character, '"' | '\'' | ' ')).collect();
    bare.contains("READY=YES")
}

/// What XPath makes of `USER_TEMPLATE/` and a text.
enum Selection {
    /// A name: selects what has it.
    Name,
    /// A comparison with a quoted text: true or false.
    Truth,
    /// No expression.
    Nonsense,
}

impl Selection {
    fn of(expression: &str) -> Self {
        let is_name = |text: &str| {
            let mut characters = text.chars();
            let first = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_');
            first && characters.all(|character| character.is_alphanumeric() || "_-.".contains(character))
        };
        let literal =
            |text: &str| text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::to_owned);
        match expression.split_once('=') {
            None if is_name(expression) => Self::Name,
            Some((name, value))
                if is_name(name) && literal(value).is_some_and(|text| !text.contains('"')) =>
            {
                Self::Truth
            }
            _ => Self::Nonsense,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_for_a_text() {
        for text in
            ["READY=\"YES\"", "NOT_READY=\"YES\"", "READY =\" YES\"", "A=\"1\"\nREADY=\"YES\"\nB=\"2\""]
        {
            assert!(opens_gate(text), "{text}");
        }
        assert!(!opens_gate("ready=\"YES\"") && !opens_gate("READY=\"NO\""));
    }
}
