//! Errors of the HTTP API as problem documents (RFC 9457): one closed list of kinds, each with its status.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bounded_http::body::{self, BodyError};
use serde::Serialize;
use utoipa::ToSchema;
use wire_base::code::Code;

use super::REQUEST_BYTES_MAX;

/// What went wrong, and the sentence that names the field or the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    retry_after_ms: Option<u32>,
}

/// The `type` of a problem. Clients may match on it; `detail` is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request is malformed or a field has a bad value.
    BadRequest,
    /// A field is longer than docs/protocol.md section 1 allows.
    TooLong,
    /// No valid token.
    Unauthorized,
    /// Another user's identity, or a conversation of others.
    Forbidden,
    /// No such path, or no such message for this user.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body did not arrive at the rate it must have.
    RequestTimeout,
    /// The same message_id came before with other content.
    Conflict,
    /// The body is larger than a frame may be.
    BodyTooLarge,
    /// Sending faster than allowed.
    RateLimited,
    /// Not taken; try again soon.
    Busy,
    /// Nothing was asked to be stored, and it cannot be read now.
    Unavailable,
    /// It may or may not be stored: repeat it with the same message_id.
    OutcomeUnknown,
}

impl Problem {
    /// Returns a problem whose detail is a sentence for people.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after_ms: None,
        }
    }

    /// Returns the problem of a router's answer; `writes` says whether the question was to store something.
    pub(super) fn from_code(code: Code, detail: String, retry_after_ms: Option<u32>, writes: bool) -> Self {
        let kind = match code {
            Code::BadRequest => Kind::BadRequest,
            Code::TooLong => Kind::TooLong,
            Code::NotMember | Code::Forbidden | Code::TooManyDevices => Kind::Forbidden,
            Code::UnknownGroup => Kind::NotFound,
            Code::RateLimited => Kind::RateLimited,
            Code::Conflict => Kind::Conflict,
            Code::Busy => Kind::Busy,
            Code::Unavailable if writes => Kind::OutcomeUnknown,
            Code::Unavailable => Kind::Unavailable,
        };
        Self {
            kind,
            detail,
            retry_after_ms,
        }
    }

    /// Returns which kind it is.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

impl Kind {
    /// Returns the last part of the type.
    pub(super) fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns the status of its responses.
    pub(super) fn status(self) -> StatusCode {
        self.words().2
    }

    /// Returns the last part of the type, the title and the status.
    fn words(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::BadRequest => ("bad-request", "Bad request", StatusCode::BAD_REQUEST),
            Self::TooLong => ("too-long", "Too long", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", "Unauthorized", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "Forbidden", StatusCode::FORBIDDEN),
            Self::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                "Method not allowed",
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            Self::RequestTimeout => ("request-timeout", "Request timeout", StatusCode::REQUEST_TIMEOUT),
            Self::Conflict => ("conflict", "Conflict", StatusCode::CONFLICT),
            Self::BodyTooLarge => ("body-too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::RateLimited => ("rate-limited", "Rate limited", StatusCode::TOO_MANY_REQUESTS),
            Self::Busy => ("busy", "Busy", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => ("unavailable", "Unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::OutcomeUnknown => (
                "outcome-unknown",
                "The outcome is unknown",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::new(
                Kind::BodyTooLarge,
                format!("the body is over {REQUEST_BYTES_MAX} bytes"),
            ),
            BodyError::NoRoom => Self::new(
                Kind::Busy,
                "too many bodies arrive at once; this request was not taken",
            ),
            BodyError::TooSlow => {
                let seconds = body::GRACE.as_secs();
                let rate = body::BYTES_PER_S_MIN;
                Self::new(
                    Kind::RequestTimeout,
                    format!("the body came at less than {rate} bytes/s, after {seconds} s more"),
                )
            }
            BodyError::Broken => Self::new(Kind::BadRequest, "the body could not be read to its end"),
        }
    }
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// What clients may match on.
    #[schema(pattern = "^urn:tidegate:problem:[a-z-]+$")]
    r#type: String,
    title: &'a str,
    /// The status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A sentence for people that names the field or the cause.
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (slug, title, status) = self.kind.words();
        let document = Document {
            r#type: format!("{TYPE_PREFIX}{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
        };
        let body =
            serde_json::to_vec(&document).expect("a document of strings and a number always serializes");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::RateLimited | Kind::Busy | Kind::Unavailable | Kind::OutcomeUnknown => {
                // The header counts whole seconds; rounding down would invite a client back too early.
                let seconds = self.retry_after_ms.map_or(1, |ms| ms.div_ceil(1000).max(1));
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}

/// Problem types are names, not addresses: nothing has to be served under them.
const TYPE_PREFIX: &str = "urn:tidegate:problem:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_rounded_up_to_whole_seconds() {
        let header = |ms| {
            Problem::from_code(Code::RateLimited, String::new(), ms, true)
                .into_response()
                .headers()[RETRY_AFTER]
                .clone()
        };
        assert_eq!(header(Some(1)), "1");
        assert_eq!(header(Some(1_001)), "2");
        assert_eq!(header(None), "1");
    }

    #[test]
    fn unavailable_says_whether_something_may_have_been_stored() {
        let kind = |writes| Problem::from_code(Code::Unavailable, String::new(), None, writes).kind();
        assert_eq!(kind(true), Kind::OutcomeUnknown);
        assert_eq!(kind(false), Kind::Unavailable);
    }
}
