//! The API and the admin listener under attack: peers that begin and do not end, and pages of other machines.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tidegate_tests::client::ConnectOptions;
use tidegate_tests::{Client, ServerOptions, http};

use crate::upgrade::exchange;
use crate::{on_both, with_options};

fn held(address: SocketAddr, head: &str, body: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(2))).ok()?;
    // One that was made to leave meanwhile is as good.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    Some(stream)
}

/// Under 400 descriptors the API has 100 connections, and the admin listener 25.
#[tokio::test]
async fn half_heads_without_a_token_keep_nobody_from_the_api_or_from_health() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "an HS256 secret of more than thirty-two bytes")?;
    let options = |engine| ServerOptions {
        insecure_dev: false,
        descriptors: Some((400, 400)),
        ..ServerOptions::new(engine).flag("--jwt-hs256-secret-file", &secret.display().to_string())
    };
    with_options(options, async |server| {
        for begun in ["", "GET /healthz HTTP/1.1\r\nHost: h\r\n"] {
            let flood: Vec<_> = (0..200)
                .flat_map(|_| [held(server.api, begun, b""), held(server.admin, begun, b"")])
                .collect();
            assert!(flood.iter().flatten().count() > 200);
            let served = tokio::time::timeout(Duration::from_secs(4), async {
                let (api, admin) = (server.api, server.admin);
                tokio::task::spawn_blocking(move || -> Result<()> {
                    assert_eq!(http::get(admin, "/healthz", None)?.status, 200);
                    assert_eq!(http::get(api, "/conversations?user_id=1", None)?.status, 401);
                    Ok(())
                })
                .await?
            });
            served.await.context("nothing before the flood's own end")??;
            drop(flood);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn unfinished_bodies_take_the_memory_that_was_announced() -> Result<()> {
    on_both(async |server| {
        // The log may lag behind the ready line.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let log = server.process.errors();
            if log.contains("bodies, at most") && log.contains("the API, at most") {
                break;
            }
            assert!(Instant::now() < deadline, "{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let resident = || http::metric(server.admin, "process_resident_memory_bytes", "");
        http::get(server.api, "/conversations?user_id=1", None)?;
        let before = resident()?;
        let head = "POST /messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n";
        let body = vec![b' '; 490_000];
        let flood: Vec<_> = (0..300).map(|_| held(server.api, head, &body)).collect();
        let grown = resident()? - before;
        assert!(grown < 64.0 * 1_048_576.0, "{grown} bytes more");
        drop(flood);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_tokens_pages_of_other_machines_are_refused() -> Result<()> {
    let options =
        |engine| ServerOptions::new(engine).setting("GATEWAY__ALLOWED_ORIGINS", "[\"https://app.example\"]");
    with_options(options, async |server| {
        let port = server.api.port();
        let status = |answer: String| answer.split(' ').nth(1).map(str::to_owned);
        let body = json!({"sender_id": 1, "receiver_id": 2, "content": "x"}).to_string();
        for (host, origin, upgraded, posted) in [
            ("localhost:1", None, "101", "200"),
            ("127.0.0.1", Some("http://localhost:3000"), "101", "200"),
            ("[::1]:9000", Some("https://app.example"), "101", "200"),
            ("localhost", Some("https://evil.example"), "403", "403"),
            ("localhost", Some("null"), "403", "403"),
            ("evil.example", None, "403", "403"),
            ("evil.example", Some("http://evil.example"), "403", "403"),
        ] {
            let origin_line = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
            let post = format!(
                "POST /messages/send HTTP/1.1\r\nHost: {host}\r\n{origin_line}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = exchange(server.api, post.as_bytes())?;
            assert_eq!(status(answer).as_deref(), Some(posted), "{host} {origin:?} at port {port}");
            let mut headers = vec![("host".to_owned(), host.to_owned())];
            headers.extend(origin.map(|origin| ("origin".to_owned(), origin.to_owned())));
            let options = ConnectOptions {
                headers,
                ..Default::default()
            };
            let got = match Client::connect_with(server.listen, &options).await {
                Ok(_) => "101".to_owned(),
                Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                    response.status().as_u16().to_string()
                }
                Err(error) => return Err(error.into()),
            };
            assert_eq!(got, upgraded, "{host} {origin:?}");
        }
        Ok(())
    })
    .await
}
