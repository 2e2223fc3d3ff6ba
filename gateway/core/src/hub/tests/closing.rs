use super::*;

#[test]
fn a_close_frame_is_repeated_with_its_code_and_the_socket_closed_behind_it() {
    for (payload, code, answered) in [
        (&b""[..], 1005, 1000),
        (b"\x03\xe8", 1000, 1000),
        (b"\x03\xe9bye", 1001, 1001),
        (b"\x0f\xa0", 4000, 4000),
    ] {
        let mut world = echo(HubConfig::default());
        let id = world.connect();
        world.send_bytes(id, &frame(Opcode::Close, payload));
        let client = world.client(id);
        assert_eq!(seen(client), [Seen::Close(answered, String::new())], "{code}");
        assert!(client.is_ended && !client.is_closed);
        world.send_end(id);
        assert!(world.client(id).is_closed);
        only_reason(&world, Reason::ClientClosed);
        assert_all_ended(&world);
    }
}

#[test]
fn a_close_frame_and_the_end_of_the_stream_in_one_read_still_get_an_answer() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world
        .hub
        .handle_received(id, &mut frame(Opcode::Close, b"\x03\xe8"), world.now);
    world.hub.handle_end_of_stream(id, world.now);
    world.tick();
    assert_eq!(world.client(id).close_code(), 1000);
    only_reason(&world, Reason::ClientClosed);
    assert_all_ended(&world);
}

#[test]
fn breaches_of_rfc_6455_close_with_their_code_and_reach_no_application() {
    let masked = |bytes: &[u8]| [bytes, &[0, 0, 0, 0]].concat();
    for (bytes, code, reason) in [
        (b"\x81\x02hi".to_vec(), 1002, Reason::ProtocolError),
        (masked(b"\xc1\x80"), 1002, Reason::ProtocolError),
        (masked(b"\x83\x80"), 1002, Reason::ProtocolError),
        (masked(b"\x81\xfe\x00\x05"), 1002, Reason::ProtocolError),
        (
            masked(b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00"),
            1002,
            Reason::ProtocolError,
        ),
        (masked(b"\x09\x80"), 1002, Reason::ProtocolError),
        (masked(b"\x89\xfe\x00\x7e"), 1002, Reason::ProtocolError),
        (masked(b"\x80\x80"), 1002, Reason::ProtocolError),
        (frame(Opcode::Close, b"\x03"), 1002, Reason::ProtocolError),
        (frame(Opcode::Close, b"\x03\xed"), 1002, Reason::ProtocolError),
        (frame(Opcode::Text, b"\xff"), 1007, Reason::InvalidText),
        (
            masked(b"\x81\xff\x00\x00\x00\x00\x10\x00\x00\x00"),
            1009,
            Reason::MessageTooBig,
        ),
    ] {
        let mut world = echo(HubConfig::default());
        let id = world.connect();
        world.send_bytes(id, &[bytes.clone(), text("behind")].concat());
        let client = world.client(id);
        assert_eq!(client.close_code(), code, "{bytes:x?}");
        assert_eq!(client.seen.len(), 1, "{bytes:x?}");
        assert!(client.is_ended);
        only_reason(&world, reason);
        world.send_end(id);
        assert_all_ended(&world);
    }
}

#[test]
fn input_behind_a_close_is_thrown_away_up_to_a_bound() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.send_bytes(id, b"\x81\x00");
    assert_eq!(world.client(id).close_code(), 1002);
    world.send_bytes(id, &vec![0; 256 * 1024]);
    assert!(!world.client(id).is_closed);
    assert_eq!(world.hub.stats().discarded_bytes, 256 * 1024);
    world.send_bytes(id, &[0]);
    assert!(world.client(id).is_closed);
    only_reason(&world, Reason::ProtocolError);
    assert_all_ended(&world);
}

#[test]
fn pings_are_answered_between_fragments_and_a_flood_of_them_is_not() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    let fragment = |fin, opcode, payload: &[u8]| {
        let mut out = Vec::new();
        wire_ws::encode_fragment(&mut out, fin, opcode, payload, Some([9; 4]));
        out
    };
    world.send_bytes(
        id,
        &[
            fragment(false, Opcode::Text, b"one "),
            frame(Opcode::Ping, b"now"),
            fragment(true, Opcode::Continuation, b"two"),
        ]
        .concat(),
    );
    assert_eq!(
        seen(world.client(id)),
        [Seen::Pong(b"now".to_vec()), Seen::Text("one two".to_owned())]
    );

    world.pass_ms(10_000);
    for _ in 0..100 {
        world.send_bytes(id, &frame(Opcode::Ping, b""));
    }
    assert_eq!(seen(world.client(id)).len(), 100);
    world.pass_ms(10_000);
    world.send_bytes(id, &frame(Opcode::Ping, b"").repeat(101));
    assert_eq!(world.client(id).close_code(), 1008);
    only_reason(&world, Reason::PingFlood);
}

#[test]
fn a_reset_ends_a_connection_at_once() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.send_bytes(id, &text("a")[..3]);
    assert!(world.hub.stats().input_bytes > 0);
    world.hub.handle_failed(id, world.now);
    world.tick();
    assert!(world.client(id).is_closed);
    only_reason(&world, Reason::Reset);
    assert_all_ended(&world);
}

#[test]
fn what_was_said_before_the_end_of_the_stream_is_answered_before_the_close() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.hub.handle_received(id, &mut text("last words"), world.now);
    world.hub.handle_end_of_stream(id, world.now);
    world.tick();
    assert_eq!(seen(world.client(id)), [Seen::Text("last words".to_owned())]);
    only_reason(&world, Reason::ClientLeft);
    assert_all_ended(&world);
}
