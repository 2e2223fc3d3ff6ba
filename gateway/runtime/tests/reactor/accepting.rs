//! Accepting: bursts, pauses, exhausted descriptors, listeners that share a port.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use runtime::reactor::ACCEPT_PAUSE;
use runtime::{EngineChoice, Event, ListenerBuilder, Reactor, ReactorConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Server, in_child, is_child, listener, on_both_engines, read_n};

on_both_engines!(
    a_burst_of_connections_is_accepted_within_the_budget_of_each_wait,
    no_more_sockets_are_open_than_the_bound,
    running_out_of_descriptors_is_survived,
    two_listeners_serve_one_reactor,
);

fn a_burst_of_connections_is_accepted_within_the_budget_of_each_wait(engine: EngineChoice) {
    const BURST: usize = 2000;
    const BUDGET: usize = 100;
    let mut server = Server::open_with(
        engine,
        ReactorConfig {
            accepts_per_wait: BUDGET,
            ..ReactorConfig::default()
        },
    );
    let mut peers: Vec<TcpStream> = (0..BURST).map(|_| server.dial()).collect();
    for peer in &mut peers {
        peer.write_all(b"!").unwrap();
    }
    let (mut accepted, mut readable) = (0, 0);
    while accepted < BURST || readable < BURST {
        server.reactor.wait(Some(Duration::from_secs(5))).unwrap();
        let mut accepted_now = 0;
        while let Some(event) = server.reactor.poll_event() {
            match event {
                Event::Accepted(_) => accepted_now += 1,
                Event::Readable(id) => {
                    assert_eq!(server.reactor.recv(id, &mut [0; 8]).unwrap(), 1);
                    readable += 1;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(accepted_now <= BUDGET, "{accepted_now} in one wait");
        accepted += accepted_now;
    }
    let stats = server.reactor.stats();
    assert_eq!((stats.accepted, stats.sockets_open), (BURST as u64, BURST as u64));
}

fn no_more_sockets_are_open_than_the_bound(engine: EngineChoice) {
    const BOUND: usize = 10;
    if !is_child() {
        // Alone, since it counts the descriptors of the process.
        return in_child(match engine {
            EngineChoice::Uring => "accepting::uring::no_more_sockets_are_open_than_the_bound",
            _ => "accepting::poll::no_more_sockets_are_open_than_the_bound",
        });
    }
    let config = ReactorConfig {
        sockets_max: BOUND,
        ..ReactorConfig::default()
    };
    let mut server = Server::open_with(engine, config);
    let before = descriptors();
    let _peers: Vec<TcpStream> = (0..BOUND * 10).map(|_| server.dial()).collect();
    let (peers, mut open) = (descriptors() - before, VecDeque::new());
    while open.len() < BOUND {
        open.push_back(server.accepted());
    }
    // The others wait in the kernel, whose handshake they have; the engine sleeps meanwhile.
    let waits = server.reactor.stats().waits;
    server.expect_quiet();
    assert!(server.reactor.stats().waits - waits < 10, "it spins");
    for _ in 0..BOUND * 5 {
        assert!(descriptors() - before - peers <= BOUND);
        server.reactor.close(open.pop_front().unwrap());
        open.push_back(server.accepted());
    }
    let stats = server.reactor.stats();
    assert_eq!(stats.sockets_open, BOUND as u64);
    assert!(stats.accept_pauses > 0 && stats.accepts_failed == 0, "{stats:?}");
}

/// Descriptors of this process that are sockets.
fn descriptors() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

fn running_out_of_descriptors_is_survived(engine: EngineChoice) {
    if !is_child() {
        let name = match engine {
            EngineChoice::Uring => "accepting::uring::running_out_of_descriptors_is_survived",
            _ => "accepting::poll::running_out_of_descriptors_is_survived",
        };
        return in_child(name);
    }
    let mut server = Server::open(engine);
    let (first, mut first_peer) = server.pair();
    // The peers exist before the limit sinks to what is open now and three more.
    let peers: Vec<TcpStream> = (0..6).map(|_| server.dial()).collect();
    let limit_before = getrlimit(Resource::Nofile);
    let next_descriptor = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open("/dev/null").unwrap()) as u64;
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: limit_before.maximum,
    };
    setrlimit(Resource::Nofile, limit(next_descriptor + 3)).unwrap();

    let mut accepted = 0;
    let error = loop {
        match server.next_event() {
            Event::Accepted(_) => accepted += 1,
            Event::AcceptFailed(error) => break error,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!((accepted, error.raw_os_error()), (3, Some(libc::EMFILE)));

    // It tries again about ten times a second, without spinning, and serves those it has.
    let before = server.reactor.stats();
    let start = Instant::now();
    let mut failures = 0;
    while start.elapsed() < ACCEPT_PAUSE * 5 {
        server.reactor.wait(Some(ACCEPT_PAUSE * 5)).unwrap();
        while let Some(event) = server.reactor.poll_event() {
            assert!(matches!(event, Event::AcceptFailed(_)), "unexpected {event:?}");
            failures += 1;
        }
    }
    assert!((1..=6).contains(&failures), "{failures} failures");
    assert!(
        server.reactor.stats().waits - before.waits < 40,
        "it spins: {:?}",
        server.reactor.stats()
    );
    server
        .reactor
        .send(first, runtime::SendBuf::Owned(b"still here".to_vec()));
    server.reactor.wait(Some(Duration::ZERO)).unwrap();
    assert_eq!(read_n(&mut first_peer, 10), b"still here");

    setrlimit(Resource::Nofile, limit_before).unwrap();
    while accepted < peers.len() {
        match server.next_event() {
            Event::Accepted(_) => accepted += 1,
            Event::AcceptFailed(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn two_listeners_serve_one_reactor(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let second = listener();
    let address = second.local_addr().unwrap();
    server.reactor.add_listener(second).unwrap();
    let (_, _one) = server.pair();
    let two = TcpStream::connect(address).unwrap();
    let id = server.accepted();
    server.expect_peer(id, &two);
}

#[test]
fn listeners_of_a_group_share_the_port_and_divide_the_clients() {
    let listeners = ListenerBuilder::new("127.0.0.1:0".parse().unwrap())
        .bind_group(2)
        .unwrap();
    let mut servers: Vec<Server> = listeners
        .into_iter()
        .map(|listener| Server::open_on(EngineChoice::Poll, ReactorConfig::default(), listener))
        .collect();
    assert_eq!(servers[0].address, servers[1].address);
    let _peers: Vec<TcpStream> = (0..64).map(|_| servers[0].dial()).collect();
    let mut counts = [0, 0];
    while counts.iter().sum::<usize>() < 64 {
        for (server, count) in servers.iter_mut().zip(&mut counts) {
            server.reactor.wait(Some(Duration::from_millis(10))).unwrap();
            while let Some(event) = server.reactor.poll_event() {
                assert!(matches!(event, Event::Accepted(_)));
                *count += 1;
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn a_port_that_another_group_listens_on_is_refused_but_can_be_joined() {
    let first = ListenerBuilder::new("127.0.0.1:0".parse().unwrap())
        .bind_group(1)
        .unwrap();
    let builder = ListenerBuilder::new(first[0].local_addr().unwrap()).backlog(16);
    assert_eq!(builder.bind_group(1).unwrap_err().kind(), ErrorKind::AddrInUse);
    let joined = builder.join().unwrap();
    assert_eq!(joined.local_addr().unwrap(), first[0].local_addr().unwrap());
}

#[test]
fn an_ipv6_listener_on_any_address_takes_ipv4_as_well() {
    let Ok(listeners) = ListenerBuilder::new("[::]:0".parse().unwrap()).bind_group(1) else {
        eprintln!("SKIPPED: this host has no IPv6");
        return;
    };
    let port = listeners[0].local_addr().unwrap().port();
    let mut server = Server::open_on(
        EngineChoice::Poll,
        ReactorConfig::default(),
        { listeners }.remove(0),
    );
    let _v4 = TcpStream::connect(("127.0.0.1", port)).unwrap();
    server.accepted();
    let v6 = TcpStream::connect(("::1", port)).unwrap();
    let id = server.accepted();
    server.expect_peer(id, &v6);
}
