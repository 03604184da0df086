//! What people read of a context: `oneke-agent context` and `oneke-agent check`.

use std::borrow::Cow;

use super::table;

/// The value as it may be shown: secrets and the credentials in URLs masked.
pub(super) fn masked<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if value.is_empty() {
        return value.into();
    }
    if table::is_secret(name) {
        return "(secret)".into();
    }
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, place)) if name.ends_with("_PROXY") => format!("{scheme}://(secret)@{place}").into(),
        _ => value.into(),
    }
}
