//! The gateway as a library: it owns what the state machine of [`gateway_core`] must not: sockets, threads and clocks.
//!
//! Reading order: [`config`] (every setting), [`driver`] (completion, Hub, submission: the loop of one worker),
//! `transport` (what sockets did not take), [`gateway`] (starts the workers and stops them), [`listen`] (their ports),
//! [`descriptors`] (how many sockets they may hold), [`admin`] (health and metrics), [`process`] (the metrics of any
//! process).
//!
//! Deliberately absent: any decision about a connection. Those are the Hub's.

pub mod admin;
pub mod config;
pub mod descriptors;
pub mod driver;
pub mod gateway;
mod links;
pub mod listen;
pub mod process;
pub mod stats;
mod transport;
