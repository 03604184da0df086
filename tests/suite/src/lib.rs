//! What the golden cases, replays and benchmarks share.

pub mod captures;
pub mod haproxy;
pub mod joins;
pub mod memory;
pub mod replay;
