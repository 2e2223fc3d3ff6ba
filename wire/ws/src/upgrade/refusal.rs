//! Why an upgrade is refused, and the HTTP response that says so.

use std::io::Write;

use super::head::{HEAD_BYTES_MAX, HEADERS_MAX, HeadError};
use super::headers::HeaderFault;

/// A handshake that does not become a WebSocket. From [`Refusal::SubprotocolUnknown`] on, it is the caller who decides.
///
/// Order: after [`Refusal::encode`] is sent, the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not HTTP, or not well-formed.
    Malformed,
    /// A line feed without carriage return.
    BareLineFeed,
    /// Longer than [`HEAD_BYTES_MAX`].
    HeadTooLong,
    /// More than [`HEADERS_MAX`] lines.
    TooManyHeaders,
    /// Not HTTP/1.1.
    HttpVersion,
    /// Not GET.
    Method,
    /// Neither `/path` nor `http://host/path`.
    Target,
    /// No WebSocket at this path.
    NotFound,
    /// The request announces a body.
    Body,
    /// No `Host`.
    Host,
    /// Two values where one belongs.
    DuplicateHeader,
    /// A value that matters here is not ASCII.
    NotAscii,
    /// A plain HTTP request.
    UpgradeRequired,
    /// `Connection` does not list `upgrade`.
    ConnectionHeader,
    /// `Sec-WebSocket-Version` is not 13.
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is not 16 bytes of base64.
    Key,
    /// A subprotocol offer that is not a token.
    Subprotocol,

    /// None of the offered subprotocols is spoken here.
    SubprotocolUnknown,
    /// The token is not valid.
    Unauthorized,
    /// The token is another user's, or the origin is not allowed.
    Forbidden,
    /// No capacity now.
    Unavailable {
        /// `Retry-After`, in seconds.
        retry_after_s: u16,
    },
}

impl Refusal {
    /// Returns the HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed
            | Self::BareLineFeed
            | Self::HttpVersion
            | Self::Target
            | Self::Body
            | Self::Host
            | Self::DuplicateHeader
            | Self::NotAscii
            | Self::ConnectionHeader
            | Self::Key
            | Self::Subprotocol
            | Self::SubprotocolUnknown => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::UpgradeRequired | Self::WebSocketVersion => 426,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::Unavailable { .. } => 503,
        }
    }

    /// Returns the text of the body, for the person who wrote the client.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "not a well-formed HTTP/1.1 request",
            Self::BareLineFeed => "a line must end with CRLF",
            Self::HeadTooLong => "request head over 8192 bytes",
            Self::TooManyHeaders => "over 64 header lines",
            Self::HttpVersion => "a WebSocket needs HTTP/1.1",
            Self::Method => "a WebSocket starts with GET",
            Self::Target => "the request target is not a path",
            Self::NotFound => "no WebSocket at this path",
            Self::Body => "a WebSocket handshake has no body",
            Self::Host => "the Host header is missing or empty",
            Self::DuplicateHeader => "a header that must be single appears twice",
            Self::NotAscii => "a header value is not ASCII",
            Self::UpgradeRequired => {
                "this is a WebSocket endpoint; the Upgrade header does not list websocket"
            }
            Self::ConnectionHeader => "the Connection header does not list upgrade",
            Self::WebSocketVersion => "Sec-WebSocket-Version must be 13",
            Self::Key => "Sec-WebSocket-Key is not the base64 of 16 bytes",
            Self::Subprotocol => "an offer in Sec-WebSocket-Protocol is not a token",
            Self::SubprotocolUnknown => "none of the offered subprotocols is supported",
            Self::Unauthorized => "the token is not valid",
            Self::Forbidden => "not allowed for this origin or user",
            Self::Unavailable { .. } => "no capacity now",
        }
    }

    /// Appends the whole HTTP response: status, reason as text, `Connection: close`.
    pub fn encode(self, out: &mut Vec<u8>) {
        let status = self.status();
        let reason = self.reason();
        // RFC 9110 section 7.8: a response that names an upgrade lists it in `Connection`.
        let connection = if status == 426 { "close, Upgrade" } else { "close" };
        let extra = match self {
            Self::Unavailable { retry_after_s } => format!("Retry-After: {retry_after_s}\r\n"),
            _ => String::new(),
        };
        write!(
            out,
            "HTTP/1.1 {status} {phrase}\r\nConnection: {connection}\r\n{fixed}{extra}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{reason}\n",
            phrase = phrase(status),
            fixed = fixed_headers(status),
            length = reason.len() + 1,
        )
        .expect("a Vec takes any number of bytes");
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLong => Self::HeadTooLong,
            HeadError::TooManyHeaders => Self::TooManyHeaders,
            HeadError::BareLineFeed => Self::BareLineFeed,
            HeadError::ControlCharacter => Self::Malformed,
        }
    }
}

impl From<HeaderFault> for Refusal {
    fn from(fault: HeaderFault) -> Self {
        match fault {
            HeaderFault::Duplicate => Self::DuplicateHeader,
            HeaderFault::NotAscii => Self::NotAscii,
        }
    }
}

/// Returns the headers that a status requires (RFC 9110 sections 11.6.1, 15.5.6 and 15.5.22; RFC 6455 section 4.2.2).
const fn fixed_headers(status: u16) -> &'static str {
    match status {
        401 => "WWW-Authenticate: Bearer\r\n",
        405 => "Allow: GET\r\n",
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        _ => "",
    }
}

const fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

const _: () = assert!(HEAD_BYTES_MAX == 8192 && HEADERS_MAX == 64); // Named in the reasons.
