//! Restarts: killed, without power, at every point.

use std::collections::BTreeMap;

use router_core::testing::{direct, page_texts, send_of, text_of, user};
use router_server::config::RouterConfig;
use router_server::embedded::{FOLD_VERSION, StartReport};
use router_storage::disk::Disk;
use router_storage::log::{Group, Log, LogConfig, SegmentedLog};
use router_storage::store::{Apply, KvFault, KvStore};
use wire_base::ids::{DeviceId, MessageId, Position};
use wire_link::{RequestId, SessionOpen, ToRouter};

use crate::world::{Link, World};

#[test]
fn everything_is_still_there_after_a_restart() {
    let mut world = World::seeded(1);
    let (_, a, b) = world.two();
    let id = world.new_id();
    let first = world.send_with_id(&a, user(2), id, "x").unwrap();
    world.send(&a, user(2), "y").unwrap();
    let got = world.got(&b);
    world.ack(&b, got[0].position);
    world.restart();

    let (gateway, a, again) = world.two();
    assert!(again.session > b.session);
    assert_eq!(again.head, got[1].position);
    assert_eq!(world.texts(&again), ["y"], "x was acked");
    let page = world.history(gateway, user(1), direct(1, 2), None, 10).unwrap();
    assert_eq!(page_texts(&page), [(1, "x".into()), (2, "y".into())]);
    assert_eq!(page.delivered.0, 1);
    let duplicate = world.send_with_id(&a, user(2), id, "x").unwrap();
    assert!(duplicate.duplicate && (duplicate.seq, duplicate.timestamp) == (first.seq, first.timestamp));
    assert_eq!(world.send(&a, user(2), "z").unwrap().seq.0, 3);
}

#[test]
fn a_cursor_is_good_across_a_restart() {
    let mut world = World::seeded(2);
    let (_, a, b) = world.two();
    for text in ["x", "y", "z"] {
        world.send(&a, user(2), text).unwrap();
    }
    let cursor = world.got(&b)[1].position;
    world.crash();
    world.start().unwrap();
    let gateway = world.gateway();
    let (again, opened) = world.resume(gateway, user(2), cursor);
    assert!(opened.resumed);
    assert_eq!(world.texts(&again), ["z"]);
}

/// A small life of two users, told as steps; each may end in a crash. Holds what the outside was promised.
struct Life {
    world: World,
    /// The seq of every send that was answered `sent`.
    sent: BTreeMap<MessageId, (u64, String)>,
    /// Sends whose outcome is open.
    open: Vec<(MessageId, String)>,
    next_text: usize,
    /// The last entry the receiver got, and what it got.
    cursor: Option<Position>,
    received: Vec<(u64, String)>,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let config = RouterConfig {
            sends_per_s: Some(0),
            ..RouterConfig::default()
        };
        Self {
            world: World::down(seed, config),
            sent: BTreeMap::new(),
            open: Vec::new(),
            next_text: 0,
            cursor: None,
            received: Vec::new(),
        }
    }

    /// Runs until the end or the crash. Whatever a link said before counts.
    fn run(&mut self) -> Result<(), ()> {
        let world = &mut self.world;
        if let Err(error) = world.start() {
            assert!(world.is_down(), "{error}");
            return Err(());
        }
        let gateway = world.gateway();
        let a = world.open_record(user(1), 1);
        let b = SessionOpen {
            cursor: self.cursor,
            ..world.open_record(user(2), 1)
        };
        world.say(gateway, &[ToRouter::SessionOpen(a), ToRouter::SessionOpen(b)]);
        let mut asked = Vec::new();
        let mut ticks = Vec::new();
        for step in 0..6 {
            ticks.push(world.try_tick());
            if ticks.last().is_some_and(Result::is_err) {
                break;
            }
            // What is open is sent again, as a client would.
            for (id, text) in std::mem::take(&mut self.open) {
                asked.push(send(world, gateway, id, &text));
            }
            if step < 3 {
                for _ in 0..2 {
                    let (id, text) = (world.new_id(), format!("text {}", self.next_text));
                    self.next_text += 1;
                    asked.push(send(world, gateway, id, &text));
                }
            }
            world.advance(if step == 4 { 6_000 } else { 3 });
        }
        for (request, id, text) in asked {
            match world.outcome(gateway, request) {
                Some(Ok(sent)) => {
                    let first = self.sent.insert(id, (sent.seq.0, text));
                    assert!(
                        first.is_none_or(|(seq, _)| seq == sent.seq.0),
                        "a second seq for {id}"
                    );
                }
                _ => self.open.push((id, text)),
            }
        }
        for record in world.heard(gateway) {
            if let wire_link::FromRouter::Deliver(deliver) = record
                && let Some((_, position)) = deliver.to.iter().find(|(to, _)| *to == b.connection)
            {
                assert!(Some(*position) > self.cursor, "went back to {position}");
                self.cursor = Some(*position);
                self.received
                    .push((deliver.message.seq.0, text_of(&deliver.message.body)));
            }
        }
        if ticks.iter().all(Result::is_ok) {
            Ok(())
        } else {
            Err(())
        }
    }

    /// Checks what the outside was promised against what is there at last.
    fn check(&mut self) {
        let world = &mut self.world;
        let gateway = world.gateway();
        let stored = world.stored(gateway);
        let seqs: Vec<u64> = stored.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=stored.len() as u64).collect::<Vec<_>>(), "dense");
        for (seq, text) in self.sent.values() {
            assert_eq!(stored[*seq as usize - 1].1, *text, "what was sent is there");
        }
        let mut texts: Vec<_> = stored.iter().map(|(_, text)| text).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), stored.len(), "each message once");
        assert_eq!(
            self.received,
            stored[..self.received.len()],
            "delivered in order, without a gap, and only what is stored"
        );
    }
}

