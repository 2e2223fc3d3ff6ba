//! A disk or a store that fails instead of crashing.

use router_core::testing::{direct, page_texts, user};
use router_records::row::{CheckpointRow, MessageRow, Table};
use router_server::health::Readiness;
use router_storage::store::{Batch, Kv, KvFault};
use wire_base::code::Code;
use wire_base::ids::{Seq, UnixMs};
use wire_base::status::Status;
use wire_base::status::StatusOf;
use wire_link::ToRouter;

use crate::world::World;

#[test]
fn a_full_disk_makes_sends_unavailable_until_there_is_space_again() {
    let mut world = World::seeded(1);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "before").unwrap();
    world.disk.set_space_left(Some(10));
    for _ in 0..3 {
        let refused = world.send(&a, user(2), "lost").unwrap_err();
        assert_eq!(
            (refused.code, refused.retry_after_ms),
            (Code::Unavailable, Some(1_000))
        );
    }
    let health = world.router().health();
    assert_eq!(health.readiness(), Readiness::LogFull);
    assert_eq!(
        world.metric("router_log_full_total"),
        1,
        "only the first one asked the disk"
    );
    // Reads go on, and so do sessions of known devices; a new device would have to be logged.
    assert_eq!(world.stored(gateway), [(1, "before".into())]);
    world.connect(gateway, user(2), 1);
    assert_eq!(world.refused(gateway, user(2), 2), Code::Unavailable);

    world.pass(1_001);
    assert_eq!(
        health.readiness(),
        Readiness::LogFull,
        "asked again, and still full"
    );
    world.disk.set_space_left(None);
    world.pass(1_001);
    assert_eq!(
        health.readiness(),
        Readiness::Ready,
        "resumed by itself, without a send"
    );
    let sent = world.send(&a, user(2), "after").unwrap();
    assert_eq!(sent.seq, Seq(2), "what was refused took no seq");
    let _ = b;
}

#[test]
fn what_found_no_space_does_not_come_back_after_a_restart() {
    let mut world = World::seeded(2);
    let (_, a) = world.one();
    world.send(&a, user(2), "before").unwrap();
    world.disk.set_space_left(Some(10));
    world.send(&a, user(2), "lost").unwrap_err();
    world.disk.set_space_left(None);
    world.crash();
    world.start().unwrap();
    let gateway = world.gateway();
    assert_eq!(world.stored(gateway), [(1, "before".into())]);
}

#[test]
fn a_full_store_is_tried_again_however_often_it_is_asked_meanwhile() {
    let mut world = World::with(14, |config| {
        config.users_cached_max = 1;
        config.group_records_max = 1;
    });
    let (gateway, a) = world.one();
    for known in 10..15 {
        world.connect(gateway, user(known), 1);
    }
    world.send(&a, user(2), "before").unwrap();
    world.kv.fail_applies(Some(KvFault::NoSpace));
    // The rows of the first find no room; the second is in the log by then, and waits for what cannot be looked up.
    let sends = [2, 3].map(|to| ToRouter::Send(world.send_record(&a, user(to), None, "x")));
    world.say(gateway, &sends);
    world.settle();
    let health = world.router().health();
    assert_eq!(health.readiness(), Readiness::StoreFull);
    world.kv.fail_applies(None);
    for turn in 0..50 {
        world.advance(50);
        let open = world.open_record(user(10 + turn % 5), 1);
        world.say(gateway, &[ToRouter::SessionOpen(open)]);
        world.settle();
    }
    assert_eq!(health.readiness(), Readiness::Ready, "2.5 s later");
}

#[test]
fn an_ack_in_the_group_that_found_no_space_is_logged_later() {
    let mut world = World::seeded(13);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "x").unwrap();
    let position = world.got(&b)[0].position;
    world.disk.set_space_left(Some(10));
    world.ack(&b, position);
    world.settle_acks();
    assert_eq!(world.readiness(), Readiness::LogFull);
    world.disk.set_space_left(None);
    world.advance(1_001);
    world.settle_acks();
    assert_eq!(world.updates(gateway).len(), 1);
}

#[test]
fn acks_and_new_devices_wait_for_space_and_are_logged_then() {
    let mut world = World::seeded(3);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "x").unwrap();
    let position = world.got(&b)[0].position;
    world.disk.set_space_left(Some(10));
    let newcomer = world.connect(gateway, user(3), 1);
    world.ack(&b, position);
    assert_eq!(world.updates(gateway), []);
    world.disk.set_space_left(None);
    world.advance(1_001);
    world.settle_acks();
    assert_eq!(world.updates(gateway).len(), 1);
    // The newcomer is known after a restart: it cannot be registered a second time.
    world.restart();
    let records = world.metric("router_records_total");
    let gateway = world.gateway();
    world.connect(gateway, newcomer.user, 1);
    assert_eq!(world.metric("router_records_total"), records);
}

