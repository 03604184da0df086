//! What goes into the appliance's image, in reading order:
//!
//! - [`artefacts`]: what others made: addresses, versions, how each is verified (`versions.toml`).
//! - [`deb`]: what we made: the agent's package for Debian and Ubuntu.
#![expect(clippy::disallowed_methods, reason = "a build tool lives from files and programs")]

pub mod artefacts;
pub mod deb;
