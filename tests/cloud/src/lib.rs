//! OneGate, OneFlow and oned, simulated to the letter of recorded exchanges.
//!
//! The core is [`Cloud`]: values in, values out, deterministic. It knows no clock, socket, file or
//! randomness of its own; callers pass the time since its start into every call. A simulation in
//! simulated time drives it directly; [`server`] puts it on the network.
//!
//! ```
//! use std::time::Duration;
//! use oneke_cloud::{Cloud, Event, Instantiate, Options, Templates};
//!
//! let mut cloud = Cloud::new(Options::default());
//! let service = cloud.instantiate(Duration::ZERO, &Templates::oneke(), &Instantiate::oneke()).unwrap();
//! let due = cloud.next_due().unwrap();
//! cloud.tick(due + Duration::from_secs(3));
//! let Event::PowerOn(vnf) = cloud.take_events().remove(0) else { panic!("the vnf comes first") };
//! assert_eq!((vnf.service, vnf.role.as_deref()), (Some(service), Some("vnf")));
//! ```
//!
//! In reading order: [`Cloud`] (what there is, and its timers), `create` and `machine` (oned),
//! `flow` (OneFlow), `gate` (OneGate), `text` (what a PUT goes through), [`Faults`], [`Ledger`].

mod attributes;
mod calendar;
mod chance;
mod cloud;
mod command;
mod context;
mod create;
mod event;
mod faults;
mod flow;
mod gate;
mod http;
mod id;
mod ledger;
mod machine;
mod network;
mod options;
pub mod server;
mod templates;
mod text;
mod virtual_router;
mod vm;

pub use attributes::{Attributes, Value};
pub use cloud::{Cloud, Refused};
pub use command::{Command, Stop, Which};
pub use create::NicRequest;
pub use event::{Event, Plug, PowerOn};
pub use faults::Faults;
pub use flow::Instantiate;
pub use flow::policy::{Adjustment, ElasticityPolicy, ScheduledPolicy};
pub use flow::service::{FlowState, Node, Role, Service};
pub use http::{Delivery, Fate, Request, Response};
pub use id::{ServiceId, VmId};
pub use ledger::{Kind, Ledger, Received};
pub use network::{Ipv6Prefixes, NetworkSpec, Nic, NicIpv6};
pub use options::{Options, Owner, Timing, UserInputs};
pub use templates::{RoleTemplate, ServiceTemplate, TemplateError, Templates, VmTemplate};
pub use vm::{Vm, VmState};
