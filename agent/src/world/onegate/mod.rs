//! The client of OneGate: every verb, each answer a value or a told fault.
//!
//! A call never lasts longer than its limit, repetitions included; dropping its future abandons it. The token is in one
//! header that is marked sensitive, and nowhere else. TLS is verified unless the context says otherwise by name.

mod fault;
mod networks;
mod readings;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;

pub use self::fault::OneGateError;
pub use self::readings::Readings;
use self::transport::{Call, Count, Repeat, Transport};
use crate::context::OneGateConfig;
use crate::facts::FaultKind;
use crate::plan::{Attributes, Secret};
use crate::service::{AnswerError, Service, ServiceRole, VNet, VRouter, Vm, VmId, render};

/// How long and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a TCP connection and its TLS.
    pub connect: Duration,
    /// For a whole call.
    pub total: Duration,
    /// For what is dear to the front end: `/service?extended` of 100 VMs takes 1 to 5 s when all is well (onegate.md).
    pub dear: Duration,
    /// Of an answer. A service of 100 VMs is 330 kB.
    pub body_bytes: usize,
    /// Of the same request, the first included.
    pub attempts: u32,
    /// Before the second attempt, on average; longer before each further one.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            total: Duration::from_secs(10),
            dear: Duration::from_secs(30),
            body_bytes: 16 * 1024 * 1024,
            attempts: 3,
            pause: Duration::from_millis(200),
        }
    }
}

/// Requests that were sent, repetitions included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// `GET /vm` and `GET /`: cheap for the cloud.
    pub own: u64,
    /// `GET /service`: dear.
    pub service: u64,
    /// `GET /vms/ID`, `/vrouter`, `/vnet/ID`: dear.
    pub others: u64,
    /// Everything that changes something.
    pub writes: u64,
}

/// What can be done to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Deploy it only when it is released.
    Hold,
    /// Undo a hold.
    Release,
    /// Save it and free its host.
    Stop,
    /// Save it and stay on its host.
    Suspend,
    /// Bring it back.
    Resume,
    /// Restart its guest.
    Reboot,
    /// Shut it down, keep its disks on the host.
    Poweroff,
    /// Shut it down, free its host.
    Undeploy,
    /// Shut it down for good.
    Terminate,
    /// Let the scheduler place it anew.
    Resched,
    /// Undo a resched.
    Unresched,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Stop => "stop",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Reboot => "reboot",
            Self::Poweroff => "poweroff",
            Self::Undeploy => "undeploy",
            Self::Terminate => "terminate",
            Self::Resched => "resched",
            Self::Unresched => "unresched",
        }
    }
}

/// OneGate, as one VM may talk to it. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    vm: VmId,
    transport: Arc<Transport>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client {{ vm: {}, .. }}", self.vm)
    }
}

/// Every verb fails with a [`OneGateError`] that says what was tried, what came, and what to do.
impl Client {
    /// A client for this VM. Connects to nothing yet.
    ///
    /// # Errors
    /// If the endpoint, the CA or the token is unusable.
    pub fn new(
        config: &OneGateConfig,
        vm: VmId,
        token: &Secret,
        limits: Limits,
    ) -> Result<Self, OneGateError> {
        Transport::new(config, vm, token, limits).map(|transport| Self { vm, transport: Arc::new(transport) })
    }

    /// What was sent so far.
    pub fn counts(&self) -> Counts {
        self.transport.counts()
    }

    /// `GET /`: proves that OneGate and oned answer and accept the token.
    pub async fn get_root(&self) -> Result<(), OneGateError> {
        self.transport.call(&self.read(&[], Count::Own)).await.map(drop)
    }

    /// `GET /vm`: this VM. The only cheap question.
    pub async fn get_vm(&self) -> Result<Vm, OneGateError> {
        self.vm_at(self.vm, &self.read(&["vm"], Count::Own)).await
    }

    /// `GET /service`: the roles and the IDs of their VMs; extended: with the VMs' states, NICs and attributes. An answer
    /// that does not list this VM is a fault: the server refuses a VM that is not in the service.
    pub async fn get_service(&self, extended: bool) -> Result<Service, OneGateError> {
        let call = Call { extended, ..self.dear(&["service"], Count::Service) };
        let service = self.asked(&call, Service::from_json).await?;
        if service.roles.iter().flat_map(|role| &role.nodes).any(|node| node.id == self.vm) {
            return Ok(service);
        }
        Err(self.nonsense(&call, format!("the answer does not list VM {}, who asked", self.vm)))
    }

