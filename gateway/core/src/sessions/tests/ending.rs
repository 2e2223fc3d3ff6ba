//! What a session said before it ended reaches the router before its end.

use super::*;
use crate::testing::frame;
use wire_ws::Opcode;

fn ack_command(offset: u64) -> Vec<u8> {
    frame(
        Opcode::Text,
        format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(offset)).as_bytes(),
    )
}

fn close_frame() -> Vec<u8> {
    frame(Opcode::Close, b"\x03\xe8")
}

fn ack_of(connection: ConnectionHandle, user_id: u64, offset: u64) -> ToRouter {
    ToRouter::Ack(AckRecord {
        user: user(user_id),
        device: DeviceId::DEFAULT,
        session: opened(connection).session,
        position: at(offset),
    })
}

fn end_of(connection: ConnectionHandle, user_id: u64) -> ToRouter {
    ToRouter::SessionClose(session_ref(connection, user_id))
}

/// A live session of user 1 that was sent the messages 1 to 5.
fn reading(world: &mut World<Sessions>) -> ConnectionHandle {
    let id = live(world, 1);
    from_router(
        world,
        &(1..=5).map(|n| deliver(&[(id, n)], n, "x")).collect::<Vec<_>>(),
    );
    id
}

#[test]
fn an_ack_and_a_close_frame_in_one_read_reach_the_router_in_this_order() {
    let mut world = dev();
    let id = reading(&mut world);
    world.send_bytes(id, &[ack_command(3), ack_command(5), close_frame()].concat());
    assert_eq!(world.client(id).close_code(), 1000);
    assert_eq!(world.router.take_records(), [ack_of(id, 1, 5), end_of(id, 1)]);
}

#[test]
fn an_ack_and_the_end_of_the_stream_in_one_tick_reach_the_router_in_this_order() {
    for fails in [false, true] {
        let mut world = dev();
        let id = reading(&mut world);
        world.hub.handle_received(id, &mut ack_command(5), world.now);
        if fails {
            world.hub.handle_failed(id, world.now);
        } else {
            world.hub.handle_end_of_stream(id, world.now);
        }
        world.tick();
        assert_eq!(world.router.take_records(), [ack_of(id, 1, 5), end_of(id, 1)]);
    }
}

#[test]
fn an_ack_and_an_end_while_the_link_is_full_reach_the_router_in_this_order() {
    for leaves_with in [close_frame(), Vec::new()] {
        let mut world = dev();
        let id = reading(&mut world);
        let other = live(&mut world, 2);
        world.router.is_full = true;
        world.send_text(other, &send_command(1, 2, "x"));
        world.send_bytes(id, &ack_command(5));
        world.send_bytes(id, &leaves_with);
        world.send_end(id);
        world.router.is_full = false;
        world.hub.handle_link_room(LINK, world.now);
        world.tick();
        assert_eq!(
            world.router.take_records()[1..],
            [ack_of(id, 1, 5), end_of(id, 1)]
        );
        assert!(world.hub.application().uplinks.is_idle());
    }
}

#[test]
fn an_ack_leaves_before_the_session_that_replaces_its_own() {
    let mut world = dev();
    let old = reading(&mut world);
    let new = world.connect();
    let hello = frame(Opcode::Text, br#"{"type":"hello","user_id":1}"#);
    world.hub.handle_received(old, &mut ack_command(5), world.now);
    world.hub.handle_received(new, &mut hello.clone(), world.now);
    world.tick();
    let records = world.router.take_records();
    assert_eq!(records[0], ack_of(old, 1, 5));
    assert!(matches!(&records[1..], [ToRouter::SessionOpen(open)] if open.connection == new));

    // Also where the old connection ends in the same tick.
    let mut world = dev();
    let old = reading(&mut world);
    let new = world.connect();
    world.hub.handle_received(new, &mut hello.clone(), world.now);
    world.hub.handle_received(old, &mut ack_command(5), world.now);
    world.hub.handle_end_of_stream(old, world.now);
    world.tick();
    let records = world.router.take_records();
    assert_eq!(records[..2], [ack_of(old, 1, 5), end_of(old, 1)]);
    assert!(matches!(&records[2..], [ToRouter::SessionOpen(open)] if open.connection == new));
}

#[test]
fn a_session_that_was_replaced_has_nothing_more_to_say() {
    let mut world = dev();
    let id = reading(&mut world);
    world.hub.handle_received(id, &mut ack_command(5), world.now);
    from_router(&mut world, &[FromRouter::SessionReplaced(session_ref(id, 1))]);
    assert_eq!(world.client(id).close_code(), 4409);
    assert!(world.router.take_records().is_empty());
}

#[test]
fn an_ack_leaves_before_the_end_that_the_gateway_gives_a_session() {
    let mut world = dev();
    let id = reading(&mut world);
    world.hub.handle_received(id, &mut ack_command(5), world.now);
    world.send_bytes(id, &frame(Opcode::Binary, b"x"));
    assert_eq!(world.client(id).close_code(), 1003);
    assert_eq!(world.router.take_records(), [ack_of(id, 1, 5), end_of(id, 1)]);
}

#[test]
fn commands_before_a_close_frame_reach_the_router_before_the_end() {
    let mut world = dev();
    let id = reading(&mut world);
    let status = br#"{"type":"status","status":"read","conversation_id":"b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd","seq":3}"#;
    let send = send_command(1, 2, "last words");
    let bytes = [
        ack_command(5),
        frame(Opcode::Text, status),
        frame(Opcode::Text, send.as_bytes()),
        close_frame(),
    ];
    world.send_bytes(id, &bytes.concat());
    let records = world.router.take_records();
    assert!(matches!(records[..2], [ToRouter::Status(_), ToRouter::Send(_)]));
    assert_eq!(records[2..], [ack_of(id, 1, 5), end_of(id, 1)]);
}

#[test]
fn pages_that_were_not_asked_for_yet_are_forgotten_with_their_connection() {
    let mut world = dev();
    let page = frame(Opcode::Text, br#"{"type":"conversations"}"#);
    let stayer = live(&mut world, 3);
    let leavers = [live(&mut world, 1), live(&mut world, 2)];
    world.send_bytes(stayer, &page.repeat(3));
    for (leaver, leaves_with) in leavers.into_iter().zip([close_frame(), Vec::new()]) {
        let before = world.hub.stats().pending;
        world.send_bytes(leaver, &page.repeat(100));
        assert_eq!(world.hub.stats().pending, before + 100);
        world.send_bytes(leaver, &leaves_with);
        world.send_end(leaver);
        assert_eq!(
            world.hub.stats().pending,
            before + 1,
            "the one that the router was asked is its to answer"
        );
    }
    // Every page of those who stay is still asked for.
    let mut asked = 0;
    loop {
        let requests: Vec<_> = world
            .router
            .take_records()
            .iter()
            .filter_map(|record| match record {
                ToRouter::Conversations(page) => Some(FromRouter::Done(page.request)),
                _ => None,
            })
            .collect();
        if requests.is_empty() {
            break;
        }
        asked += requests.len();
        from_router(&mut world, &requests);
    }
    assert_eq!((asked, world.hub.stats().pending), (2 + 3, 0));
}
