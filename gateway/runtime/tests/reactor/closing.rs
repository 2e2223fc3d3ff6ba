//! Closing: what the peer sees, and that no trace of a closed socket reaches its successor.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::time::Duration;

use runtime::{ConnectionHandle, EngineChoice, Event, Reactor, ReactorConfig, SendBuf};

use crate::harness::{Server, on_both_engines, reset};

on_both_engines!(
    the_peer_of_a_closed_socket_sees_the_end_of_the_stream,
    a_send_before_a_close_arrives,
    a_closed_socket_gives_no_events_and_takes_no_calls,
    events_already_queued_for_a_closed_socket_are_dropped,
    a_reused_slot_sees_nothing_of_its_predecessor,
    a_storm_of_resets_leaves_no_socket_and_no_stale_event,
    dropping_the_reactor_ends_every_stream,
);

fn the_peer_of_a_closed_socket_sees_the_end_of_the_stream(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.expect_quiet(); // The poll is in the kernel now.
    server.reactor.close(id);
    server.flush();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(server.reactor.stats().sockets_open, 0);
}

fn a_send_before_a_close_arrives(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.reactor.send(id, SendBuf::Owned(b"farewell".to_vec()));
    server.reactor.close(id);
    server.flush();
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"farewell");
}

fn a_closed_socket_gives_no_events_and_takes_no_calls(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.expect_quiet();
    server.reactor.close(id);
    let _ = peer.write_all(b"too late");
    drop(peer);
    server.expect_quiet();
    assert_eq!(
        server.reactor.recv(id, &mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::NotConnected
    );
    server.reactor.send(id, SendBuf::Owned(b"into the void".to_vec()));
    server.reactor.shutdown_write(id);
    server.reactor.close(id);
    server.reactor.close(ConnectionHandle {
        slot: 77,
        generation: 0,
    });
    server.expect_quiet();
}

fn events_already_queued_for_a_closed_socket_are_dropped(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.expect_quiet();
    peer.write_all(b"x").unwrap();
    server.reactor.wait(Some(Duration::from_secs(1))).unwrap();
    server.reactor.close(id);
    server.expect_quiet();
}

fn a_reused_slot_sees_nothing_of_its_predecessor(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let mut seen = HashSet::new();
    for _ in 0..200 {
        let (id, mut peer) = server.pair();
        assert_eq!(id.slot, 0, "a slot is reused as soon as its close is done");
        assert!(seen.insert(id.generation));
        // Both an arrival and an end race with the close.
        peer.write_all(b"x").unwrap();
        drop(peer);
        server.reactor.close(id);
        server.flush();
    }
}

fn a_storm_of_resets_leaves_no_socket_and_no_stale_event(engine: EngineChoice) {
    const CONNECTIONS: usize = 3000;
    const AT_ONCE: usize = 300;
    let mut server = Server::open_with(
        engine,
        ReactorConfig {
            accepts_per_wait: 64,
            ..ReactorConfig::default()
        },
    );
    let mut open: HashSet<ConnectionHandle> = HashSet::new();
    let (mut accepted, mut closed) = (0, 0);
    for round in 0..CONNECTIONS / AT_ONCE {
        let mut peers: Vec<_> = (0..AT_ONCE).map(|_| server.dial()).collect();
        for (n, peer) in peers.iter_mut().enumerate() {
            if n % 3 != 0 {
                let _ = peer.write_all(&[n as u8; 100]);
            }
        }
        for (n, peer) in peers.into_iter().enumerate() {
            if n % 2 == 0 { reset(peer) } else { drop(peer) }
        }
        while accepted < (round + 1) * AT_ONCE || !open.is_empty() {
            let event = server.next_event();
            let id = event.socket().unwrap();
            if let Event::Accepted(_) = event {
                accepted += 1;
                assert!(open.insert(id), "{id:?} is open already");
                // Every other one is closed while its end is on the way, every fifth is sent to.
                match accepted % 10 {
                    0 | 5 => server.reactor.send(id, SendBuf::Owned(vec![1; 500])),
                    n if n % 2 == 0 => {
                        server.reactor.close(id);
                        open.remove(&id);
                        closed += 1;
                    }
                    _ => {}
                }
                continue;
            }
            assert!(open.contains(&id), "{event:?} is stale");
            let ended = match event {
                Event::HangUp(_) | Event::Failed { .. } => true,
                _ => server.drain(id, &mut Vec::new()).unwrap_or(true),
            };
            if ended {
                server.reactor.close(id);
                open.remove(&id);
                closed += 1;
            }
        }
    }
    server.expect_quiet();
    assert_eq!((accepted, closed), (CONNECTIONS, CONNECTIONS));
    let stats = server.reactor.stats();
    assert_eq!((stats.accepted, stats.sockets_open), (CONNECTIONS as u64, 0));
}

fn dropping_the_reactor_ends_every_stream(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (_, mut idle) = server.pair();
    let (id, mut closing) = server.pair();
    server.expect_quiet();
    server.reactor.send(id, SendBuf::Owned(b"last".to_vec()));
    server.reactor.close(id);
    drop(server);
    // The kernel interrupts this thread when it takes the ring apart, which `read_to_end` does not mind.
    let mut received = Vec::new();
    idle.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"");
    closing.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"last");
}
