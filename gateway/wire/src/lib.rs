//! Every byte layout of Tidegate, in one place, without I/O and without `unsafe`.
//!
//! Reading order:
//! 1. [`ids`]: the newtypes everything else is written in.
//! 2. [`body`]: what a sender wrote, opaque to everything between the two clients.
//! 3. [`ws`]: RFC 6455 for both roles. [`client`]: the client protocol that travels inside it.
//! 4. [`link`]: records and batches between a gateway worker and a router, and the in-process pipe that carries them.
//! 5. [`log`] and [`row`]: what the router writes to its log and to its store.
//! 6. [`token`]: the bearer token (JWT) of both listeners.
//!
//! Invariants: nothing a peer sends is trusted for an allocation before it is bounded; decoding never panics;
//! `decode(encode(x)) == x` for every type here. Deliberately absent: sockets, clocks, threads, policy.

pub mod body;
pub mod client;
pub mod ids;
pub mod limits;
pub mod link;
pub mod log;
pub mod row;
pub mod token;
pub mod ws;
