//! The machine, the cloud and the cluster, as they are: the only code that touches them.

pub mod onegate;
