//! The client's side of the handshake (RFC 6455 section 4.1).

use super::head::{HEADERS_MAX, HeadError, HeadScan};
use super::headers::Headers;
use super::key::Key;

/// What a client asks for.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// Value of `Host`: name or address, and port.
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Fresh for each connection.
    pub key: Key,
    /// The favourite first; may be empty.
    pub subprotocols: &'a [&'a str],
    /// Token for `Authorization`.
    pub bearer: Option<&'a str>,
}

/// The server agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'b> {
    /// The one it chose.
    pub subprotocol: Option<&'b str>,
}

/// Why a response does not start a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The head is out of bounds or not HTTP.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not a well-formed HTTP/1.1 response.
    #[error("not a well-formed HTTP/1.1 response")]
    Malformed,
    /// The server refused.
    #[error("the server answered {0} in place of 101")]
    Status(u16),
    /// 101 to something else.
    #[error("the response does not upgrade to websocket")]
    NotUpgraded,
    /// The answer is to another key: not a WebSocket server, or a cache.
    #[error("Sec-WebSocket-Accept does not answer the key")]
    WrongAccept,
    /// A subprotocol that was not offered.
    #[error("the server chose a subprotocol that was not offered")]
    SubprotocolNotOffered,
    /// An extension; none is offered.
    #[error("the server chose an extension that was not offered")]
    ExtensionNotOffered,
}

/// Appends the request of a client.
///
/// Shape: the fields go out as they are; none may contain CR or LF.
/// Source: RFC 6455 section 4.1.
pub fn write_request(out: &mut Vec<u8>, offer: &Offer<'_>) {
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[
        b"GET ",
        offer.path.as_bytes(),
        b" HTTP/1.1\r\nHost: ",
        offer.host.as_bytes(),
    ]);
    put(&[
        b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
    ]);
    put(&[offer.key.as_bytes()]);
    for (i, name) in offer.subprotocols.iter().enumerate() {
        put(&[
            if i == 0 {
                b"\r\nSec-WebSocket-Protocol: "
            } else {
                b", "
            },
            name.as_bytes(),
        ]);
    }
    if let Some(token) = offer.bearer {
        put(&[b"\r\nAuthorization: Bearer ", token.as_bytes()]);
    }
    put(&[b"\r\n\r\n"]);
}

/// Parses the response at the front of `received`, and returns its length; `None` until all of it has arrived.
///
/// Shape: copies nothing. What follows the length in `received` is frames.
/// Errors: the server's fault, or its refusal; close the socket.
/// Order: `scan` belongs to this head, and `received` starts with the bytes of the call before.
/// Source: RFC 6455 section 4.1, the numbered list at its end.
pub fn parse_response<'b>(
    received: &'b [u8],
    scan: &mut HeadScan,
    key: &Key,
    subprotocols: &[&str],
) -> Result<Option<(Accepted<'b>, usize)>, ResponseError> {
    let Some(end) = scan.find_end(received)? else {
        return Ok(None);
    };
    let head = &received[..end];
    let status = parse_status(head)?;
    if status != 101 {
        return Err(ResponseError::Status(status));
    }
    let headers = Headers::of_head(head);
    if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
        return Err(ResponseError::NotUpgraded);
    }
    let only = |name| headers.only(name).map_err(|_| ResponseError::Malformed);
    if only("sec-websocket-accept")?.map(str::as_bytes) != Some(&key.accept()) {
        return Err(ResponseError::WrongAccept);
    }
    if headers.elements("sec-websocket-extensions").next().is_some() {
        return Err(ResponseError::ExtensionNotOffered);
    }
    let subprotocol = only("sec-websocket-protocol")?;
    if subprotocol.is_some_and(|chosen| !subprotocols.contains(&chosen)) {
        return Err(ResponseError::SubprotocolNotOffered);
    }
    Ok(Some((Accepted { subprotocol }, end)))
}

fn parse_status(head: &[u8]) -> Result<u16, ResponseError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => {}
        _ => return Err(ResponseError::Malformed),
    }
    response
        .code
        .filter(|_| response.version == Some(1))
        .ok_or(ResponseError::Malformed)
}
