//! Wakers and mailboxes across threads.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use runtime::worker::{self, Pinning};
use runtime::{Clock, EngineChoice, Event, Reactor, mailbox};

use crate::harness::{PATIENCE, Server, on_both_engines};

on_both_engines!(
    a_call_ends_the_sleep,
    a_call_before_the_sleep_is_not_forgotten_and_calls_coalesce,
    no_item_waits_while_the_worker_sleeps,
    a_full_mailbox_gives_the_item_back,
    a_waker_may_outlive_its_reactor,
);

fn a_call_ends_the_sleep(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let waker = server.reactor.waker();
    let caller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        waker.wake();
    });
    let start = Instant::now();
    assert!(matches!(server.next_event(), Event::Woken));
    assert!(start.elapsed() < PATIENCE / 2);
    caller.join().unwrap();
    server.expect_quiet();
}

fn a_call_before_the_sleep_is_not_forgotten_and_calls_coalesce(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let waker = server.reactor.waker();
    for _ in 0..5 {
        waker.wake();
    }
    assert!(matches!(server.next_event(), Event::Woken));
    server.expect_quiet();
    waker.wake();
    server.reactor.wait(Some(Duration::ZERO)).unwrap();
    assert!(matches!(server.reactor.poll_event(), Some(Event::Woken)));
}

/// The worker sleeps without a timeout, so one lost wake-up would stop the test for good.
fn no_item_waits_while_the_worker_sleeps(engine: EngineChoice) {
    const THREADS: u64 = 3;
    const ITEMS: u64 = 20_000;
    let mut server = Server::open(engine);
    let (sender, mut inbox) = mailbox::<u64>(64, server.reactor.waker());
    let (finished, watch) = mpsc::channel();
    let producers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 0..ITEMS {
                    let mut item = thread << 32 | n;
                    while let Err(back) = sender.try_send(item) {
                        item = back;
                        thread::yield_now();
                    }
                    if n % 97 == 0 {
                        thread::sleep(Duration::from_micros(20)); // Lets the worker fall asleep in between.
                    }
                }
            })
        })
        .collect();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(Duration::from_secs(60)).is_err() {
            eprintln!("a wake-up was lost");
            std::process::abort();
        }
    });
    let mut next = [0; THREADS as usize];
    while next.iter().sum::<u64>() < THREADS * ITEMS {
        server.reactor.wait(None).unwrap();
        while let Some(event) = server.reactor.poll_event() {
            assert!(matches!(event, Event::Woken), "unexpected {event:?}");
            while let Some(item) = inbox.try_recv() {
                let (thread, n) = ((item >> 32) as usize, item & 0xffff_ffff);
                assert_eq!(n, next[thread], "items of one sender keep their order");
                next[thread] += 1;
            }
        }
    }
    finished.send(()).unwrap();
    watchdog.join().unwrap();
    for producer in producers {
        producer.join().unwrap();
    }
    assert!(inbox.is_empty());
}

fn a_full_mailbox_gives_the_item_back(engine: EngineChoice) {
    let mut server = Server::open(engine);
    let (sender, mut inbox) = mailbox(2, server.reactor.waker());
    assert_eq!(
        (sender.try_send('a'), sender.try_send('b'), sender.try_send('c')),
        (Ok(()), Ok(()), Err('c'))
    );
    assert_eq!(inbox.len(), 2);
    assert!(matches!(server.next_event(), Event::Woken));
    assert_eq!(
        (inbox.try_recv(), inbox.try_recv(), inbox.try_recv()),
        (Some('a'), Some('b'), None)
    );
}

fn a_waker_may_outlive_its_reactor(engine: EngineChoice) {
    let server = Server::open(engine);
    let waker = server.reactor.waker();
    drop(server);
    waker.wake();
}

#[test]
fn workers_run_pinned_under_their_name_and_return_a_value() {
    let cores = core_affinity::get_core_ids().unwrap();
    // One more worker than cores, which shares the first.
    let workers: Vec<_> = (0..=cores.len())
        .map(|n| {
            worker::spawn(&format!("worker-{n}"), n, |pinning| {
                (pinning, thread::current().name().map(str::to_owned))
            })
        })
        .collect();
    for (n, handle) in workers.into_iter().enumerate() {
        let (pinning, name) = handle.unwrap().join().unwrap();
        assert_eq!(name, Some(format!("worker-{n}")));
        assert_eq!(pinning, Pinning::Core(cores[n % cores.len()].id));
    }
}

#[test]
fn copies_of_a_clock_agree_and_never_go_back() {
    let clock = Clock::new();
    let copy = clock;
    let first = clock.now();
    thread::sleep(Duration::from_millis(5));
    let second = thread::spawn(move || copy.now()).join().unwrap();
    assert!(second.mono_ms >= first.mono_ms + 5);
    assert!(second.unix.0 > 1_600_000_000_000);
}
