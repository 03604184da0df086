//! OneGate: what VMs can ask, who may ask it, and how the answers look.
//!
//! Every error body is plain text labelled as JSON, as on the real server. Faults that were asked
//! for ([`crate::Faults`]) are put in here, at the door, and nowhere deeper.

mod action;
pub(crate) mod history;
mod long_form;
mod role;
mod router;
mod service;
mod short_form;
mod update;

use std::time::Duration;

use crate::cloud::Cloud;
use crate::faults::seconds;
use crate::http::{Fate, Request, Response, multipart_part, parameter};
use crate::id::VmId;
use crate::ledger::{Kind, Received};

/// What a request is for.
enum Route<'a> {
    Root,
    OwnVm,
    UpdateOwnVm,
    Service,
    Vm(&'a str),
    UpdateVm(&'a str),
    Action(&'a str),
    Role(&'a str),
    VirtualRouter,
    Network(&'a str),
    Unknown,
}

/// The parameters of a request, decoded.
#[derive(Default)]
struct Parameters {
    id: Option<String>,
    data: Option<String>,
    kind: Option<String>,
    extended: bool,
}

impl Cloud {
    /// Answers one request. What its `delivery` says about time and damage is the caller's to do.
    pub fn handle(&mut self, now: Duration, request: &Request) -> Response {
        self.tick(now);
        if now < seconds(self.faults.refuse_until) {
            let mut nobody = Response::new(503, "");
            nobody.delivery.fate = Fate::Refused;
            return nobody;
        }
        let path = path_segments(request.path());
        let route = route(&request.method, &path);
        let kind = route.kind(request);
        self.ledger.record(Received {
            at: now,
            vm: request.header("x-onegate-vmid").map(ruby_number),
            kind,
            path_and_query: request.path_and_query.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
        });
        let mut response = self.answer(now, request, &route, kind).unwrap_or_else(|refusal| refusal);
        if request.method == "HEAD" {
            response.body.clear();
        }
        self.damage(kind, &mut response);
        response
    }

    fn answer(
        &mut self,
        now: Duration,
        request: &Request,
        route: &Route<'_>,
        kind: Kind,
    ) -> Result<Response, Response> {
        if matches!(route, Route::Unknown) {
            return Err(Response::new(400, "OneGate server doesn't support this feature"));
        }
        let parameters = parameters(request)?;
        if self.faults.oned_down || self.chance.one_in(self.faults.unauthorized_one_in) {
            return Err(not_authorized());
        }
        let hits = self.faults.error_kinds.is_empty() || self.faults.error_kinds.contains(&kind);
        if hits && self.chance.one_in(self.faults.error_one_in) {
            return Err(Response::new(self.faults.error_status.unwrap_or(500), "Internal server error"));
        }
        let vm = self.authenticate(request, route, &parameters)?;
        match route {
            Route::Root => Ok(root(request)),
            Route::OwnVm => Ok(self.vm_response(vm)),
            Route::Vm(id) => self.reachable(vm, id).map(|id| self.vm_response(id)),
            Route::UpdateOwnVm => self.update(now, vm, request, &parameters),
            Route::UpdateVm(id) => {
                self.reachable(vm, id).and_then(|id| self.update(now, id, request, &parameters))
            }
            Route::Service => self.service_response(now, vm, parameters.extended),
            Route::Action(id) => self.action(now, vm, id, &request.body),
            Route::Role(role) => self.role(now, vm, role, &request.body),
            Route::VirtualRouter => self.virtual_router_response(vm),
            Route::Network(id) => self.network_response(vm, id, parameters.extended),
            Route::Unknown => unreachable!("it was answered first"),
        }
    }

    /// Which VM this is. Without X-ONEGATE-VMID the number for the token may be in the path or the
    /// query, but the request is then about VM 0, as is one with a VMID that is no number.
    fn authenticate(
        &self,
        request: &Request,
        route: &Route<'_>,
        parameters: &Parameters,
    ) -> Result<VmId, Response> {
        let header = request.header("x-onegate-vmid");
        let claimed = header.or(parameters.id.as_deref()).or(route.id());
        let token = request.header("x-onegate-token").unwrap_or_default();
        let genuine = claimed
            .and_then(|claimed| self.vms.get(&ruby_number(claimed)))
            .is_some_and(|vm| !token.is_empty() && vm.token == token);
        if !genuine {
            return Err(not_authorized());
        }
        let vm = header.map(ruby_number).unwrap_or_default();
        if self.vms.contains_key(&vm) {
            Ok(vm)
        } else {
            Err(Response::new(404, format!("VM {vm} not found")))
        }
    }

    /// How long this request takes by [`Faults::latency`], which [`Self::handle`] adds to its answer's delay.
    pub fn latency(&self, request: &Request) -> Duration {
        self.latency_of(route(&request.method, &path_segments(request.path())).kind(request))
    }

    fn latency_of(&self, kind: Kind) -> Duration {
        seconds(self.faults.latency.get(&kind).copied().unwrap_or_default())
    }

    fn damage(&mut self, kind: Kind, response: &mut Response) {
        response.delivery.delay += self.latency_of(kind);
        if !response.body.is_empty() && self.chance.one_in(self.faults.cut_one_in) {
            let at = self.chance.bits() as usize % response.body.len();
            response.delivery.fate = Fate::CutAfter(at);
        }
    }
}

impl<'a> Route<'a> {
    fn kind(&self, request: &Request) -> Kind {
        match self {
            Self::Root | Self::Unknown => Kind::Other,
            Self::OwnVm => Kind::OwnRead,
            Self::UpdateOwnVm => Kind::OwnWrite,
            Self::Service if request.query().contains("extended") => Kind::ServiceExtended,
            Self::Service => Kind::Service,
            Self::Vm(_) => Kind::OtherRead,
            Self::UpdateVm(_) => Kind::OtherWrite,
            Self::Action(_) => Kind::Action,
            Self::Role(_) => Kind::Scale,
            Self::VirtualRouter | Self::Network(_) => Kind::VirtualRouter,
        }
    }

    fn id(&self) -> Option<&'a str> {
        match self {
            Self::Vm(id) | Self::UpdateVm(id) | Self::Action(id) | Self::Network(id) => Some(id),
            _ => None,
        }
    }
}

/// Repeated slashes count as one; one at the end makes another path.
fn path_segments(path: &str) -> Vec<&str> {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if path.len() > 1 && path.ends_with('/') && !segments.is_empty() {
        segments.push("");
    }
    segments
}

fn route<'a>(method: &str, path: &[&'a str]) -> Route<'a> {
    let method = if method == "HEAD" { "GET" } else { method };
    match (method, path) {
        ("GET", []) => Route::Root,
        ("GET", ["vm"]) => Route::OwnVm,
        ("PUT", ["vm"]) => Route::UpdateOwnVm,
        ("GET", ["service"]) => Route::Service,
        ("GET", ["vrouter"]) => Route::VirtualRouter,
        ("GET", ["vnet", id]) if !id.is_empty() => Route::Network(id),
        ("GET", ["vms", id]) if !id.is_empty() => Route::Vm(id),
        ("PUT", ["vms", id]) if !id.is_empty() => Route::UpdateVm(id),
        ("POST", ["vms", id, "action"]) if !id.is_empty() => Route::Action(id),
        ("PUT", ["service", "role", role]) if !role.is_empty() => Route::Role(role),
        _ => Route::Unknown,
    }
}

