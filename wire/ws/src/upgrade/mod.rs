//! The opening handshake (RFC 6455 section 4): HTTP/1.1 until `101 Switching Protocols`, then frames.
//!
//! A server calls [`parse_request`] on what it received. `None` means "not all of it yet": it keeps the bytes in a
//! [`HeadBuffer`], which takes exactly the head out of later reads and looks at no byte twice, then parses that. What
//! follows the head is already frames. It answers with [`write_accept`], or [`Refusal::encode`] and closes. A client
//! (feature `client`) calls `write_request`, then `parse_response`.
//!
//! Invariants: a head over [`HEAD_BYTES_MAX`] or [`HEADERS_MAX`] is refused before it is complete; values that are not
//! ASCII are refused where they matter and ignored elsewhere. Tokens never appear in `Debug` output.

#[cfg(feature = "client")]
mod client;
mod head;
mod headers;
mod key;
mod refusal;
mod server;

#[cfg(test)]
mod tests;

#[cfg(feature = "client")]
pub use client::{Accepted, Offer, ResponseError, parse_response, write_request};
pub use head::{HEAD_BYTES_MAX, HEADERS_MAX, HeadBuffer, HeadError, HeadScan};
pub use key::Key;
pub use refusal::Refusal;
pub use server::{Request, parse_request, write_accept};