#[test]
fn a_failed_sync_stops_acknowledging_until_restart() {
    let mut world = World::seeded(4);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "before").unwrap();
    world.texts(&b);
    world.disk.fail_sync(0);
    for _ in 0..3 {
        assert_eq!(
            world.send(&a, user(2), "unknown").unwrap_err().code,
            Code::Unavailable
        );
        world.advance(5_000);
    }
    assert_eq!(world.readiness(), Readiness::LogFailed);
    assert_eq!(world.texts(&b), Vec::<String>::new());
    let conversation = direct(1, 2);
    assert!(
        world.history(gateway, user(1), conversation, None, 10).is_ok(),
        "reads go on"
    );
    let of = StatusOf::Seq(conversation, Seq(1));
    assert_eq!(
        world.status(gateway, user(2), b.device, Status::Read, of),
        Err(Code::Unavailable)
    );
    world.crash();
    world.start().unwrap();
    let gateway = world.gateway();
    let page = world.history(gateway, user(1), conversation, None, 10).unwrap();
    let texts: Vec<_> = page_texts(&page).into_iter().map(|(_, text)| text).collect();
    assert!(texts == ["before"] || texts == ["before", "unknown"], "{texts:?}");
    let a = world.connect(gateway, user(1), 1);
    assert_eq!(
        world.send(&a, user(2), "after").unwrap().seq.0,
        texts.len() as u64 + 1
    );
}

#[test]
fn a_store_without_space_pauses_and_then_delivers_what_the_log_has() {
    let mut world = World::seeded(5);
    let (gateway, a, b) = world.two();
    world.kv.fail_applies(Some(KvFault::NoSpace));
    let id = world.new_id();
    // It is in the log, so that it is sent, and whoever is up to date has it.
    world.send_with_id(&a, user(2), id, "logged").unwrap();
    assert_eq!(world.texts(&b), ["logged"]);
    assert_eq!(
        world.send(&a, user(2), "refused").unwrap_err().code,
        Code::Unavailable
    );
    assert_eq!(world.readiness(), Readiness::StoreFull);
    assert_eq!(world.refused(gateway, user(2), 2), Code::Unavailable);

    world.kv.fail_applies(None);
    world.pass(1_001);
    assert_eq!(world.readiness(), Readiness::Ready);
    let again = world.send_with_id(&a, user(2), id, "logged").unwrap();
    assert!(again.duplicate && again.seq == Seq(1));
    assert_eq!(world.send(&a, user(2), "next").unwrap().seq, Seq(2));
}

#[test]
fn a_batch_that_the_store_refused_and_made_all_the_same_is_delivered_once_and_not_before() {
    for seed in 0..8 {
        let mut world = World::seeded(seed);
        let (gateway, a) = world.one();
        let b = world.connect_with_window(gateway, user(2), 2);
        for text in ["0", "1", "2"] {
            world.send(&a, user(2), text).unwrap();
        }
        world.kv.fail_applies(Some(KvFault::NoSpace));
        world.send(&a, user(2), "3").unwrap();
        // The reader is behind, and gets room for two more: the page it reads could hold both.
        let got = world.got(&b);
        world.ack(&b, got[1].position);
        let mut texts = world.texts(&b);
        assert!(
            !texts.contains(&"3".to_owned()),
            "seed {seed}: before the store says so"
        );
        world.kv.fail_applies(None);
        world.advance(1_001);
        world.settle_acks();
        texts.extend(world.texts(&b));
        assert_eq!(texts, ["2", "3"], "seed {seed}");
    }
}

#[test]
fn a_failed_store_is_brought_up_to_the_log_by_a_restart() {
    let mut replayed = 0;
    for seed in 0..8 {
        let mut world = World::seeded(seed);
        let (_, a) = world.one();
        world.kv.fail_applies(Some(KvFault::Failed));
        let id = world.new_id();
        world.send_with_id(&a, user(2), id, "logged").unwrap();
        world.kv.fail_applies(None);
        world.advance(5_000);
        assert_eq!(
            world.send(&a, user(2), "refused").unwrap_err().code,
            Code::Unavailable
        );
        assert_eq!(world.readiness(), Readiness::StoreFailed);
        world.crash();
        replayed += world.start().unwrap().replayed;
        let (_, a) = world.one();
        let again = world.send_with_id(&a, user(2), id, "logged").unwrap();
        assert!(again.duplicate && again.seq == Seq(1));
    }
    assert!(
        replayed > 0,
        "a store that refuses a batch may have made it, but not every time"
    );
}

