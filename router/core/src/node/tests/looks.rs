//! A step costs by what happened, not by how many slots the node owns.

use wire_base::slots::Slot;

use super::world::*;
use crate::testing::user;
use crate::topology::{PartitionId, Topology};

const MANY: Topology = Topology::PartitionPerSlot {
    conversation_slots: 1_000,
    user_slots: 1_000,
};

#[test]
fn a_message_has_the_slots_looked_at_that_it_concerns_however_many_there_are() {
    let mut world = World::of_nodes(0);
    world.nodes.push(OfNode::with_topology(MANY, 1, world.now, 0));
    let slots = (0..1_000).map(Slot);
    world.take_all(
        0,
        slots.flat_map(|slot| [PartitionId::Conversation(slot), PartitionId::User(slot)]),
    );
    let looks = |world: &World| world.nodes[0].node.stats().partition_looks;
    assert_eq!(world.nodes[0].node.stats().partitions, 2_000);
    assert!(looks(&world) >= 2 * 2_000, "each was caught up");
    world.hello(0, 2);
    let session = session_of(&world.got(0)).unwrap();
    assert_ne!(MANY.of_user(user(1)), MANY.of_user(user(2)));

    let before = looks(&world);
    world.pass(0);
    assert_eq!(looks(&world), before, "nothing happened");
    world.send(0, 1, 2, 1);
    let got = world.got(0);
    assert_eq!(delivered(&got, 2), [1]);
    // Taken, appended, looked up, written, fanned out and that once more at each inbox: a few steps of three slots.
    let of_message = looks(&world) - before;
    assert!((6..=60).contains(&of_message), "{of_message} looks");

    // The ack waits, and is looked at when its time has come.
    let position = world.store.inbox.values().map(|row| row.position).max().unwrap();
    world.say(0, &ack(2, session, position));
    let before = looks(&world);
    for _ in 0..100 {
        world.pass(1);
    }
    let of_ack = looks(&world) - before;
    assert!((2..=60).contains(&of_ack), "{of_ack} looks in 100 steps");
    assert_eq!(world.nodes[0].node.stats().acks, 1);
    let due_ms = world.nodes[0].node.poll_timeout();
    assert_eq!(due_ms, None, "nothing is left to wait for");
}
