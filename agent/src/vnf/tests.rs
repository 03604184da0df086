//! The deciders against a small world: apply, observe, decide again.
