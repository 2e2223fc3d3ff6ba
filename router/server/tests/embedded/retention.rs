//! What is past retention goes, slice by slice; what is not stays.

use router_core::testing::{direct, page_texts, text_of, user};
use router_records::row::{CheckpointRow, Table};
use wire_base::ids::Position;
use wire_link::FromRouter;

use crate::world::World;

const DAY_MS: u64 = 24 * 3_600_000;

/// Lets so much time pass and ticks whenever something is due.
pub(crate) fn let_time_pass(world: &mut World, ms: u64) {
    let end = world.now.mono_ms + ms;
    while world.now.mono_ms < end {
        wait_for_next(world, end);
    }
    world.settle();
}

/// Ticks, and lets time pass until something is due again, or until `end`.
fn wait_for_next(world: &mut World, end: u64) {
    world.settle();
    let due = world.router().poll_timeout().unwrap_or(u64::MAX);
    let step = due.saturating_sub(world.now.mono_ms).max(1);
    world.advance(step.min(end - world.now.mono_ms));
}

/// Returns how many rows there are that traffic made.
fn rows(world: &World) -> usize {
    let contents = world.kv.contents();
    contents
        .keys()
        .filter(|key| key[0] != CheckpointRow::INFO.byte)
        .count()
}

#[test]
fn messages_inboxes_and_ids_past_retention_are_deleted_and_newer_ones_stay() {
    let mut world = World::with(1, |config| config.sweep_rows_max = 7);
    let (_, a, b) = world.two();
    let old_id = world.new_id();
    world.send_with_id(&a, user(2), old_id, "old 0").unwrap();
    for n in 1..40 {
        world.send(&a, user(2), &format!("old {n}")).unwrap();
    }
    let old_cursor = world.got(&b)[10].position;
    world.disconnect(&b);
    world.disconnect(&a);
    let rows = rows(&world);

    let_time_pass(&mut world, 20 * DAY_MS);
    let (gateway, a) = world.one();
    for n in 0..3 {
        world.send(&a, user(2), &format!("new {n}")).unwrap();
    }
    let_time_pass(&mut world, 11 * DAY_MS);
    let left = self::rows(&world);
    assert!(left + 100 < rows, "{rows} rows became {left}");
    assert!(world.metric("router_sweep_steps_total") > 40 * 3 / 7, "in slices");

    let conversation = direct(1, 2);
    let page = world.history(gateway, user(1), conversation, None, 100).unwrap();
    let new: Vec<_> = (0..3).map(|n| (41 + n, format!("new {n}"))).collect();
    assert_eq!(page_texts(&page), new);

    let (b, opened) = world.resume(gateway, user(2), old_cursor);
    let (_, oldest) = opened.resync.expect("the cursor is older than what is kept");
    assert!(oldest > old_cursor && oldest > Position::start(oldest.generation));
    assert_eq!(world.texts(&b), ["new 0", "new 1", "new 2"]);
    // Seqs go on; the id is free again, as its time says it may be.
    assert_eq!(world.send(&a, user(2), "next").unwrap().seq.0, 44);
}

#[test]
fn a_router_that_nobody_uses_deletes_all_the_same() {
    let mut world = World::seeded(5);
    let (gateway, a) = world.one();
    for text in ["x", "y", "z"] {
        world.send(&a, user(2), text).unwrap();
    }
    let_time_pass(&mut world, 29 * DAY_MS);
    let conversation = direct(1, 2);
    assert_eq!(
        world
            .history(gateway, user(1), conversation, None, 10)
            .unwrap()
            .messages
            .len(),
        3
    );
    let_time_pass(&mut world, DAY_MS + 2 * 3_600_000);
    assert_eq!(
        world.stored(gateway),
        [(3, "z".into())],
        "only the newest, for the summary"
    );
}

#[test]
fn a_summary_keeps_its_text_past_retention() {
    let mut world = World::seeded(2);
    let (gateway, a) = world.one();
    world.send(&a, user(2), "first").unwrap();
    world.send(&a, user(2), "last").unwrap();
    let_time_pass(&mut world, 31 * DAY_MS);
    world.send(&a, user(3), "elsewhere").unwrap();
    let page = world.conversations(gateway, user(1), 10, None).unwrap();
    let texts: Vec<_> = page
        .conversations
        .iter()
        .map(|it| it.last_body.as_ref().map(text_of).unwrap())
        .collect();
    assert_eq!(texts, ["elsewhere", "last"]);
}

#[test]
fn old_segments_of_the_log_go_once_the_store_is_synced() {
    let mut world = World::with(3, |config| {
        config.log_segment_bytes = 1 << 20;
        config.log_retention_minutes = 30;
    });
    let (gateway, a) = world.one();
    let long = "x".repeat(10_000);
    for _ in 0..5 {
        for _ in 0..110 {
            world.say_send(&a, user(2), &long);
            world.tick();
        }
        world.heard(gateway);
        let_time_pass(&mut world, 20 * 60_000);
    }
    let segments = router_storage::disk::Disk::list(&world.disk).unwrap();
    let logs = segments.iter().filter(|name| name.ends_with(".log")).count();
    assert!((2..=4).contains(&logs), "{segments:?}");
    world.crash();
    world.start().unwrap();
    let (_, a) = world.one();
    assert_eq!(world.send(&a, user(2), "next").unwrap().seq.0, 551);
}

#[test]
fn sweeping_leaves_live_traffic_alone() {
    let mut world = World::with(4, |config| config.sweep_rows_max = 1);
    let (_, a) = world.one();
    for n in 0..100 {
        world.send(&a, user(2), &n.to_string()).unwrap();
    }
    // The first sweep has next to nothing to do: the first checkpoint was made before all that.
    while world.metric("router_sweep_steps_total") < 5 {
        wait_for_next(&mut world, u64::MAX);
    }
    world.send(&a, user(2), "now").unwrap();
    for _ in 0..20 {
        let steps = world.metric("router_sweep_steps_total");
        world.advance(10);
        world.send(&a, user(2), "live").unwrap();
        let steps = world.metric("router_sweep_steps_total") - steps;
        assert!((1..=2).contains(&steps), "{steps}: at most a slice a tick");
    }
}

#[test]
fn a_connected_reader_that_did_not_read_what_is_deleted_is_sent_to_resync() {
    let mut world = World::seeded(6);
    let (gateway, a) = world.one();
    let b = world.connect_with_window(gateway, user(2), 1);
    for n in 0..5 {
        world.send(&a, user(2), &format!("old {n}")).unwrap();
    }
    let got = world.got(&b);
    assert_eq!(got.len(), 1, "its window is one message");
    let_time_pass(&mut world, 31 * DAY_MS);
    for n in 0..2 {
        world.send(&a, user(2), &format!("new {n}")).unwrap();
    }
    world.ack(&b, got[0].position);
    assert_eq!(world.texts(&b), [""; 0]);
    let ended = world.hear(gateway, |record| match record {
        FromRouter::SessionRefused(refused) => Some(refused.connection),
        _ => None,
    });
    assert_eq!(ended, [b.connection]);

    let (b, opened) = world.resume(gateway, user(2), got[0].position);
    assert!(opened.resync.is_some());
    assert_eq!(world.texts(&b), ["new 0", "new 1"]);
}
