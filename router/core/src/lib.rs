//! The router's decisions: pure functions and state machines, without I/O.
//!
//! Facts go in (a log record and its offset, a row that was read, a page, an ack, `now`), intentions come out (rows,
//! outcomes, deliveries, look-ups). The embedded driver in `router-server` and, later, the cluster's drive the same
//! code.
//!
//! Reading order:
//! 1. [`admission`]: what is refused before it becomes an input.
//! 2. [`fold`]: one log record at a time, as [`effects`]. Its parts: [`conversation`] gives seqs, [`dedupe`] spares
//!    look-ups, [`membership`] knows who gets a message, [`inbox`] gives positions, [`receipts`] moves watermarks, [`fanout`]
//!    is for what lies in another log.
//! 3. [`sessions`]: devices reading inboxes, up to their windows.
//! 4. [`clock`] and [`retention`]: what time it is, and how old things are, though a clock may be wrong.
//!
//! Invariants:
//! - A fold is a pure function of the records in log order: any owner, at any time, with any bounds of memory, gives
//!   the same rows and outcomes.
//! - A row that the record being folded, or a later one, has written counts as absent; a conversation whose state is at
//!   or past the record is done with it.
//! - A reader takes each entry of its inbox once, strictly by position, and is never sent more than its window.
//! - Everything held is bounded, by configuration or by the sessions there are.
//!
//! Deliberately absent: clocks, sockets, stores, threads, `async`, and the iteration of hash maps.

#![warn(clippy::iter_over_hash_type)]

pub mod admission;
mod cache;
pub mod clock;
pub mod conversation;
pub mod dedupe;
pub mod effects;
mod fair_queue;
pub mod fanout;
pub mod fold;
pub mod inbox;
pub mod membership;
pub mod node;
mod pieces;
pub mod receipts;
pub mod retention;
pub mod sessions;
mod slot_table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod topology;