fn send(world: &mut World, gateway: Link, id: MessageId, text: &str) -> (RequestId, MessageId, String) {
    let request = world.request();
    let send = send_of(request, (1, DeviceId::DEFAULT), 2, Some(id), text);
    world.say(gateway, &[ToRouter::Send(send)]);
    (request, id, text.to_owned())
}

/// Runs a life with a crash at each point, then again with a second crash behind it, and then to its end.
fn crash_everywhere(seed: u64, arm: impl Fn(&World, u64)) -> u64 {
    for point in 0.. {
        let mut life = Life::begin(seed + point);
        arm(&life.world, point);
        if life.run().is_ok() {
            return point;
        }
        life.world.crash();
        arm(&life.world, point / 2);
        if life.run().is_err() {
            life.world.crash();
            life.run().unwrap();
        }
        life.run_again();
        life.check();
    }
    unreachable!("some life is shorter than that")
}

impl Life {
    /// Restarts in peace and lets everything open be sent again and everything stored be received.
    fn run_again(&mut self) {
        for _ in 0..2 {
            self.world.kill();
            self.run().unwrap();
        }
        assert_eq!(self.open, []);
    }
}

#[test]
fn a_crash_at_any_disk_operation_loses_nothing_sent_and_leaves_seqs_dense() {
    let points: u64 = (0..8)
        .map(|seed| crash_everywhere(seed * 1_000, |world, n| world.disk.crash_at(n)))
        .sum();
    assert!(points >= 8 * 12, "{points} points");
}

#[test]
fn a_crash_at_any_store_operation_loses_nothing_sent_and_leaves_seqs_dense() {
    let points: u64 = (0..8)
        .map(|seed| crash_everywhere(seed * 1_000, |world, n| world.kv.crash_at(n)))
        .sum();
    assert!(points >= 8 * 5, "{points} points");
}

#[test]
fn the_memory_of_sends_is_filled_again_from_the_log() {
    let mut world = World::seeded(3);
    let (_, a) = world.one();
    world.send(&a, user(2), "x").unwrap();
    world.pass(6_000); // The store is synced: nothing is left to replay.
    world.crash();
    let report = world.start().unwrap();
    assert_eq!((report.replayed, report.observed), (0, 2), "{report}");
    let (_, a) = world.one();
    let reads = world.metric("router_store_reads_total");
    world.send(&a, user(2), "y").unwrap();
    assert_eq!(
        world.metric("router_store_reads_total") - reads,
        1,
        "the conversation, and no id"
    );
}

/// A log of so many segments, one each 20 minutes, all in the store; returns the reads and the report of the next start.
fn start_on_segments(segments: u64, ids_max: usize) -> (u64, StartReport) {
    let mut world = World::with(6, |config| {
        config.log_segment_bytes = 1 << 20;
        config.log_retention_minutes = 6_000;
        config.dedupe_ids_max = ids_max;
    });
    let (gateway, a) = world.one();
    let long = "x".repeat(10_000);
    for _ in 0..segments * SENDS_PER_SEGMENT {
        world.say_send(&a, user(2), &long);
        world.tick();
        world.heard(gateway);
        world.advance(20 * 60_000 / SENDS_PER_SEGMENT);
    }
    world.settle();
    world.kill();
    let before = world.disk.reads();
    let report = world.start().unwrap();
    (world.disk.reads() - before, report)
}

