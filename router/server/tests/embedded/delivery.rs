//! What a device is sent: backlog, synced, live, resume, window, replacement, links that stand still.

use router_core::testing::{history_of, link_hello, text_of, user};
use wire_base::code::Code;
use wire_base::ids::Position;
use wire_link::{FromRouter, LinkHello, LinkKind, SessionOpen, ToRouter};

use crate::world::{Device, Got, Link, World};

/// Sends `texts` from a device to a user, one group each.
fn send_all<'a>(world: &mut World, from: &Device, to: u64, texts: impl IntoIterator<Item = &'a str>) {
    for text in texts {
        world.send(from, user(to), text).unwrap();
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn send_numbered(world: &mut World, from: &Device, to: u64, range: std::ops::Range<usize>) {
    for text in numbered(range) {
        world.send(from, user(to), &text).unwrap();
    }
}

#[test]
fn a_new_device_gets_the_backlog_then_synced_then_live() {
    let mut world = World::seeded(1);
    let (gateway, a) = world.one();
    send_all(&mut world, &a, 2, ["one", "two"]);
    let b = world.connect(gateway, user(2), 1);
    send_all(&mut world, &a, 2, ["three"]);
    let order: Vec<String> = world
        .heard(gateway)
        .into_iter()
        .filter_map(|record| match record {
            FromRouter::Deliver(deliver) if deliver.to[0].0 == b.connection => {
                Some(text_of(&deliver.message.body))
            }
            FromRouter::Synced(synced) if synced.connection == b.connection => {
                assert_eq!(synced.cursor, b.head);
                Some("synced".into())
            }
            _ => None,
        })
        .collect();
    assert_eq!(order, ["one", "two", "synced", "three"]);
}

#[test]
fn a_device_without_backlog_is_synced_at_once() {
    let mut world = World::seeded(2);
    let (_, a) = world.one();
    assert_eq!(world.synced(&a), [a.head]);
}

#[test]
fn a_connection_resumes_after_its_cursor() {
    let mut world = World::seeded(3);
    let (gateway, a, b) = world.two();
    send_numbered(&mut world, &a, 2, 0..5);
    let got = world.got(&b);
    world.disconnect(&b);
    send_numbered(&mut world, &a, 2, 5..7);
    let (again, opened) = world.resume(gateway, user(2), got[2].position);
    assert!(opened.resumed && opened.resync.is_none());
    assert_eq!(world.texts(&again), numbered(3..7));
    assert_eq!(world.synced(&again).len(), 1);
}

#[test]
fn without_a_cursor_a_device_starts_after_what_it_acked() {
    let mut world = World::seeded(4);
    let (gateway, a, b) = world.two();
    send_numbered(&mut world, &a, 2, 0..4);
    let got = world.got(&b);
    world.ack(&b, got[1].position);
    world.disconnect(&b);
    let open = world.open_record(user(2), 1);
    let (again, opened) = world.open(gateway, open);
    assert!(!opened.resumed);
    assert_eq!(world.texts(&again), numbered(2..4));
}

#[test]
fn a_cursor_of_another_store_or_beyond_the_head_resyncs_from_the_oldest() {
    let mut world = World::seeded(5);
    let (gateway, a, b) = world.two();
    send_numbered(&mut world, &a, 2, 0..3);
    let last = world.got(&b)[2].position;
    world.disconnect(&b);
    let foreign = Position {
        generation: last.generation + 1,
        ..last
    };
    let beyond = Position {
        index: last.index + 1,
        ..last
    };
    for cursor in [foreign, beyond] {
        let (again, opened) = world.resume(gateway, user(2), cursor);
        let (reason, oldest) = opened.resync.expect("a cursor of no use");
        assert!(!reason.is_empty() && !opened.resumed);
        assert_eq!(oldest, Position::start(last.generation));
        assert_eq!(world.texts(&again), numbered(0..3));
        world.disconnect(&again);
    }
}

#[test]
fn a_device_that_does_not_ack_stops_at_its_window_and_goes_on_when_it_does() {
    let mut world = World::seeded(6);
    let (gateway, a) = world.one();
    let b = world.connect_with_window(gateway, user(2), 3);
    send_numbered(&mut world, &a, 2, 0..8);
    let got = world.got(&b);
    assert_eq!(got.len(), 3);
    world.ack(&b, got[1].position);
    let more = world.got(&b);
    assert_eq!(
        more.iter().map(|got| got.text.as_str()).collect::<Vec<_>>(),
        ["3", "4"]
    );
    world.ack(&b, more[1].position);
    assert_eq!(world.texts(&b), numbered(5..8));
    send_numbered(&mut world, &a, 2, 8..9);
    assert_eq!(world.texts(&b), Vec::<String>::new(), "5, 6 and 7 are in flight");
}

#[test]
fn the_window_is_bounded_in_bytes_too() {
    let mut world = World::seeded(7);
    let (_, a, b) = world.two();
    let long = "x".repeat(10_000);
    for _ in 0..30 {
        world.send(&a, user(2), &long).unwrap();
    }
    let got = world.got(&b);
    assert_eq!(got.len(), 128 * 1024 / 10_000);
    world.ack(&b, got[0].position);
    assert_eq!(world.got(&b).len(), 1);
}

#[test]
fn a_long_backlog_comes_in_pages_while_others_are_served() {
    let mut world = World::with(8, |config| config.pages_per_tick = 1);
    let (gateway, a) = world.one();
    let c = world.connect(gateway, user(3), 1);
    world.say_sends(&a, user(2), 0..250);
    world.settle();
    world.heard(gateway);
    let open = SessionOpen {
        window: 256,
        ..world.open_record(user(2), 1)
    };
    world.say(gateway, &[ToRouter::SessionOpen(open)]);
    let mut ticks = 0;
    let mut texts = Vec::new();
    let b = Device {
        connection: open.connection,
        user: user(2),
        device: open.device,
        ..a
    };
    loop {
        ticks += 1;
        world.send(&c, user(4), "meanwhile").unwrap();
        let progress = world.tick();
        texts.extend(world.texts(&b));
        if !progress.is_busy && texts.len() >= 250 {
            break;
        }
        assert!(ticks < 20);
    }
    assert_eq!(texts, numbered(0..250));
}

#[test]
fn the_newest_connection_of_a_device_wins() {
    let mut world = World::seeded(9);
    let (one, two) = (world.gateway(), world.gateway());
    let a = world.connect(one, user(1), 1);
    let first = world.connect(one, user(2), 1);
    let second = world.connect(two, user(2), 1);
    assert!(second.session > first.session);
    let replaced = world.hear(one, |record| match record {
        FromRouter::SessionReplaced(session) => Some(session.connection),
        _ => None,
    });
    assert_eq!(replaced, [first.connection]);
    world.send(&a, user(2), "x").unwrap();
    assert_eq!(world.texts(&first), Vec::<String>::new());
    let got = world.got(&second);
    assert_eq!(got.len(), 1);
    // What the first one still says does not count.
    world.ack(&first, got[0].position);
    world.disconnect(&first);
    world.send(&a, user(2), "y").unwrap();
    assert_eq!(world.texts(&second), ["y"]);
    assert_eq!(world.metric("router_sessions"), 2);
}

#[test]
fn a_ninth_device_is_refused_and_known_ones_are_not() {
    let mut world = World::seeded(10);
    let gateway = world.gateway();
    let devices: Vec<_> = (1..=8)
        .map(|device| world.connect(gateway, user(1), device))
        .collect();
    world.disconnect(&devices[0]);
    assert_eq!(world.refused(gateway, user(1), 9), Code::TooManyDevices);
    world.connect(gateway, user(1), 1);
}

#[test]
fn one_message_is_one_record_for_all_connections_of_a_link() {
    let mut world = World::seeded(11);
    let (one, two) = (world.gateway(), world.gateway());
    let a = world.connect(one, user(1), 1);
    let others = [
        world.connect(one, user(2), 1),
        world.connect(one, user(2), 2),
        world.connect(two, user(2), 3),
    ];
    world.heard(one);
    world.heard(two);
    world.send(&a, user(2), "x").unwrap();
    let mut delivered = |link: Link| {
        let to: Vec<Vec<_>> = world.hear(link, |record| match record {
            FromRouter::Deliver(deliver) => Some(deliver.to.iter().map(|(to, _)| *to).collect()),
            _ => None,
        });
        let [mut to] = to.try_into().expect("one record");
        to.sort();
        to
    };
    assert_eq!(delivered(one), [others[0].connection, others[1].connection]);
    assert_eq!(delivered(two), [others[2].connection]);
}

#[test]
fn a_later_process_of_a_gateway_ends_the_sessions_of_the_earlier_and_is_not_ended_by_it() {
    let mut world = World::seeded(12);
    let hello = |epoch| {
        ToRouter::Hello(LinkHello {
            node: "restarts".into(),
            epoch,
            ..link_hello(LinkKind::Gateway)
        })
    };
    let (before, other) = (world.silent_link(), world.gateway());
    world.say(before, &[hello(5)]);
    world.connect(before, user(1), 1);
    world.connect(before, user(2), 1);
    let c = world.connect(other, user(3), 1);
    // Its first link may never be seen to end: the machine is gone.
    let after = world.silent_link();
    world.say(after, &[hello(6)]);
    world.settle();
    assert!(world.is_closed(before) && !world.is_closed(after) && !world.is_closed(other));
    assert_eq!(world.metric("router_sessions"), 1);
    // What the earlier one still had under way comes too late.
    let late = world.silent_link();
    let open = world.open_record(user(1), 1);
    world.say(late, &[hello(5), ToRouter::SessionOpen(open)]);
    world.settle();
    assert!(world.is_closed(late) && !world.is_closed(after));
    assert_eq!(world.metric("router_sessions"), 1);
    assert_eq!(world.metric("router_link_faults_total"), 0);
    let again = world.connect(after, user(1), 1);
    world.send(&c, user(1), "x").unwrap();
    assert_eq!(world.texts(&again), ["x"]);
}

#[test]
fn sessions_of_a_broken_link_end_and_those_of_others_stay() {
    let mut world = World::seeded(12);
    let (one, two) = (world.gateway(), world.gateway());
    let a = world.connect(one, user(1), 1);
    world.connect(two, user(2), 1);
    world.connect(two, user(3), 1);
    world.close_link(two);
    world.settle();
    assert_eq!(world.metric("router_sessions"), 1);
    assert_eq!(world.metric("router_links"), 1);
    world.send(&a, user(2), "x").unwrap();
    let b = world.connect(one, user(2), 1);
    assert_eq!(world.texts(&b), ["x"]);
}

/// Ticks without listening at the links, so that the pipes fill.
fn settle_deaf(world: &mut World) {
    let now = world.now;
    for _ in 0..1_000 {
        if !world.router().tick(now).unwrap().is_busy {
            return;
        }
    }
    panic!("the router never comes to rest");
}

#[test]
fn a_link_that_stands_still_keeps_state_and_loses_nothing() {
    let mut world = World::with(13, |config| {
        config.link_pipe_bytes = 64 << 10;
        config.link_backlog_bytes = 64 << 10;
    });
    let (fast, slow) = (world.gateway(), world.gateway());
    let a = world.connect(fast, user(1), 1);
    let b = world.connect_with_window(slow, user(2), 256);
    let mut expected = Vec::new();
    for n in 0..60 {
        let text = format!("{n} {}", "x".repeat(8_000));
        world.say_send(&a, user(2), &text);
        expected.push(text);
        settle_deaf(&mut world);
    }
    let waiting = world.metric("router_link_backlog_bytes");
    assert!(world.metric("router_link_refusals_total") > 0);
    assert!(waiting < 200 << 10, "{waiting} bytes wait");
    // Once the gateway listens again, and the device acks, everything comes, in order.
    let mut texts: Vec<String> = Vec::new();
    for _ in 0..60 {
        world.settle();
        let got = world.got(&b);
        texts.extend(got.iter().map(|got| got.text.clone()));
        if let Some(Got { position, .. }) = got.last() {
            world.ack(&b, *position);
        }
    }
    assert_eq!(texts, expected);
}

#[test]
fn a_link_that_stands_still_is_told_the_newest_of_each_watermark_later() {
    let mut world = World::with(16, |config| {
        config.link_pipe_bytes = 64 << 10;
        config.link_backlog_bytes = 64 << 10;
    });
    let (fast, slow) = (world.gateway(), world.gateway());
    let a = world.connect_with_window(slow, user(1), 256);
    let (b, c) = (world.connect(fast, user(2), 1), world.connect(fast, user(3), 1));
    for _ in 0..20 {
        world.send(&a, user(2), "x").unwrap();
    }
    let got = world.got(&b);
    world.heard(slow);
    // Fill the slow link, and let the receiver ack one by one meanwhile.
    let long = "x".repeat(9_000);
    for _ in 0..20 {
        world.say_send(&c, user(1), &long);
        settle_deaf(&mut world);
    }
    for Got { position, .. } in &got {
        let ack = b.ack_record(*position);
        world.say(fast, &[ToRouter::Ack(ack)]);
        world.advance(10);
        settle_deaf(&mut world);
    }
    world.settle();
    let seqs: Vec<u64> = world.updates(slow).iter().map(|update| update.seq.0).collect();
    assert_eq!(seqs, [20], "twenty acks, one of them told");
    assert_eq!(world.metric("router_status_updates_lost_total"), 0);
}

#[test]
fn a_link_that_is_owed_too_much_is_not_read_until_it_takes_some() {
    let mut world = World::with(14, |config| {
        config.link_pipe_bytes = 64 << 10;
        config.link_backlog_bytes = 64 << 10;
    });
    let (gateway, a) = world.one();
    world.send(&a, user(1), &"x".repeat(9_000)).unwrap();
    let mut asked = 0;
    for _ in 0..200 {
        let history = history_of(world.request(), 1, 1, 100);
        world.say(gateway, &[ToRouter::History(history)]);
        asked += 1;
        settle_deaf(&mut world);
    }
    let backlog = world.metric("router_link_backlog_bytes");
    assert!(backlog <= 150 << 10, "{backlog} bytes wait");
    // Nothing is lost: as the gateway listens, the rest is read and answered.
    let mut answered = 0;
    for _ in 0..300 {
        world.settle();
        answered += world
            .heard(gateway)
            .iter()
            .filter(|record| matches!(record, FromRouter::HistoryPage(_)))
            .count();
    }
    assert_eq!(answered, asked);
}

#[test]
fn a_busy_link_does_not_starve_another() {
    let mut world = World::with(15, |config| config.group_records_max = 8);
    let (busy, quiet) = (world.gateway(), world.gateway());
    let (a, c) = (world.connect(busy, user(1), 1), world.connect(quiet, user(3), 1));
    world.say_sends(&a, user(2), 0..500);
    let request = world.say_send(&c, user(4), "hello");
    let ticks = (1..).find(|_| {
        world.tick();
        world.outcome(quiet, request).is_some()
    });
    assert!(ticks.is_some_and(|ticks| ticks <= 2), "{ticks:?}");
}

#[test]
fn who_comes_back_while_the_last_ack_is_on_its_way_into_the_log_goes_on_behind_it() {
    let mut world = World::seeded(16);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "seen").unwrap();
    world.settle_acks();
    let position = world.got(&b)[0].position;
    let ack = b.ack_record(position);
    let session = b.session_ref();
    let send = world.send_record(&a, user(3), None, "shares the group");
    let leave = [
        ToRouter::Ack(ack),
        ToRouter::SessionClose(session),
        ToRouter::Send(send),
    ];
    world.say(gateway, &leave);
    world.step();
    let open = world.open_record(user(2), 1);
    let before = b.session;
    let (b, opened) = world.open(gateway, open);
    assert!(opened.session > before);
    assert_eq!(world.texts(&b), Vec::<String>::new(), "it was acked");
}
