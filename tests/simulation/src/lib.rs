//! A whole OneKE service in one process and simulated time: the real deciders and the real driver against an unkind
//! world. Nothing here reads a clock or a random device: one seed gives one run, on any machine.
//!
//! - [`machine`]: a VM's disk, units and links; what a power loss leaves of them.
//! - [`rke2`]: RKE2 as far as deciders meet it: founding, joining, learners, quorum, nodes, the Lease.
//! - [`universe`]: the cloud, the machines, the clusters; time passes for all of them together.
//! - [`world`]: `driver::World` for one machine, with latency, loss and crashes at any effect; [`gate`]: its way to OneGate.
//! - [`scenario`]: what befalls the service, by seed.
//! - [`load`]: how often OneGate is asked, and how long each node waits for its agent.
//! - [`laws`]: the invariants of the design, asserted on the simulated world.

pub mod effects;
pub mod gate;
pub mod laws;
pub mod load;
pub mod machine;
pub mod rke2;
pub mod scenario;
pub mod universe;
pub mod world;