const SENDS_PER_SEGMENT: u64 = 104;

#[test]
fn a_start_reads_what_memory_keeps_of_the_log_and_of_the_rest_headers_and_footers() {
    let (few_reads, few) = start_on_segments(4, 1_000_000);
    let (many_reads, many) = start_on_segments(12, 1_000_000);
    assert!(few.recovery.segments >= 4 && many.recovery.segments >= few.recovery.segments + 7);
    let more = (many.recovery.segments - few.recovery.segments) as u64;
    let slack = 2 * SENDS_PER_SEGMENT; // How full the newest segment happens to be.
    assert!(
        many_reads <= few_reads + 2 * more + slack,
        "{few_reads} and {many_reads}"
    );
    assert!(many.observed <= 3 * SENDS_PER_SEGMENT, "{many}");
    assert!(many.observed >= SENDS_PER_SEGMENT * 15 / 20, "{many}");
}

#[test]
fn a_start_reads_no_more_records_for_memory_than_it_keeps_ids() {
    let (_, report) = start_on_segments(3, 10);
    assert_eq!((report.observed, report.replayed), (10, 0), "{report}");
}

/// Has another fold version begin a segment, as it does when it takes over; it may log a record that it never folds.
fn begin_other_fold_version(world: &World, logs_record: bool) {
    let store = KvStore::open(world.kv.clone(), 0).unwrap();
    let config = LogConfig {
        generation: store.generation(),
        fold_version: FOLD_VERSION + 1,
        checkpoint_complete: true,
        ..LogConfig::default()
    };
    let (mut log, _) = SegmentedLog::open(world.disk.clone(), config, store.flushed()).unwrap();
    if logs_record {
        let mut group = Group::new();
        group.push_bytes(b"of another version");
        log.append(&mut group).unwrap();
    }
}

/// A world with a message in log and store, and who sent it.
fn world_with_a_message() -> World {
    let mut world = World::seeded(7);
    let (_, a) = world.one();
    world.send(&a, user(2), "x").unwrap();
    world
}

#[test]
fn another_fold_version_goes_on_after_a_clean_stop() {
    let mut world = world_with_a_message();
    world.stop();
    begin_other_fold_version(&world, false);
    for seq in 2..4 {
        let report = world.start().unwrap();
        assert_eq!(report.replayed, 0, "{report}");
        let (_, a) = world.one();
        assert_eq!(world.send(&a, user(2), "y").unwrap().seq.0, seq);
        world.stop();
    }
}

#[test]
fn another_fold_version_is_refused_without_a_clean_stop_and_told_what_to_do() {
    // Killed with everything in the store: only nobody said so. An earlier clean stop does not count for it.
    for was_stopped_before in [false, true] {
        let mut world = world_with_a_message();
        if was_stopped_before {
            world.stop();
            world.start().unwrap();
            let (_, a) = world.one();
            world.send(&a, user(2), "y").unwrap();
        }
        world.pass(6_000); // The store is synced.
        world.kill();
        begin_other_fold_version(&world, false);
        let names = world.disk.list().unwrap();
        let refused = world.start().unwrap_err().to_string();
        assert!(refused.contains("it was not stopped cleanly"), "{refused}");
        assert!(
            refused.contains("start the version that wrote it once more"),
            "{refused}"
        );
        assert_eq!(world.disk.list().unwrap(), names);
    }
}

#[test]
fn records_that_only_another_fold_version_knows_are_refused() {
    let mut world = world_with_a_message();
    world.stop();
    begin_other_fold_version(&world, true);
    let refused = world.start().unwrap_err().to_string();
    assert!(
        refused.contains("it holds records that are not in the store"),
        "{refused}"
    );
}

#[test]
fn a_stop_while_the_store_lacks_something_is_no_clean_one() {
    let mut world = world_with_a_message();
    let (_, a) = world.one();
    world.kv.fail_applies(Some(KvFault::NoSpace));
    world.say_send(&a, user(2), "y");
    world.tick();
    world.kv.fail_applies(None);
    world.stop();
    let store = KvStore::open(world.kv.clone(), 0).unwrap();
    assert_eq!(store.checkpoint_end(), None);
}
