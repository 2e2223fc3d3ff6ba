//! Slots of two routers: one is lost and the other kept, and slots that change their owner.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use wire_base::message::Target;
use wire_link::SentRecord;

use super::*;
use crate::limits::{ANSWER_MS_MAX, LINK_BYTES_MAX};
use crate::routes::{RouterId, Routes};
use crate::testing::OTHER;
use crate::testing::frame;
use wire_base::slots::Slot;

const A: RouterId = RouterId(0);
const B: RouterId = RouterId(1);
/// Users and conversations whose slots tell them apart in two slots of each kind.
const SLOTS: u16 = 2;

/// Returns who owns the two slots of users, and the two of conversations.
fn routes(users: [RouterId; 2], conversations: [RouterId; 2]) -> Routes {
    Routes::new(&users, &conversations).unwrap()
}

/// A worker with links to two routers. The first owns the first slot of users and of conversations, the second the other.
fn two() -> World<Sessions> {
    let mut world = dev();
    world.hub.handle_view(routes([A, B], [A, B]), world.now);
    other_up(&mut world);
    world
}

/// Brings the link to the second router up, and takes the hello.
fn other_up(world: &mut World<Sessions>) {
    world.hub.handle_link_up(OTHER, B, world.now);
    world.tick();
    let hello = world.other.records.remove(0);
    assert!(matches!(hello, ToRouter::Hello(hello) if hello.node == "gw-1"));
}

/// Returns the n-th user, from 1, in a slot.
fn user_of(slot: u16, n: usize) -> u64 {
    (1..)
        .filter(|&id| Slot::of_user(user(id), SLOTS).0 == slot)
        .nth(n - 1)
        .unwrap()
}

/// Returns a user whose conversation with another has a slot.
fn peer_of(id: u64, slot: u16) -> u64 {
    let conversation = |peer| ConversationId::direct(user(id), user(peer));
    (1_000..)
        .find(|&peer| Slot::of_conversation(conversation(peer), SLOTS).0 == slot)
        .unwrap()
}

