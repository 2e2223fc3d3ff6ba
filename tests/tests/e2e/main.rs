//! End to end: the real binary, real sockets, a client that we did not write (tokio-tungstenite), both engines.
//!
//! Every subject of docs/protocol.md has its file. Each test starts its own server on free ports.

mod auth;
mod bad_input;
mod commands;
mod delivery;
mod descriptors;
mod documents;
mod http_api;
mod http_edge;
mod lifecycle;
mod metrics;
mod operations;
mod signals;
mod storage_faults;
mod upgrade;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidegate_tests::{Engine, Server, ServerOptions, host};

/// Runs a test against a fresh development server on each engine.
pub(crate) async fn on_both(test: impl AsyncFn(&Server) -> Result<()>) -> Result<()> {
    with_options(ServerOptions::new, async |server: &mut Server| test(server).await).await
}

/// As [`on_both`], with options of the test's own and the right to stop the server.
pub(crate) async fn with_options(
    options: impl Fn(Engine) -> ServerOptions,
    test: impl AsyncFn(&mut Server) -> Result<()>,
) -> Result<()> {
    for &engine in host::engines() {
        let mut server = options(engine)
            .start()
            .with_context(|| format!("starting on {engine:?}"))?;
        if let Err(error) = test(&mut server).await {
            let log = server.process.errors();
            return Err(error.context(format!("on {engine:?}; the server said: {log}")));
        }
    }
    Ok(())
}

/// Returns a fresh message id, a UUIDv7 of now.
pub(crate) fn message_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The `send` of a text message.
pub(crate) fn send(receiver: u64, message_id: &str, content: &str) -> Value {
    json!({"type": "send", "receiver_id": receiver, "message_id": message_id, "content": content})
}
