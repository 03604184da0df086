//! `POST /vms/ID/action`: what members may do to one another.

use std::time::Duration;

use serde::Deserialize;

use super::internal_error;
use crate::cloud::Cloud;
use crate::http::Response;
use crate::id::VmId;

#[derive(Deserialize)]
struct Action {
    perform: String,
    #[serde(default)]
    params: serde_json::Value,
}

impl Cloud {
    pub(super) fn action(
        &mut self,
        now: Duration,
        vm: VmId,
        id: &str,
        body: &[u8],
    ) -> Result<Response, Response> {
        let target = self.reachable(vm, id)?;
        let body = String::from_utf8_lossy(body);
        let document: serde_json::Value = serde_json::from_str(&body)
            .map_err(|_| Response::new(400, format!("unexpected token at '{body}'")))?;
        let wrong = || Response::new(400, "Error parsing JSON: Wrong resource type");
        let action = document.get("action").cloned().ok_or_else(wrong)?;
        let action: Action = serde_json::from_value(action).map_err(|_| internal_error())?;
        let done = match action.perform.as_str() {
            // The shipped configuration restricts nothing, and so restricts this.
            "reboot" => {
                return Err(Response::new(403, "Action (reboot) is not allowed on this resource"));
            }
            "rename" => self.rename(target, &action.params),
            "terminate" => self.terminate(now, target, false).is_ok(),
            "terminate-hard" => self.terminate(now, target, true).is_ok(),
            "poweroff" => self.poweroff(now, target, false).is_ok(),
            "poweroff-hard" => self.poweroff(now, target, true).is_ok(),
            "undeploy" => self.undeploy(now, target, false).is_ok(),
            "undeploy-hard" => self.undeploy(now, target, true).is_ok(),
            "resume" => self.resume(now, target).is_ok(),
            "reboot-hard" => self.reboot(now, target, true).is_ok(),
            _ => false,
        };
        self.remember(now);
        if done { Ok(Response::new(204, "")) } else { Err(internal_error()) }
    }

    fn rename(&mut self, vm: VmId, params: &serde_json::Value) -> bool {
        let name = params.as_str().or(params.get("name").and_then(|name| name.as_str()));
        match (self.vms.get_mut(&vm), name) {
            (Some(vm), Some(name)) => {
                vm.name = name.to_owned();
                true
            }
            _ => false,
        }
    }
}
