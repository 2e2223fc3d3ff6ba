//! Who owns a slot serves it, nobody else, and not before everything that its log has is folded.

use wire_base::code::Code;
use wire_base::ids::{Offset, Position};
use wire_link::{FromRouter, RequestId, SessionOpen, ToRouter};

use super::world::*;
use crate::node::Intention;
use crate::testing::{connection, history_of, session_open, user};

#[test]
fn what_belongs_to_a_slot_of_another_node_is_refused_at_once() {
    let mut world = World::of_nodes(1);
    world.send(0, 1, 2, 7);
    world.hello(0, 1);
    let got = world.got(0);
    assert!(
        matches!(&got[..], [FromRouter::Rejected(send), FromRouter::SessionRefused(hello)]
            if send.code == Code::Unavailable && send.retry_after_ms.is_some() && hello.code == Code::Unavailable),
        "{got:?}"
    );
    assert_eq!(world.nodes[0].node.stats().not_owned, 2);
    assert!(world.logs.values().all(Vec::is_empty));
}

#[test]
fn a_slot_that_was_released_is_no_longer_served() {
    let mut world = World::of_one();
    world.send(0, 1, 2, 1);
    assert_eq!(world.sent(0), [(1, 1)]);
    world.release(0, of_direct(1, 2));
    world.send(0, 1, 2, 2);
    assert!(matches!(&world.got(0)[..], [FromRouter::Rejected(_)]));
    assert_eq!(world.logs[&of_direct(1, 2)].len(), 1);
}

#[test]
fn whoever_waits_for_a_slot_is_answered_when_it_is_released_and_nobody_twice() {
    let mut world = World::of_one();
    world.holds = |intention| matches!(intention, Intention::Append { .. });
    world.send(0, 1, 2, 1);
    world.send(0, 1, 2, 2); // Gathered behind the one that is being appended.
    assert!(world.got(0).is_empty());
    world.release(0, of_direct(1, 2));
    world.run();
    let got = world.got(0);
    let is_unavailable =
        |record: &FromRouter| matches!(record, FromRouter::Rejected(of) if of.code == Code::Unavailable);
    assert!(got.len() == 2 && got.iter().all(is_unavailable), "{got:?}");
    world.let_go();
    assert!(world.got(0).is_empty());
}

#[test]
fn a_report_of_an_earlier_ownership_is_not_taken_for_one_of_this() {
    let mut world = World::of_one();
    world.holds = |intention| matches!(intention, Intention::Append { .. });
    world.send(0, 1, 2, 1);
    world.release(0, of_direct(1, 2));
    world.take_all(0, [of_direct(1, 2)]);
    world.got(0);
    world.send(0, 1, 2, 2);
    let (_, second) = world.held.pop_back().unwrap();
    world.let_go();
    // The first group is in the log by now, and folded from there; the second is not.
    assert!(world.got(0).is_empty());
    world.carry_out(0, second);
    world.run();
    assert_eq!(world.sent(0), [(2, 2)]);
}

#[test]
fn a_new_owner_serves_nothing_before_it_has_folded_what_the_log_had() {
    let mut world = World::of_nodes(2);
    world.take_all(0, all_of(1, 2));
    for number in 1..=3 {
        world.send(0, 1, 2, number);
    }
    world.release(0, of_direct(1, 2));
    world.release(0, of_user(2));
    world.nodes[1].is_deaf = true;
    world.take_all(1, [of_direct(1, 2), of_user(2)]);
    world.send(1, 1, 2, 4);
    world.hello(1, 2);
    let got = world.got(1);
    assert!(
        matches!(&got[..], [FromRouter::Rejected(send)] if send.code == Code::Unavailable),
        "the hello waits: {got:?}"
    );
    world.nodes[1].is_deaf = false;
    world.run();
    assert!(session_of(&world.got(1)).is_some());
    // What came in the last minutes is known, and what is new goes on behind it.
    world.send(1, 1, 2, 3);
    world.send(1, 1, 2, 4);
    let got = world.got(1);
    let sent = got.iter().filter_map(|record| match record {
        FromRouter::Sent(sent) => Some((sent.request.0, sent.seq.0, sent.duplicate)),
        _ => None,
    });
    assert_eq!(sent.collect::<Vec<_>>(), [(3, 3, true), (4, 4, false)]);
}

#[test]
fn a_hello_that_waits_is_refused_when_its_slot_goes() {
    let mut world = World::of_nodes(1);
    world.nodes[0].is_deaf = true;
    world.take_all(0, [of_user(1)]);
    world.hello(0, 1);
    assert!(world.got(0).is_empty());
    world.release(0, of_user(1));
    world.run();
    assert!(matches!(&world.got(0)[..], [FromRouter::SessionRefused(_)]));
}

#[test]
fn a_question_that_waits_is_answered_when_its_slot_goes_though_it_is_taken_again() {
    let mut world = World::of_one();
    for number in 1..=3 {
        world.send(0, 1, 2, number);
    }
    world.got(0);
    world.holds = |intention| matches!(intention, Intention::Append { .. });
    world.send(0, 1, 2, 4);
    world.say(0, &ToRouter::History(history_of(RequestId(99), 1, 2, 10))); // Behind the send.
    world.release(0, of_direct(1, 2));
    world.take_all(0, [of_direct(1, 2)]);
    let got = world.got(0);
    assert!(
        matches!(&got[..], [FromRouter::Rejected(_), FromRouter::Failed(failed)]
            if failed.code == Code::Unavailable),
        "{got:?}"
    );
}

#[test]
fn a_session_is_told_when_its_slot_goes() {
    let mut world = World::of_nodes(1);
    world.take_all(0, [of_user(1)]);
    world.hello(0, 1);
    assert!(session_of(&world.got(0)).is_some());
    world.release(0, of_user(1));
    // Nobody else owns it in between, so that its gateway has no cause to announce the session again.
    world.take_all(0, [of_user(1)]);
    let got = world.got(0);
    assert!(
        matches!(&got[..], [FromRouter::SessionRefused(refused)] if refused.connection == connection(1)),
        "{got:?}"
    );
}

#[test]
fn a_position_that_another_owner_gave_is_waited_for_and_one_that_nobody_gave_is_not() {
    let mut world = World::of_nodes(2);
    world.take_all(0, all_of(1, 2));
    world.take_all(1, [of_user(2)]);
    world.nodes[1].is_deaf = true;
    world.send(0, 1, 2, 1);
    let known = world.store.head(user(2)).unwrap();
    let open = session_open(2, 2, 1);
    let with = |position| {
        ToRouter::SessionOpen(SessionOpen {
            cursor: Some(position),
            ..open
        })
    };
    world.say(1, &with(known));
    assert!(world.got(1).is_empty());
    world.nodes[1].is_deaf = false;
    world.run();
    let resync = |got: Vec<FromRouter>| match &got[0] {
        FromRouter::SessionOpened(opened) => opened.resync.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(!resync(world.got(1)));
    let invented = Position {
        offset: Offset(1_000),
        ..known
    };
    world.say(1, &with(invented));
    assert!(resync(world.got(1)));
}
