//! What every side speaks of: ids, limits, codes, bodies, and the rules of binary layouts. No I/O, no `unsafe`.
//!
//! Reading order:
//! 1. [`ids`]: the newtypes everything else is written in. [`limits`]: the sizes of the protocol.
//! 2. [`body`]: what a sender wrote, opaque to everything between the two clients.
//! 3. [`message`]: who says what to whom, and where it stands. [`status`]: watermarks. [`code`]: why something is refused. [`host`]: the host and the page that a request names.
//!    [`time`]: the moment at which a fact is handled. [`random`]: numbers that repeat from a seed.
//! 4. [`slots`]: who owns what. [`codec`]: what the binary layouts of links, log and store have in common.
//!
//! Invariants: nothing a peer sends is trusted for an allocation before it is bounded; decoding never panics;
//! `decode(encode(x)) == x` for every value within its bounds. Deliberately absent: sockets, clocks, threads, policy.

#![warn(clippy::iter_over_hash_type)]

pub mod body;
pub mod code;
pub mod codec;
pub mod host;
pub mod ids;
pub mod limits;
pub mod message;
pub mod random;
#[cfg(any(test, feature = "samples"))]
#[allow(missing_docs, reason = "each gives any value of the type it is named after")]
pub mod samples;
pub mod slots;
pub mod status;
pub mod time;
