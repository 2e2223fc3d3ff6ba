use super::*;
use crate::testing::{Seen, request};

/// Upgrades with header lines; returns the status.
fn upgrade(world: &mut World<Sessions>, path: &str, headers: &str) -> (ConnectionHandle, u16) {
    let id = world.accept();
    let status = world.upgrade_with(id, path, headers);
    (id, status)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn offer(token: &str) -> String {
    format!("Sec-WebSocket-Protocol: tidegate.json.v1, tidegate.token.{token}\r\n")
}

#[test]
fn other_paths_are_not_found() {
    let mut world = dev();
    for path in ["/", "/ws/0", "/ws/x", "/chat"] {
        assert_eq!(upgrade(&mut world, path, "").1, 404, "{path}");
    }
    assert_eq!(upgrade(&mut world, "/ws?x=y", "").1, 101);
}

#[test]
fn subprotocols_are_negotiated() {
    for (offer, status, answer) in [
        (None, 101, None),
        (Some("tidegate.json.v1"), 101, Some("tidegate.json.v1")),
        (Some("chat, tidegate.json.v1"), 101, Some("tidegate.json.v1")),
        (
            Some("tidegate.protobuf.v1, tidegate.json.v1"),
            101,
            Some("tidegate.json.v1"),
        ),
        (Some("tidegate.protobuf.v1"), 400, None),
        (Some("chat"), 400, None),
        (Some("tidegate.token.abc"), 400, None),
    ] {
        let mut world = dev();
        let headers = offer.map_or(String::new(), |offer| {
            format!("Sec-WebSocket-Protocol: {offer}\r\n")
        });
        let (id, got) = upgrade(&mut world, "/ws", &headers);
        assert_eq!(got, status, "{offer:?}");
        let line = answer.map(|answer| format!("\r\nSec-WebSocket-Protocol: {answer}\r\n"));
        let response = &world.client(id).response;
        match line {
            Some(line) => assert!(response.contains(&line), "{response}"),
            None => assert!(!response.contains("Sec-WebSocket-Protocol"), "{response}"),
        }
    }
}

#[test]
fn a_token_among_the_subprotocols_is_never_echoed() {
    let mut world = tokens();
    let (id, status) = upgrade(&mut world, "/ws", &offer(&token_for(1, None, 60)));
    assert_eq!(status, 101);
    assert!(!world.client(id).response.contains("token"));
    let welcome = login(&mut world, id, r#"{"type":"hello"}"#);
    assert_eq!(
        (&welcome["user_id"], &welcome["device_id"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_bad_token_in_the_header_is_401_and_another_users_is_403() {
    let mut world = tokens();
    for (path, token, status) in [
        ("/ws", "nonsense".to_owned(), 401),
        ("/ws", token_for(1, None, 0), 101), // Within the leeway.
        ("/ws/2", token_for(1, None, 60), 403),
        ("/ws/1", token_for(1, None, 60), 101),
    ] {
        assert_eq!(upgrade(&mut world, path, &bearer(&token)).1, status, "{path}");
    }
    world.pass_ms(5_000);
    assert_eq!(upgrade(&mut world, "/ws", &bearer(&token_for(1, None, 0))).1, 401);
}

#[test]
fn a_bad_token_among_the_subprotocols_is_101_and_then_4401_or_4403() {
    let mut world = tokens();
    for (path, token, code) in [
        ("/ws", "nonsense".to_owned(), 4401),
        ("/ws/2", token_for(1, None, 60), 4403),
    ] {
        let (id, status) = upgrade(&mut world, path, &offer(&token));
        assert_eq!((status, world.client(id).close_code()), (101, code), "{path}");
    }
    assert_eq!(
        close_reasons(&world),
        [Reason::TokenInvalid, Reason::UserMismatch]
    );
}

#[test]
fn tokens_in_hello_are_checked_against_everything_known() {
    let bad = "a.b.c";
    let (one, one_on_3, two) = (
        &token_for(1, None, 60),
        &token_for(1, Some(3), 60),
        &token_for(2, None, 60),
    );
    for (path, header, hello, code) in [
        ("/ws", None, r#"{"type":"hello"}"#.to_owned(), 4401),
        ("/ws", None, r#"{"type":"hello","user_id":1}"#.to_owned(), 4401),
        (
            "/ws",
            None,
            format!(r#"{{"type":"hello","token":"{bad}"}}"#),
            4401,
        ),
        (
            "/ws/1",
            None,
            format!(r#"{{"type":"hello","token":"{two}"}}"#),
            4403,
        ),
        (
            "/ws",
            Some(one),
            format!(r#"{{"type":"hello","token":"{two}"}}"#),
            4403,
        ),
        (
            "/ws",
            Some(one),
            r#"{"type":"hello","user_id":2}"#.to_owned(),
            4403,
        ),
        (
            "/ws",
            Some(one_on_3),
            r#"{"type":"hello","device_id":4}"#.to_owned(),
            4403,
        ),
        (
            "/ws",
            None,
            format!(r#"{{"type":"hello","token":"{one_on_3}","device_id":4}}"#),
            4403,
        ),
        (
            "/ws",
            None,
            format!(r#"{{"type":"hello","token":"{one_on_3}","device_id":3}}"#),
            0,
        ),
        ("/ws", Some(one_on_3), r#"{"type":"hello"}"#.to_owned(), 0),
        (
            "/ws/1",
            None,
            format!(r#"{{"type":"hello","token":"{one}","user_id":1}}"#),
            0,
        ),
    ] {
        let mut world = tokens();
        let (id, _) = upgrade(
            &mut world,
            path,
            &header.map_or(String::new(), |token| bearer(token)),
        );
        world.send_text(id, &hello);
        assert_eq!(world.client(id).close_code(), code, "{path} {hello}");
        let opens = opens(&mut world);
        assert_eq!(opens.len(), usize::from(code == 0), "{path} {hello}");
        if let [open] = opens[..] {
            let expected = if hello.contains(one_on_3) || header == Some(one_on_3) {
                3
            } else {
                1
            };
            assert_eq!(
                (open.user, open.device),
                (user(1), device(expected)),
                "{path} {hello}"
            );
        }
    }
}

#[test]
fn in_dev_mode_the_path_and_hello_must_not_contradict_each_other() {
    let mut world = dev();
    let (id, _) = upgrade(&mut world, "/ws/5", "");
    assert_eq!(login(&mut world, id, r#"{"type":"hello"}"#)["user_id"], 5);
    let (id, _) = upgrade(&mut world, "/ws/5", "");
    world.send_text(id, r#"{"type":"hello","user_id":6}"#);
    assert_eq!(world.client(id).close_code(), 4403);
    assert_eq!(close_reasons(&world), [Reason::UserMismatch]);
}

#[test]
fn origins_outside_the_allow_list_are_403() {
    let origins = vec!["https://chat.example".to_owned()];
    let sessions = Sessions::new(SessionsConfig {
        origins,
        ..config(Auth::InsecureDev)
    });
    let mut world = World::new(HubConfig::default(), sessions);
    for (headers, status) in [
        ("Origin: https://chat.example\r\n", 101),
        ("Origin: https://chat.example.evil\r\n", 403),
        ("Origin: http://chat.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("", 101),
    ] {
        assert_eq!(upgrade(&mut world, "/ws", headers).1, status, "{headers}");
    }
    assert_eq!(world.hub.stats().refusals(403), 3);
}

#[test]
fn without_tokens_only_pages_of_this_machine_may_connect() {
    let mut world = dev();
    for (headers, status) in [
        ("", 101),
        ("Origin: http://localhost:3000\r\n", 101),
        ("Origin: http://[::1]:9000\r\n", 101),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        assert_eq!(upgrade(&mut world, "/ws", headers).1, status, "{headers}");
    }
    // A name that was made to mean 127.0.0.1: of the same origin, so that a browser need not send one.
    let id = world.accept();
    let request = request("/ws", "").replace("Host: localhost:9000", "Host: evil.example:9000");
    world.send_bytes(id, request.as_bytes());
    assert_eq!(world.client(id).status(), 403);

    let mut world = tokens();
    assert_eq!(
        upgrade(&mut world, "/ws", "Origin: https://any.example\r\n").1,
        101
    );
}

#[test]
fn a_new_key_counts_from_the_next_token_on() {
    let mut world = tokens();
    let old = bearer(&token_for(1, None, 60));
    let (session, _) = upgrade(&mut world, "/ws", &old);
    login(&mut world, session, r#"{"type":"hello"}"#);
    let secret = b"another secret of at least thirty-two bytes";
    world.hub.handle_verifier(Verifier::hs256(secret).unwrap());
    assert_eq!(upgrade(&mut world, "/ws", &old).1, 401);
    let new = token_signed(secret, 1, None, 60);
    assert_eq!(upgrade(&mut world, "/ws", &bearer(&new)).1, 101);
    assert_eq!(world.client(session).close_code(), 0);
}

#[test]
fn a_token_that_expires_closes_the_session_with_4402_after_its_leeway() {
    let mut world = tokens();
    let (id, _) = upgrade(&mut world, "/ws", &bearer(&token_for(1, None, 60)));
    login(&mut world, id, r#"{"type":"hello"}"#);
    let left = START.0 + 65_000 - world.now.unix.0;
    pass_alive(&mut world, id, left - 1);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4402);
    assert_eq!(close_reasons(&world), [Reason::TokenExpired]);
}

#[test]
fn refresh_extends_a_session_and_answers_welcome() {
    let mut world = tokens();
    let (id, _) = upgrade(&mut world, "/ws", &bearer(&token_for(1, None, 60)));
    login(&mut world, id, r#"{"type":"hello","window":9}"#);
    from_router(&mut world, &[deliver(&[(id, 12)], 1, "x")]);
    world.client(id).events();
    world.send_text(
        id,
        &format!(
            r#"{{"type":"refresh","id":8,"token":"{}"}}"#,
            token_for(1, None, 200)
        ),
    );
    let welcome = world.client(id).event().unwrap();
    assert_eq!(
        (&welcome["type"], &welcome["id"], &welcome["limits"]["window"]),
        (&"welcome".into(), &8.into(), &9.into())
    );
    assert_eq!(welcome["cursor"], at(12).to_string());
    let left = START.0 + 205_000 - world.now.unix.0;
    pass_alive(&mut world, id, left - 1);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(1);
    assert_eq!(world.client(id).close_code(), 4402);
}

#[test]
fn refresh_before_any_message_names_the_start_of_live() {
    let mut world = tokens();
    let (id, _) = upgrade(&mut world, "/ws", &bearer(&token_for(1, None, 60)));
    login(&mut world, id, r#"{"type":"hello"}"#);
    world.send_text(
        id,
        &format!(r#"{{"type":"refresh","token":"{}"}}"#, token_for(1, None, 200)),
    );
    assert_eq!(world.client(id).event().unwrap()["cursor"], HEAD.to_string());
}

#[test]
fn a_shorter_token_ends_the_session_earlier() {
    let mut world = tokens();
    let (id, _) = upgrade(&mut world, "/ws", &bearer(&token_for(1, None, 600)));
    login(&mut world, id, r#"{"type":"hello"}"#);
    world.send_text(
        id,
        &format!(r#"{{"type":"refresh","token":"{}"}}"#, token_for(1, None, 2)),
    );
    world.pass_ms(7_000);
    assert_eq!(world.client(id).close_code(), 4402);
}

#[test]
fn refresh_with_a_bad_token_or_anothers_is_forbidden_and_changes_nothing() {
    let mut world = tokens();
    let (id, _) = upgrade(&mut world, "/ws", &bearer(&token_for(1, None, 60)));
    login(&mut world, id, r#"{"type":"hello","device_id":2}"#);
    for token in [
        "x.y.z".to_owned(),
        token_for(2, None, 600),
        token_for(1, Some(3), 600),
    ] {
        world.send_text(id, &format!(r#"{{"type":"refresh","id":1,"token":"{token}"}}"#));
        assert_refused(&world.client(id).event().unwrap(), "error", Some(1), "forbidden");
    }
    let left = START.0 + 65_000 - world.now.unix.0;
    pass_alive(&mut world, id, left);
    assert_eq!(world.client(id).close_code(), 4402);
}

#[test]
fn a_binary_frame_is_1003_from_its_header_alone() {
    let whole = crate::testing::frame(wire_ws::Opcode::Binary, b"{}");
    let mut fragment = whole.clone();
    fragment[0] &= 0x7f;
    for bytes in [&whole, &fragment, &whole[..6], &fragment[..6]] {
        let mut world = dev();
        let id = live(&mut world, 1);
        world.send_bytes(id, bytes);
        assert!(matches!(world.client(id).seen.back(), Some(Seen::Close(1003, _))));
        assert_eq!(close_reasons(&world), [Reason::UnsupportedData]);
    }
}

/// Lets time pass for a client that is heard every ten seconds.
fn pass_alive(world: &mut World<Sessions>, id: ConnectionHandle, mut ms: u64) {
    while ms > 10_000 {
        world.pass_ms(10_000);
        world.send_bytes(id, &crate::testing::frame(wire_ws::Opcode::Pong, b""));
        ms -= 10_000;
    }
    world.pass_ms(ms);
}
