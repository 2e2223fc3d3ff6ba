//! The limit on open descriptors: raised as far as it goes, and never used up by those who only connect.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tidegate_tests::client::Client;
use tidegate_tests::server::{Process, Signal, limited};
use tidegate_tests::{Server, ServerOptions, host, http};

use crate::{message_id, with_options};

const LIMIT: u32 = 400;
const FULL: &str = "further clients wait in the backlog";

#[tokio::test]
async fn a_flood_of_sockets_takes_no_descriptor_from_the_log_or_from_other_clients() -> Result<()> {
    let options = |engine| ServerOptions {
        descriptors: Some((LIMIT, LIMIT)),
        ..ServerOptions::new(engine).setting("ROUTER__LOG_SEGMENT_BYTES", "1048576")
    };
    with_options(options, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let flood = (0..LIMIT * 3 / 2)
            .map(|_| TcpStream::connect(server.listen))
            .collect::<std::io::Result<Vec<_>>>()?;
        said(server, FULL).await;
        // Two segments and a half.
        let text = "x".repeat(9_000);
        for _ in 0..280 {
            let answer = alice.message(2, &message_id(), &text).await?;
            assert_eq!(answer["type"], "sent", "{answer}");
        }
        assert!(segments(server)? >= 3, "the log did not turn");
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.process.id()))?.count();
        assert!(open < LIMIT as usize * 3 / 4, "{open} descriptors are open");
        let most = http::metric(server.admin, "gateway_sockets_max", "")?;
        assert_eq!(most, f64::from(LIMIT / 2));
        assert!(http::metric(server.admin, "gateway_sockets", "")? <= most);
        assert!(http::metric(server.admin, "gateway_accept_pauses_total", "")? >= 1.0);
        assert_eq!(
            http::metric(server.admin, "gateway_accepts_failed_total", "")?,
            0.0
        );
        drop(flood);
        let mut bob = Client::live_skipping(server.listen, 2, 1).await?;
        assert_eq!(bob.message(1, &message_id(), "hello").await?["type"], "sent");
        Ok(())
    })
    .await
}

/// Waits until the log of the server has a text.
async fn said(server: &Server, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.process.errors().contains(text) {
        let log = server.process.errors();
        assert!(Instant::now() < deadline, "{text:?} is not in {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The listeners beside the clients' have their share, and no more.
#[tokio::test]
async fn a_flood_of_the_other_listeners_leaves_the_log_its_descriptors() -> Result<()> {
    let options = |engine| ServerOptions {
        descriptors: Some((LIMIT, LIMIT)),
        ..ServerOptions::new(engine).setting("ROUTER__LOG_SEGMENT_BYTES", "1048576")
    };
    with_options(options, async |server| {
        let mut flood = Vec::new();
        for address in [server.api, server.admin] {
            // Up to a full backlog, which answers no more: a handshake is tried again after a second.
            let more = || TcpStream::connect_timeout(&address, Duration::from_millis(1_500)).ok();
            flood.extend(std::iter::from_fn(more).take(LIMIT as usize));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let text = "x".repeat(9_000);
        for _ in 0..280 {
            let answer = alice.message(2, &message_id(), &text).await?;
            assert_eq!(answer["type"], "sent", "{answer}");
        }
        assert!(segments(server)? >= 3, "the log did not turn");
        drop(flood);
        assert_eq!(http::get(server.admin, "/readyz", None)?.status, 200);
        assert_eq!(
            http::get(server.api, "/conversations?user_id=2", None)?.status,
            200
        );
        Ok(())
    })
    .await
}

fn segments(server: &Server) -> Result<usize> {
    let files = std::fs::read_dir(server.data.join("log"))?;
    Ok(files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".log"))
        .count())
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() -> Result<()> {
    let options = |engine| ServerOptions {
        descriptors: Some((200, 1_000)),
        ..ServerOptions::new(engine)
    };
    with_options(options, async |server| {
        said(
            server,
            "open descriptors: 1000 (raised from 200), 744 for clients",
        )
        .await;
        // 744 of one worker, an eighth of them for sockets that come and go.
        said(server, "each worker takes at most 651 connections").await;
        let mut clients = Vec::new();
        for user in 1..=300 {
            clients.push(Client::live(server.listen, user, 1).await?);
        }
        Ok(())
    })
    .await
}

/// A default that does not fit is no news to anybody; a number that somebody asked for is.
#[tokio::test]
async fn only_a_number_of_connections_that_was_asked_for_is_warned_of() -> Result<()> {
    for (asked, is_warned) in [(None, false), (Some("651"), false), (Some("652"), true)] {
        let mut options = ServerOptions {
            descriptors: Some((1_000, 1_000)),
            ..ServerOptions::new(host::engine())
        };
        if let Some(asked) = asked {
            options = options.setting("GATEWAY__CONNECTIONS_MAX", asked);
        }
        let server = options.start()?;
        said(&server, "each worker takes at most 651 connections").await;
        let log = server.process.errors();
        assert_eq!(log.contains("gateway.connections_max: "), is_warned, "{log}");
    }
    Ok(())
}

/// Both ends of a thousand connections fit under 2,200 descriptors, whatever a login shell starts with.
#[test]
fn the_demo_needs_the_hard_limit_only() -> Result<()> {
    let mut command = limited(1_100, 2_200);
    command.args(["demo", "--seconds", "1", "--rate", "200"]);
    let mut demo = Process::spawn(command)?;
    let status = demo.wait(Duration::from_secs(60))?;
    assert_eq!(
        status.code(),
        Some(0),
        "{}\n{}",
        demo.output().join("\n"),
        demo.errors()
    );

    let mut command = limited(1_100, 1_100);
    command.args(["demo"]);
    let mut demo = Process::spawn(command)?;
    assert_eq!(demo.wait(Duration::from_secs(10))?.code(), Some(2));
    assert!(
        demo.errors().contains("--conns: 1000 clients"),
        "{}",
        demo.errors()
    );
    Ok(())
}

#[test]
fn a_demo_that_is_interrupted_ends_in_order_and_leaves_nothing_behind() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command = limited(1_000, 1_000);
    command.args(["demo", "--conns", "50", "--seconds", "600"]);
    command.env("TMPDIR", directory.path());
    let mut demo = Process::spawn(command)?;
    demo.ready_line(Duration::from_secs(20))?;
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(std::fs::read_dir(&directory)?.count(), 1);
    demo.signal(Signal::INT)?;
    let status = demo.wait(Duration::from_secs(20)).context("after Ctrl-C")?;
    assert_eq!(status.code(), Some(0), "{}", demo.errors());
    assert_eq!(std::fs::read_dir(&directory)?.count(), 0);
    Ok(())
}
