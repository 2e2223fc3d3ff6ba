//! A completion queue that is far too small: everything still arrives.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use runtime::{ConnectionHandle, EngineChoice, Event, Reactor, ReactorConfig, SendBuf};

use crate::harness::{Server, on_both_engines, pattern, read_n};

on_both_engines!(
    nothing_is_lost_when_the_completion_queue_overflows,
    short_sends_beyond_the_completion_queue_all_come_back,
);

fn nothing_is_lost_when_the_completion_queue_overflows(engine: EngineChoice) {
    const CONNECTIONS: usize = 400;
    const ROUNDS: u8 = 5;
    let tiny = ReactorConfig {
        sq_entries: 4,
        cq_entries: 8,
        ..ReactorConfig::default()
    };
    let mut server = Server::open_with(engine, tiny);
    let mut peers: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.dial()).collect();
    let mut ids: Vec<ConnectionHandle> = Vec::new();
    while ids.len() < CONNECTIONS {
        ids.push(server.accepted());
    }
    server.expect_quiet();

    for round in 0..ROUNDS {
        for peer in &mut peers {
            peer.write_all(&[round; 16]).unwrap();
        }
        // All of them are ready before the kernel may post the first.
        std::thread::sleep(Duration::from_millis(20));
        let mut echoed = 0;
        while echoed < CONNECTIONS {
            let Event::Readable(id) = server.next_event() else {
                panic!()
            };
            let mut bytes = server.reactor.take_buffer();
            assert!(!server.drain(id, &mut bytes).unwrap());
            if !bytes.is_empty() {
                assert_eq!(bytes, [round; 16]);
                server.reactor.send(id, SendBuf::Owned(bytes));
                echoed += 1;
            }
        }
        server.reactor.wait(Some(Duration::ZERO)).unwrap();
        for peer in &mut peers {
            assert_eq!(read_n(peer, 16), [round; 16]);
        }
    }

    drop(peers);
    let mut ended = 0;
    while ended < CONNECTIONS {
        match server.next_event() {
            Event::HangUp(id) => {
                server.reactor.close(id);
                ended += 1;
            }
            Event::Readable(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    server.expect_quiet();
    let stats = server.reactor.stats();
    assert_eq!(stats.sockets_open, 0);
    if engine == EngineChoice::Uring {
        assert!(stats.cq_overflows > 0 && stats.rearms > 0, "{stats:?}");
    }
}

/// Every send posts a completion here, while arrivals post theirs.
fn short_sends_beyond_the_completion_queue_all_come_back(engine: EngineChoice) {
    const CONNECTIONS: usize = 24;
    let tiny = ReactorConfig {
        sq_entries: 8,
        cq_entries: 8,
        ..ReactorConfig::default()
    };
    let mut server = Server::open_with(engine, tiny);
    let mut pairs: Vec<(ConnectionHandle, TcpStream)> = (0..CONNECTIONS).map(|_| server.pair()).collect();
    server.expect_quiet();
    for (_, peer) in &mut pairs {
        peer.write_all(b"hello").unwrap();
    }
    let bytes = Bytes::from(pattern(8 * 1024 * 1024));
    for (id, _) in &pairs {
        server.reactor.send(*id, SendBuf::Shared(bytes.clone()));
    }
    let mut rests: HashMap<ConnectionHandle, SendBuf> = HashMap::new();
    let mut readable = HashSet::new();
    while rests.len() < CONNECTIONS || readable.len() < CONNECTIONS {
        match server.next_event() {
            Event::SendShort { id, rest } => assert!(rests.insert(id, rest).is_none()),
            Event::Readable(id) => drop(readable.insert(id)),
            other => panic!("unexpected {other:?}"),
        }
    }
    for (id, peer) in &mut pairs {
        let rest = rests.remove(id).unwrap();
        let taken = bytes.len() - rest.len();
        assert!(rest.to_vec() == bytes[taken..]);
        assert!(read_n(peer, taken) == bytes[..taken]);
    }
    let mut writable = HashSet::new();
    while writable.len() < CONNECTIONS {
        match server.next_event() {
            Event::Writable(id) => assert!(writable.insert(id)),
            Event::Readable(_) => {} // A poll that was armed again reports what is still unread.
            other => panic!("unexpected {other:?}"),
        }
    }
}
