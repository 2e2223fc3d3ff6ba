//! Acks, statuses, and who is told.

use router_core::testing::{direct, user};
use wire_base::code::Code;
use wire_base::ids::{DeviceId, Seq};
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};
use wire_link::{ConversationsRecord, FromRouter, StatusRecord, ToRouter};

use crate::world::{World, unknown_conversation};

#[test]
fn an_ack_is_a_delivered_for_the_sender() {
    let mut world = World::seeded(1);
    let (gateway, a, b) = world.two();
    let sent: Vec<_> = ["x", "y", "z"]
        .map(|text| world.send(&a, user(2), text).unwrap())
        .into();
    let got = world.got(&b);
    world.ack(&b, got[1].position);
    let [update] = world.updates(gateway).try_into().unwrap();
    assert_eq!(
        (update.user, update.status, update.seq),
        (user(2), Status::Delivered, Seq(2))
    );
    assert_eq!(
        (update.conversation, update.message_id),
        (sent[1].conversation, sent[1].message_id)
    );
    assert_eq!(update.to, [a.connection]);
    // Said again it is no news, and neither is an ack beyond what was sent.
    world.ack(&b, got[1].position);
    let beyond = wire_base::ids::Position {
        index: got[2].position.index + 7,
        ..got[2].position
    };
    world.ack(&b, beyond);
    assert_eq!(world.updates(gateway), []);
}

#[test]
fn acks_of_many_devices_share_one_group() {
    let mut world = World::seeded(2);
    let (gateway, a) = world.one();
    let devices: Vec<_> = (1..=8)
        .map(|device| world.connect(gateway, user(2), device))
        .collect();
    world.send(&a, user(2), "x").unwrap();
    let position = world.got(&devices[0])[0].position;
    let groups = world.metric("router_groups_total");
    let acks: Vec<_> = devices
        .iter()
        .map(|device| ToRouter::Ack(device.ack_record(position)))
        .collect();
    world.say(gateway, &acks);
    world.settle_acks();
    assert_eq!(world.metric("router_groups_total"), groups + 1);
    assert_eq!(world.metric("router_acks_total"), 8);
    assert_eq!(
        world.updates(gateway).len(),
        1,
        "the first device that has it decides"
    );
}

#[test]
fn steady_sends_do_not_hold_up_acks() {
    let mut world = World::with(7, |config| config.group_records_max = 4);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "x").unwrap();
    let position = world.got(&b)[0].position;
    let mut records: Vec<_> = (0..200)
        .map(|_| ToRouter::Send(world.send_record(&a, user(3), None, "flood")))
        .collect();
    let ack = b.ack_record(position);
    records.insert(0, ToRouter::Ack(ack));
    world.say(gateway, &records);
    let ticks = (1..).find(|_| {
        world.advance(1);
        assert!(world.step().is_busy, "every group is full");
        !world.updates(gateway).is_empty()
    });
    assert!(ticks.is_some_and(|ticks| ticks <= 10), "{ticks:?}");
}

#[test]
fn a_read_implies_delivered_and_is_told_to_the_readers_other_devices() {
    let mut world = World::seeded(3);
    let (gateway, a) = world.one();
    let (b, other) = (
        world.connect(gateway, user(2), 1),
        world.connect(gateway, user(2), 2),
    );
    let sent = world.send(&a, user(2), "x").unwrap();
    let status = StatusOf::Message(sent.message_id);
    world
        .status(gateway, user(2), b.device, Status::Read, status)
        .unwrap();
    let [update] = world.updates(gateway).try_into().unwrap();
    let mut to = update.to.clone();
    to.sort();
    let mut expected = [a.connection, other.connection];
    expected.sort();
    assert_eq!(
        (update.status, update.seq, to),
        (Status::Read, Seq(1), expected.to_vec())
    );
    let page = world
        .history(gateway, user(1), sent.conversation, None, 10)
        .unwrap();
    assert_eq!((page.delivered, page.read), (Seq(1), Seq(1)));
    // Again, and delivered after read: nothing moves.
    world
        .status(gateway, user(2), b.device, Status::Read, status)
        .unwrap();
    world
        .status(gateway, user(2), b.device, Status::Delivered, status)
        .unwrap();
    assert_eq!(world.updates(gateway), []);
}

#[test]
fn a_status_reaches_at_most_the_last_seq() {
    let mut world = World::seeded(4);
    let (gateway, a, b) = world.two();
    world.send(&a, user(2), "x").unwrap();
    let last = world.send(&a, user(2), "y").unwrap();
    let of = StatusOf::Seq(last.conversation, Seq(99));
    world
        .status(gateway, user(2), b.device, Status::Delivered, of)
        .unwrap();
    let [update] = world.updates(gateway).try_into().unwrap();
    assert_eq!((update.seq, update.message_id), (Seq(2), last.message_id));
}

