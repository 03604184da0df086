//! Kubernetes' way to say no: a `Status` object.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::resources::Target;
use crate::http::{self, Body};
use crate::store::StoreError;

/// An error that a caller of the API gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: StatusCode,
    /// Kubernetes' reason, `NotFound` and so on.
    pub reason: &'static str,
    /// The text.
    pub message: String,
    /// A reason behind the reason, and its text.
    cause: Option<(&'static str, String)>,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: String) -> Self {
        Self { code, reason, message, cause: None }
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized".to_owned())
    }

    /// The path means nothing.
    pub fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The object is not there.
    pub fn not_found(target: &Target) -> Self {
        let message =
            format!("{} {:?} not found", qualified(target), target.name.as_deref().unwrap_or_default());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The object is there already.
    pub fn exists(target: &Target, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(target));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// Someone else changed the object.
    pub fn conflict(target: &Target) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: the object has been modified; please apply your changes to the \
             latest version and try again",
            qualified(target),
            target.name.as_deref().unwrap_or_default()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// The caller may not.
    pub fn forbidden(target: &Target, why: &str) -> Self {
        let name = target.name.as_deref().unwrap_or_default();
        let message = format!("{} {name:?} is forbidden: {why}", qualified(target));
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// The request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message.into())
    }

    /// The object makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message.into())
    }

    /// The method is not for this.
    pub fn method() -> Self {
        let message = "the server does not allow this method on the requested resource".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// A disruption budget says: not now.
    pub fn too_many_requests(why: String) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.".to_owned();
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        Self { cause: Some(("DisruptionBudget", why)), ..refusal }
    }

    /// The watcher is too far behind.
    pub fn expired(revision: u64) -> Self {
        let message = format!("too old resource version: {revision}");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// As the object that a caller or a watcher gets.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if let Some((reason, message)) = &self.cause {
            object["details"] = json!({"causes": [{"reason": reason, "message": message}]});
        }
        object
    }

    /// As an answer.
    pub fn response(&self) -> Response<Body> {
        http::answer(self.code, "application/json", self.object().to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
    }
}

fn qualified(target: &Target) -> String {
    let resource = target.resource;
    if resource.group.is_empty() {
        resource.plural.to_owned()
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}
