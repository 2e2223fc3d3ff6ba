use super::*;
use crate::limits::{HELLO_MS_MAX, ROUTER_MS_MAX};
use wire_base::code::Code;
use wire_link::SessionRefused;

#[test]
fn hello_is_answered_by_welcome_once_the_router_agrees() {
    let mut world = dev();
    let id = world.connect();
    world.send_text(id, r#"{"type":"hello","id":7,"user_id":42,"device_id":3,"window":10,"cursor":"0000000600000000000000090001"}"#);
    assert_eq!(
        opens(&mut world),
        [SessionOpen {
            connection: id,
            user: user(42),
            device: device(3),
            session: None,
            cursor: Some(at(9)),
            forwarded: None,
            window: 10
        }]
    );
    assert_eq!(world.client(id).event(), None);
    assert!(world.client(id).is_paused);
    from_router(
        &mut world,
        &[FromRouter::SessionOpened(SessionOpened {
            resumed: true,
            ..opened(id)
        })],
    );
    let welcome = world.client(id).event().unwrap();
    let expected = serde_json::json!({
        "type": "welcome", "id": 7, "server_time_ms": START.0, "session_id": "2a-3-000000000000abc0", "user_id": 42,
        "device_id": 3, "gateway": "gw-1", "cursor": HEAD.to_string(), "resumed": true, "ping_interval_ms": 25_000,
        "limits": {"content_chars": 10_000, "frame_bytes": 131_072, "sends_per_s": 20, "window": 10},
    });
    assert_eq!(welcome, expected);
    assert!(!world.client(id).is_paused);
    assert_eq!(
        (world.hub.stats().sessions, world.hub.stats().sessions_opened),
        (1, 1)
    );
}

#[test]
fn sessions_with_one_number_have_different_names() {
    let mut world = dev();
    let mut names = std::collections::BTreeSet::new();
    let hellos = [(1, 1), (1, 2), (2, 1), ((1_u64 << 53) - 1, i32::MAX)];
    for (user_id, device_id) in hellos {
        let id = world.connect();
        world.send_text(
            id,
            &format!(r#"{{"type":"hello","user_id":{user_id},"device_id":{device_id}}}"#),
        );
        let opened = SessionOpened {
            session: SessionNumber(u64::MAX),
            ..opened(id)
        };
        from_router(&mut world, &[FromRouter::SessionOpened(opened)]);
        let welcome = world.client(id).event().unwrap();
        let name = welcome["session_id"].as_str().unwrap().to_owned();
        assert!((1..=64).contains(&name.len()), "{name}");
        assert!(names.insert(name.clone()), "{name} twice");
    }
}

#[test]
fn hello_and_the_commands_behind_it_may_be_cut_anywhere() {
    let mut bytes = frame_of(r#"{"type":"hello","user_id":1}"#);
    bytes.extend(frame_of(r#"{"type":"ping","id":1}"#));
    bytes.extend(frame_of(&send_command(2, 5, "hi")));
    for cut in 0..=bytes.len() {
        let mut world = dev();
        let id = world.connect();
        world.send_bytes(id, &bytes[..cut]);
        world.send_bytes(id, &bytes[cut..]);
        assert_eq!(opens(&mut world).len(), 1, "{cut}");
        assert_eq!(world.client(id).event(), None, "{cut}");
        from_router(&mut world, &[FromRouter::SessionOpened(opened(id))]);
        assert_eq!(world.client(id).types(), ["welcome", "pong"], "{cut}");
        assert_eq!(sends(&mut world).len(), 1, "{cut}");
        assert_eq!(world.hub.stats().input_bytes, 0, "{cut}");
    }
}

#[test]
fn a_session_that_is_idle_holds_nothing_on_the_heap() {
    let mut world = dev();
    let id = world.connect();
    world.send_bytes(
        id,
        &[
            frame_of(r#"{"type":"hello","user_id":1}"#),
            frame_of(r#"{"type":"ping"}"#),
        ]
        .concat(),
    );
    from_router(
        &mut world,
        &[
            FromRouter::SessionOpened(opened(id)),
            deliver(&[(id, 5)], 1, "hi"),
        ],
    );
    world.send_text(id, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(5)));
    assert_eq!(world.client(id).types(), ["welcome", "message", "pong"]);
    assert!(world.hub.is_idle(id));
    assert!(world.hub.application().is_idle());
}

#[test]
fn a_client_without_hello_has_five_seconds() {
    let mut world = dev();
    let id = world.connect();
    world.pass_ms(HELLO_MS_MAX - 1);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4400);
    assert_eq!(close_reasons(&world), [Reason::NoHello]);
}

#[test]
fn a_command_before_hello_closes_with_4400() {
    for command in [
        r#"{"type":"ping"}"#,
        &send_command(1, 2, "hi"),
        r#"{"type":"batch","messages":[{"type":"ping"}]}"#,
        r#"{"type":"batch","messages":[]}"#,
        r#"{"type":"batch","messages":[{"type":"hello","user_id":1}]}"#,
        r#"{"type":"batch","messages":[7]}"#,
        r#"{"type":"batch"}"#,
        r#"{"type":"send","receiver_id":0,"content":"hi"}"#,
        r#"{"type":"send","receiver_id":2,"content":""}"#,
        r#"{"type":"ack","cursor":"x"}"#,
        r#"{"type":"ping","id":-1}"#,
    ] {
        let mut world = dev();
        let id = world.connect();
        world.send_text(id, command);
        assert_eq!(world.client(id).close_code(), 4400, "{command}");
        assert_eq!(close_reasons(&world), [Reason::CommandBeforeHello]);
        assert_eq!(world.client(id).seen.len(), 1, "{command}");
    }
}

#[test]
fn what_is_no_command_before_hello_gets_an_error_and_hello_may_follow() {
    let mut world = dev();
    let id = world.connect();
    for (bad, request_id) in [
        ("{", None),
        (r#"{"type":"hello","id":4,"user_id":0}"#, Some(4)),
        (r#"{"type":"hello","id":5}"#, Some(5)),
        (r#"{"type":"hello","user_id":1,"window":0}"#, None),
        (r#"{"type":"hello","user_id":1,"cursor":"x"}"#, None),
        (r#"{"type":"shout","id":6}"#, Some(6)),
        (r#"{"type":7}"#, None),
        ("[]", None),
    ] {
        world.send_text(id, bad);
        assert_refused(
            &world.client(id).event().unwrap(),
            "error",
            request_id,
            "bad_request",
        );
    }
    login(&mut world, id, r#"{"type":"hello","user_id":1}"#);
}

#[test]
fn bad_hellos_do_not_extend_the_five_seconds() {
    let mut world = dev();
    let id = world.connect();
    world.pass_ms(HELLO_MS_MAX - 1);
    world.send_text(id, r#"{"type":"hello"}"#);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4400);
}

#[test]
fn a_second_hello_is_a_bad_request() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.send_text(id, r#"{"type":"hello","id":9,"user_id":1}"#);
    assert_refused(
        &world.client(id).event().unwrap(),
        "error",
        Some(9),
        "bad_request",
    );
    assert!(opens(&mut world).is_empty());
}

#[test]
fn the_router_has_five_seconds_to_answer_hello() {
    let mut world = dev();
    let id = world.connect();
    world.pass_ms(4_000);
    world.send_text(id, r#"{"type":"hello","user_id":1}"#);
    world.pass_ms(ROUTER_MS_MAX - 1);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4503);
    assert_eq!(close_reasons(&world), [Reason::NoRouter]);
    // The router may have opened it: it is told.
    assert!(
        world
            .router
            .take_records()
            .contains(&ToRouter::SessionClose(session_ref(id, 1)))
    );
    from_router(&mut world, &[FromRouter::SessionOpened(opened(id))]);
    assert_eq!(world.hub.stats().sessions_opened, 0);
}

#[test]
fn without_a_link_hello_waits_five_seconds_for_one() {
    let mut world = dev();
    world.hub.handle_link_down(LINK, world.now);
    let (early, late) = (world.connect(), world.connect());
    world.send_text(early, r#"{"type":"hello","id":7,"user_id":1}"#);
    world.pass_ms(3_000);
    world.send_text(late, r#"{"type":"hello","user_id":2}"#);
    world.pass_ms(2_000);
    assert_refused(
        &world.client(early).event().unwrap(),
        "error",
        Some(7),
        "unavailable",
    );
    assert_eq!(
        (world.client(early).close_code(), world.client(late).close_code()),
        (4503, 0)
    );
    link_up(&mut world);
    let opens = opens(&mut world);
    assert_eq!(
        opens
            .iter()
            .map(|open| (open.connection, open.session))
            .collect::<Vec<_>>(),
        [(late, None)]
    );
    from_router(&mut world, &[FromRouter::SessionOpened(opened(late))]);
    assert_eq!(world.client(late).types(), ["welcome"]);
}

#[test]
fn a_refused_hello_gets_its_code_and_may_be_repeated_within_the_five_seconds() {
    let mut world = dev();
    let id = world.connect();
    world.send_text(id, r#"{"type":"hello","id":1,"user_id":1,"device_id":9}"#);
    opens(&mut world);
    world.pass_ms(2_000);
    let refused = SessionRefused {
        connection: id,
        code: Code::TooManyDevices,
        reason: "at most 8 devices".to_owned(),
    };
    from_router(&mut world, &[FromRouter::SessionRefused(refused.clone())]);
    assert_refused(
        &world.client(id).event().unwrap(),
        "error",
        Some(1),
        "too_many_devices",
    );
    world.send_text(id, r#"{"type":"hello","id":2,"user_id":1,"device_id":8}"#);
    assert_eq!(opens(&mut world)[0].device, device(8));
    from_router(&mut world, &[FromRouter::SessionRefused(refused)]);
    assert_refused(
        &world.client(id).event().unwrap(),
        "error",
        Some(2),
        "too_many_devices",
    );
    world.pass_ms(2_999);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4400);
    assert!(
        !world
            .router
            .take_records()
            .iter()
            .any(|record| matches!(record, ToRouter::SessionClose(_)))
    );
}

#[test]
fn commands_behind_a_hello_that_the_router_refuses_are_answered_and_hello_may_be_repeated() {
    let mut world = tokens();
    let id = world.connect();
    let hello = |device: u32| {
        let token = token_for(1, None, 60);
        frame_of(&format!(
            r#"{{"type":"hello","device_id":{device},"token":"{token}"}}"#
        ))
    };
    let behind = [
        hello(9),
        frame_of(&send_command(2, 5, "hi")),
        frame_of(r#"{"type":"ping","id":3}"#),
        frame_of(r#"{"type":"batch","messages":[]}"#),
        frame_of(r#"{"type":"batch","messages":[{"type":"conversations","id":4}]}"#),
        // More than a client may get wrong in a minute.
        frame_of(r#"{"type":"ping","id":5}"#).repeat(20),
    ];
    world.send_bytes(id, &behind.concat());
    assert_eq!(opens(&mut world).len(), 1);
    let refused = SessionRefused {
        connection: id,
        code: Code::TooManyDevices,
        reason: "at most 8 devices".to_owned(),
    };
    from_router(&mut world, &[FromRouter::SessionRefused(refused)]);
    let events = world.client(id).events();
    assert_eq!(events.len(), 1 + 3 + 20);
    assert_refused(&events[0], "error", None, "too_many_devices");
    assert_refused(&events[1], "rejected", Some(2), "bad_request");
    assert_refused(&events[2], "error", Some(3), "bad_request");
    assert_refused(&events[3], "error", Some(4), "bad_request");
    // What comes later is no different: it may have been on its way.
    world.send_text(id, r#"{"type":"ping","id":6}"#);
    let event = world.client(id).event().unwrap();
    assert_refused(&event, "error", Some(6), "bad_request");
    assert!(world.router.take_records().is_empty());

    world.send_bytes(id, &[hello(8), frame_of(r#"{"type":"ping","id":7}"#)].concat());
    assert_eq!(opens(&mut world)[0].device, device(8));
    from_router(&mut world, &[FromRouter::SessionOpened(opened(id))]);
    assert_eq!(world.client(id).types(), ["welcome", "pong"]);
}

#[test]
fn commands_do_not_extend_the_five_seconds_of_a_refused_hello() {
    let mut world = dev();
    let id = world.connect();
    world.send_text(id, r#"{"type":"hello","user_id":1}"#);
    let refused = SessionRefused {
        connection: id,
        code: Code::TooManyDevices,
        reason: "at most 8 devices".to_owned(),
    };
    from_router(&mut world, &[FromRouter::SessionRefused(refused)]);
    world.pass_ms(HELLO_MS_MAX - 1);
    world.send_text(id, r#"{"type":"ping"}"#);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4400);
    assert_eq!(close_reasons(&world), [Reason::NoHello]);
}

#[test]
fn a_newer_connection_of_the_device_closes_the_older_with_4409() {
    let mut world = dev();
    let old = live(&mut world, 1);
    from_router(&mut world, &[FromRouter::SessionReplaced(session_ref(old, 3))]);
    assert_eq!(world.client(old).close_code(), 0, "another user's");
    from_router(&mut world, &[FromRouter::SessionReplaced(session_ref(old, 1))]);
    assert_eq!(world.client(old).close_code(), 4409);
    assert_eq!(close_reasons(&world), [Reason::Replaced]);
    assert_eq!(world.hub.stats().sessions, 0);
    world.send_end(old);
    assert!(world.router.take_records().is_empty());
}

#[test]
fn a_cursor_of_no_use_is_answered_by_resync_behind_welcome() {
    let mut world = dev();
    let id = world.connect();
    world.send_text(
        id,
        r#"{"type":"hello","user_id":1,"cursor":"0000000100000000000000090001"}"#,
    );
    let resync = Some(("another generation".to_owned(), at(3)));
    from_router(
        &mut world,
        &[
            FromRouter::SessionOpened(SessionOpened { resync, ..opened(id) }),
            deliver(&[(id, 4)], 1, "kept"),
        ],
    );
    let events = world.client(id).events();
    assert_eq!(
        (events[0]["type"].as_str(), events[0]["resumed"].as_bool()),
        (Some("welcome"), Some(false))
    );
    assert_eq!(
        events[1],
        serde_json::json!({"type": "resync", "reason": "another generation", "oldest_cursor": at(3).to_string()})
    );
    assert_eq!(events[2]["cursor"], at(4).to_string());
}

#[test]
fn synced_is_told_once() {
    let mut world = dev();
    let id = live(&mut world, 1);
    from_router(
        &mut world,
        &[FromRouter::Synced(Synced {
            connection: id,
            cursor: HEAD,
        })],
    );
    assert_eq!(world.client(id).event(), None);
}

#[test]
fn the_cursor_of_synced_can_be_acked_although_no_message_carried_it() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.send_text(id, &format!(r#"{{"type":"ack","cursor":"{HEAD}"}}"#));
    let acks: Vec<_> = world.router.take_records();
    assert!(
        matches!(&acks[..], [ToRouter::Ack(ack)] if ack.position == HEAD),
        "the end of a backlog may be the device's own send: {acks:?}"
    );
}

#[test]
fn a_router_whose_storage_is_full_sends_the_client_away_to_come_back() {
    let mut world = dev();
    let id = world.connect();
    world.send_text(id, r#"{"type":"hello","user_id":1,"id":4}"#);
    let refused = SessionRefused {
        connection: id,
        code: Code::Unavailable,
        reason: "the disk is full".to_owned(),
    };
    from_router(&mut world, &[FromRouter::SessionRefused(refused)]);
    let error = world.client(id).event().unwrap();
    assert_eq!((&error["code"], &error["id"]), (&"unavailable".into(), &4.into()));
    assert_eq!(world.client(id).close_code(), 4503);
}

#[test]
fn the_end_of_a_connection_is_the_end_of_its_session() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.send_end(id);
    assert_eq!(
        world.router.take_records(),
        [ToRouter::SessionClose(session_ref(id, 1))]
    );
    assert_eq!(world.hub.stats().sessions, 0);
    let other = world.connect();
    world.send_end(other);
    assert!(world.router.take_records().is_empty(), "there was no session");
}

fn frame_of(text: &str) -> Vec<u8> {
    crate::testing::frame(wire_ws::Opcode::Text, text.as_bytes())
}
