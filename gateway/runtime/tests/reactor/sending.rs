//! Sending: whole, short, refused, failed; and that order survives all of it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use runtime::{ConnectionHandle, EngineChoice, Event, Reactor, ReactorConfig, SendBuf};

use crate::harness::{PATIENCE, Server, on_both_engines, pattern, read_n, reset};

on_both_engines!(
    a_slow_reader_gets_every_byte_in_order,
    a_short_send_returns_exactly_the_rest_and_writable_follows_once,
    a_send_to_a_full_socket_comes_straight_back,
    a_send_never_overtakes_the_rest_of_an_earlier_one,
    sends_of_one_tick_keep_their_order,
    one_shared_buffer_reaches_many_sockets,
    runs_leave_in_order_and_a_short_send_returns_the_rest_of_them,
    more_sends_than_the_submission_queue_holds_all_leave,
    a_reset_in_the_middle_of_a_send_fails_the_socket_once,
    a_whole_send_posts_nothing_and_its_buffer_comes_back,
    the_write_side_ends_after_what_was_queued,
);

/// Sends until the socket is full; returns how many bytes it took and the rest of the last send.
fn overfill(server: &mut Server, id: ConnectionHandle, bytes: &[u8]) -> (usize, SendBuf) {
    server.reactor.send(id, SendBuf::Owned(bytes.to_vec()));
    let Event::SendShort { id: short, rest } = server.next_event() else {
        panic!("the socket took everything")
    };
    assert_eq!(short, id);
    (bytes.len() - rest.len(), rest)
}

fn a_slow_reader_gets_every_byte_in_order(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    let expected = pattern(24 * 1024 * 1024);
    let length = expected.len();
    let reader = thread::spawn(move || {
        let mut received = Vec::with_capacity(length);
        let mut buf = vec![0; 256 * 1024];
        while received.len() < length {
            let n = peer.read(&mut buf).unwrap();
            received.extend_from_slice(&buf[..n]);
            thread::sleep(Duration::from_micros(300));
        }
        received
    });
    let mut shorts = 0;
    for chunk in expected.chunks(3 * 1024 * 1024) {
        server
            .reactor
            .send(id, SendBuf::Shared(Bytes::copy_from_slice(chunk)));
        server.reactor.wait(Some(Duration::ZERO)).unwrap();
        let mut unsent: Option<SendBuf> = None;
        // Until this chunk is gone, as a caller with an outbox would.
        loop {
            match server.reactor.poll_event() {
                Some(Event::SendShort { rest, .. }) => {
                    shorts += 1;
                    assert!(unsent.replace(rest).is_none(), "one unfinished send at a time");
                }
                Some(Event::Writable(_)) => server.reactor.send(id, unsent.take().expect("a rest to send")),
                Some(other) => panic!("unexpected {other:?}"),
                None if unsent.is_none() => {
                    server.reactor.wait(Some(Duration::ZERO)).unwrap();
                    match server.reactor.poll_event() {
                        Some(Event::SendShort { rest, .. }) => {
                            shorts += 1;
                            unsent = Some(rest);
                        }
                        Some(other) => panic!("unexpected {other:?}"),
                        None => break,
                    }
                }
                None => server.reactor.wait(Some(PATIENCE)).unwrap(),
            }
        }
    }
    assert!(shorts > 0, "the reader was not slow enough to mean anything");
    assert_eq!(server.reactor.stats().sends_short, shorts);
    assert!(
        reader.join().unwrap() == expected,
        "bytes were lost or out of order"
    );
}

fn a_short_send_returns_exactly_the_rest_and_writable_follows_once(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    let bytes = pattern(16 * 1024 * 1024);
    let (taken, rest) = overfill(&mut server, id, &bytes);
    assert!(taken > 0);
    assert!(rest.to_vec() == bytes[taken..]);
    server.expect_quiet(); // Nobody reads, so nothing becomes writable.
    assert!(read_n(&mut peer, taken) == bytes[..taken]);
    assert!(matches!(server.next_event(), Event::Writable(writable) if writable == id));
    server.expect_quiet();
    server.reactor.send(id, SendBuf::Owned(b"after".to_vec()));
    server.flush();
    assert_eq!(read_n(&mut peer, 5), b"after");
}

