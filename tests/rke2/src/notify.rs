//! Telling systemd how far we are. Without systemd nobody listens, and that is fine.

use sd_notify::NotifyState;

/// The service is up.
pub fn ready(status: &str) {
    crate::log::info(status);
    let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]); // Nobody listens: fine.
}

/// What the service is doing.
pub fn status(status: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(status)]); // Nobody listens: fine.
}
