//! `PUT /service/role/ROLE`: a member scales a role of its service.

use std::time::Duration;

use crate::cloud::Cloud;
use crate::http::Response;
use crate::id::VmId;

impl Cloud {
    /// Every refusal looks the same; only what is no JSON at all is told apart.
    pub(super) fn role(
        &mut self,
        now: Duration,
        vm: VmId,
        role: &str,
        body: &[u8],
    ) -> Result<Response, Response> {
        let id = self.service_id(vm)?;
        self.find_service(&self.services, id)?;
        let body = String::from_utf8_lossy(body);
        let document: serde_json::Value = serde_json::from_str(&body)
            .map_err(|_| Response::new(500, format!("unexpected token at '{body}'")))?;
        let refused = || Response::new(400, format!("Error performing action on service {id} role {role}"));
        let cardinality = match document.get("cardinality") {
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            Some(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            None => None,
        };
        self.scale(now, id, role, cardinality.ok_or_else(refused)?).map_err(|_| refused())?;
        Ok(Response::new(200, ""))
    }
}
