//! Reading: edges, hang-ups, timeouts.

use std::io::{self, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use runtime::{EngineChoice, Event, Reactor, ReactorConfig, SendBuf};

use crate::harness::{PATIENCE, Server, on_both_engines, read_n, reset};

on_both_engines!(
    bytes_make_the_round_trip,
    two_arrivals_before_a_read_are_one_event,
    bytes_left_unread_bring_no_event_until_more_arrive,
    an_arrival_after_a_full_read_is_a_new_event,
    a_hang_up_leaves_unread_input_readable,
    a_reset_is_a_hang_up_whose_read_fails,
    a_timeout_is_never_early_and_zero_does_not_sleep,
    waiting_does_not_sleep_while_events_are_undrained,
);

fn bytes_make_the_round_trip(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    for round in 0..100u8 {
        peer.write_all(&[round; 64]).unwrap();
        let Event::Readable(ready) = server.next_event() else {
            panic!()
        };
        assert_eq!(ready, id);
        let mut reply = server.reactor.take_buffer();
        assert!(!server.drain(id, &mut reply).unwrap());
        server.reactor.send(id, SendBuf::Owned(reply));
        server.flush();
        assert_eq!(read_n(&mut peer, 64), [round; 64]);
    }
    assert_eq!(server.reactor.stats().sends, 100);
}

fn two_arrivals_before_a_read_are_one_event(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.expect_quiet();
    for part in [b"one", b"two"] {
        peer.write_all(part).unwrap();
        server.reactor.wait(Some(Duration::from_millis(50))).unwrap();
    }
    assert!(matches!(server.reactor.poll_event(), Some(Event::Readable(ready)) if ready == id));
    assert!(server.reactor.poll_event().is_none());
    let mut received = Vec::new();
    assert!(!server.drain(id, &mut received).unwrap());
    assert_eq!(received, b"onetwo");
}

fn bytes_left_unread_bring_no_event_until_more_arrive(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    peer.write_all(b"0123456789").unwrap();
    assert!(matches!(server.next_event(), Event::Readable(_)));
    assert_eq!(server.reactor.recv(id, &mut [0; 4]).unwrap(), 4);
    server.expect_quiet(); // The caller remembers that there is more.
    assert_eq!(server.reactor.recv(id, &mut [0; 4]).unwrap(), 4);
    peer.write_all(b"ab").unwrap();
    assert!(matches!(server.next_event(), Event::Readable(_)));
    let mut rest = Vec::new();
    assert!(!server.drain(id, &mut rest).unwrap());
    assert_eq!(rest, b"89ab");
}

fn an_arrival_after_a_full_read_is_a_new_event(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    for _ in 0..3 {
        peer.write_all(b"x").unwrap();
        assert!(matches!(server.next_event(), Event::Readable(ready) if ready == id));
        assert!(!server.drain(id, &mut Vec::new()).unwrap());
        server.expect_quiet();
    }
}

fn a_hang_up_leaves_unread_input_readable(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, mut peer) = server.pair();
    server.expect_quiet();
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut hang_ups = 0;
    while hang_ups == 0 {
        match server.next_event() {
            Event::Readable(_) => {}
            Event::HangUp(gone) => hang_ups += usize::from(gone == id),
            other => panic!("unexpected {other:?}"),
        }
    }
    let mut received = Vec::new();
    assert!(server.drain(id, &mut received).unwrap(), "the stream has ended");
    assert_eq!(received, b"last words");
    // The other direction is still open.
    server.reactor.send(id, SendBuf::Owned(b"bye".to_vec()));
    server.flush();
    assert_eq!(read_n(&mut peer, 3), b"bye");
}

fn a_reset_is_a_hang_up_whose_read_fails(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (id, peer) = server.pair();
    server.expect_quiet();
    reset(peer);
    assert!(matches!(server.next_event(), Event::HangUp(gone) if gone == id));
    assert_eq!(
        server.drain(id, &mut Vec::new()).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

fn a_timeout_is_never_early_and_zero_does_not_sleep(engine: EngineChoice) {
    let mut server = Server::open(engine);
    server.expect_quiet();
    for asked in [Duration::from_micros(1_500), Duration::from_millis(30)] {
        let start = Instant::now();
        server.reactor.wait(Some(asked)).unwrap();
        assert!(start.elapsed() >= asked, "{:?} of {asked:?}", start.elapsed());
    }
    // A time too long for the kernel is not an error.
    server.reactor.waker().wake();
    server.reactor.wait(Some(Duration::MAX)).unwrap();
    assert!(matches!(server.reactor.poll_event(), Some(Event::Woken)));
    let waker = server.reactor.waker();
    let caller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        waker.wake();
    });
    server.reactor.wait(Some(Duration::MAX)).unwrap();
    assert!(matches!(server.reactor.poll_event(), Some(Event::Woken)));
    caller.join().unwrap();
    let before = server.reactor.stats().waits;
    server.reactor.wait(Some(Duration::ZERO)).unwrap();
    assert!(server.reactor.poll_event().is_none());
    assert_eq!(server.reactor.stats().waits, before + 1);
}

fn waiting_does_not_sleep_while_events_are_undrained(engine: EngineChoice) {
    // One connection a wait, so that two are in hand when the first is handed out.
    let mut server = Server::open_with(
        engine,
        ReactorConfig {
            accepts_per_wait: 1,
            ..ReactorConfig::default()
        },
    );
    let mut peers: Vec<_> = (0..3).map(|_| server.dial()).collect();
    let start = Instant::now();
    let mut ids = Vec::new();
    while ids.len() < peers.len() {
        server.reactor.wait(Some(PATIENCE)).unwrap();
        ids.extend(server.reactor.poll_event().map(|event| event.socket().unwrap()));
    }
    server.expect_quiet();
    peers[0].write_all(b"x").unwrap();
    server.reactor.wait(Some(PATIENCE)).unwrap();
    server.reactor.wait(Some(PATIENCE)).unwrap();
    assert!(matches!(server.reactor.poll_event(), Some(Event::Readable(_))));
    assert!(start.elapsed() < PATIENCE / 2, "it slept");
}
