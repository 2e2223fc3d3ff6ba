//! Connecting out, as the load tool does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};

use runtime::{EngineChoice, Event, Reactor, SendBuf};

use crate::harness::{Server, on_both_engines, read_n};

on_both_engines!(
    a_connection_reports_itself_and_carries_bytes,
    a_refused_connection_fails_and_can_be_closed,
    a_given_local_address_is_used,
    many_connections_leave_from_one_local_address,
    a_send_before_the_connection_stands_comes_back,
    an_address_that_is_not_ours_is_refused_at_once,
    a_connection_closed_before_it_stands_reports_nothing,
);

fn target() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn a_connection_reports_itself_and_carries_bytes(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (listener, address) = target();
    let id = client.reactor.connect(None, address).unwrap();
    assert!(matches!(client.next_event(), Event::Connected(up) if up == id));
    let (mut peer, _) = listener.accept().unwrap();
    client.reactor.send(id, SendBuf::Owned(b"ping".to_vec()));
    client.flush();
    assert_eq!(read_n(&mut peer, 4), b"ping");
    peer.write_all(b"pong").unwrap();
    assert!(matches!(client.next_event(), Event::Readable(up) if up == id));
    let mut received = Vec::new();
    assert!(!client.drain(id, &mut received).unwrap());
    assert_eq!(received, b"pong");
    drop(peer);
    assert!(matches!(client.next_event(), Event::HangUp(up) if up == id));
}

fn a_refused_connection_fails_and_can_be_closed(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (listener, address) = target();
    drop(listener);
    let id = client.reactor.connect(None, address).unwrap();
    match client.next_event() {
        Event::Failed { id: failed, error } => {
            assert_eq!((failed, error.kind()), (id, ErrorKind::ConnectionRefused));
        }
        other => panic!("unexpected {other:?}"),
    }
    client.reactor.close(id);
    client.expect_quiet();
    assert_eq!(client.reactor.stats().sockets_open, 0);
}

fn a_given_local_address_is_used(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (listener, address) = target();
    let local = "127.0.9.7:0".parse().unwrap();
    client.reactor.connect(Some(local), address).unwrap();
    assert!(matches!(client.next_event(), Event::Connected(_)));
    assert_eq!(listener.accept().unwrap().1.ip(), local.ip());
}

fn many_connections_leave_from_one_local_address(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (listener, address) = target();
    let local = "127.0.9.8:0".parse().unwrap();
    for _ in 0..200 {
        client.reactor.connect(Some(local), address).unwrap();
    }
    let peers: Vec<_> = (0..200).map(|_| listener.accept().unwrap()).collect();
    let mut connected = 0;
    while connected < peers.len() {
        match client.next_event() {
            Event::Connected(_) => connected += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn a_send_before_the_connection_stands_comes_back(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (listener, address) = target();
    let id = client.reactor.connect(None, address).unwrap();
    // Loopback may have finished the handshake already, so both outcomes are right: sent, or returned and then writable.
    client.reactor.send(id, SendBuf::Owned(b"early".to_vec()));
    let mut unsent = None;
    let mut connected = false;
    let (mut peer, _) = listener.accept().unwrap();
    while !connected || unsent.is_some() {
        match client.next_event() {
            Event::Connected(_) => connected = true,
            Event::SendShort { rest, .. } => unsent = Some(rest),
            Event::Writable(_) => client.reactor.send(id, unsent.take().unwrap()),
            other => panic!("unexpected {other:?}"),
        }
    }
    client.flush();
    assert_eq!(read_n(&mut peer, 5), b"early");
}

fn an_address_that_is_not_ours_is_refused_at_once(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (_listener, address) = target();
    let foreign = "192.0.2.1:0".parse().unwrap();
    assert_eq!(
        client.reactor.connect(Some(foreign), address).unwrap_err().kind(),
        ErrorKind::AddrNotAvailable
    );
    assert_eq!(client.reactor.stats().sockets_open, 0);
}

fn a_connection_closed_before_it_stands_reports_nothing(engine: EngineChoice) {
    let mut client = Server::open(engine);
    let (listener, address) = target();
    let id = client.reactor.connect(None, address).unwrap();
    client.reactor.close(id);
    client.expect_quiet();
    let (mut peer, _) = listener.accept().unwrap();
    assert!(matches!(peer.read(&mut [0; 8]), Ok(0) | Err(_)));
}
