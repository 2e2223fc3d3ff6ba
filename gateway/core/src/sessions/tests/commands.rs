use super::*;
use crate::limits::ANSWER_MS_MAX;
use wire_base::code::Code;
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};
use wire_link::{
    ConversationsPageRecord, ConversationsRecord, FailedRecord, HistoryPageRecord, HistoryRecord,
    RejectedRecord, RequestId, SentRecord, StatusRecord, SummaryRecord,
};

fn sent(request: RequestId) -> FromRouter {
    FromRouter::Sent(SentRecord {
        request,
        message_id: message_id(9),
        conversation: ConversationId::direct(user(1), user(2)),
        seq: Seq(4),
        timestamp: START,
        duplicate: true,
    })
}

#[test]
fn a_send_becomes_a_record_and_its_answer_sent() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let mid = message_id(0x0190_0000_0001_7000_8000_0000_0000_0001);
    world.send_text(
        id,
        &format!(r#"{{"type":"send","id":3,"message_id":"{mid}","receiver_id":2,"content":"gr\u00fc\n","kind":"k"}}"#),
    );
    let sends = sends(&mut world);
    let body = Body {
        content: Content::Text("grü\n"),
        media_url: None,
        kind: Some("k"),
    }
    .encode();
    let expected = SendRecord {
        request: sends[0].request,
        message_id: Some(mid),
        draft: Draft {
            sender: user(1),
            sender_device: DeviceId::DEFAULT,
            target: Target::Direct(user(2)),
            body,
        },
    };
    assert_eq!(sends, [expected]);
    assert_eq!(world.hub.stats().pending, 1);
    from_router(&mut world, &[sent(sends[0].request), sent(sends[0].request)]);
    let expected = serde_json::json!({
        "type": "sent", "id": 3, "message_id": message_id(9).to_string(),
        "conversation_id": ConversationId::direct(user(1), user(2)).to_string(),
        "seq": 4, "timestamp": START.0, "duplicate": true,
    });
    assert_eq!(world.client(id).events(), [expected]);
    assert_eq!(
        (world.hub.stats().pending, world.hub.stats().answers_late),
        (0, 1)
    );
}

#[test]
fn a_rejected_send_repeats_the_message_id_only_where_one_was_given() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let mid = message_id(77);
    world.send_text(
        id,
        &format!(r#"{{"type":"send","message_id":"{mid}","receiver_id":2,"content":"x"}}"#),
    );
    world.send_text(id, &send_command(4, 2, "y"));
    let rejected = |request| {
        let (reason, retry_after_ms) = ("too fast".to_owned(), Some(50));
        FromRouter::Rejected(RejectedRecord {
            request,
            code: Code::RateLimited,
            reason,
            retry_after_ms,
        })
    };
    let records: Vec<_> = sends(&mut world)
        .iter()
        .map(|send| rejected(send.request))
        .collect();
    from_router(&mut world, &records);
    let events = world.client(id).events();
    let common = |mut event: Value| {
        assert_eq!(event["retry_after_ms"], 50);
        event["type"].take().as_str().map(str::to_owned)
    };
    assert_eq!(
        (events[0]["message_id"].as_str(), events[0].get("id")),
        (Some(&*mid.to_string()), None)
    );
    assert_eq!(
        (events[1].get("message_id"), events[1]["id"].as_u64()),
        (None, Some(4))
    );
    assert!(
        events
            .into_iter()
            .all(|event| common(event).as_deref() == Some("rejected"))
    );
}

