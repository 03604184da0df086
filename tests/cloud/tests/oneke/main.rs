//! OneKE from its marketplace templates: what operators do to it, what goes wrong, what guests read.

mod contexts;
mod elasticity;
mod faults;
mod operations;
mod world;
