//! Every byte layout of Tidegate, in one place, without I/O and without `unsafe`.
//!
//! Reading order:
//! 1. [`ids`]: the newtypes everything else is written in.
//! 2. [`body`]: what a sender wrote, opaque to everything between the two clients.
//! 3. [`ws`]: RFC 6455 for both roles. [`client`]: the client protocol that travels inside it.
//! 4. [`codec`]: what the binary layouts have in common (that of a body, and the following).
//! 5. [`link`]: records and batches between a gateway worker and a router, and the in-process pipe that carries them.
//! 6. [`log`] and [`row`]: what the router writes to its log and to its store.
//! 7. [`token`]: the bearer token (JWT) of both listeners. [`host`]: the host and the page that a request names.
//!
//! Invariants: nothing a peer sends is trusted for an allocation before it is bounded; decoding never panics;
//! `decode(encode(x)) == x` for every value within its bounds. Deliberately absent: sockets, clocks, threads, policy.

#![warn(clippy::iter_over_hash_type)]

pub mod body;
pub mod client;
pub mod codec;
pub mod host;
pub mod ids;
pub mod limits;
pub mod link;
pub mod log;
pub mod row;
#[cfg(test)]
mod samples;
pub mod token;
pub mod ws;
