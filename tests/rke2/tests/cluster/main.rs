//! The stand-in as an agent meets it: real processes on loopback addresses, called through the `kube` client.
#![expect(clippy::disallowed_methods, reason = "these tests start processes and read what they leave")]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod api;
mod commands;
mod joining;
mod leaving;
mod machine;
mod quorum;