fn a_send_to_a_full_socket_comes_straight_back(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    let bytes = pattern(16 * 1024 * 1024);
    let (taken, _) = overfill(&mut server, id, &bytes);
    server.reactor.send(id, SendBuf::Owned(b"too early".to_vec()));
    match server.next_event() {
        Event::SendShort { id: short, rest } => {
            assert_eq!((short, rest.to_vec()), (id, b"too early".to_vec()))
        }
        other => panic!("unexpected {other:?}"),
    }
    read_n(&mut peer, taken);
    assert!(matches!(server.next_event(), Event::Writable(_)));
    server.expect_quiet();
}

fn a_send_never_overtakes_the_rest_of_an_earlier_one(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    let bytes = pattern(16 * 1024 * 1024);
    let (taken, _) = overfill(&mut server, id, &bytes);
    read_n(&mut peer, taken);
    // There is room now, and the reactor has been told; the caller has not.
    for _ in 0..3 {
        server.reactor.wait(Some(Duration::from_millis(20))).unwrap();
    }
    server.reactor.send(id, SendBuf::Owned(b"too early".to_vec()));
    assert!(matches!(server.next_event(), Event::Writable(writable) if writable == id));
    match server.next_event() {
        Event::SendShort { rest, .. } => assert_eq!(rest.to_vec(), b"too early"),
        other => panic!("unexpected {other:?}"),
    }
    peer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(
        peer.read(&mut [0; 16]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

fn sends_of_one_tick_keep_their_order(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    let bytes = pattern(16 * 1024 * 1024);
    server.reactor.send(id, SendBuf::Owned(b"first ".to_vec()));
    server.reactor.send(id, SendBuf::Owned(bytes.clone()));
    server.reactor.send(id, SendBuf::Owned(b"third".to_vec()));
    let mut rests = Vec::new();
    while rests.len() < 2 {
        match server.next_event() {
            Event::SendShort { rest, .. } => rests.push(rest),
            other => panic!("unexpected {other:?}"),
        }
    }
    let taken = bytes.len() - rests[0].len();
    assert_eq!(rests[1].to_vec(), b"third");
    assert_eq!(read_n(&mut peer, 6), b"first ");
    assert!(read_n(&mut peer, taken) == bytes[..taken]);
    assert!(matches!(server.next_event(), Event::Writable(_)));
}

fn one_shared_buffer_reaches_many_sockets(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let mut pairs: Vec<(ConnectionHandle, TcpStream)> = (0..200).map(|_| server.pair()).collect();
    let frame = Bytes::from(pattern(64));
    for (id, _) in &pairs {
        server.reactor.send(*id, SendBuf::Shared(frame.clone()));
    }
    server.flush();
    for (_, peer) in &mut pairs {
        assert_eq!(read_n(peer, 64), frame);
    }
    drop(server);
    assert!(frame.is_unique(), "the reactor kept a reference");
}

fn runs_leave_in_order_and_a_short_send_returns_the_rest_of_them(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    let shared = Bytes::from(pattern(1024 * 1024));
    let runs = |count: usize| -> Vec<Bytes> {
        let own = |n: usize| Bytes::from(n.to_le_bytes().to_vec());
        let run = |n| [own(n), shared.slice(n * 1_000..), Bytes::new()];
        (0..count).flat_map(run).collect()
    };
    server.reactor.send(id, SendBuf::Runs(runs(1)));
    server.flush();
    let expected = runs(1).concat();
    assert!(read_n(&mut peer, expected.len()) == expected);
    let expected = runs(24).concat();
    let reader = thread::spawn(move || read_n(&mut peer, expected.len()) == expected);
    let mut unsent = Some(SendBuf::Runs(runs(24)));
    let mut shorts = 0;
    while let Some(buf) = unsent.take() {
        server.reactor.send(id, buf);
        server.reactor.wait(Some(Duration::ZERO)).unwrap();
        if let Some(event) = server.reactor.poll_event() {
            let Event::SendShort { rest, .. } = event else {
                panic!("unexpected {event:?}")
            };
            shorts += 1;
            unsent = Some(rest);
            assert!(matches!(server.next_event(), Event::Writable(_)));
        }
    }
    assert!(shorts > 0, "the reader was not slow enough to mean anything");
    assert!(reader.join().unwrap(), "bytes were lost or out of order");
    drop((server, unsent));
    assert!(shared.is_unique(), "the reactor kept a reference");
}

fn more_sends_than_the_submission_queue_holds_all_leave(engine: EngineChoice) {
    let mut server = Server::open_with(
        engine,
        ReactorConfig {
            sq_entries: 8,
            ..ReactorConfig::default()
        },
    );
    let mut pairs: Vec<(ConnectionHandle, TcpStream)> = (0..100).map(|_| server.pair()).collect();
    for (n, (id, _)) in pairs.iter().enumerate() {
        server.reactor.send(*id, SendBuf::Owned(vec![n as u8; 10]));
    }
    server.flush();
    for (n, (_, peer)) in pairs.iter_mut().enumerate() {
        assert_eq!(read_n(peer, 10), [n as u8; 10]);
    }
    let stats = server.reactor.stats();
    assert_eq!(stats.sends, 100);
    assert_eq!(stats.sq_full > 0, engine == EngineChoice::Uring);
}

fn a_reset_in_the_middle_of_a_send_fails_the_socket_once(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, peer) = server.pair();
    let (_, rest) = overfill(&mut server, id, &pattern(16 * 1024 * 1024));
    reset(peer);
    let mut seen = Vec::new();
    while !seen.iter().any(|event| matches!(event, Event::Writable(_))) {
        seen.push(server.next_event());
    }
    assert!(
        seen.iter()
            .all(|event| matches!(event, Event::Writable(_) | Event::HangUp(_))),
        "{seen:?}"
    );
    // A read would take the error of the socket away; the sends get it, or EPIPE, and only the first tells.
    for part in [
        rest,
        SendBuf::Owned(b"more".to_vec()),
        SendBuf::Owned(b"and more".to_vec()),
    ] {
        server.reactor.send(id, part);
    }
    let error = loop {
        match server.next_event() {
            Event::Failed { id: failed, error } if failed == id => break error,
            Event::HangUp(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    server.reactor.send(id, SendBuf::Owned(b"ignored".to_vec()));
    server.reactor.wait(Some(Duration::from_millis(20))).unwrap();
    while let Some(event) = server.reactor.poll_event() {
        assert!(matches!(event, Event::HangUp(_)), "unexpected {event:?}");
    }
    assert_eq!(server.reactor.stats().sends_failed, 1);
}

fn a_whole_send_posts_nothing_and_its_buffer_comes_back(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    assert_eq!(server.reactor.take_buffer().capacity(), 0);
    let mut buf = Vec::with_capacity(1000);
    buf.extend_from_slice(b"hello");
    server.reactor.send(id, SendBuf::Owned(buf));
    server.flush();
    assert_eq!(read_n(&mut peer, 5), b"hello");
    assert_eq!(server.reactor.stats().spare_bytes, 1000);
    let again = server.reactor.take_buffer();
    assert!(again.is_empty());
    assert_eq!(again.capacity(), 1000);
}

fn the_write_side_ends_after_what_was_queued(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.reactor.send(id, SendBuf::Owned(b"goodbye".to_vec()));
    server.reactor.shutdown_write(id);
    server.flush();
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"goodbye");
    let (done, ended) = mpsc::channel();
    let writer = thread::spawn(move || {
        peer.write_all(b"reply").unwrap();
        ended.recv().unwrap();
    });
    assert!(matches!(server.next_event(), Event::Readable(_)));
    let mut reply = Vec::new();
    assert!(!server.drain(id, &mut reply).unwrap());
    assert_eq!(reply, b"reply");
    done.send(()).unwrap();
    writer.join().unwrap();
}
