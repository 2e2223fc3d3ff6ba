//! Bad input: rows 1-10, 12-14 and 16-18 of the fault list, as raw bytes on real sockets. Each ends with the
//! documented close or error, and another client on the same worker notices nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tidegate_tests::client::Arrival;
use tidegate_tests::{Client, ServerOptions, http};

use crate::{message_id, on_both, send, with_options};

/// A WebSocket of raw bytes, past its upgrade (and hello).
struct Raw {
    stream: TcpStream,
}

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// One client frame, whatever its header says.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    bytes
}

impl Raw {
    fn connect(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        stream.write_all(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            bail!("refused: {}", String::from_utf8_lossy(&head));
        }
        Ok(Self { stream })
    }

    fn session(address: SocketAddr, user: u64) -> Result<Self> {
        let mut raw = Self::connect(address)?;
        raw.write(&frame(
            0x81,
            format!("{{\"type\":\"hello\",\"user_id\":{user}}}").as_bytes(),
        ))?;
        loop {
            let (opcode, payload) = raw.read_frame()?;
            if opcode == 1 && String::from_utf8_lossy(&payload).contains("\"synced\"") {
                return Ok(raw);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // The server may have closed already; what matters is what it said.
        let _ = self.stream.write_all(bytes);
        Ok(())
    }

    fn read_frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes)?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes)?;
                u64::from_be_bytes(bytes)
            }
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut payload)?;
        Ok((head[0] & 0x0f, payload))
    }

    /// Reads to the close frame and to the end of the stream; returns the code.
    fn close_code(mut self) -> Result<u16> {
        let code = loop {
            let (opcode, payload) = self.read_frame().context("no close frame before the end")?;
            if opcode == 8 {
                break u16::from_be_bytes([payload[0], payload[1]]);
            }
        };
        let started = Instant::now();
        let mut rest = Vec::new();
        // A reset is fine here: the close frame has arrived.
        let _ = self.stream.read_to_end(&mut rest);
        if !rest.is_empty() {
            bail!("{} bytes after the close frame", rest.len());
        }
        if started.elapsed() > Duration::from_secs(8) {
            bail!(
                "TCP stayed open for {:?} after the close frame",
                started.elapsed()
            );
        }
        Ok(code)
    }
}

