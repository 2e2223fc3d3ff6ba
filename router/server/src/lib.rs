//! The router as a library: the embedded driver and the HTTP API.
//!
//! Reading order:
//! 1. [`embedded`]: the driver. One thread folds one log into one store and serves the links of all gateway workers.
//! 2. [`api`]: HTTP, on a thread of its own; to the driver it is one more link.
//! 3. [`config`], [`health`], [`metrics`]: what an operator sets and sees.
//!
//! Invariants: `sent` leaves only after the record is synced and its rows can be read; nothing is delivered before that
//! either; everything that waits is bounded, and what does not fit is state (a session behind, a newest watermark) or an
//! answer (`busy`, `unavailable`). Decisions are in `router-core`, bytes in `wire`, files in `router-backend`; here are the
//! order of effects and the clocks. Deliberately absent: sockets of clients, groups, presence, placement over nodes.

pub mod api;
pub mod config;
pub mod embedded;
pub mod health;
pub mod metrics;
