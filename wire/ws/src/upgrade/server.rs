//! The server's side of the handshake (RFC 6455 section 4.2).

use std::fmt;

use super::head::{HEADERS_MAX, HeadScan};
use super::headers::{Headers, is_token};
use super::key::Key;
use super::refusal::Refusal;

/// A request that may become a WebSocket, if the caller agrees.
///
/// Shape: borrowed from the head.
#[derive(Clone, Copy)]
pub struct Request<'b> {
    /// What follows the host, up to a `?`; starts with `/`. Not percent-decoded.
    pub path: &'b str,
    /// What follows the `?`.
    pub query: Option<&'b str>,
    /// To be answered by [`write_accept`].
    pub key: Key,
    /// Which host the client meant.
    pub host: &'b str,
    /// The page a browser runs.
    pub origin: Option<&'b str>,
    /// The whole `Authorization` header; see [`Request::bearer`].
    pub authorization: Option<&'b str>,
    headers: Headers<'b>,
}

/// Parses the request at the front of `received`, and returns its length; `None` until all of it has arrived.
///
/// Shape: copies nothing. What follows the length in `received` is frames. Offered extensions are ignored, which
/// declines them (section 9.1).
/// Errors: the client's fault; send [`Refusal::encode`] and close.
/// Order: `scan` belongs to this head, and `received` starts with the bytes of the call before. `is_endpoint` decides
/// about the path before anything that only a WebSocket has is looked for, so that another path is 404 in any case.
/// Source: RFC 6455 section 4.2.1, RFC 9112.
pub fn parse_request<'b>(
    received: &'b [u8],
    scan: &mut HeadScan,
    is_endpoint: impl FnOnce(&str) -> bool,
) -> Result<Option<(Request<'b>, usize)>, Refusal> {
    let Some(end) = scan.find_end(received)? else {
        return Ok(None);
    };
    let head = &received[..end];
    let target = check_request_line(head)?;
    let (path, query) = split_target(target).ok_or(Refusal::Target)?;
    if !is_endpoint(path) {
        return Err(Refusal::NotFound);
    }

    let headers = Headers::of_head(head);
    if announces_body(headers) {
        return Err(Refusal::Body);
    }
    let host = headers
        .only("host")?
        .filter(|host| !host.is_empty())
        .ok_or(Refusal::Host)?;
    if !headers.has_token("upgrade", "websocket") {
        return Err(Refusal::UpgradeRequired);
    }
    if !headers.has_token("connection", "upgrade") {
        return Err(Refusal::ConnectionHeader);
    }
    if headers.only("sec-websocket-version")? != Some("13") {
        return Err(Refusal::WebSocketVersion);
    }
    let key = headers
        .only("sec-websocket-key")?
        .and_then(|key| Key::parse(key.as_bytes()))
        .ok_or(Refusal::Key)?;
    if !headers.elements(SUBPROTOCOL).all(is_token) {
        return Err(Refusal::Subprotocol);
    }
    let origin = headers.only("origin")?;
    let authorization = headers.only("authorization")?;
    Ok(Some((
        Request {
            path,
            query,
            key,
            host,
            origin,
            authorization,
            headers,
        },
        end,
    )))
}

/// Appends the response that starts the WebSocket; `subprotocol` is one of those offered.
///
/// Source: RFC 6455 section 4.2.2.
pub fn write_accept(out: &mut Vec<u8>, key: &Key, subprotocol: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&key.accept());
    if let Some(name) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

impl<'b> Request<'b> {
    /// Returns the offered subprotocols, the client's favourite first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'b str> {
        // Each is a token, so the conversion leaves none out.
        self.headers
            .elements(SUBPROTOCOL)
            .filter_map(|offer| std::str::from_utf8(offer).ok())
    }

    /// Returns the token of `Authorization: Bearer`, empty if it names none; `None` for no header or another scheme.
    ///
    /// Source: RFC 6750 section 2.1, RFC 9110 section 11.1 (the scheme has no case).
    pub fn bearer(&self) -> Option<&'b str> {
        let value = self.authorization?.trim_ascii();
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim_ascii())
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Queries, subprotocols and `Authorization` may carry tokens.
        f.debug_struct("Request")
            .field("path", &self.path)
            .field("host", &self.host)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Checks the syntax of the whole head; returns the target of the request.
fn check_request_line(head: &[u8]) -> Result<&str, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => {}
        Ok(_) => return Err(Refusal::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(Refusal::HttpVersion),
        Err(_) => return Err(Refusal::Malformed),
    }
    match (request.version, request.method, request.path) {
        (Some(1), Some("GET"), Some(target)) => Ok(target),
        (Some(1), _, _) => Err(Refusal::Method),
        _ => Err(Refusal::HttpVersion),
    }
}

/// Splits a request target into path and query, in origin form or absolute form (RFC 9112 section 3.2).
fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    let origin_form = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https", "ws", "wss"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return None;
        }
        // The authority ends at the first of these, whichever it is (RFC 3986 section 3.2): in `http://a?/ws` no path follows.
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#'])?);
        if authority.is_empty() || !path.starts_with('/') {
            return None;
        }
        path
    };
    Some(match origin_form.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin_form, None),
    })
}

/// Returns whether bytes of a body would follow the head, which would then be taken for frames.
fn announces_body(headers: Headers<'_>) -> bool {
    let is_zero = |value: &[u8]| !value.is_empty() && value.iter().all(|&byte| byte == b'0');
    headers.values("transfer-encoding").next().is_some() || !headers.values("content-length").all(is_zero)
}

const SUBPROTOCOL: &str = "sec-websocket-protocol";
