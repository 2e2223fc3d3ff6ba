//! A send and its answer.

use router_core::testing::{direct, link_hello, other_message_id, page_texts, send_of, user};
use wire_base::code::Code;
use wire_base::ids::{DeviceId, Seq};
use wire_base::message::Target;
use wire_link::{FromRouter, LinkHello, LinkKind, SendRecord, ToRouter};

use crate::world::World;

#[test]
fn a_message_gets_dense_seqs_and_reaches_the_receiver_and_the_senders_other_devices() {
    let mut world = World::seeded(1);
    let (gateway, phone, peer) = world.two();
    let laptop = world.connect(gateway, user(1), 2);
    for (n, text) in ["a", "b", "c"].into_iter().enumerate() {
        let sent = world.send(&phone, user(2), text).unwrap();
        assert_eq!(sent.seq.0, n as u64 + 1);
        assert_eq!(sent.conversation, direct(1, 2));
        assert!(!sent.duplicate);
    }
    assert_eq!(world.texts(&peer), ["a", "b", "c"]);
    assert_eq!(world.texts(&laptop), ["a", "b", "c"]);
    assert_eq!(world.texts(&phone), Vec::<String>::new());
}

#[test]
fn both_members_share_one_order() {
    let mut world = World::seeded(2);
    let (gateway, a, b) = world.two();
    let sends: Vec<SendRecord> = (0..40)
        .map(|n| {
            let (from, to) = if n % 2 == 0 { (&a, user(2)) } else { (&b, user(1)) };
            world.send_record(from, to, None, &n.to_string())
        })
        .collect();
    let records: Vec<_> = sends.iter().cloned().map(ToRouter::Send).collect();
    world.say(gateway, &records);
    world.settle();
    let seqs: Vec<_> = sends
        .iter()
        .map(|send| world.outcome(gateway, send.request).unwrap().unwrap().seq.0)
        .collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    let odd = |n: &u32| n % 2 == 1;
    assert_eq!(
        world.texts(&a),
        (0..40).filter(odd).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(
        world.texts(&b),
        (0..40)
            .filter(|n| !odd(n))
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
    );
    assert_eq!(
        world.metric("router_groups_total"),
        3,
        "two devices, and one group for all sends"
    );
}

#[test]
fn a_message_to_oneself_reaches_the_own_other_devices_once() {
    let mut world = World::seeded(3);
    let (gateway, phone) = world.one();
    let laptop = world.connect(gateway, user(1), 2);
    world.send(&phone, user(1), "note").unwrap();
    assert_eq!(world.texts(&laptop), ["note"]);
    assert_eq!(world.texts(&phone), Vec::<String>::new());
}

#[test]
fn a_send_costs_one_write_and_one_sync_and_is_answered_in_the_same_tick() {
    let mut world = World::seeded(4);
    let (gateway, a, b) = world.two();
    let request = world.say_send(&a, user(2), "x");
    let before = world.disk.operations();
    world.tick();
    assert_eq!(world.disk.operations() - before, 2);
    assert!(world.outcome(gateway, request).unwrap().is_ok());
    assert_eq!(world.texts(&b), ["x"]);
}

#[test]
fn nothing_is_said_of_a_message_whose_write_or_sync_did_not_end() {
    for operations in 0..2 {
        let mut world = World::seeded(4);
        let (gateway, a, _b) = world.two();
        world.heard(gateway);
        world.say_send(&a, user(2), "x");
        world.disk.crash_at(operations);
        assert!(world.try_tick().is_err());
        assert_eq!(world.heard(gateway), []);
    }
}

#[test]
fn nothing_is_said_of_a_message_that_the_store_does_not_have_yet() {
    let mut world = World::seeded(4);
    let (gateway, a, _b) = world.two();
    world.heard(gateway);
    world.say_send(&a, user(2), "x");
    world.kv.crash_at(0);
    assert!(world.try_tick().is_err());
    assert_eq!(world.heard(gateway), []);
}

#[test]
fn a_repeated_send_gets_the_first_answer_and_is_delivered_once() {
    let mut world = World::seeded(5);
    let (gateway, a, b) = world.two();
    let id = world.new_id();
    let first = world.send_with_id(&a, user(2), id, "x").unwrap();
    world.advance(5_000);
    let second = world.send_with_id(&a, user(2), id, "x").unwrap();
    assert!(second.duplicate && !first.duplicate);
    assert_eq!(
        (second.seq, second.timestamp, second.message_id),
        (first.seq, first.timestamp, id)
    );
    assert_eq!(world.texts(&b), ["x"]);
    assert_eq!(world.metric("router_duplicates_total"), 1);
    assert_eq!(world.metric("router_sends_total"), 1);
    // Two of the same in one group, and ids that say nothing of their time.
    let records: Vec<_> = (0..2)
        .map(|_| ToRouter::Send(world.send_record(&a, user(2), Some(other_message_id(9)), "y")))
        .collect();
    world.say(gateway, &records);
    world.settle();
    assert_eq!(world.texts(&b), ["y"]);
    let sent = world.hear(gateway, |record| match record {
        FromRouter::Sent(sent) => Some((sent.seq.0, sent.duplicate)),
        _ => None,
    });
    assert_eq!(sent, [(2, false), (2, true)]);
}

#[test]
fn the_same_id_with_other_content_is_a_conflict_and_elsewhere_another_message() {
    let mut world = World::seeded(6);
    let (_, a, b) = world.two();
    let id = world.new_id();
    world.send_with_id(&a, user(2), id, "x").unwrap();
    let refused = world.send_with_id(&a, user(2), id, "y").unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    assert!(refused.reason.contains("message_id"), "{}", refused.reason);
    let other = world.send_with_id(&a, user(3), id, "y").unwrap();
    assert_eq!((other.seq.0, other.duplicate), (1, false));
    let other_sender = world.send_with_id(&b, user(1), id, "z").unwrap();
    assert_eq!((other_sender.seq.0, other_sender.duplicate), (2, false));
}

#[test]
fn a_send_without_an_id_gets_one_that_carries_the_time() {
    let mut world = World::seeded(7);
    let (gateway, a) = world.one();
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let request = world.say_send(&a, user(2), "x");
            world.settle();
            world.outcome(gateway, request).unwrap().unwrap().message_id
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0].unix_ms(), Some(world.now.unix.0));
}