    /// `GET /vms/ID`: another VM of the service or virtual router.
    pub async fn get_vms(&self, vm: VmId) -> Result<Vm, OneGateError> {
        self.vm_at(vm, &self.dear(&["vms", &vm.to_string()], Count::Others)).await
    }

    /// `GET /vrouter`: the virtual router that this VM is of.
    pub async fn get_vrouter(&self) -> Result<VRouter, OneGateError> {
        self.asked(&self.dear(&["vrouter"], Count::Others), VRouter::from_json).await
    }

    /// `GET /vnet/ID`: a network of this virtual router; extended: with the attributes of its backends.
    pub async fn get_vnet(&self, network: u32, extended: bool) -> Result<VNet, OneGateError> {
        let call = Call { extended, ..self.dear(&["vnet", &network.to_string()], Count::Others) };
        self.asked(&call, VNet::from_json).await
    }

    /// `PUT /vm`: publishes attributes on this VM; others stay as they are.
    pub async fn put_vm(&self, attributes: &Attributes) -> Result<(), OneGateError> {
        self.publish(
            Call { within: self.transport.limits().total, ..self.dear(&["vm"], Count::Write) },
            attributes,
        )
        .await
    }

    /// `PUT /vms/ID`: publishes attributes on another VM of the service.
    pub async fn put_vms(&self, vm: VmId, attributes: &Attributes) -> Result<(), OneGateError> {
        self.publish(self.dear(&["vms", &vm.to_string()], Count::Write), attributes).await
    }

    /// `POST /vms/ID/action`. Sent once: only a refusal is tried again.
    pub async fn post_action(&self, vm: VmId, action: Action) -> Result<(), OneGateError> {
        let body = serde_json::json!({ "action": { "perform": action.as_str() } });
        let call = self.dear(&["vms", &vm.to_string(), "action"], Count::Write);
        self.transport.call(&Call { method: Method::POST, ..once(call, &body) }).await.map(drop)
    }

    /// `PUT /service/role/ROLE`: asks OneFlow for so many VMs. Sent once: only a refusal is tried again.
    ///
    /// Takes the role as OneFlow itself listed it: a request for an unknown one stops OneFlow from watching the service
    /// until it restarts (onegate.md, "Scaling and states").
    pub async fn put_role_cardinality(
        &self,
        role: &ServiceRole,
        cardinality: u32,
    ) -> Result<(), OneGateError> {
        let body = serde_json::json!({ "cardinality": cardinality });
        let call = self.dear(&["service", "role", &role.name], Count::Write);
        self.transport.call(&Call { method: Method::PUT, ..once(call, &body) }).await.map(drop)
    }

    fn read(&self, segments: &[&str], count: Count) -> Call {
        Call {
            method: Method::GET,
            segments: segments.iter().map(|segment| (*segment).to_owned()).collect(),
            extended: false,
            body: None,
            within: self.transport.limits().total,
            repeat: Repeat::Harmless,
            count,
        }
    }

    /// Goes through OneFlow, to another VM, or to what several VMs share.
    fn dear(&self, segments: &[&str], count: Count) -> Call {
        let within = self.transport.limits().dear;
        Call { within, repeat: Repeat::HarmlessThroughOneFlow, ..self.read(segments, count) }
    }

    async fn asked<T>(
        &self,
        call: &Call,
        parse: impl FnOnce(&str) -> Result<T, AnswerError>,
    ) -> Result<T, OneGateError> {
        let answer = self.transport.call(call).await?;
        parse(&answer).map_err(|error| self.nonsense(call, error.to_string()))
    }

    async fn vm_at(&self, id: VmId, call: &Call) -> Result<Vm, OneGateError> {
        let vm = self.asked(call, Vm::from_json).await?;
        if vm.id == id {
            Ok(vm)
        } else {
            Err(self.nonsense(call, format!("the answer is about VM {}", vm.id)))
        }
    }

    async fn publish(&self, call: Call, attributes: &Attributes) -> Result<(), OneGateError> {
        let fault = |what| OneGateError::new(FaultKind::BadRequest, self.transport.words(&call), what);
        let body = render(attributes).map_err(|error| fault(error.to_string()))?;
        if body.is_empty() {
            return Ok(());
        }
        let call = Call { method: Method::PUT, body: Some(("text/plain", body)), ..call };
        self.transport.call(&call).await.map(drop)
    }

    fn nonsense(&self, call: &Call, what: String) -> OneGateError {
        OneGateError::new(FaultKind::Nonsense, self.transport.words(call), what)
    }
}

fn once(call: Call, body: &serde_json::Value) -> Call {
    Call { body: Some(("application/json", body.to_string())), repeat: Repeat::Harmful, ..call }
}
