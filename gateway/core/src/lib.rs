//! The state machine of a gateway worker: connections, sessions, outboxes and timers, without I/O.
//!
//! Facts go in (accepted, received, a batch from the router, `now`), intentions come out ([`Output`]). The driver in
//! `gateway-server` owns sockets, clock and link; tests drive the same code in virtual time.
//!
//! Reading order:
//! 1. [`hub`]: every fact, and the order a driver keeps.
//! 2. [`connections`]: what can be done to a connection. Its parts are [`event`] and `outbox` (events to frames), `wheel`
//!    (deadlines), `slab` and `pool`.
//! 3. [`application`]: what runs on connections. [`Sessions`] is the product, [`Echo`] the conformance echo.
//! 4. [`routes`]: which router owns what. [`limits`] and [`config`]: every deadline and bound. [`disconnect`]: every reason for an end. [`stats`].
//!
//! Invariants:
//! - The same seed and facts give the same outputs, in the same order.
//! - Every connection that was accepted ends with exactly one [`Reason`], which is counted.
//! - What was sent is the transport's: while it holds bytes that the socket did not take, nothing more is sent.
//! - Everything that grows is bounded by [`HubConfig`] or [`limits`], or is at most one small entry a connection.
//! - An idle session holds its slab entry and its place in the timer wheel, and nothing on the heap.
//!
//! Deliberately absent: sockets, clocks, threads, `async`, logs, the iteration of hash maps.

#![warn(clippy::iter_over_hash_type)]

pub mod application;
pub mod budget;
pub mod config;
pub mod connections;
pub mod disconnect;
pub mod echo;
pub mod event;
pub mod hub;
mod jitter;
pub mod limits;
mod outbox;
pub mod output;
mod pool;
pub mod routes;
pub mod sessions;
mod slab;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod time;
mod wheel;

pub use application::Application;
pub use budget::MemoryBudget;
pub use config::{ConfigError, HubConfig};
pub use connections::Connections;
pub use disconnect::{Disconnect, Reason, Side};
pub use echo::{Echo, EchoConfig};
pub use event::{Key, Kind, SharedEvent};
pub use hub::Hub;
pub use output::{Frames, Output, Reading};
pub use routes::{RouterId, Routes};
pub use sessions::{Auth, Session, Sessions, SessionsConfig};
pub use stats::{Metric, Stats};
pub use time::Now;

const _: () = assert!(connections::idle_bytes::<Session>() <= 128);
