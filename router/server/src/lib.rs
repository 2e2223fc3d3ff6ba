//! The router's embedded driver.
//!
//! Reading order:
//! 1. [`embedded`]: the driver. One thread folds one log into one store and serves the links of all gateway workers.
//! 2. [`config`], [`health`], [`metrics`]: what an operator sets and sees.
//!
//! Invariants: `sent` leaves only after the record is synced and its rows can be read; nothing is delivered before that
//! either; everything that waits is bounded, and what does not fit is state (a session behind, a newest watermark) or an
//! answer (`busy`, `unavailable`). Decisions are in `router-core`, layouts in `wire` and `router-records`, files in `router-storage`; here are the
//! order of effects and the clocks. Deliberately absent: sockets of clients, groups, presence, placement over nodes.

pub mod config;
pub mod embedded;
pub mod health;
pub mod metrics;
