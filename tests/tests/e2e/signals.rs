//! Signals other than the first TERM or INT: which end the server in order, and what the others do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tidegate_tests::client::{Arrival, ConnectOptions};
use tidegate_tests::server::Signal;
use tidegate_tests::{Client, Server, ServerOptions, host, http};
use wire_auth::{Claims, issue_hs256};
use wire_base::ids::{UnixMs, UserId};

use crate::{message_id, with_options};

async fn said(server: &Server, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.process.errors().contains(text) {
        let log = server.process.errors();
        assert!(Instant::now() < deadline, "{text:?} is not in {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn quit_and_usr2_drain_as_term_does() -> Result<()> {
    for signal in [Signal::QUIT, Signal::USR2] {
        with_options(ServerOptions::new, async |server| {
            let mut alice = Client::live(server.listen, 1, 1).await?;
            server.process.signal(signal)?;
            alice.expect("reconnect").await?;
            assert_eq!(alice.arrival().await?, Arrival::Closed(Some(4503)));
            let status = server.process.wait(Duration::from_secs(20))?;
            assert_eq!(status.code(), Some(0), "{signal:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn hup_usr1_and_pipe_leave_a_line_at_most() -> Result<()> {
    with_options(ServerOptions::new, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        // Counters are published now and then.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        for signal in [Signal::HUP, Signal::USR1, Signal::PIPE, Signal::XFSZ] {
            server.process.signal(signal)?;
        }
        said(server, "SIGHUP: there is nothing to read again").await;
        said(server, "SIGUSR1: ready; 1 connections, 1 sessions").await;
        let sent = alice.message(2, &message_id(), "still here").await?;
        assert_eq!(sent["type"], "sent");
        Ok(())
    })
    .await
}

fn token(secret: &[u8]) -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now = UnixMs(now.as_millis() as u64);
    let claims = Claims {
        user: UserId::new(1).context("a user")?,
        device: None,
        expires: UnixMs(now.0 + 600_000),
        service: false,
    };
    Ok(issue_hs256(secret, &claims, None, None, now))
}

#[tokio::test]
async fn hup_reads_the_key_again_and_keeps_the_old_one_where_it_cannot() -> Result<()> {
    const OLD: &[u8] = b"the first HS256 secret of more than thirty-two bytes";
    const NEW: &[u8] = b"another HS256 secret of more than thirty-two bytes";
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    for &engine in host::engines() {
        std::fs::write(&secret, OLD)?;
        let mut options =
            ServerOptions::new(engine).flag("--jwt-hs256-secret-file", &secret.display().to_string());
        options.insecure_dev = false;
        options.workers = 2;
        let server = options.start()?;
        let upgrade = async |token: &str| {
            let options = ConnectOptions {
                headers: vec![("authorization".to_owned(), format!("Bearer {token}"))],
                ..Default::default()
            };
            // Every worker must have the key: connections are spread over them.
            let mut let_in = Vec::new();
            for _ in 0..8 {
                let_in.push(Client::connect_with(server.listen, &options).await.is_ok());
            }
            let_in
        };
        let listed = |token: &str| {
            Ok::<_, anyhow::Error>(http::get(server.api, "/conversations", Some(token))?.status)
        };
        let (old, new) = (token(OLD)?, token(NEW)?);
        assert_eq!((upgrade(&old).await, listed(&old)?), (vec![true; 8], 200));
        assert_eq!((upgrade(&new).await, listed(&new)?), (vec![false; 8], 401));

        std::fs::write(&secret, "")?;
        server.process.signal(Signal::HUP)?;
        said(
            &server,
            "SIGHUP: the key of before stays in force: auth.jwt_hs256_secret_file",
        )
        .await;
        assert_eq!((upgrade(&old).await, listed(&old)?), (vec![true; 8], 200));

        std::fs::write(&secret, NEW)?;
        server.process.signal(Signal::HUP)?;
        said(&server, "SIGHUP: auth.jwt_hs256_secret_file was read again").await;
        // The line is written once every worker has its mail, which it reads in its next tick.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((upgrade(&new).await, listed(&new)?), (vec![true; 8], 200));
        assert_eq!((upgrade(&old).await, listed(&old)?), (vec![false; 8], 401));
    }
    Ok(())
}

fn limit_file_size(server: &Server, bytes: Option<u64>) -> Result<()> {
    let pid = Pid::from_raw(server.process.id() as i32);
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit)?;
    Ok(())
}

#[tokio::test]
async fn a_file_at_its_size_limit_is_a_full_disk_and_heals() -> Result<()> {
    with_options(ServerOptions::new, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        assert_eq!(alice.message(2, &message_id(), "before").await?["type"], "sent");
        limit_file_size(server, Some(64 * 1024))?;
        let text = "x".repeat(9_000);
        let mut refused = None;
        for _ in 0..20 {
            let answer = alice.message(2, &message_id(), &text).await?;
            if answer["type"] != "sent" {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.context("180 kB fitted a log of 64 KiB")?;
        assert_eq!(refused["code"], json!("unavailable"), "{refused}");
        let ready = http::get(server.admin, "/readyz", None)?;
        assert_eq!(ready.status, 503);
        assert!(ready.text.contains("full"), "{}", ready.text);
        limit_file_size(server, None)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while http::get(server.admin, "/readyz", None)?.status != 200 {
            assert!(Instant::now() < deadline, "it does not heal");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(alice.message(2, &message_id(), "after").await?["type"], "sent");
        Ok(())
    })
    .await
}