#[test]
fn a_seq_means_the_newest_message_up_to_it_that_the_user_received() {
    let mut world = World::seeded(14);
    let (gateway, a, b) = world.two();
    let own = world.send(&b, user(1), "1").unwrap();
    let status = |world: &mut World, seq| {
        let of = StatusOf::Seq(own.conversation, Seq(seq));
        let outcome = world.status(gateway, user(2), b.device, Status::Delivered, of);
        let seqs: Vec<_> = world.updates(gateway).iter().map(|update| update.seq.0).collect();
        outcome.map(|_| seqs)
    };
    assert_eq!(status(&mut world, 1), Err(Code::Forbidden), "all is own");
    world.send(&a, user(2), "2").unwrap();
    for _ in 0..70 {
        world.send(&b, user(1), "3 to 72").unwrap();
    }
    assert_eq!(
        status(&mut world, 1),
        Err(Code::Forbidden),
        "what came later does not count"
    );
    assert_eq!(status(&mut world, 72), Ok(vec![2]));
    world.send(&a, user(2), "73").unwrap();
    assert_eq!(status(&mut world, 72), Ok(vec![]), "again, looked up");
    assert_eq!(status(&mut world, 80), Ok(vec![73]));
}

#[test]
fn what_is_asked_right_after_a_status_shows_it() {
    let mut world = World::seeded(15);
    let (gateway, a) = world.one();
    let sent = world.send(&a, user(2), "x").unwrap();
    let status = StatusRecord {
        request: world.request(),
        user: user(2),
        device: DeviceId::new(1).unwrap(),
        command: StatusCommand {
            status: Status::Read,
            of: StatusOf::Message(sent.message_id),
        },
    };
    let read = ConversationsRecord {
        request: world.request(),
        user: user(2),
        limit: 10,
        before: None,
    };
    let of_another = ConversationsRecord {
        request: world.request(),
        user: user(1),
        ..read.clone()
    };
    let (own, other) = (read.request, of_another.request);
    let asked = [
        ToRouter::Status(status),
        ToRouter::Conversations(read),
        ToRouter::Conversations(of_another),
    ];
    world.say(gateway, &asked);
    world.settle();
    let pages = world.hear(gateway, |record| match record {
        FromRouter::ConversationsPage(page) => Some((page.request, page.conversations[0].unread)),
        _ => None,
    });
    assert_eq!(pages, [(other, 0), (own, 0)], "nobody else waits for it");
}

#[test]
fn a_status_of_what_the_user_did_not_receive_is_forbidden() {
    let mut world = World::seeded(5);
    let (gateway, a) = world.one();
    let c = world.connect(gateway, user(3), 1);
    let sent = world.send(&a, user(2), "x").unwrap();
    let unknown = world.new_id();
    let device = DeviceId::new(1).unwrap();
    for (who, of) in [
        (a.user, StatusOf::Message(sent.message_id)),
        (c.user, StatusOf::Message(sent.message_id)),
        (user(2), StatusOf::Message(unknown)),
        (c.user, StatusOf::Seq(sent.conversation, Seq(1))),
        (user(2), StatusOf::Seq(unknown_conversation(), Seq(1))),
    ] {
        let refused = world.status(gateway, who, device, Status::Read, of);
        assert_eq!(refused, Err(Code::Forbidden), "{who:?} {of:?}");
    }
    assert_eq!(world.updates(gateway), []);
}

#[test]
fn unread_counts_what_others_sent_after_the_own_read_and_send() {
    let mut world = World::seeded(6);
    let (gateway, a, b) = world.two();
    let unread = |world: &mut World| {
        let page = world.conversations(gateway, user(2), 10, None).unwrap();
        page.conversations[0].unread
    };
    for text in ["1", "2", "3"] {
        world.send(&a, user(2), text).unwrap();
    }
    assert_eq!(unread(&mut world), 3);
    let of = StatusOf::Seq(direct(1, 2), Seq(2));
    world
        .status(gateway, user(2), b.device, Status::Read, of)
        .unwrap();
    assert_eq!(unread(&mut world), 1);
    world.send(&b, user(1), "4").unwrap();
    assert_eq!(unread(&mut world), 0);
    world.send(&a, user(2), "5").unwrap();
    assert_eq!(unread(&mut world), 1);
}

#[test]
fn acks_and_new_devices_wait_for_company_until_the_process_is_about_to_end() {
    let mut world = World::with(9, |config| config.ack_linger_ms = 100);
    let (gateway, a, b) = world.two();
    assert_eq!(world.metric("router_groups_total"), 0, "nobody waits for them");
    world.pass(10);
    assert_eq!(world.metric("router_groups_total"), 1);
    assert_eq!(world.metric("router_records_total"), 2);

    world.send(&a, user(2), "x").unwrap();
    let position = world.got(&b)[0].position;
    let ack = b.ack_record(position);
    world.say(gateway, &[ToRouter::Ack(ack)]);
    world.pass(99);
    assert_eq!(world.metric("router_acks_total"), 0);
    assert!(world.updates(gateway).is_empty());
    world.router().stop_lingering();
    world.settle();
    assert_eq!(world.metric("router_acks_total"), 1);
    assert_eq!(world.updates(gateway).len(), 1);
}
