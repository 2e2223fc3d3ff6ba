//! Waits that gather events while there are many.

use std::io::Write;
use std::thread;
use std::time::Duration;

use runtime::{ConnectionHandle, EngineChoice, Event, Reactor, ReactorConfig};

use crate::harness::{PATIENCE, Server, on_both_engines};

on_both_engines!(under_load_one_wait_brings_what_comes_a_moment_later);

fn under_load_one_wait_brings_what_comes_a_moment_later(engine: EngineChoice) {
    let mut server = Server::open_with(
        engine,
        ReactorConfig {
            coalesce: Duration::from_secs(2),
            coalesce_over_per_s: 0,
            ..ReactorConfig::default()
        },
    );
    let (first, mut first_peer) = server.pair();
    let (second, mut second_peer) = server.pair();
    // The engine looks at its rate every 10 ms.
    thread::sleep(Duration::from_millis(20));
    first_peer.write_all(b"x").unwrap();
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        second_peer.write_all(b"x").unwrap();
        second_peer
    });
    let mut came = Vec::new();
    while came.is_empty() {
        server.reactor.wait(Some(PATIENCE)).unwrap(); // May return early.
        came = readable(&mut server);
    }
    later.join().unwrap();
    came.sort_by_key(|id| id.slot);
    assert_eq!(came, [first, second]);
}

fn readable(server: &mut Server) -> Vec<ConnectionHandle> {
    let events = std::iter::from_fn(|| server.reactor.poll_event());
    events
        .filter_map(|event| match event {
            Event::Readable(id) => Some(id),
            _ => None,
        })
        .collect()
}
