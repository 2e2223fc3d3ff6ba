use wire_base::code::Code;
use wire_base::ids::{ConnectionHandle, Position, UserId};
use wire_client::{Event, Failure, Format};

use super::*;
use crate::event::{Key, SharedEvent};
use crate::limits::{OUTBOX_BYTES_MAX, PROGRESS_MS_MAX};

#[test]
fn an_echo_that_is_not_taken_stops_the_reading_and_loses_nothing() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.client(id).room = 100;
    let message = text(&"x".repeat(60_000));
    for _ in 0..20 {
        world.send_bytes(id, &message);
    }
    assert!(world.client(id).is_paused);
    let held = world.hub.stats().outbox_bytes;
    assert!((256 * 1024..=256 * 1024 + 70_000).contains(&held), "{held}");
    let mut steps = 0;
    while world.client(id).seen.len() < 20 {
        world.client(id).room = 50_000;
        world.tick();
        steps += 1;
        assert!(steps < 100);
    }
    assert_eq!(world.hub.stats().closes_total(), 0);
    assert_eq!(
        (world.hub.stats().outbox_bytes, world.hub.stats().input_bytes),
        (0, 0)
    );
    assert!(!world.client(id).is_paused);
}

#[test]
fn unsent_bytes_without_progress_for_thirty_seconds_end_a_connection() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.client(id).room = 10;
    world.send_bytes(id, &text(&"x".repeat(1_000)));
    world.pass_ms(20_000);
    world.client(id).room = 10;
    world.tick();
    world.tick();
    world.pass_ms(PROGRESS_MS_MAX - 1);
    assert_eq!(world.hub.stats().closes_total(), 0);
    world.pass_ms(1);
    only_reason(&world, Reason::SlowProgress);
    // The close frame follows what was begun, if there is room in time.
    world.client(id).room = usize::MAX;
    world.tick();
    assert_eq!(world.client(id).close_code(), 4408);
    assert!(world.client(id).is_ended);
}

#[test]
fn while_the_worker_holds_too_much_the_largest_outboxes_are_closed_first() {
    let config = HubConfig {
        outbox_total_bytes_max: 400 * 1024,
        ..HubConfig::default()
    };
    let mut world = echo(config);
    let ids = [world.connect(), world.connect(), world.connect()];
    for (id, kib) in ids.into_iter().zip([100, 200, 150]) {
        world.client(id).room = 0;
        world.send_bytes(id, &text(&"x".repeat(kib * 1024)));
    }
    world.tick();
    only_reason(&world, Reason::SlowWorker);
    assert!(world.client(ids[1]).is_closed);
    assert!(!world.client(ids[0]).is_closed && !world.client(ids[2]).is_closed);
    assert!(world.hub.stats().outbox_bytes <= 400 * 1024);
}

#[test]
fn input_of_a_worker_is_bounded_and_the_one_that_asks_for_more_is_closed_with_1013() {
    let mut world = echo(HubConfig {
        input_total_bytes_max: 200 * 1024,
        ..HubConfig::default()
    });
    let ids = [world.connect(), world.connect(), world.connect(), world.connect()];
    let message = text(&"x".repeat(61_500));
    for id in ids {
        world.send_bytes(id, &message[..60 * 1024]);
    }
    assert_eq!(world.client(ids[3]).close_code(), 1013);
    only_reason(&world, Reason::Overloaded);
    assert!((180 * 1024..=200 * 1024).contains(&world.hub.stats().input_bytes));
    for id in &ids[..3] {
        world.send_bytes(*id, &message[60 * 1024..]);
        assert_eq!(seen(world.client(*id)).len(), 1);
    }
    assert_eq!(world.hub.stats().input_bytes, 0);
}

/// Queues what is dropped first, so many times, for one connection.
fn send_presence(world: &mut World<Echo>, id: ConnectionHandle, count: u64) {
    for n in 1..=count {
        let user = UserId::new(n).unwrap();
        let event = Event::Error(Failure {
            id: None,
            code: Code::Busy,
            reason: &"x".repeat(1_000),
        });
        let event = SharedEvent::replacing(Format::Json, Key::Presence(user), &event);
        let now = world.now;
        world
            .hub
            .connections
            .send_shared(id, &event, Position::default(), now);
    }
}

#[test]
fn typing_and_presence_give_way_before_anything_happens_to_a_slow_reader() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.client(id).room = 0;
    world.send_bytes(id, &text(&"x".repeat(60_000)));
    world.tick(); // Now the hub knows.
    send_presence(&mut world, id, 1_000);
    world.tick();
    let stats = world.hub.stats();
    let (dropped, waiting) = (stats.events_dropped, stats.outbox_bytes);
    assert!(
        dropped > 700 && waiting <= OUTBOX_BYTES_MAX as u64,
        "{dropped}, {waiting}"
    );
    assert!(!world.client(id).is_paused && world.hub.stats().closes_total() == 0);
    world.client(id).room = usize::MAX;
    world.tick();
    let kept = 1_000 - world.hub.stats().events_dropped as usize;
    let last = seen(world.client(id)).len();
    assert!(
        kept > 150 && last == 1 + kept.div_ceil(100),
        "{kept} in {last} frames"
    );
}

#[test]
fn typing_and_presence_give_way_before_the_largest_outbox_of_a_full_worker_is_closed() {
    let mut world = echo(HubConfig {
        outbox_total_bytes_max: 400 * 1024,
        ..HubConfig::default()
    });
    let ids = [world.connect(), world.connect(), world.connect()];
    for id in ids {
        world.client(id).room = 0;
        world.send_bytes(id, &text(&"x".repeat(60_000)));
        send_presence(&mut world, id, 150);
    }
    world.tick();
    assert!(world.hub.stats().events_dropped >= 150 && world.hub.stats().closes_total() == 0);
    assert!(world.hub.stats().outbox_bytes <= 400 * 1024);
}
