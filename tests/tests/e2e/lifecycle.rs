//! The ends and beginnings of a process: signals at any moment, restarts on the same ports, readiness during a drain.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_tests::server::{self, Signal};
use tidegate_tests::{Client, ServerOptions, host, http};

use crate::{message_id, with_options};

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

#[test]
fn a_signal_right_after_the_ready_line_ends_in_order() -> Result<()> {
    for &engine in host::engines() {
        for round in 0..10 {
            let signal = [Signal::TERM, Signal::INT][round % 2];
            let mut serve = ServerOptions::new(engine).start()?;
            serve.process.signal(signal)?;
            let status = serve.process.wait(Duration::from_secs(20))?;
            assert_eq!(status.code(), Some(0), "serve, {signal:?}, {engine:?}: {status}");

            let mut echo = server::echo(engine)?;
            echo.ready_line(Duration::from_secs(20))?;
            echo.signal(signal)?;
            let status = echo.wait(Duration::from_secs(20))?;
            assert_eq!(status.code(), Some(0), "echo, {signal:?}, {engine:?}: {status}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_says_so_for_a_while_before_anything_ends() -> Result<()> {
    const DELAY: Duration = Duration::from_millis(1_500);
    let options = |engine| ServerOptions::new(engine).flag("--drain-delay-ms", "1500");
    with_options(options, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let asked = Instant::now();
        server.process.signal(Signal::TERM)?;
        while http::get(server.admin, "/readyz", None)?.status != 503 {
            assert!(asked.elapsed() < DELAY, "still ready");
        }
        // Whoever comes meanwhile is served, and nobody is sent away.
        let mut bob = Client::live(server.listen, 2, 1).await?;
        alice.message(2, &message_id(), "still here").await?;
        bob.expect("message").await?;
        assert_eq!(
            http::get(server.api, "/conversations?user_id=2", None)?.status,
            200
        );
        alice.expect("reconnect").await?;
        assert!(asked.elapsed() >= DELAY, "sent away after {:?}", asked.elapsed());
        assert_eq!(server.process.wait(Duration::from_secs(20))?.code(), Some(0));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_draining_server_is_not_ready_and_a_second_signal_ends_it_at_once() -> Result<()> {
    let options = |engine| ServerOptions::new(engine).setting("GATEWAY__DRAIN_MS", "60000");
    with_options(options, async |server| {
        let mut clients = Vec::new();
        for user in 1..=20 {
            clients.push(Client::live(server.listen, user, 1).await?);
        }
        assert_eq!(http::get(server.admin, "/readyz", None)?.status, 200);
        server.process.signal(Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let answer = loop {
            let answer = http::get(server.admin, "/readyz", None)?;
            if answer.status == 503 {
                break answer;
            }
            if Instant::now() > deadline {
                bail!("still ready: {answer:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(answer.text, "not ready: draining\n");
        assert_eq!(http::get(server.admin, "/healthz", None)?.status, 200);
        let before = Instant::now();
        server.process.signal(Signal::INT)?;
        assert_eq!(server.process.wait(Duration::from_secs(10))?.code(), Some(1));
        assert!(before.elapsed() < Duration::from_secs(5));
        Ok(())
    })
    .await
}