/// From the query, and from the body if it is a form; the form wins.
fn parameters(request: &Request) -> Result<Parameters, Response> {
    let content_type = request.header("content-type").unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body);
    let form = if content_type.starts_with("application/x-www-form-urlencoded") { body.as_ref() } else { "" };
    let find = |name: &str| -> Result<Option<String>, String> {
        let in_form = parameter(form, name)?.or_else(|| multipart_part(content_type, &body, name));
        Ok(in_form.or(parameter(request.query(), name)?))
    };
    let all = || -> Result<Parameters, String> {
        let extended = find("extended")?.is_some();
        Ok(Parameters { id: find("id")?, data: find("data")?, kind: find("type")?, extended })
    };
    all().map_err(|component| {
        // Rack puts the component into its message, and the message onto a page: escaped twice.
        let shown = escape_html(&escape_html(&component));
        Response::new(400, format!("Invalid query parameters: invalid %-encoding ({shown})"))
    })
}

fn escape_html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

fn root(request: &Request) -> Response {
    #[derive(serde::Serialize)]
    struct Root {
        vm_info: String,
        service_info: String,
    }
    let base = format!("http://{}", request.header("host").unwrap_or_default());
    json(&Root { vm_info: format!("{base}/vm"), service_info: format!("{base}/service") })
}

fn not_authorized() -> Response {
    Response::new(401, "Not authorized")
}

fn internal_error() -> Response {
    Response::new(500, "Internal server error")
}

fn json(body: &impl serde::Serialize) -> Response {
    Response::new(
        200,
        serde_json::to_vec(body).expect("maps with text keys, texts and numbers always serialise"),
    )
}

/// Ruby's `to_i`: leading blanks and as many digits as follow; 0 if there are none.
fn ruby_number(text: &str) -> VmId {
    let digits = text.trim_start();
    let length = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    VmId(digits[..length].parse().unwrap_or_default())
}