#[test]
fn status_history_and_conversations_become_records() {
    let mut world = dev();
    let (id, other) = (live(&mut world, 1), live(&mut world, 1));
    let conversation = ConversationId::direct(user(1), user(2));
    world.send_text(
        id,
        &format!(r#"{{"type":"status","status":"read","conversation_id":"{conversation}","seq":5}}"#),
    );
    world.send_text(
        id,
        &format!(r#"{{"type":"history","conversation_id":"{conversation}","before_seq":9,"limit":7}}"#),
    );
    world.send_text(other, r#"{"type":"conversations","limit":3,"before":"page2"}"#);
    let records = world.router.take_records();
    let [
        ToRouter::Status(status),
        ToRouter::History(history),
        ToRouter::Conversations(conversations),
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    let command = StatusCommand {
        status: Status::Read,
        of: StatusOf::Seq(conversation, Seq(5)),
    };
    let device = DeviceId::DEFAULT;
    assert_eq!(
        *status,
        StatusRecord {
            request: status.request,
            user: user(1),
            device,
            command
        }
    );
    let (request, before) = (history.request, Some(Seq(9)));
    assert_eq!(
        *history,
        HistoryRecord {
            request,
            user: user(1),
            conversation,
            before,
            limit: 7
        }
    );
    let (request, before) = (conversations.request, Some("page2".to_owned()));
    assert_eq!(
        *conversations,
        ConversationsRecord {
            request,
            user: user(1),
            limit: 3,
            before
        }
    );
}

#[test]
fn pages_are_shown_to_the_client_that_asked() {
    let mut world = dev();
    let (id, other) = (live(&mut world, 1), live(&mut world, 1));
    let conversation = ConversationId::direct(user(1), user(2));
    world.send_text(
        id,
        &format!(r#"{{"type":"history","id":1,"conversation_id":"{conversation}"}}"#),
    );
    world.send_text(other, r#"{"type":"conversations","id":2}"#);
    world.send_text(
        id,
        &format!(r#"{{"type":"status","status":"read","conversation_id":"{conversation}","seq":5,"id":3}}"#),
    );
    let requests = requests(&mut world);
    let history = HistoryPageRecord {
        request: requests[0],
        conversation,
        messages: vec![message(8, "new"), message(7, "old")],
        more: true,
        delivered: Seq(6),
        read: Seq(5),
    };
    let summary = |last_body, next: &str| SummaryRecord {
        conversation,
        with: Target::Direct(user(2)),
        last_body,
        last_time: START,
        last_seq: Seq(8),
        next: next.to_owned(),
        unread: 2,
        delivered: Seq(6),
        read: Seq(5),
    };
    let secret = Body {
        content: Content::Ciphertext(b"secret"),
        media_url: None,
        kind: None,
    }
    .encode();
    let page = ConversationsPageRecord {
        request: requests[1],
        conversations: vec![
            summary(Some(body("last")), "behind"),
            summary(Some(secret), "page2"),
        ],
        more: true,
    };
    let failed = FailedRecord {
        request: requests[2],
        code: Code::Forbidden,
        reason: "no".to_owned(),
    };
    from_router(
        &mut world,
        &[
            FromRouter::HistoryPage(history),
            FromRouter::ConversationsPage(page),
            FromRouter::Failed(failed),
        ],
    );
    let events = world.client(id).events();
    assert_eq!(
        (&events[0]["type"], &events[0]["id"], &events[0]["more"]),
        (&"history".into(), &1.into(), &true.into())
    );
    assert_eq!(
        (&events[0]["delivered_seq"], &events[0]["read_seq"]),
        (&6.into(), &5.into())
    );
    assert_eq!(
        (
            &events[0]["messages"][0]["content"],
            events[0]["messages"][0].get("cursor")
        ),
        (&"new".into(), None)
    );
    assert_refused(&events[1], "error", Some(3), "forbidden");
    let page = world.client(other).event().unwrap();
    assert_eq!((&page["id"], &page["next"]), (&2.into(), &"page2".into()));
    assert_eq!(page["conversations"][0]["last_message"], "last");
    assert_eq!(page["conversations"][1]["last_message"], Value::Null);
    assert_eq!(page["conversations"][0]["unread_count"], 2);
}

#[test]
fn pages_are_asked_for_one_at_a_time_and_as_the_socket_takes_them() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let conversation = ConversationId::direct(user(1), user(2));
    let ask: Vec<_> = (1..=3)
        .map(|n| format!(r#"{{"type":"history","id":{n},"conversation_id":"{conversation}"}}"#))
        .collect();
    world.send_text(
        id,
        &format!(r#"{{"type":"batch","messages":[{}]}}"#, ask.join(",")),
    );
    let answer = |world: &mut World<Sessions>| {
        let [request] = requests(world)[..] else {
            panic!("not one page under way")
        };
        let page = HistoryPageRecord {
            request,
            conversation,
            messages: vec![message(1, &"x".repeat(9_000))],
            more: false,
            delivered: Seq(0),
            read: Seq(0),
        };
        from_router(world, &[FromRouter::HistoryPage(page)]);
    };
    answer(&mut world);
    world.pass_ms(2);
    // The second page finds a socket that takes a part of it: the third is not asked for until the rest has gone.
    world.client(id).room = 1_000;
    answer(&mut world);
    world.pass_ms(5_000);
    assert!(requests(&mut world).is_empty());
    world.client(id).room = usize::MAX;
    world.tick();
    world.pass_ms(5);
    answer(&mut world);
    let ids: Vec<_> = world
        .client(id)
        .events()
        .iter()
        .map(|event| event["id"].clone())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    world.pass_ms(5);
    assert!(world.hub.application().is_idle());
}

#[test]
fn a_page_of_history_is_cut_to_fit_a_frame() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let conversation = ConversationId::direct(user(1), user(2));
    world.send_text(
        id,
        &format!(r#"{{"type":"history","id":1,"conversation_id":"{conversation}"}}"#),
    );
    let request = requests(&mut world)[0];
    // Each control character is written as six.
    let messages = (0..8)
        .rev()
        .map(|seq| message(seq + 1, &"\u{1}".repeat(9_000)))
        .collect();
    let page = HistoryPageRecord {
        request,
        conversation,
        messages,
        more: false,
        delivered: Seq(0),
        read: Seq(0),
    };
    from_router(&mut world, &[FromRouter::HistoryPage(page)]);
    let event = world.client(id).event().unwrap();
    assert_eq!(event["messages"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&event["messages"][0]["seq"], &event["more"]),
        (&8.into(), &true.into())
    );
    assert!(world.client(id).text_bytes.iter().all(|&bytes| bytes <= 131_072));
}

#[test]
fn a_page_of_conversations_is_cut_to_fit_a_frame_and_goes_on_behind_the_last_that_is_shown() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.send_text(id, r#"{"type":"conversations","id":1}"#);
    let request = requests(&mut world)[0];
    let summary = |n: u64| SummaryRecord {
        conversation: ConversationId::direct(user(1), user(n)),
        with: Target::Direct(user(n)),
        last_body: Some(body(&"\u{1}".repeat(9_000))),
        last_time: START,
        last_seq: Seq(1),
        next: format!("behind {n}"),
        unread: 0,
        delivered: Seq(0),
        read: Seq(0),
    };
    let conversations = (2..6).map(summary).collect();
    from_router(
        &mut world,
        &[FromRouter::ConversationsPage(ConversationsPageRecord {
            request,
            conversations,
            more: false,
        })],
    );
    let event = world.client(id).event().unwrap();
    assert_eq!(
        (event["conversations"].as_array().unwrap().len(), &event["next"]),
        (2, &"behind 3".into())
    );
    assert_eq!(event["conversations"][1]["other_user_id"], 3);
    assert!(world.client(id).text_bytes.iter().all(|&bytes| bytes <= 131_072));
}

#[test]
fn ping_is_answered_with_the_servers_time() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.pass_ms(250);
    world.send_text(id, r#"{"type":"ping","id":4294967295}"#);
    let expected =
        serde_json::json!({"type": "pong", "id": 4_294_967_295u32, "server_time_ms": START.0 + 250});
    assert_eq!(world.client(id).events(), [expected]);
}

#[test]
fn what_this_version_does_not_support_is_said_clearly_and_not_held_against_a_client() {
    let mut world = tokens();
    let id = world.connect();
    login(
        &mut world,
        id,
        &format!(r#"{{"type":"hello","token":"{}"}}"#, token_for(1, None, 600)),
    );
    let group = Uuid::from_u128(5);
    for _ in 0..20 {
        for (command, kind) in [
            (
                r#"{"type":"typing","id":1,"receiver_id":2,"state":"start"}"#.to_owned(),
                "error",
            ),
            (r#"{"type":"presence","id":1,"user_ids":[2]}"#.to_owned(), "error"),
            (
                format!(r#"{{"type":"send","id":1,"group_id":"{group}","content":"x"}}"#),
                "rejected",
            ),
        ] {
            world.send_text(id, &command);
            let event = world.client(id).event().unwrap();
            assert_refused(&event, kind, Some(1), "bad_request");
            assert!(
                event["reason"]
                    .as_str()
                    .unwrap()
                    .contains("not supported by this version"),
                "{event}"
            );
        }
    }
    assert_eq!(world.client(id).close_code(), 0);
}

#[test]
fn bad_commands_are_answered_and_more_than_ten_a_minute_end_the_connection_with_4413() {
    let mut world = tokens();
    let id = world.connect();
    login(
        &mut world,
        id,
        &format!(r#"{{"type":"hello","token":"{}"}}"#, token_for(1, None, 600)),
    );
    for (command, kind, request_id, code) in [
        ("{", "error", None, "bad_request"),
        (r#"{"type":"dance","id":2}"#, "error", Some(2), "bad_request"),
        (
            r#"{"type":"send","id":3,"receiver_id":2}"#,
            "rejected",
            Some(3),
            "bad_request",
        ),
        (
            r#"{"type":"send","id":4,"receiver_id":2,"content":""}"#,
            "rejected",
            Some(4),
            "bad_request",
        ),
        (
            r#"{"type":"ack","id":5,"cursor":"nope"}"#,
            "error",
            Some(5),
            "bad_request",
        ),
        (
            r#"{"type":"history","id":6,"conversation_id":"x"}"#,
            "error",
            Some(6),
            "bad_request",
        ),
    ] {
        world.send_text(id, command);
        assert_refused(&world.client(id).event().unwrap(), kind, request_id, code);
    }
    let long = send_command(7, 2, &"x".repeat(10_001));
    world.send_text(id, &long);
    assert_refused(
        &world.client(id).event().unwrap(),
        "rejected",
        Some(7),
        "too_long",
    );
    for _ in 0..4 {
        world.send_text(id, "null");
    }
    assert_eq!(
        (world.client(id).events().len(), world.client(id).close_code()),
        (4, 0)
    );
    world.send_text(id, "null");
    assert_eq!(world.client(id).close_code(), 4413);
    assert_eq!(close_reasons(&world), [Reason::TooManyBadRequests]);
}

#[test]
fn in_dev_mode_bad_commands_are_not_counted() {
    let mut world = dev();
    let id = live(&mut world, 1);
    for _ in 0..50 {
        world.send_text(id, "null");
    }
    assert_eq!(
        (world.client(id).events().len(), world.client(id).close_code()),
        (50, 0)
    );
}

#[test]
fn a_batch_is_run_in_order_and_each_command_answered_alone() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let commands = [
        r#"{"type":"ping","id":1}"#.to_owned(),
        send_command(2, 2, "x"),
        r#"{"type":"x","id":3}"#.to_owned(),
        send_command(4, 2, "y"),
    ];
    world.send_text(
        id,
        &format!(r#"{{"type":"batch","messages":[{}]}}"#, commands.join(",")),
    );
    assert_eq!(
        world
            .client(id)
            .events()
            .iter()
            .map(|event| event["id"].as_u64())
            .collect::<Vec<_>>(),
        [Some(1), Some(3)]
    );
    assert_eq!(
        sends(&mut world)
            .iter()
            .map(|send| send.draft.body.clone())
            .collect::<Vec<_>>(),
        [body("x"), body("y")]
    );
}

#[test]
fn a_batch_of_over_a_hundred_is_one_bad_request_and_nothing_is_run() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let pings = vec![r#"{"type":"ping"}"#; 101].join(",");
    world.send_text(id, &format!(r#"{{"type":"batch","id":6,"messages":[{pings}]}}"#));
    let events = world.client(id).events();
    assert_eq!(events.len(), 1);
    assert_refused(&events[0], "error", Some(6), "bad_request");
}

#[test]
fn a_request_without_answer_is_unavailable_after_fifteen_seconds_and_a_late_answer_dropped() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let mid = message_id(5);
    world.send_text(
        id,
        &format!(r#"{{"type":"send","id":1,"message_id":"{mid}","receiver_id":2,"content":"x"}}"#),
    );
    world.send_text(id, r#"{"type":"conversations","id":2}"#);
    let requests = requests(&mut world);
    world.pass_ms(ANSWER_MS_MAX - 1);
    assert!(world.client(id).events().is_empty());
    world.pass_ms(1);
    let events = world.client(id).events();
    assert_refused(&events[0], "rejected", Some(1), "unavailable");
    assert_eq!(events[0]["message_id"], mid.to_string());
    assert_refused(&events[1], "error", Some(2), "unavailable");
    from_router(&mut world, &[sent(requests[0]), FromRouter::Done(requests[1])]);
    assert!(world.client(id).events().is_empty());
    assert_eq!(
        (world.hub.stats().pending_timeouts, world.hub.stats().answers_late),
        (2, 2)
    );
}

#[test]
fn an_answer_for_a_connection_that_is_gone_reaches_nobody() {
    let mut world = dev();
    let old = live(&mut world, 1);
    world.send_text(old, &send_command(1, 2, "x"));
    let request = requests(&mut world)[0];
    world.send_end(old);
    let new = live(&mut world, 3);
    assert_eq!(new.slot, old.slot);
    from_router(
        &mut world,
        &[sent(request), deliver(&[(old, 9)], 1, "not for you")],
    );
    assert!(world.client(new).events().is_empty());
    assert_eq!(world.hub.stats().pending, 0);
}

/// Returns the ids of the requests that reached the router.
fn requests(world: &mut World<Sessions>) -> Vec<RequestId> {
    let request = |record| match record {
        ToRouter::Send(send) => Some(send.request),
        ToRouter::History(history) => Some(history.request),
        ToRouter::Conversations(conversations) => Some(conversations.request),
        ToRouter::Status(status) => Some(status.request),
        _ => None,
    };
    world
        .router
        .take_records()
        .into_iter()
        .filter_map(request)
        .collect()
}
