//! The two messages of the core: a request as it came off the wire, an answer as it should go onto it.

use std::time::Duration;

/// One HTTP request, already taken off the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Upper case, as sent: `GET`, `PUT`, ...
    pub method: String,
    /// Path with its query, as sent: `/service?extended=true`.
    pub path_and_query: String,
    /// Names in any case, in the order sent.
    pub headers: Vec<(String, String)>,
    /// Empty if there was none.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// What follows the first `?`, undecoded.
    pub fn query(&self) -> &str {
        self.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }
}

/// How an answer travels; anything but the default comes from a fault that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How long the server took before it answered.
    pub delay: Duration,
    /// What becomes of the answer on its way.
    pub fate: Fate,
}

/// What becomes of an answer on its way to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    #[default]
    Whole,
    /// The connection ends after so many bytes of the body, short of its Content-Length.
    CutAfter(usize),
    /// Nobody answers: the connection is refused, or closed without a byte.
    Refused,
}

/// One HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 204, 400, 401, 403, 404, 500, ...
    pub status: u16,
    /// The words after the status.
    pub reason: &'static str,
    /// In the order OneGate sends them; Content-Length included.
    pub headers: Vec<(&'static str, String)>,
    /// Empty for HEAD and 204; OneGate labels even plain text as JSON.
    pub body: Vec<u8>,
    /// Delays and damage on the way.
    pub delivery: Delivery,
}

impl Response {
    /// An answer with the headers that OneGate puts on every one.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut headers = Vec::with_capacity(3);
        if status != 204 {
            headers.push(("Content-Type", "application/json;charset=utf-8".to_owned()));
        }
        headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
        if status != 204 {
            headers.push(("Content-Length", body.len().to_string()));
        }
        Self { status, reason: reason(status), headers, body, delivery: Delivery::default() }
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// The first value of a parameter in a query or a form body, decoded.
///
/// # Errors
/// The component that is not validly %-encoded, undecoded.
pub fn parameter(encoded: &str, name: &str) -> Result<Option<String>, String> {
    let mut found = None;
    for pair in encoded.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        if key == name {
            found = Some(value);
        }
    }
    Ok(found)
}

fn decode(component: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(component.to_owned());
                };
                bytes.push((high * 16 + low) as u8);
            }
            other => bytes.push(other),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `data` part of a multipart form, if the Content-Type is one.
pub fn multipart_part(content_type: &str, body: &str, name: &str) -> Option<String> {
    let boundary =
        content_type.strip_prefix("multipart/form-data")?.split("boundary=").nth(1)?.trim_matches('"');
    body.split(&format!("--{boundary}")).find_map(|part| {
        let (head, value) = part.split_once("\r\n\r\n")?;
        let wanted = format!("name=\"{name}\"");
        head.contains(&wanted).then(|| value.strip_suffix("\r\n").unwrap_or(value).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded() {
        assert_eq!(parameter("a=1&data=A%3Dtwo+words%0AB", "data"), Ok(Some("A=two words\nB".to_owned())));
        assert_eq!(parameter("data", "data"), Ok(Some(String::new())));
        assert_eq!(parameter("A=100%", "data"), Err("100%".to_owned()));
    }

    #[test]
    fn only_a_204_has_neither_type_nor_length() {
        assert_eq!(Response::new(204, "").headers, [("X-Content-Type-Options", "nosniff".to_owned())]);
        assert_eq!(Response::new(404, "gone").headers[2], ("Content-Length", "4".to_owned()));
    }
}