/// Runs cases of raw bytes with the close code each must get, while a bystander stays connected and served.
async fn closes(cases: Vec<(&'static str, Vec<u8>, u16)>) -> Result<()> {
    on_both(async |server| {
        let mut bystander = Client::live(server.listen, 900, 1).await?;
        for (name, bytes, code) in &cases {
            let mut raw = Raw::session(server.listen, 901)?;
            raw.write(bytes)?;
            assert_eq!(
                raw.close_code().with_context(|| (*name).to_owned())?,
                *code,
                "{name}"
            );
        }
        // No payload of a bad frame reached the application, and the bystander is served.
        bystander.quiet(Duration::from_millis(50)).await?;
        bystander.send(&json!({"type": "ping"})).await?;
        bystander.expect("pong").await?;
        Ok(())
    })
    .await
}

/// A send to the bystander, as it would stand inside a frame.
fn poison() -> String {
    send(900, &message_id(), "must not arrive").to_string()
}

#[tokio::test]
async fn frames_against_the_rules_close_with_1002() -> Result<()> {
    let unmasked = {
        let text = poison();
        let mut bytes = vec![0x81, 126];
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let mut cases = vec![
        ("unmasked", unmasked, 1002),
        ("control frame over 125 bytes", frame(0x89, &[0; 126]), 1002),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("fragmented close", frame(0x08, &[3, 232]), 1002),
        (
            "continuation without start",
            frame(0x80, poison().as_bytes()),
            1002,
        ),
        (
            "new message inside a message",
            [frame(0x01, b"{"), frame(0x81, poison().as_bytes())].concat(),
            1002,
        ),
        (
            "16-bit length that fits 7",
            vec![0x81, 0xfe, 0, 5, 1, 2, 3, 4],
            1002,
        ),
        (
            "64-bit length that fits 16",
            [vec![0x81, 0xff], 300_u64.to_be_bytes().to_vec()].concat(),
            1002,
        ),
        (
            "64-bit length with the top bit",
            [vec![0x81, 0xff], (1_u64 << 63 | 5).to_be_bytes().to_vec()].concat(),
            1002,
        ),
        ("close of one byte", frame(0x88, &[3]), 1002),
    ];
    for reserved in [0xc1_u8, 0xa1, 0x91] {
        cases.push(("reserved bit", frame(reserved, poison().as_bytes()), 1002));
    }
    for opcode in [3_u8, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        cases.push(("reserved opcode", frame(0x80 | opcode, b""), 1002));
    }
    for code in [
        0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        cases.push((
            "close code that may not be sent",
            frame(0x88, &code.to_be_bytes()),
            1002,
        ));
    }
    closes(cases).await
}

#[tokio::test]
async fn what_is_too_large_closes_with_1009_from_the_header_alone() -> Result<()> {
    let header = |length: u64| [vec![0x81, 0xff], length.to_be_bytes().to_vec()].concat();
    let fragments = [frame(0x01, &[b'x'; 100_000]), frame(0x00, &[b'x'; 40_000])].concat();
    closes(vec![
        ("one byte over 128 KiB", header(128 * 1024 + 1), 1009),
        ("an exabyte", header(1 << 60), 1009),
        ("fragments over 128 KiB together", fragments, 1009),
    ])
    .await
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007_at_the_first_bad_byte() -> Result<()> {
    let mut incomplete = frame(0x81, &[b'x'; 100]);
    // Announces 100 bytes, sends only the first few, of which one is impossible.
    incomplete.truncate(6);
    incomplete.extend([0xce ^ MASK[0], 0xff ^ MASK[1]]);
    closes(vec![
        ("whole", frame(0x81, &[0xff]), 1007),
        ("inside an incomplete frame", incomplete, 1007),
        (
            "split over fragments",
            [frame(0x01, &[0xf0, 0x9f]), frame(0x80, &[0x28])].concat(),
            1007,
        ),
        ("truncated at the end", frame(0x81, &[0xf0, 0x9f, 0x98]), 1007),
        ("surrogate", frame(0x81, &[0xed, 0xa0, 0x80]), 1007),
        ("close reason", frame(0x88, &[3, 232, 0xff]), 1007),
    ])
    .await
}

#[tokio::test]
async fn a_binary_frame_on_json_closes_with_1003_and_a_command_before_hello_with_4400() -> Result<()> {
    let whole = frame(0x82, poison().as_bytes());
    let fragment = frame(0x02, poison().as_bytes());
    closes(vec![
        ("a header alone", whole[..8].to_vec(), 1003),
        ("binary", whole, 1003),
        ("a first fragment", fragment, 1003),
    ])
    .await?;
    on_both(async |server| {
        let poison = poison();
        for command in [
            &poison,
            r#"{"type":"batch","messages":[]}"#,
            r#"{"type":"batch","messages":[{"type":"hello","user_id":1}]}"#,
            r#"{"type":"batch"}"#,
            r#"{"type":"send","receiver_id":0}"#,
            r#"{"type":"ack"}"#,
        ] {
            let mut raw = Raw::connect(server.listen)?;
            raw.write(&frame(0x81, command.as_bytes()))?;
            assert_eq!(raw.close_code()?, 4400, "{command}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_nothing_after_it_is_read() -> Result<()> {
    on_both(async |server| {
        for code in [1000_u16, 1001, 3000, 4999] {
            let mut raw = Raw::session(server.listen, 901)?;
            raw.write(&[frame(0x88, &code.to_be_bytes()), frame(0x81, poison().as_bytes())].concat())?;
            assert_eq!(raw.close_code()?, code);
        }
        let (mut reader, _) = Client::hello(server.listen, 900, 1).await?;
        reader.expect("synced").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn endless_fragments_of_one_byte_are_stopped() -> Result<()> {
    on_both(async |server| {
        let mut raw = Raw::session(server.listen, 901)?;
        let mut bytes = frame(0x01, b"{");
        for _ in 0..131_000 {
            bytes.extend(frame(0x00, b"x"));
        }
        raw.write(&bytes)?;
        let code = raw.close_code()?;
        assert!(code == 1008 || code == 1009, "{code}");
        Client::live(server.listen, 900, 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_ping_between_fragments_is_echoed_and_a_flood_of_them_closes_with_1008() -> Result<()> {
    on_both(async |server| {
        let mut raw = Raw::session(server.listen, 901)?;
        raw.write(
            &[
                frame(0x01, b"{\"type\":"),
                frame(0x89, b"are you there"),
                frame(0x80, b"\"ping\"}"),
            ]
            .concat(),
        )?;
        assert_eq!(raw.read_frame()?, (10, b"are you there".to_vec()));
        let (opcode, payload) = raw.read_frame()?;
        assert!(opcode == 1 && String::from_utf8_lossy(&payload).contains("pong"));
        for _ in 0..10_000 {
            raw.write(&frame(0x89, b""))?;
        }
        assert_eq!(raw.close_code()?, 1008);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn malformed_commands_get_a_reason_that_names_the_field() -> Result<()> {
    on_both(async |server| {
        let mut client = Client::live(server.listen, 1, 1).await?;
        let long = "x".repeat(10_001);
        let url = "u".repeat(2_049);
        let cases = [
            ("{", "bad_request", ""),
            ("[]", "bad_request", ""),
            ("null", "bad_request", ""),
            (r#"{"no":"type"}"#, "bad_request", "type"),
            (r#"{"type":"dance"}"#, "bad_request", "type"),
            (r#"{"type":7}"#, "bad_request", "type"),
            (r#"{"type":"send","content":"x"}"#, "bad_request", "receiver_id"),
            (r#"{"type":"send","receiver_id":0,"content":"x"}"#, "bad_request", "receiver_id"),
            (r#"{"type":"send","receiver_id":9007199254740992,"content":"x"}"#, "bad_request", "receiver_id"),
            (r#"{"type":"send","receiver_id":"2","content":"x"}"#, "bad_request", "receiver_id"),
            (r#"{"type":"send","receiver_id":2}"#, "bad_request", "content"),
            (r#"{"type":"send","receiver_id":2,"content":""}"#, "bad_request", "content"),
            (r#"{"type":"send","receiver_id":2,"content":5}"#, "bad_request", "content"),
            (r#"{"type":"send","receiver_id":2,"content":"x","ciphertext":"AA=="}"#, "bad_request", "ciphertext"),
            (r#"{"type":"send","receiver_id":2,"ciphertext":"*"}"#, "bad_request", "ciphertext"),
            (r#"{"type":"send","receiver_id":2,"content":"x","message_id":"1"}"#, "bad_request", "message_id"),
            (
                r#"{"type":"send","receiver_id":2,"content":"x","message_id":"00000000-0000-0000-0000-000000000000"}"#,
                "bad_request",
                "message_id",
            ),
            (
                r#"{"type":"send","receiver_id":2,"content":"x","message_id":"00000000-0000-7000-8000-000000000001"}"#,
                "bad_request",
                "message_id",
            ),
            (
                r#"{"type":"send","receiver_id":2,"content":"x","message_id":"ffffffff-ffff-7000-8000-000000000001"}"#,
                "bad_request",
                "message_id",
            ),
            (r#"{"type":"status","status":"eaten","message_id":"x"}"#, "bad_request", "status"),
            (r#"{"type":"ack"}"#, "bad_request", "cursor"),
            (r#"{"type":"refresh"}"#, "bad_request", "token"),
            (r#"{"type":"batch","messages":7}"#, "bad_request", "messages"),
            (&format!(r#"{{"type":"send","receiver_id":2,"content":"{long}"}}"#), "too_long", "content"),
            (&format!(r#"{{"type":"send","receiver_id":2,"content":"x","media_url":"{url}"}}"#), "too_long", "media_url"),
        ];
        for (text, code, field) in cases {
            client.send_text(text).await?;
            let answer = client.event().await.with_context(|| text.to_owned())?;
            assert!(matches!(answer["type"].as_str(), Some("error" | "rejected")), "{text}: {answer}");
            assert_eq!(answer["code"], code, "{text}: {answer}");
            assert!(answer["reason"].as_str().unwrap().contains(field), "{text}: {answer}");
        }
        // Exactly at the bounds it is taken; a scalar value counts once, however many bytes it has.
        let at_bound = "\u{1F30A}".repeat(10_000);
        assert_eq!(client.message(2, &message_id(), &at_bound).await?["type"], "sent");
        // Deep nesting neither recurses nor closes.
        client.send_text(&format!("{{\"type\":\"ping\",\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000))).await?;
        let answer = client.event().await?;
        assert!(matches!(answer["type"].as_str(), Some("error" | "pong")), "{answer}");
        client.send_text(r#"{"type":"ping","unknown":{"deep":[1]},"id":4294967295}"#).await?;
        assert_eq!(client.expect("pong").await?["id"], 4_294_967_295_u64);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_never_says_hello_or_never_finishes_the_upgrade_is_cut_after_5_s() -> Result<()> {
    on_both(async |server| {
        let started = Instant::now();
        let silent = Raw::connect(server.listen)?;
        let mut dripping = TcpStream::connect(server.listen)?;
        dripping.write_all(b"GET /ws HTTP/1.1\r\nHo")?;
        let mut bystander = Client::live(server.listen, 900, 1).await?;
        assert_eq!(silent.close_code()?, 4400);
        assert!(
            started.elapsed() >= Duration::from_secs(4),
            "too early: {:?}",
            started.elapsed()
        );
        dripping.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut rest = Vec::new();
        let _ = dripping.read_to_end(&mut rest);
        assert!(
            started.elapsed() < Duration::from_secs(12),
            "too late: {:?}",
            started.elapsed()
        );
        bystander.send(&json!({"type": "ping"})).await?;
        bystander.expect("pong").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_frame_that_never_ends_is_cut_after_30_s() -> Result<()> {
    on_both(async |server| {
        let mut raw = Raw::session(server.listen, 901)?;
        let started = Instant::now();
        raw.write(&frame(0x81, &[b'x'; 1_000])[..500])?;
        let code = raw.close_code()?;
        assert!(
            started.elapsed() >= Duration::from_secs(28),
            "too early: {:?}",
            started.elapsed()
        );
        assert_eq!(code, 1008);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_reader_that_stops_is_closed_with_4408_and_loses_nothing() -> Result<()> {
    // A small outbox, so that the kernel's buffers are the larger part of what it takes.
    let options = |engine| ServerOptions::new(engine).setting("GATEWAY__OUTBOX_BYTES_MAX", "131072");
    with_options(options, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let text = "x".repeat(9_000);
        let mut sent = None;
        for _ in 0..100 {
            sent = Some(alice.message(2, &message_id(), &text).await?);
        }
        let conversation = sent.context("sent")?["conversation_id"].clone();
        // Asks for page upon page of history and reads none of it.
        let mut slow = Raw::session_without_reading(server.listen, 2)?;
        let ask = json!({"type": "history", "conversation_id": conversation, "limit": 100}).to_string();
        for _ in 0..400 {
            if slow.stream.write_all(&frame(0x81, ask.as_bytes())).is_err() {
                break;
            }
        }
        let deadline = Instant::now() + Duration::from_secs(45);
        loop {
            let closed = http::metric(server.admin, "gateway_closes_total", "reason=\"slow_").unwrap_or(0.0);
            if closed >= 1.0 {
                break;
            }
            if Instant::now() > deadline {
                bail!("the slow reader was not closed");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Others are served, and the slow one resumes with everything.
        alice.send(&json!({"type": "ping"})).await?;
        alice.expect("pong").await?;
        drop(slow);
        let (mut bob, _) = Client::hello(server.listen, 2, 1).await?;
        let mut seqs = Vec::new();
        while seqs.len() < 100 {
            match bob.arrival().await? {
                Arrival::Event(event) if event["type"] == "message" => {
                    bob.ack(event["cursor"].as_str().unwrap()).await?;
                    seqs.push(event["seq"].as_u64().unwrap());
                }
                Arrival::Event(_) => {}
                Arrival::Closed(code) => bail!("closed with {code:?}"),
            }
        }
        assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
        Ok(())
    })
    .await
}

/// A logged-in connection that is neither read nor written any more.
pub(crate) fn raw_session(address: SocketAddr, user: u64) -> Result<TcpStream> {
    Ok(Raw::session(address, user)?.stream)
}

impl Raw {
    fn session_without_reading(address: SocketAddr, user: u64) -> Result<Self> {
        let mut raw = Self::connect(address)?;
        raw.write(&frame(
            0x81,
            format!("{{\"type\":\"hello\",\"user_id\":{user},\"window\":1}}").as_bytes(),
        ))?;
        Ok(raw)
    }
}
