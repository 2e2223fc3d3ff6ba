use super::*;
use crate::limits::HELD_BYTES_MAX;

#[test]
fn a_request_in_any_pieces_becomes_a_websocket_and_frames_behind_it_are_not_lost() {
    let mut bytes = crate::testing::request("/ws", "").into_bytes();
    let head_bytes = bytes.len();
    bytes.extend_from_slice(&text("hello"));
    for cut in 0..=bytes.len() {
        let mut world = echo(HubConfig::default());
        let id = world.accept();
        world.send_bytes(id, &bytes[..cut]);
        assert_eq!(
            world.client(id).status(),
            if cut < head_bytes { 0 } else { 101 },
            "{cut}"
        );
        world.send_bytes(id, &bytes[cut..]);
        let client = world.client(id);
        assert!(
            client
                .response
                .contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        );
        assert_eq!(seen(client), [Seen::Text("hello".to_owned())], "{cut}");
        assert_eq!(world.hub.stats().input_bytes, 0, "{cut}");
    }
}

#[test]
fn a_request_byte_by_byte_becomes_a_websocket() {
    let mut world = echo(HubConfig::default());
    let id = world.accept();
    for byte in crate::testing::request("/ws", "X-Long: 1234567890\r\n").bytes() {
        world.send_bytes(id, &[byte]);
    }
    assert_eq!(world.client(id).status(), 101);
}

#[test]
fn a_bad_request_gets_its_status_and_the_connection_ends_without_a_reset() {
    for (request, status) in [
        ("GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        ("POST /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 405),
        ("GET /ws HTTP/1.0\r\nHost: x\r\n\r\n", 400),
        ("GET /ws HTTP/1.1\nHost: x\n\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00", 400),
    ] {
        let mut world = echo(HubConfig::default());
        let id = world.accept();
        world.send_bytes(id, request.as_bytes());
        let client = world.client(id);
        assert_eq!(client.status(), status, "{request}");
        assert!(client.is_ended && !client.is_closed);
        world.send_bytes(id, b"more that nobody reads");
        world.send_end(id);
        assert!(world.client(id).is_closed);
        assert_eq!(world.hub.stats().refusals(status), 1);
        only_reason(&world, Reason::UpgradeRefused);
        assert_all_ended(&world);
    }
}

#[test]
fn an_endless_head_is_refused_from_its_size_alone() {
    let mut world = echo(HubConfig::default());
    let id = world.accept();
    world.send_bytes(id, b"GET /ws HTTP/1.1\r\n");
    for _ in 0..100 {
        world.send_bytes(id, format!("X-Header: {}\r\n", "x".repeat(100)).as_bytes());
    }
    assert_eq!(world.client(id).status(), 431);
    assert!(world.hub.stats().input_bytes == 0 && HELD_BYTES_MAX > 0);
}

#[test]
fn leaving_before_the_upgrade_is_complete_has_a_reason_of_its_own() {
    let mut world = echo(HubConfig::default());
    let id = world.accept();
    world.send_bytes(id, b"GET /ws");
    world.send_end(id);
    only_reason(&world, Reason::UpgradeAborted);
    assert_all_ended(&world);
}

#[test]
fn one_connection_too_many_is_told_so_with_4429() {
    let mut world = echo(HubConfig {
        connections_max: 2,
        ..HubConfig::default()
    });
    let (first, second) = (world.connect(), world.connect());
    let third = world.accept();
    assert_eq!(world.upgrade_with(third, "/ws", ""), 101);
    assert_eq!(world.client(third).close_code(), 4429);
    only_reason(&world, Reason::TooManyConnections);
    for id in [first, second] {
        world.send_bytes(id, &text("still here"));
        assert_eq!(seen(world.client(id)), [Seen::Text("still here".to_owned())]);
    }
}

#[test]
fn those_who_were_told_so_take_no_place_while_they_leave() {
    let mut world = echo(HubConfig {
        connections_max: 2,
        ..HubConfig::default()
    });
    let (first, second) = (world.connect(), world.connect());
    let refused: Vec<_> = (0..3).map(|_| world.connect()).collect();
    world.send_end(first);
    let third = world.connect();
    assert_eq!(world.client(third).close_code(), 0);
    let fourth = world.connect();
    for id in refused.into_iter().chain([fourth]) {
        assert_eq!(world.client(id).close_code(), 4429);
        assert!(!world.client(id).is_closed, "it has not answered the close frame");
    }
    world.pass_ms(5_000);
    assert_eq!(world.hub.connections(), 2);
    // Their end gives no place to anybody else.
    let fifth = world.connect();
    assert_eq!(world.client(fifth).close_code(), 4429);
    for id in [second, third] {
        assert_eq!(world.client(id).close_code(), 0);
    }
}

#[test]
fn facts_about_a_connection_that_is_gone_are_without_effect() {
    let mut world = echo(HubConfig::default());
    let old = world.connect();
    world.hub.handle_failed(old, world.now);
    world.tick();
    only_reason(&world, Reason::Reset);
    let new = world.connect();
    assert_eq!(new.slot, old.slot);
    let now = world.now;
    assert_eq!(
        world.hub.handle_received(old, &mut text("late"), now),
        crate::Reading::Stopped
    );
    world.hub.handle_end_of_stream(old, now);
    world.hub.handle_failed(old, now);
    world.hub.handle_writable(old, now);
    world.hub.handle_blocked(old, 1, now);
    world.tick();
    assert_eq!((world.hub.connections(), world.hub.stats().outbox_bytes), (1, 0));
    assert_eq!(seen(world.client(new)), []);
}
