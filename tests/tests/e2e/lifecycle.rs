//! The ends and beginnings of a process: signals at any moment, restarts on the same ports, readiness during a drain.

use anyhow::{Context, Result};
use tidegate_tests::{Client, ServerOptions, host};

use crate::message_id;

#[tokio::test]
async fn a_killed_server_starts_again_at_once_on_the_same_ports() -> Result<()> {
    for &engine in host::engines() {
        let data = tempfile::tempdir()?;
        let mut server = ServerOptions::new(engine).data(data.path()).start()?;
        for round in 0..10 {
            let mut alice = Client::live_skipping(server.listen, 1, 1).await?;
            let sent = alice.message(2, &message_id(), "x").await?;
            assert_eq!(sent["seq"], round + 1);
            server.kill9()?;
            let options = ServerOptions::new(engine).in_place_of(&server);
            server = options
                .start()
                .with_context(|| format!("restart {round} on {engine:?}"))?;
        }
    }
    Ok(())
}
