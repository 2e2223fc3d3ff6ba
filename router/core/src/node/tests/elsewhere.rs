//! What a record does to the partitions of others: once, in order, and whoever owns them.

use router_records::log::{FanoutInput, Input, Recipient};
use wire_base::code::Code;
use wire_base::ids::{Offset, Seq, UnixMs};
use wire_base::status::{Status, StatusCommand, StatusOf};
use wire_link::{FromRouter, RequestId, StatusRecord, ToRouter};

use super::world::*;
use crate::node::Intention;
use crate::testing::{self, connection, device, direct, user};
use crate::topology::PartitionId;

fn is_to_users(intention: &Intention) -> bool {
    matches!(intention, Intention::Append { id, .. } if matches!(id.to(), PartitionId::User(_)))
}

fn is_to_conversations(intention: &Intention) -> bool {
    matches!(intention, Intention::Append { id, .. } if matches!(id.to(), PartitionId::Conversation(_)))
}

/// Node 0 owns the conversation of users 1 and 2, node 1 owns the users, and both are connected there.
fn apart() -> World {
    let mut world = World::of_nodes(3);
    world.take_all(0, [of_direct(1, 2)]);
    world.take_all(1, [of_user(1), of_user(2)]);
    world.hello(1, 1);
    world.hello(1, 2);
    world
}

fn inbox_of(world: &World, of: u64) -> Vec<u64> {
    world.store.inbox_of(user(of)).map(|row| row.seq.0).collect()
}

#[test]
fn a_message_reaches_inboxes_of_other_nodes() {
    let mut world = apart();
    world.got(1);
    world.send(0, 1, 2, 1);
    world.send(0, 2, 1, 2);
    assert_eq!(world.sent(0), [(1, 1), (2, 2)]);
    assert_eq!(
        (inbox_of(&world, 1), inbox_of(&world, 2)),
        (vec![1, 2], vec![1, 2])
    );
    // The device that sent it gets no echo.
    let got = world.got(1);
    assert_eq!((delivered(&got, 1), delivered(&got, 2)), (vec![2], vec![1]));
    assert!(world.nodes[0].node.is_quiet() && world.nodes[1].node.is_quiet());
    assert_eq!(world.nodes[0].node.stats().sends, 2);
}

#[test]
fn a_message_leaves_for_inboxes_when_the_store_has_it() {
    let mut world = apart();
    world.holds = |intention| matches!(intention, Intention::Apply { .. });
    world.send(0, 1, 2, 1);
    assert_eq!(world.sent(0), [(1, 1)], "who sent it does not wait for that");
    assert!(inbox_of(&world, 2).is_empty());
    world.let_go();
    assert_eq!(inbox_of(&world, 2), [1]);
}

#[test]
fn a_fan_out_is_tried_again_and_nothing_is_done_before_it_is_in() {
    let mut world = apart();
    world.got(1);
    let log = of_direct(1, 2);
    world.holds = is_to_users;
    world.send(0, 1, 2, 1);
    world.send(0, 1, 2, 2);
    assert_eq!(world.sent(0), [(1, 1), (2, 2)]);
    world.fail_held_appends();
    assert_eq!(
        (world.flushed.get(&log), world.store.conversations.len()),
        (None, 0)
    );
    assert!(world.store.messages.len() == 2 && !world.nodes[0].node.is_quiet());
    world.holds = |_| false;
    assert!(world.nodes[0].node.poll_timeout().is_some());
    world.pass(1_000);
    assert_eq!(delivered(&world.got(1), 2), [1, 2]);
    assert_eq!(world.flushed[&log].through, Offset(1));
    assert_eq!(world.store.conversations[&direct(1, 2)].last_seq, Seq(2));
}

#[test]
fn a_later_effect_that_is_in_does_not_cover_an_earlier_one_that_is_not() {
    let mut world = apart();
    let log = of_direct(1, 2);
    assert_ne!(of_user(1), of_user(2), "the case needs two logs");
    world.holds = |intention| matches!(intention, Intention::Append { id, .. } if id.to() == of_user(2));
    world.send(0, 1, 2, 1);
    assert_eq!(inbox_of(&world, 1), [1]);
    assert_eq!(world.flushed.get(&log), None);
    world.let_go();
    assert_eq!(world.flushed[&log].through, Offset(0));
}

