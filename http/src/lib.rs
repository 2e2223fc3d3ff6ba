//! The HTTP server of the API and of the admin listener: hyper and axum, with a bound on everything that a peer can hold.
//!
//! Reading order: [`serve`] (accepting, one connection, the end), `places` (who makes room for whom), [`body`] (the
//! bytes of requests).
//!
//! Invariants: connections and the bytes of all bodies are bounded. A head has an absolute deadline, and a body a rate.
//! Whoever waits for its peer (half a head, half a body, an answer that nobody reads, no request at all) makes room for who
//! comes next, the one that has waited longest first; a request that the server itself works on never does. So a new
//! connection gets a place while any peer is slow, and a probe needs none kept for it. The end is bounded too.
//!
//! Deliberately absent: routes, tokens, documents; whoever serves brings them.

pub mod body;
mod places;
mod server;

pub use server::{Bounds, HEAD_BYTES_MAX, HEAD_TIMEOUT, serve};
