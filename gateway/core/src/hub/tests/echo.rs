use super::*;

#[test]
fn messages_of_a_read_leave_in_one_send_in_their_order() {
    let mut world = echo(HubConfig::echo());
    let id = world.connect();
    let sends = world.hub.stats().sends;
    let bytes = [text("1"), frame(Opcode::Binary, &[2]), text(""), text("4")].concat();
    world.send_bytes(id, &bytes);
    let expected = [
        Seen::Text("1".into()),
        Seen::Binary(vec![2]),
        Seen::Text(String::new()),
        Seen::Text("4".into()),
    ];
    assert_eq!(seen(world.client(id)), expected);
    assert_eq!(world.hub.stats().sends, sends + 1);
}

#[test]
fn messages_survive_being_cut_anywhere() {
    let bytes = [
        text("Grüße"),
        frame(Opcode::Ping, b"p"),
        frame(Opcode::Binary, &[7; 300]),
    ]
    .concat();
    for cut in 0..=bytes.len() {
        let mut world = echo(HubConfig::echo());
        let id = world.connect();
        world.send_bytes(id, &bytes[..cut]);
        world.send_bytes(id, &bytes[cut..]);
        let expected = [
            Seen::Text("Grüße".into()),
            Seen::Pong(b"p".to_vec()),
            Seen::Binary(vec![7; 300]),
        ];
        assert_eq!(seen(world.client(id)), expected, "{cut}");
        assert_eq!(world.hub.stats().input_bytes, 0);
    }
}

#[test]
fn a_message_of_sixteen_mebibytes_comes_back() {
    let mut world = echo(HubConfig::echo());
    let id = world.connect();
    let payload = vec![0x5a; 16 * 1024 * 1024];
    for chunk in frame(Opcode::Binary, &payload).chunks(64 * 1024) {
        world.send_bytes(id, chunk);
    }
    assert_eq!(seen(world.client(id)), [Seen::Binary(payload)]);
    assert_eq!(
        (world.hub.stats().input_bytes, world.hub.stats().outbox_bytes),
        (0, 0)
    );
    assert!(!world.client(id).is_paused);
}

#[test]
fn any_path_will_do_and_no_subprotocol_is_named() {
    let mut world = echo(HubConfig::echo());
    let id = world.accept();
    assert_eq!(
        world.upgrade_with(id, "/anything?agent=x", "Sec-WebSocket-Protocol: chat\r\n"),
        101
    );
    assert!(!world.client(id).response.contains("Sec-WebSocket-Protocol"));
}

#[test]
fn an_idle_connection_holds_nothing_on_the_heap() {
    let mut world = echo(HubConfig::echo());
    let id = world.connect();
    world.send_bytes(id, &text("x"));
    world.send_bytes(id, &text("in two")[..4]);
    world.send_bytes(id, &text("in two")[4..]);
    assert!(world.hub.is_idle(id));
}