/// Connects a user, up to live, at the router of the second slot.
fn live_at_other(world: &mut World<Sessions>, user_id: u64) -> ConnectionHandle {
    let id = world.connect();
    world.send_text(id, &format!(r#"{{"type":"hello","user_id":{user_id}}}"#));
    let records = world.other.take_records();
    assert!(
        matches!(records[..], [ToRouter::SessionOpen(open)] if open.connection == id),
        "{records:?}"
    );
    let synced = FromRouter::Synced(Synced {
        connection: id,
        cursor: HEAD,
    });
    from_other(world, &[FromRouter::SessionOpened(opened(id)), synced]);
    assert_eq!(world.client(id).types(), ["welcome", "synced"]);
    id
}

fn from_other(world: &mut World<Sessions>, records: &[FromRouter]) {
    world.hub.handle_link_batch(OTHER, batch(records), world.now);
    world.tick();
}

fn sent(send: &SendRecord, seq: u64) -> FromRouter {
    FromRouter::Sent(SentRecord {
        request: send.request,
        message_id: message_id(1),
        conversation: ConversationId::direct(user(1), user(2)),
        seq: Seq(seq),
        timestamp: START,
        duplicate: false,
    })
}

fn only_send(records: Vec<ToRouter>) -> SendRecord {
    match <[ToRouter; 1]>::try_from(records) {
        Ok([ToRouter::Send(send)]) => send,
        other => panic!("not one send: {other:?}"),
    }
}

#[test]
fn commands_go_to_the_router_of_the_user_or_of_the_conversation() {
    let mut world = two();
    let (here, there) = (user_of(0, 1), user_of(1, 1));
    let (one, two) = (live(&mut world, here), live_at_other(&mut world, there));
    for (id, user_id) in [(one, here), (two, there)] {
        for slot in 0..2 {
            let peer = peer_of(user_id, slot);
            let conversation = ConversationId::direct(user(user_id), user(peer));
            world.send_text(id, &send_command(1, peer, "x"));
            world.send_text(
                id,
                &format!(r#"{{"type":"history","id":2,"conversation_id":"{conversation}"}}"#),
            );
            world.send_text(
                id,
                &format!(
                    r#"{{"type":"status","id":3,"status":"read","conversation_id":"{conversation}","seq":1}}"#
                ),
            );
            let (own, foreign) = match slot {
                0 => (world.router.take_records(), world.other.take_records()),
                _ => (world.other.take_records(), world.router.take_records()),
            };
            assert!(foreign.is_empty(), "{foreign:?}");
            assert!(matches!(
                own[..],
                [ToRouter::Send(_), ToRouter::Status(_)]
                    | [ToRouter::Send(_), ToRouter::History(_), ToRouter::Status(_)]
            ));
        }
        let message = message_id(7);
        world.send_text(
            id,
            &format!(r#"{{"type":"status","id":4,"status":"read","message_id":"{message}"}}"#),
        );
        let (own, foreign) = match user_id == here {
            true => (world.router.take_records(), world.other.take_records()),
            false => (world.other.take_records(), world.router.take_records()),
        };
        assert!(matches!(own[..], [ToRouter::Status(_)]) && foreign.is_empty());
    }
}

#[test]
fn acks_and_ends_go_to_the_router_of_the_user() {
    let mut world = two();
    let id = live_at_other(&mut world, user_of(1, 1));
    from_other(&mut world, &[deliver(&[(id, 5)], 5, "x")]);
    world.send_text(id, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(5)));
    assert!(matches!(world.other.take_records()[..], [ToRouter::Ack(ack)] if ack.position == at(5)));
    world.send_end(id);
    assert!(matches!(
        world.other.take_records()[..],
        [ToRouter::SessionClose(_)]
    ));
    assert!(world.router.take_records().is_empty());
    assert!(world.hub.application().is_idle());
}

#[test]
fn the_loss_of_one_link_touches_only_what_went_over_it() {
    let mut world = two();
    let (here, there) = (user_of(0, 1), user_of(1, 1));
    let (one, two) = (live(&mut world, here), live_at_other(&mut world, there));
    world.send_text(one, &send_command(1, peer_of(here, 0), "kept"));
    world.send_text(one, &send_command(2, peer_of(here, 1), "lost"));
    let kept = only_send(world.router.take_records());
    world.other.take_records();
    world.hub.handle_link_down(OTHER, world.now);
    world.tick();
    assert_refused(
        &world.client(one).event().unwrap(),
        "rejected",
        Some(2),
        "unavailable",
    );
    assert_eq!(
        (world.hub.stats().links_up, world.hub.stats().link_breaks),
        (1, 1)
    );
    // The other link goes on: answers, sends and deliveries.
    from_router(&mut world, &[sent(&kept, 1), deliver(&[(one, 5)], 5, "x")]);
    assert_eq!(world.client(one).types(), ["sent", "message"]);
    world.send_text(one, &send_command(3, peer_of(here, 0), "y"));
    only_send(world.router.take_records());
    // What leads to the lost one is answered at once, whoever asks.
    world.send_text(one, &send_command(4, peer_of(here, 1), "z"));
    world.send_text(two, r#"{"type":"conversations","id":5}"#);
    assert_refused(
        &world.client(one).event().unwrap(),
        "rejected",
        Some(4),
        "unavailable",
    );
    assert_refused(
        &world.client(two).event().unwrap(),
        "error",
        Some(5),
        "unavailable",
    );
    // Only its own sessions are announced when it is back.
    other_up(&mut world);
    let records = world.other.take_records();
    assert!(matches!(records[..], [ToRouter::SessionOpen(open)] if open.connection == two));
    assert!(world.router.take_records().is_empty());
    assert_eq!(world.client(two).close_code(), 0);
}

#[test]
fn a_session_whose_user_moves_is_closed_there_and_announced_here() {
    let mut world = two();
    let (stays, moves) = (user_of(0, 1), user_of(1, 1));
    let (one, two) = (live(&mut world, stays), live_at_other(&mut world, moves));
    from_other(
        &mut world,
        &[deliver(&[(two, 5)], 5, "x"), deliver(&[(two, 6)], 6, "y")],
    );
    world.client(two).events();
    // Acked in the tick of the change: the router before hears of it ahead of the end.
    let ack = frame(
        wire_ws::Opcode::Text,
        format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(5)).as_bytes(),
    );
    world.client(two).unread.extend_from_slice(&ack);
    let mut bytes = std::mem::take(&mut world.client(two).unread);
    world.hub.handle_received(two, &mut bytes, world.now);
    world.hub.handle_view(routes([A, A], [A, B]), world.now);
    world.tick();
    let records = world.other.take_records();
    assert!(
        matches!(records[..], [ToRouter::Ack(ack), ToRouter::SessionClose(closed)]
            if ack.position == at(5) && closed.connection == two),
        "{records:?}"
    );
    let announced = opens(&mut world);
    assert_eq!(announced.len(), 1, "{one:?} stays");
    let facts = (
        announced[0].connection,
        announced[0].cursor,
        announced[0].forwarded,
    );
    assert_eq!(facts, (two, Some(at(5)), Some(at(6))));
    assert_eq!(announced[0].session, Some(opened(two).session));

    // What the router before still says of it is without effect, and leaves no gap.
    let late = [
        deliver(&[(two, 8)], 8, "late"),
        FromRouter::SessionReplaced(session_ref(two, moves)),
    ];
    from_other(&mut world, &late);
    assert!(world.client(two).events().is_empty());
    from_router(
        &mut world,
        &[
            FromRouter::SessionOpened(SessionOpened {
                session: SessionNumber(99),
                ..opened(two)
            }),
            deliver(&[(two, 7)], 7, "a"),
            deliver(&[(two, 8)], 8, "b"),
        ],
    );
    let events = world.client(two).events();
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, [Some(7), Some(8)]);
    world.send_text(two, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(8)));
    let records = world.router.take_records();
    assert!(matches!(records[..], [ToRouter::Ack(ack)] if ack.session == SessionNumber(99)));
    assert_eq!(world.client(two).close_code(), 0);
}

#[test]
fn a_hello_under_way_moves_too() {
    let mut world = two();
    let id = world.connect();
    let user_id = user_of(1, 1);
    world.send_text(id, &format!(r#"{{"type":"hello","user_id":{user_id}}}"#));
    world.other.take_records();
    world.hub.handle_view(routes([A, A], [A, A]), world.now);
    world.tick();
    assert!(matches!(
        world.other.take_records()[..],
        [ToRouter::SessionClose(_)]
    ));
    assert_eq!(opens(&mut world).len(), 1);
    from_other(&mut world, &[FromRouter::SessionOpened(opened(id))]);
    assert!(
        world.client(id).events().is_empty(),
        "it is not its session any more"
    );
    from_router(&mut world, &[FromRouter::SessionOpened(opened(id))]);
    assert_eq!(world.client(id).types(), ["welcome"]);
}

#[test]
fn sends_to_a_slot_that_moved_wait_until_the_earlier_ones_are_answered() {
    let mut world = two();
    let here = user_of(0, 1);
    let (moved, other) = (peer_of(here, 1), peer_of(here, 0));
    let id = live(&mut world, here);
    world.send_text(id, &send_command(1, moved, "first"));
    world.send_text(id, &send_command(2, moved, "second"));
    let earlier = world.other.take_records();
    world.hub.handle_view(routes([A, B], [A, A]), world.now);
    world.send_text(id, &send_command(3, moved, "third"));
    let busy = world.client(id).event().unwrap();
    assert_refused(&busy, "rejected", Some(3), "busy");
    assert_eq!(busy["retry_after_ms"], 1_000);
    // Other slots are not held up.
    world.send_text(id, &send_command(4, other, "x"));
    only_send(world.router.take_records());

    let sends: Vec<SendRecord> = earlier
        .into_iter()
        .map(|record| only_send(vec![record]))
        .collect();
    from_other(&mut world, &[sent(&sends[0], 1)]);
    world.send_text(id, &send_command(5, moved, "third"));
    assert_eq!(world.client(id).types(), ["sent", "rejected"]);
    let refused = FromRouter::Rejected(wire_link::RejectedRecord {
        request: sends[1].request,
        code: wire_base::code::Code::Unavailable,
        reason: "not its owner".to_owned(),
        retry_after_ms: None,
    });
    from_other(&mut world, &[refused]);
    world.send_text(id, &send_command(6, moved, "third"));
    assert_eq!(world.client(id).types(), ["rejected"], "that was the second");
    assert_eq!(only_send(world.router.take_records()).draft.body, body("third"));
    assert!(world.other.take_records().is_empty());
}

#[test]
fn a_slot_that_comes_back_is_held_up_by_nobody_but_who_had_it_between() {
    let mut world = two();
    let here = user_of(0, 1);
    let moved = peer_of(here, 1);
    let id = live(&mut world, here);
    world.send_text(id, &send_command(1, moved, "first"));
    world.hub.handle_view(routes([A, B], [A, A]), world.now);
    world.hub.handle_view(routes([A, B], [A, B]), world.now);
    world.send_text(id, &send_command(2, moved, "second"));
    assert!(world.client(id).events().is_empty());
    let texts: Vec<_> = world
        .other
        .take_records()
        .into_iter()
        .map(|record| only_send(vec![record]).draft.body)
        .collect();
    assert_eq!(texts, [body("first"), body("second")]);
}

#[test]
fn after_fifteen_seconds_the_earlier_sends_are_unavailable_and_late_answers_are_dropped() {
    let mut world = two();
    let here = user_of(0, 1);
    let moved = peer_of(here, 1);
    let id = live(&mut world, here);
    world.send_text(id, &send_command(1, moved, "first"));
    let first = only_send(world.other.take_records());
    world.hub.handle_view(routes([A, B], [A, A]), world.now);
    world.pass_ms(ANSWER_MS_MAX - 1);
    world.send_text(id, &send_command(2, moved, "second"));
    assert_refused(&world.client(id).event().unwrap(), "rejected", Some(2), "busy");
    world.pass_ms(1);
    assert_refused(
        &world.client(id).event().unwrap(),
        "rejected",
        Some(1),
        "unavailable",
    );
    world.send_text(id, &send_command(3, moved, "second"));
    let second = only_send(world.router.take_records());
    from_other(&mut world, &[sent(&first, 1)]);
    assert!(world.client(id).events().is_empty(), "it was answered");
    assert_eq!(world.hub.stats().answers_late, 1);
    from_router(&mut world, &[sent(&second, 1)]);
    assert_eq!(world.client(id).types(), ["sent"]);
}

#[test]
fn the_end_of_the_link_to_the_router_before_lets_a_moved_slot_go_on() {
    let mut world = two();
    let here = user_of(0, 1);
    let moved = peer_of(here, 1);
    let id = live(&mut world, here);
    world.send_text(id, &send_command(1, moved, "first"));
    world.hub.handle_view(routes([A, A], [A, A]), world.now);
    world.hub.handle_link_down(OTHER, world.now);
    world.send_text(id, &send_command(2, moved, "second"));
    assert_refused(
        &world.client(id).event().unwrap(),
        "rejected",
        Some(1),
        "unavailable",
    );
    assert_eq!(sends(&mut world).len(), 1);
}

#[test]
fn an_answer_of_a_router_that_was_not_asked_is_dropped() {
    let mut world = two();
    let here = user_of(0, 1);
    let id = live(&mut world, here);
    world.send_text(id, &send_command(1, peer_of(here, 0), "x"));
    let send = only_send(world.router.take_records());
    from_other(&mut world, &[sent(&send, 1)]);
    assert!(world.client(id).events().is_empty());
    from_router(&mut world, &[sent(&send, 1)]);
    assert_eq!(world.client(id).types(), ["sent"]);
}

#[test]
fn a_router_that_takes_nothing_leaves_room_for_the_other() {
    let mut world = two();
    let text = "x".repeat(9_000);
    let here = user_of(0, 1);
    let (stuck, free) = (peer_of(here, 1), peer_of(here, 0));
    let id = live(&mut world, here);
    let asker = live(&mut world, user_of(0, 2));
    let asked = peer_of(user_of(0, 2), 0);
    world.other.is_full = true;
    let per_frame = 13;
    let clients: Vec<_> = (0..LINK_BYTES_MAX / (per_frame * 9_000) + 3)
        .map(|n| {
            let user_id = user_of(0, n + 3);
            (live(&mut world, user_id), peer_of(user_id, 1))
        })
        .collect();
    for &(client, peer) in &clients {
        let sends: Vec<_> = (0..per_frame as u32)
            .map(|n| send_command(n, peer, &text))
            .collect();
        world.send_text(
            client,
            &format!(r#"{{"type":"batch","messages":[{}]}}"#, sends.join(",")),
        );
    }
    world.send_text(id, &send_command(1, stuck, "x"));
    assert_refused(&world.client(id).event().unwrap(), "rejected", Some(1), "busy");
    world.send_text(id, &send_command(2, free, "y"));
    only_send(world.router.take_records());
    world.send_text(asker, &send_command(3, asked, "z"));
    only_send(world.router.take_records());
    // Those who wait for room are read again when their link is gone, too.
    assert!(world.client(clients[0].0).is_paused || world.client(clients[1].0).is_paused);
    world.hub.handle_link_down(OTHER, world.now);
    world.tick();
    assert!(clients.iter().all(|&(client, _)| !world.client(client).is_paused));
    assert_eq!(world.hub.stats().link_bytes, 0);
}

#[test]
fn a_view_with_other_numbers_of_slots_ends_what_is_in_flight() {
    let mut world = two();
    let here = user_of(0, 1);
    let id = live(&mut world, here);
    world.send_text(id, &send_command(1, peer_of(here, 1), "x"));
    world.hub.handle_view(Routes::single(A), world.now);
    world.tick();
    assert_refused(
        &world.client(id).event().unwrap(),
        "rejected",
        Some(1),
        "unavailable",
    );
    world.send_text(id, &send_command(2, peer_of(here, 1), "y"));
    assert_eq!(sends(&mut world).len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// To a peer by index.
    Send(usize),
    /// Who owns the two slots of conversations.
    View([u16; 2]),
    /// A router answers the oldest of its sends.
    Answer(u16),
    /// A router's link breaks, and is there again.
    Relink(u16),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..4).prop_map(Step::Send),
        2 => prop::array::uniform2(0u16..2).prop_map(Step::View),
        4 => (0u16..2).prop_map(Step::Answer),
        1 => (0u16..2).prop_map(Step::Relink),
        1 => prop_oneof![Just(100), Just(ANSWER_MS_MAX)].prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever owners do, no send reaches a router while an earlier one of the conversation has no answer from another.
    #[test]
    fn no_send_overtakes_another_of_its_conversation(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = two();
        let here = user_of(0, 1);
        let id = live(&mut world, here);
        let peers = [peer_of(here, 0), peer_of(here, 1), peer_of(here, 0) + 1, peer_of(here, 1) + 1];
        // Sends that a router has had and the client no answer to, by the number in their text.
        let mut open: BTreeMap<u64, (RouterId, Target)> = BTreeMap::new();
        let mut asked: [VecDeque<SendRecord>; 2] = [VecDeque::new(), VecDeque::new()];
        let (mut number, mut accepted) = (0, 0);
        for step in steps {
            match step {
                Step::Send(peer) => {
                    number += 1;
                    world.send_text(id, &send_command(number, peers[peer], &number.to_string()));
                }
                Step::View(owners) => world.hub.handle_view(routes([A, B], owners.map(RouterId)), world.now),
                Step::Answer(0) => {
                    let answer = asked[0].pop_front().map(|send| sent(&send, 1));
                    from_router(&mut world, answer.as_slice());
                }
                Step::Answer(_) => {
                    let answer = asked[1].pop_front().map(|send| sent(&send, 1));
                    from_other(&mut world, answer.as_slice());
                }
                Step::Relink(router) => {
                    let link = [LINK, OTHER][usize::from(router)];
                    world.hub.handle_link_down(link, world.now);
                    world.hub.handle_link_up(link, RouterId(router), world.now);
                    asked[usize::from(router)].clear();
                }
                Step::Pass(ms) => world.pass_ms(ms),
            }
            world.tick();
            for event in world.client(id).events() {
                open.remove(&event["id"].as_u64().unwrap());
            }
            for (router, records) in [(A, world.router.take_records()), (B, world.other.take_records())] {
                for record in records {
                    let ToRouter::Send(send) = record else { continue };
                    let body = send.draft.body.decode();
                    let Content::Text(text) = body.content else { unreachable!() };
                    let target = send.draft.target;
                    let held_up = open.values().any(|&(other, to)| other != router && to == target);
                    prop_assert!(!held_up, "send {text} overtakes at {router:?}: {open:?}");
                    open.insert(text.parse().unwrap(), (router, target));
                    asked[usize::from(router.0)].push_back(send);
                    accepted += 1;
                }
            }
        }
        prop_assert!(accepted > 0 || number == 0, "the first send is never held up");
    }
}
