//! A log that several append to: each record is folded in its place, once.

use router_records::log::Input;
use wire_base::ids::{Offset, Seq};
use wire_link::FromRouter;

use super::world::*;
use crate::node::{Intention, Offsets};
use crate::testing::{self, direct};

fn holds_appends(intention: &Intention) -> bool {
    matches!(intention, Intention::Append { .. })
}

fn foreign(number: u64) -> Input {
    Input::Send(testing::send(2, 1, id(number), "of another owner"))
}

#[test]
fn an_own_record_that_is_the_next_one_is_folded_without_the_consumer() {
    let mut world = World::of_one();
    world.nodes[0].is_deaf = true;
    world.send(0, 1, 2, 1);
    assert_eq!(world.sent(0), [(1, 1)]);
    world.nodes[0].is_deaf = false;
    world.run();
    // The consumer's copy is compared and dropped.
    assert_eq!(world.store.messages.len(), 1);
    world.send(0, 1, 2, 2);
    assert_eq!(world.sent(0), [(2, 2)]);
}

#[test]
fn own_records_between_those_of_others_wait_for_them() {
    let mut world = World::of_one();
    let log = of_direct(1, 2);
    world.nodes[0].is_deaf = true;
    world.holds = holds_appends;
    world.nodes[0].say(&[send(1, 2, 1), send(1, 2, 2)]);
    world.run();
    let (id, group) = world.held_append();
    let own: Vec<_> = records_of(&group).collect();
    world.append_foreign(log, foreign(11));
    world.logs.get_mut(&log).unwrap().push(own[0].clone());
    world.append_foreign(log, foreign(12));
    world.logs.get_mut(&log).unwrap().push(own[1].clone());
    let offsets = Offsets::Each(vec![Offset(1), Offset(3)]);
    world.nodes[0].node.handle_appended(id, Ok(appended(offsets)));
    world.run();
    assert!(world.got(0).is_empty(), "what lies before them is not known");
    world.nodes[0].is_deaf = false;
    world.holds = |_| false;
    world.run();
    assert_eq!(world.sent(0), [(1, 2), (2, 4)]);
    assert_eq!(world.store.messages_of(direct(1, 2)).count(), 4);
}

#[test]
fn a_whole_group_behind_a_record_of_another_waits_for_that_one() {
    let mut world = World::of_one();
    let log = of_direct(1, 2);
    world.nodes[0].is_deaf = true;
    world.append_foreign(log, foreign(11));
    world.send(0, 1, 2, 1);
    assert!(world.got(0).is_empty(), "what lies before it is not known");
    world.nodes[0].is_deaf = false;
    world.run();
    assert_eq!(world.sent(0), [(1, 2)]);
    assert_eq!(world.store.messages_of(direct(1, 2)).count(), 2);
}

#[test]
fn what_the_consumer_brings_before_the_report_is_not_folded_twice() {
    let mut world = World::of_one();
    world.holds = holds_appends;
    world.send(0, 1, 2, 1);
    let (id, group) = world.held_append();
    let first = world.append(id.to(), &group);
    world.run(); // The consumer brings it.
    assert!(world.got(0).is_empty());
    world.nodes[0]
        .node
        .handle_appended(id, Ok(appended(Offsets::From(first))));
    world.run();
    assert_eq!(world.sent(0), [(1, 1)]);
    assert_eq!(world.store.messages.len(), 1);
}

#[test]
fn a_group_of_unknown_fate_is_folded_if_the_log_has_it() {
    let mut world = World::of_one();
    world.holds = holds_appends;
    world.send(0, 1, 2, 1);
    let Some((0, Intention::Append { group, .. })) = world.held.front() else {
        panic!("a group is appended");
    };
    let group = group.clone();
    world.append(of_direct(1, 2), &group);
    world.fail_held_appends();
    assert!(matches!(&world.got(0)[..], [FromRouter::Rejected(_)]));
    assert_eq!(world.store.messages.len(), 1);
    world.holds = |_| false;
    world.pass(5_000);
    world.send(0, 1, 2, 1); // Repeated, as it was told to.
    let got = world.got(0);
    assert!(
        matches!(&got[..], [FromRouter::Sent(sent)] if sent.duplicate && sent.seq == Seq(1)),
        "{got:?}"
    );
}

#[test]
fn records_that_come_without_those_before_them_are_asked_for_again() {
    let mut world = World::of_one();
    let log = of_direct(1, 2);
    world.nodes[0].is_deaf = true;
    world.append_foreign(log, foreign(11));
    world.append_foreign(log, foreign(12));
    let second = world.logs[&log][1..].to_vec();
    world.nodes[0].node.handle_consumed(log, Offset(1), second);
    world.run();
    assert_eq!(world.store.messages.len(), 0);
    assert_eq!(world.nodes[0].node.stats().gaps, 1);
    world.nodes[0].is_deaf = false;
    world.run();
    assert_eq!(world.store.messages_of(direct(1, 2)).count(), 2);
}

#[test]
fn a_log_that_holds_something_else_than_it_reported_is_given_up() {
    let mut world = World::of_one();
    let log = of_direct(1, 2);
    world.nodes[0].is_deaf = true;
    world.send(0, 1, 2, 1);
    world.logs.get_mut(&log).unwrap().clear();
    world.append_foreign(log, foreign(11));
    world.nodes[0].is_deaf = false;
    world.run();
    assert_eq!(world.nodes[0].given_up, [log]);
    world.got(0);
    world.send(0, 1, 2, 2);
    assert!(matches!(&world.got(0)[..], [FromRouter::Rejected(_)]));
}
