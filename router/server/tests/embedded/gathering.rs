//! Rows wait for others before they are written: seen at once, lost to nobody.

use router_core::testing::{direct, page_texts, user};
use router_server::health::Readiness;
use router_storage::store::{Apply, KvFault, KvStore};
use wire_base::ids::Offset;

use crate::world::World;

const GATHER_MS: u64 = 20;

fn world(seed: u64) -> World {
    World::with(seed, |config| config.store_gather_ms = GATHER_MS as u32)
}

/// Sends so many messages from user 1 to user 2, and returns the texts.
fn send(world: &mut World, count: u64) -> Vec<(u64, String)> {
    let (_, a) = world.one();
    let texts = (1..=count).map(|seq| (seq, format!("message {seq}")));
    let texts: Vec<_> = texts.collect();
    for (_, text) in &texts {
        world.send(&a, user(2), text).unwrap();
    }
    texts
}

fn history(world: &mut World) -> Vec<(u64, String)> {
    let gateway = world.gateway();
    let page = world.history(gateway, user(1), direct(1, 2), None, 100);
    page_texts(&page.unwrap())
}

fn flushed(world: &World) -> Option<Offset> {
    KvStore::open(world.kv.clone(), 0).unwrap().flushed()
}

#[test]
fn rows_are_read_at_once_and_written_together_later() {
    let mut world = world(1);
    world.pass(GATHER_MS);
    let (before, operations) = (flushed(&world), world.kv.operations());
    let texts = send(&mut world, 10);
    assert_eq!(history(&mut world), texts);
    assert_eq!((flushed(&world), world.kv.operations()), (before, operations));
    let due_ms = world.router().poll_timeout().unwrap();
    assert!(due_ms <= world.now.mono_ms + GATHER_MS, "it says when");
    world.pass(GATHER_MS);
    assert!(flushed(&world) > before);
    assert_eq!(world.kv.operations(), operations + 1);
    assert_eq!(history(&mut world), texts);
}

#[test]
fn a_killed_router_folds_again_what_was_not_written() {
    for is_power in [false, true] {
        let mut world = world(2);
        let texts = send(&mut world, 10);
        match is_power {
            true => world.crash(),
            false => world.kill(),
        }
        let report = world.start().unwrap();
        assert!(report.replayed >= 10);
        assert!(flushed(&world) >= Some(Offset(9)), "a start writes what it folds");
        assert_eq!(history(&mut world), texts);
    }
}

#[test]
fn a_clean_stop_writes_what_waits() {
    let mut world = world(3);
    let texts = send(&mut world, 10);
    world.stop();
    assert_eq!(world.start().unwrap().replayed, 0);
    assert_eq!(history(&mut world), texts);
}

#[test]
fn rows_that_find_no_room_later_are_written_when_there_is_room() {
    for fault in [KvFault::NoSpace, KvFault::Stopped] {
        let mut world = world(4);
        world.kv.fail_applies(Some(fault));
        let texts = send(&mut world, 10);
        world.pass(GATHER_MS);
        let health = world.router().health();
        assert!(matches!(
            health.readiness(),
            Readiness::StoreFull | Readiness::StoreStopped
        ));
        let gateway = world.gateway();
        let conversation = direct(1, 2);
        assert!(world.history(gateway, user(1), conversation, None, 10).is_err());
        world.kv.fail_applies(None);
        world.pass(2_001);
        assert_eq!(health.readiness(), Readiness::Ready);
        assert_eq!(history(&mut world), texts);
        assert!(flushed(&world) >= Some(Offset(9)));
    }
}