#[test]
fn the_next_owner_makes_a_fan_out_that_its_predecessor_did_not_hear_of() {
    let mut world = apart();
    world.got(1);
    let log = of_direct(1, 2);
    world.holds = is_to_users;
    world.send(0, 1, 2, 1);
    // One of the two is in, and nobody is told; the other one is not.
    let (id, group) = world.held_append();
    world.append(id.to(), &group);
    world.release(0, log);
    world.held.clear();
    world.holds = |_| false;
    world.take_all(2, [log]);
    assert_eq!((inbox_of(&world, 1), inbox_of(&world, 2)), (vec![1], vec![1]));
    assert_eq!(delivered(&world.got(1), 2), [1]);
    let fan_outs = [of_user(1), of_user(2)].map(|id| {
        let is_fan_out = |record: &&router_records::log::LogRecord| matches!(record.input, Input::Fanout(_));
        world.logs[&id].iter().filter(is_fan_out).count()
    });
    assert_eq!(fan_outs.iter().sum::<usize>(), 3, "one came twice");
    world.send(2, 1, 2, 2);
    assert_eq!(inbox_of(&world, 2), [1, 2]);
}

#[test]
fn an_entry_that_comes_again_after_a_takeover_of_the_user_is_dropped() {
    let mut world = apart();
    world.send(0, 1, 2, 1);
    world.send(0, 1, 2, 2);
    let again: Vec<_> = world.logs[&of_user(2)].clone();
    world.release(1, of_user(2));
    world.logs.get_mut(&of_user(2)).unwrap().extend(again);
    world.take_from_flushed(2, of_user(2));
    assert_eq!(inbox_of(&world, 2), [1, 2]);
    world.send(0, 1, 2, 3);
    assert_eq!(inbox_of(&world, 2), [1, 2, 3]);
}

#[test]
fn a_replay_of_what_the_store_has_already_makes_no_second_entry() {
    let mut world = apart();
    world.send(0, 1, 2, 1);
    let rows = world.store.clone();
    world.release(1, of_user(2));
    // The rows were written, and not what is done by them.
    world.flushed.remove(&of_user(2));
    world.take_all(2, [of_user(2)]);
    assert_eq!(world.store.inbox, rows.inbox);
}

#[test]
fn what_another_owner_has_stored_first_reaches_those_who_read_here() {
    let mut world = apart();
    world.take_all(2, [of_user(2)]);
    world.hello(2, 2);
    world.got(2);
    world.nodes[2].is_deaf = true;
    world.send(0, 1, 2, 1);
    assert_eq!(inbox_of(&world, 2), [1]);
    world.nodes[2].is_deaf = false;
    world.run();
    world.send(0, 1, 2, 2);
    assert_eq!(delivered(&world.got(2), 2), [1, 2]);
    assert_eq!(inbox_of(&world, 2), [1, 2]);
}

#[test]
fn what_an_inbox_lacks_before_a_message_is_read_first() {
    let mut world = apart();
    world.send(0, 1, 2, 1);
    world.holds = is_to_users;
    world.send(0, 1, 2, 2);
    world.send(0, 1, 2, 3);
    world.fail_held_appends();
    world.got(1);
    // Only the last one comes.
    let row = world.store.messages[&(direct(1, 2), Seq(3))].clone();
    let recipients = vec![Recipient {
        user: user(2),
        prev_seq: Seq(2),
    }];
    world.append_foreign(
        of_user(2),
        Input::Fanout(FanoutInput {
            message: row.message,
            origin: row.offset,
            recipients,
        }),
    );
    world.run();
    assert_eq!(inbox_of(&world, 2), [1, 2, 3]);
    assert_eq!(delivered(&world.got(1), 2), [2, 3]);
    world.holds = |_| false;
    world.pass(1_000); // And now those come that were late.
    assert_eq!(inbox_of(&world, 2), [1, 2, 3]);
}

