//! The harness of the tests that look from outside: it starts the real binary and speaks to it over real sockets.
//!
//! Reading order: [`server`] (a `tidegate serve` process), [`client`] (a tokio-tungstenite client that speaks JSON),
//! [`http`] (the API and admin listeners), [`host`] (what this host allows). Tests live in `tests/`; each file is one subject.

pub mod client;
pub mod host;
pub mod http;
pub mod server;

pub use client::Client;
pub use server::{Engine, Server, ServerOptions};
