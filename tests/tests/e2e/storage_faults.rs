//! A disk without room: nothing is acknowledged, readiness says why, and service resumes by itself.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_tests::{Client, Server, ServerOptions, host, http};

use crate::message_id;

/// The data directory as the server's mount namespace shows it.
fn inside(server: &Server) -> PathBuf {
    let data = server
        .data
        .strip_prefix("/")
        .expect("temporary directories are absolute");
    PathBuf::from(format!("/proc/{}/root", server.process.id())).join(data)
}

/// Writes a file until the disk has no room left.
fn fill(path: &PathBuf) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    Ok(())
}

async fn ready_becomes(server: &Server, status: u16) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = http::get(server.admin, "/readyz", None)?;
        if answer.status == status {
            return Ok(answer.text);
        }
        if Instant::now() > deadline {
            bail!("/readyz stays {}: {}", answer.status, answer.text);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_disk_answers_unavailable_and_heals_when_space_returns() -> Result<()> {
    if !host::may_mount() {
        return Ok(());
    }
    let options = ServerOptions {
        disk_mib: Some(64),
        ..ServerOptions::new(host::engine())
    };
    let server = options.start()?;
    let mut alice = Client::live(server.listen, 1, 1).await?;
    let mut acknowledged = vec![alice.message(2, &message_id(), "before").await?];
    let filler = inside(&server).join("filler");
    fill(&filler).context("filling the disk")?;
    // What still fits into the log's last block may be acknowledged; then nothing is.
    let text = "x".repeat(4_000);
    let mut refused = None;
    for _ in 0..50 {
        let answer = alice.message(2, &message_id(), &text).await?;
        if answer["type"] == "sent" {
            acknowledged.push(answer)
        } else {
            refused = Some(answer)
        }
    }
    let refused = refused.context("50 messages fitted a full disk")?;
    assert_eq!(
        (&refused["type"], &refused["code"]),
        (&"rejected".into(), &"unavailable".into())
    );
    let reason = ready_becomes(&server, 503).await?;
    assert!(reason.contains("not ready:"), "{reason}");
    std::fs::remove_file(&filler)?;
    ready_becomes(&server, 200).await?;
    let after = alice.message(2, &message_id(), "after").await?;
    assert_eq!(after["type"], "sent");
    acknowledged.push(after);
    // The refused ones left no gap, and every acknowledged one is there.
    let (mut bob, _) = Client::hello(server.listen, 2, 1).await?;
    for (at, sent) in acknowledged.iter().enumerate() {
        let message = bob.expect("message").await?;
        assert_eq!(
            (&message["message_id"], message["seq"].as_u64()),
            (&sent["message_id"], Some(at as u64 + 1))
        );
        bob.ack(message["cursor"].as_str().context("cursor")?).await?;
    }
    bob.expect("synced").await?;
    Ok(())
}