#[test]
fn a_store_that_cannot_be_synced_is_not_trusted_any_more() {
    let mut world = World::seeded(7);
    let (_, a) = world.one();
    world.send(&a, user(2), "x").unwrap();
    world.kv.fail_persists(Some(KvFault::Failed));
    world.pass(u64::from(world.config.store_persist_interval_ms) + 1);
    assert_eq!(world.readiness(), Readiness::StoreFailed);
    assert_eq!(world.send(&a, user(2), "y").unwrap_err().code, Code::Unavailable);
    // A later sync that succeeds proves nothing, so none is asked for, and the log keeps what it has.
    world.kv.fail_persists(None);
    let tries = world.metric("router_store_persists_total");
    world.pass(100 * u64::from(world.config.store_persist_interval_ms));
    assert_eq!(world.metric("router_store_persists_total"), tries);
    assert_eq!(world.readiness(), Readiness::StoreFailed);
}

#[test]
fn an_inbox_that_cannot_be_read_waits_while_its_session_lasts_and_others_go_on() {
    let mut world = World::seeded(9);
    let (gateway, a) = world.one();
    world.send(&a, user(2), "kept").unwrap();
    let row = MessageRow::encode_key(direct(1, 2), Seq(1));
    let value = world.kv.get(&row).unwrap().unwrap();
    let kv = world.kv.clone();
    let set = |value: Vec<u8>| {
        let mut batch = Batch::default();
        batch.put(row.clone(), value);
        kv.clone().apply(&batch).unwrap();
    };
    set(vec![200]);
    let mut errors = 0;
    let mut count_new = |world: &mut World| {
        world.settle();
        let before = std::mem::replace(&mut errors, world.metric("router_store_errors_total"));
        errors - before
    };
    let b = world.connect(gateway, user(2), 1);
    assert_eq!(count_new(&mut world), 1);
    let c = world.connect(gateway, user(3), 1);
    world.send(&a, user(3), "on").unwrap();
    assert_eq!(world.texts(&c), ["on"]);
    world.advance(1_000);
    assert_eq!(count_new(&mut world), 1, "tried again");
    assert!(world.texts(&b).is_empty() && world.synced(&b).is_empty());
    world.disconnect(&b);
    world.advance(1_000);
    assert_eq!(count_new(&mut world), 0, "nobody waits");
    set(value);
    let b = world.connect(gateway, user(2), 1);
    assert_eq!(world.texts(&b), ["kept"]);
}

#[test]
fn a_router_waits_while_a_page_is_due_and_the_store_is_full() {
    let mut world = World::seeded(11);
    let (gateway, a) = world.one();
    world.send(&a, user(2), "x").unwrap();
    let mut batch = Batch::default();
    batch.put(MessageRow::encode_key(direct(1, 2), Seq(1)), [200]);
    world.kv.clone().apply(&batch).unwrap();
    world.connect(gateway, user(2), 1);
    world.settle();
    world.kv.fail_applies(Some(KvFault::NoSpace));
    world.send(&a, user(3), "y").unwrap();
    for _ in 0..5 {
        world.advance(1_000);
        assert!(!world.tick().is_busy);
        let due_ms = world.router().poll_timeout().unwrap();
        assert!(due_ms > world.now.mono_ms, "it would not wait at all");
    }
}

#[test]
fn a_sweep_that_meets_a_damaged_row_goes_on() {
    let mut world = World::seeded(10);
    let (_, a) = world.one();
    for text in ["one", "two", "three"] {
        world.send(&a, user(2), text).unwrap();
    }
    let mut batch = Batch::default();
    batch.put(MessageRow::encode_key(direct(1, 2), Seq(1)), [200]);
    batch.put(CheckpointRow::encode_key((), UnixMs(1)), [200]);
    world.kv.clone().apply(&batch).unwrap();
    world.pass(40 * 24 * 3_600_000);
    world.send(&a, user(2), "after").unwrap();
    world.pass(24 * 3_600_000);
    assert_eq!(world.readiness(), Readiness::Ready);
}

#[test]
fn the_end_of_a_router_shows_in_its_health() {
    let mut world = World::seeded(8);
    let health = world.router().health();
    assert!(health.is_ready());
    world.kill();
    assert_eq!(health.readiness(), Readiness::Stopped);
}
