//! The HTTP upgrade: who gets 101, who gets which refusal.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use tidegate_tests::client::ConnectOptions;
use tidegate_tests::{Client, ServerOptions};
use tokio_tungstenite::tungstenite::Error;

use crate::{on_both, with_options};

/// Sends raw bytes and returns everything answered until the server closes.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    // A reset after the answer is no matter here.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn refusals_have_the_documented_status() -> Result<()> {
    on_both(async |server| {
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        let cases = [
            (with("GET /ws ", "GET /other "), 404),
            (with("GET /ws ", "GET /ws/0 "), 404),
            (with("GET /ws ", "GET http://evil?/ws "), 400),
            (with("GET /ws ", "GET /ws/x "), 404),
            (
                with(
                    "Host: localhost\r\n",
                    "Host: localhost\r\nSec-WebSocket-Protocol: tidegate.protobuf.v1\r\n",
                ),
                400,
            ),
            (with("GET ", "POST "), 405),
            ("GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 426),
            (with("Version: 13", "Version: 8"), 426),
            (with("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
            (with("HTTP/1.1", "HTTP/1.0"), 400),
            (with("Host: localhost\r\n", ""), 400),
            (
                with(
                    "Host: localhost\r\n",
                    "Host: localhost\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                ),
                400,
            ),
            (
                with(
                    "Host: localhost\r\n",
                    "Host: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                ),
                400,
            ),
            ("GET /ws HTTP/1.1\nHost: localhost\n\n".to_owned(), 400),
            ("\0\0\0\0\r\n\r\n".to_owned(), 400),
            (
                with(
                    "Host: localhost\r\n",
                    "Host: localhost\r\nSec-WebSocket-Protocol: chat\r\n",
                ),
                400,
            ),
            (
                with(
                    "Host: localhost\r\n",
                    "Host: localhost\r\nSec-WebSocket-Protocol: tidegate.token.abc\r\n",
                ),
                400,
            ),
            (
                with(
                    "Host: localhost\r\n",
                    &format!("Host: localhost\r\nX: {}\r\n", "x".repeat(9_000)),
                ),
                431,
            ),
            (
                with(
                    "Host: localhost\r\n",
                    &format!("Host: localhost\r\n{}", "A: b\r\n".repeat(2_000)),
                ),
                431,
            ),
        ];
        for (request, expected) in cases {
            let answer = exchange(server.listen, request.as_bytes())?;
            assert_eq!(status(&answer), expected, "{request}\n->\n{answer}");
        }
        let answer = exchange(server.listen, with("Version: 13", "Version: 8").as_bytes())?;
        assert!(
            answer.to_ascii_lowercase().contains("sec-websocket-version: 13"),
            "{answer}"
        );
        let answer = exchange(server.listen, with("GET ", "POST ").as_bytes())?;
        assert!(answer.to_ascii_lowercase().contains("allow: get"), "{answer}");
        // Header bytes beyond ASCII are no reason to fall over.
        let mut strange = GOOD
            .replace(
                "Host: localhost\r\n",
                "Host: localhost\r\nSec-WebSocket-Protocol: \u{e9}\u{1F30A}\r\n",
            )
            .into_bytes();
        strange.extend_from_slice(b"");
        assert_eq!(status(&exchange(server.listen, &strange)?), 400);
        // And others are undisturbed.
        Client::live(server.listen, 1, 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_accept_key_is_that_of_the_rfc_and_the_json_protocol_is_chosen() -> Result<()> {
    on_both(async |server| {
        let mut stream = TcpStream::connect(server.listen)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let offer = GOOD.replace(
            "Host: localhost\r\n",
            "Host: localhost\r\nSec-WebSocket-Protocol: other, tidegate.json.v1\r\n",
        );
        // In pieces of one byte: nothing depends on how it arrives.
        for byte in offer.as_bytes() {
            stream.write_all(std::slice::from_ref(byte))?;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer)?.to_ascii_lowercase();
        assert_eq!(status(&answer), 101, "{answer}");
        assert!(
            answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{answer}"
        );
        assert!(
            answer.contains("sec-websocket-protocol: tidegate.json.v1"),
            "{answer}"
        );
        assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_origin_outside_the_allow_list_is_refused_before_101() -> Result<()> {
    let options =
        |engine| ServerOptions::new(engine).setting("GATEWAY__ALLOWED_ORIGINS", "[\"https://app.example\"]");
    with_options(options, async |server| {
        let from = |origin: Option<&str>| ConnectOptions {
            headers: origin
                .map(|origin| ("origin".to_owned(), origin.to_owned()))
                .into_iter()
                .collect(),
            ..Default::default()
        };
        Client::connect_with(server.listen, &from(Some("https://app.example"))).await?;
        Client::connect_with(server.listen, &from(None)).await?;
        for origin in [
            "https://evil.example",
            "https://app.example.evil.example",
            "http://app.example",
            "null",
        ] {
            match Client::connect_with(server.listen, &from(Some(origin))).await {
                Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 403, "{origin}"),
                other => anyhow::bail!("{origin}: {:?}", other.map(|_| ())),
            }
        }
        Ok(())
    })
    .await
}
