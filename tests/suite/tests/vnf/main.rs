//! vnf nodes: golden cases (a context and OneGate's answers in, every file and condition out), and scenarios in which
//! the world turns unkind. Both end with the same line: apply, observe, decide again, and no effects are left.

mod golden;
mod lvs;
mod machine;
mod neighbours;
mod owners;
mod router;
mod running;
mod scenarios;
mod sessions;
mod tables;
mod unicast;
mod upkeep;