#[test]
fn an_ack_moves_the_mark_of_a_conversation_elsewhere_and_its_sender_is_told() {
    let mut world = apart();
    world.got(1);
    world.hello(1, 2);
    let session = session_of(&world.got(1)).unwrap();
    world.send(0, 1, 2, 1);
    world.holds = is_to_conversations;
    let position = world.store.head(user(2)).unwrap();
    world.say(1, &ack(2, session, position));
    world.pass(10);
    let done = world.flushed[&of_user(2)];
    assert!(world.store.receipts.is_empty());
    world.let_go();
    world.pass(1_000);
    let row = &world.store.receipts[&(direct(1, 2), user(2))];
    assert_eq!((row.delivered, row.read), (Seq(1), Seq(0)));
    assert!(
        world.flushed[&of_user(2)].through > done.through,
        "an ack is done when its mark is in the other log"
    );
    let got = world.got(1);
    let told = got.iter().find_map(|record| match record {
        FromRouter::StatusUpdate(update) => Some((update.seq, update.to.clone())),
        _ => None,
    });
    assert_eq!(told, Some((Seq(1), vec![connection(1)])));
}

fn read(of: u64, number: u64) -> ToRouter {
    ToRouter::Status(StatusRecord {
        request: RequestId(99),
        user: user(of),
        device: device(1),
        command: StatusCommand {
            of: StatusOf::Message(id(number)),
            status: Status::Read,
        },
    })
}

#[test]
fn a_status_by_message_id_is_done_when_it_is_in_the_log_of_the_conversation() {
    let mut world = apart();
    world.send(0, 1, 2, 1);
    world.got(1);
    world.holds = is_to_conversations;
    world.say(1, &read(2, 1));
    world.fail_held_appends();
    assert!(world.got(1).is_empty());
    world.holds = |_| false;
    world.pass(1_000);
    let got = world.got(1);
    assert!(got.contains(&FromRouter::Done(RequestId(99))), "{got:?}");
    assert_eq!(world.store.receipts[&(direct(1, 2), user(2))].read, Seq(1));
}

#[test]
fn a_status_that_is_on_its_way_elsewhere_is_answered_when_its_slot_is_released() {
    let mut world = apart();
    world.send(0, 1, 2, 1);
    world.got(1);
    world.holds = is_to_conversations;
    world.say(1, &read(2, 1));
    world.release(1, of_user(2));
    world.run();
    let got = world.got(1);
    assert!(
        matches!(&got[..], [FromRouter::SessionRefused(_), FromRouter::Failed(failed)]
            if failed.code == Code::Unavailable),
        "{got:?}"
    );
    world.let_go(); // It comes into the log after all.
    assert!(!world.got(1).contains(&FromRouter::Done(RequestId(99))));
}

#[test]
fn log_time_goes_on_from_the_middle_of_a_log_whose_clocks_differ() {
    let mut world = World::of_nodes(2);
    let log = of_direct(1, 2);
    let start = world.now.unix;
    world.now.unix.0 += 50_000; // Somebody whose clock is ahead.
    world.append_foreign(log, Input::Send(testing::send(1, 2, id(1), "ahead")));
    world.now.unix = start;
    world.append_foreign(log, Input::Send(testing::send(1, 2, id(2), "behind")));
    world.take_all(0, all_of(1, 2));
    let expected = UnixMs(start.0 + 50_000);
    let times = |world: &World| {
        world
            .store
            .messages
            .values()
            .map(|row| row.message.timestamp)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&world), [expected, expected]);
    world.release(0, log);
    world.append_foreign(log, Input::Send(testing::send(1, 2, id(3), "behind again")));
    world.take_from_flushed(1, log);
    assert_eq!(times(&world), [expected; 3]);
}

#[test]
fn the_next_owner_gives_higher_session_numbers_whatever_its_clock_says() {
    let mut world = World::of_nodes(1);
    let late = OfNode::new(7, world.now, 60_000);
    world.nodes.push(late);
    world.take_all(0, [of_user(1)]);
    world.hello(0, 1);
    world.pass(5_000);
    world.hello(0, 1);
    let got = world.got(0);
    let newest = got.iter().filter_map(|record| match record {
        FromRouter::SessionOpened(opened) => Some(opened.session),
        _ => None,
    });
    let newest = newest.max().unwrap();
    world.release(0, of_user(1));
    world.take_all(1, [of_user(1)]);
    world.hello(1, 1);
    assert!(session_of(&world.got(1)).unwrap() > newest);
}