#[test]
fn an_id_from_the_future_and_one_from_long_ago_are_refused_before_the_log() {
    let mut world = World::seeded(8);
    let (_, a) = world.one();
    let records = world.metric("router_records_total");
    let now = world.now;
    for (offset_ms, is_good) in [(61_000, false), (59_000, true), (-29 * 86_400_000 - 1_000, false)] {
        world.now.unix.0 = now.unix.0.wrapping_add_signed(offset_ms);
        let id = world.new_id();
        world.now.unix = now.unix;
        let outcome = world.send_with_id(&a, user(2), id, "x");
        assert_eq!(
            outcome.as_ref().err().map(|refused| refused.code),
            (!is_good).then_some(Code::BadRequest)
        );
    }
    assert_eq!(world.metric("router_records_total"), records + 1);
}

#[test]
fn who_sends_faster_than_allowed_is_told_when_to_try_again() {
    let mut world = World::with(9, |config| {
        config.sends_per_s = Some(2);
        config.sends_burst = 3;
    });
    let (_, a, b) = world.two();
    for _ in 0..3 {
        world.send(&a, user(2), "x").unwrap();
    }
    let refused = world.send(&a, user(2), "x").unwrap_err();
    assert_eq!(refused.code, Code::RateLimited);
    assert_eq!(refused.retry_after_ms, Some(500));
    world.send(&b, user(1), "another user is not held up").unwrap();
    world.advance(500);
    world.send(&a, user(2), "x").unwrap();
}

#[test]
fn a_send_over_http_is_echoed_to_every_device_of_the_sender() {
    let mut world = World::seeded(10);
    let gateway = world.gateway();
    let api = world.link_of(LinkKind::Api);
    let phone = world.connect(gateway, user(1), 1);
    let send = send_of(world.request(), (1, DeviceId::API), 2, None, "by http");
    world.say(api, &[ToRouter::Send(send.clone())]);
    world.settle();
    assert!(world.outcome(api, send.request).unwrap().is_ok());
    assert_eq!(world.texts(&phone), ["by http"]);
}

#[test]
fn a_group_takes_no_more_than_its_bounds_and_the_rest_follows() {
    let mut world = World::with(11, |config| config.group_records_max = 10);
    let (gateway, a) = world.one();
    world.send(&a, user(2), "first").unwrap();
    let groups = world.metric("router_groups_total");
    world.heard(gateway);
    world.say_sends(&a, user(2), 0..35);
    while world.hear(gateway, |_| Some(())).is_empty() {
        assert!(world.step().is_busy);
    }
    assert_eq!(world.metric("router_sends_total"), 11, "the first group alone");
    world.settle();
    assert_eq!(world.metric("router_groups_total") - groups, 4);
    let page = world.history(gateway, user(1), direct(1, 2), None, 100).unwrap();
    assert_eq!(page_texts(&page).len(), 36);
}

#[test]
fn a_link_that_breaks_the_rules_is_closed_and_others_are_not() {
    let mut world = World::seeded(12);
    let (_, a) = world.one();

    let silent = world.silent_link();
    let send = world.send_record(&a, user(2), None, "before hello");
    world.say(silent, &[ToRouter::Send(send)]);
    let stale = world.silent_link();
    let hello = LinkHello {
        version: 99,
        ..link_hello(LinkKind::Gateway)
    };
    world.say(stale, &[ToRouter::Hello(hello)]);
    let api = world.link_of(LinkKind::Api);
    let open = world.open_record(user(3), 1);
    world.say(api, &[ToRouter::SessionOpen(open)]);
    let garbled = world.gateway();
    world.say_bytes(garbled, bytes::Bytes::from_static(&[9, 0, 0, 0, 1]));
    world.settle();
    for link in [silent, stale, api, garbled] {
        assert!(world.is_closed(link), "{link:?}");
    }
    assert_eq!(world.metric("router_link_faults_total"), 4);
    assert_eq!(world.metric("router_links"), 1);
    world.send(&a, user(2), "still here").unwrap();
}

#[test]
fn a_send_to_a_group_is_refused_as_to_one_that_the_sender_is_no_member_of() {
    let mut world = World::seeded(12);
    let (gateway, a) = world.one();
    let own = world.send(&a, user(2), "first").unwrap().conversation;
    for group in [direct(8, 9), own] {
        let mut send = world.send_record(&a, user(2), None, "to a group");
        send.draft.target = Target::Group(group);
        world.say(gateway, &[ToRouter::Send(send.clone())]);
        world.settle();
        let refused = world.outcome(gateway, send.request).unwrap().unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Forbidden, "group_id: not a group of this user")
        );
    }
    assert_eq!(world.send(&a, user(2), "second").unwrap().seq, Seq(2));
}
