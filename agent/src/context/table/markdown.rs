//! The manual's page of variables, from the table.

/// `docs/context-variables.md`.
pub fn markdown() -> String {
    String::new()
}
