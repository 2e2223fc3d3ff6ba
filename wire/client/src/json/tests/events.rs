use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::batch;
use crate::json::{BadEvent, encode_event, parse_events};
use crate::{
    ConversationSummary, ConversationsPage, Event, Failure, Format, HistoryPage, Rejected, Sent,
    ShownMessage, StatusUpdate, Welcome, WelcomeLimits,
};
use wire_base::body::{Body, Content};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UnixMs, UserId};
use wire_base::limits::{CIPHERTEXT_BYTES_MAX, FRAME_BYTES_MAX, KIND_BYTES_MAX, MEDIA_URL_BYTES_MAX};
use wire_base::message::{Message, Target};
use wire_base::samples::*;

/// What docs/protocol.md section 6 says an event looks like, written down a second time.
fn expected(event: &Event<'_>) -> Value {
    let mut fields = match event {
        Event::Welcome(welcome) => json!({
            "type": "welcome",
            "id": welcome.id,
            "server_time_ms": welcome.server_time.0,
            "session_id": welcome.session_id,
            "user_id": welcome.user.get(),
            "device_id": welcome.device.get(),
            "gateway": welcome.gateway,
            "cursor": welcome.cursor.to_string(),
            "resumed": welcome.resumed,
            "ping_interval_ms": welcome.ping_interval_ms,
            "limits": {
                "content_chars": welcome.limits.content_chars,
                "frame_bytes": welcome.limits.frame_bytes,
                "sends_per_s": welcome.limits.sends_per_s,
                "window": welcome.limits.window,
            },
        }),
        Event::Sent(sent) => json!({
            "type": "sent",
            "id": sent.id,
            "message_id": sent.message_id.to_string(),
            "conversation_id": sent.conversation.to_string(),
            "seq": sent.seq.0,
            "timestamp": sent.timestamp.0,
            "duplicate": sent.duplicate,
        }),
        Event::Rejected(rejected) => json!({
            "type": "rejected",
            "id": rejected.id,
            "message_id": rejected.message_id.map(|id| id.to_string()),
            "code": rejected.code.name(),
            "reason": rejected.reason,
            "retry_after_ms": rejected.retry_after_ms,
        }),
        Event::Message(message) => expected_message(message),
        Event::StatusUpdate(update) => json!({
            "type": "status_update",
            "conversation_id": update.conversation.to_string(),
            "user_id": update.user.get(),
            "status": update.status.name(),
            "seq": update.seq.0,
            "message_id": update.message_id.to_string(),
        }),
        Event::Synced(cursor) => json!({ "type": "synced", "cursor": cursor.to_string() }),
        Event::Resync { reason, oldest } => {
            json!({ "type": "resync", "reason": reason, "oldest_cursor": oldest.to_string() })
        }
        Event::History(page) => json!({
            "type": "history",
            "id": page.id,
            "conversation_id": page.conversation.to_string(),
            "messages": page.messages.iter().map(expected_message).collect::<Vec<_>>(),
            "more": page.more,
            "delivered_seq": page.delivered.0,
            "read_seq": page.read.0,
        }),
        Event::Conversations(page) => json!({
            "type": "conversations",
            "id": page.id,
            "conversations": page.conversations.iter().map(expected_summary).collect::<Vec<_>>(),
            "next": page.next,
        }),
        Event::Reconnect {
            after_ms,
            jitter_ms,
            reason,
        } => {
            json!({ "type": "reconnect", "after_ms": after_ms, "jitter_ms": jitter_ms, "reason": reason })
        }
        Event::Pong { id, server_time } => {
            json!({ "type": "pong", "id": id, "server_time_ms": server_time.0 })
        }
        Event::Error(failure) => {
            json!({ "type": "error", "id": failure.id, "code": failure.code.name(), "reason": failure.reason })
        }
    };
    drop_absent(&mut fields);
    fields
}

fn expected_message(shown: &ShownMessage<'_>) -> Value {
    let ShownMessage {
        cursor,
        group,
        message,
    } = shown;
    let (content, ciphertext) = match message.body.content {
        Content::Text(text) => (Some(text), None),
        Content::Ciphertext(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    let mut fields = json!({
        "type": "message",
        "cursor": cursor.map(|cursor| cursor.to_string()),
        "message_id": message.message_id.to_string(),
        "conversation_id": message.conversation.to_string(),
        "seq": message.seq.0,
        "sender_id": message.sender.get(),
        "sender_device": message.sender_device.get(),
        "group_id": group.map(|group| group.to_string()),
        "content": content,
        "ciphertext": ciphertext,
        "media_url": message.body.media_url,
        "kind": message.body.kind,
        "timestamp": message.timestamp.0,
    });
    drop_absent(&mut fields);
    fields
}

fn expected_summary(summary: &ConversationSummary<'_>) -> Value {
    let mut fields = json!({
        "conversation_id": summary.conversation.to_string(),
        "last_message_at": summary.last_message_at.0,
        "last_seq": summary.last_seq.0,
        "unread_count": summary.unread_count,
        "delivered_seq": summary.delivered.0,
        "read_seq": summary.read.0,
        "last_message": summary.last_message,
    });
    match summary.with {
        Target::Direct(user) => fields["other_user_id"] = json!(user.get()),
        Target::Group(group) => fields["group_id"] = json!(group.to_string()),
    }
    fields
}

fn drop_absent(fields: &mut Value) {
    fields
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
}

fn shown_message() -> impl Strategy<Value = ShownMessage<'static>> {
    let ids = (option::of(position()), message_id(), conversation(), json_seq());
    (
        ids,
        user(),
        stored_device(),
        option::of(conversation()),
        owned_body(),
        json_time(),
    )
        .prop_map(
            |((cursor, message_id, conversation, seq), sender, sender_device, group, body, timestamp)| {
                ShownMessage {
                    cursor,
                    group,
                    message: Message {
                        conversation,
                        seq,
                        message_id,
                        sender,
                        sender_device,
                        timestamp,
                        body: Box::leak(Box::new(body)).view(),
                    },
                }
            },
        )
}

fn welcome() -> impl Strategy<Value = Welcome<'static>> {
    let limits =
        any::<(u32, u32, u32, u16)>().prop_map(|(content_chars, frame_bytes, sends_per_s, window)| {
            WelcomeLimits {
                content_chars,
                frame_bytes,
                sends_per_s,
                window,
            }
        });
    let session = (user(), device(), words(), words());
    (
        option::of(any::<u32>()),
        json_time(),
        session,
        position(),
        any::<(bool, u32)>(),
        limits,
    )
        .prop_map(
            |(
                id,
                server_time,
                (user, device, session_id, gateway),
                cursor,
                (resumed, ping_interval_ms),
                limits,
            )| Welcome {
                id,
                server_time,
                session_id,
                user,
                device,
                gateway,
                cursor,
                resumed,
                ping_interval_ms,
                limits,
            },
        )
}

fn watermark() -> impl Strategy<Value = Seq> {
    prop_oneof![Just(Seq(0)), json_seq()]
}

fn summary() -> impl Strategy<Value = ConversationSummary<'static>> {
    let seqs = (watermark(), 0..1u64 << 53, watermark(), watermark());
    (conversation(), target(), option::of(words()), json_time(), seqs).prop_map(
        |(conversation, with, last_message, last_message_at, (last_seq, unread_count, delivered, read))| {
            ConversationSummary {
                conversation,
                with,
                last_message,
                last_message_at,
                last_seq,
                unread_count,
                delivered,
                read,
            }
        },
    )
}

fn event() -> impl Strategy<Value = Event<'static>> {
    let id = || option::of(any::<u32>());
    let sent = (
        id(),
        message_id(),
        conversation(),
        json_seq(),
        json_time(),
        any::<bool>(),
    )
        .prop_map(|(id, message_id, conversation, seq, timestamp, duplicate)| Sent {
            id,
            message_id,
            conversation,
            seq,
            timestamp,
            duplicate,
        });
    let rejected = (
        id(),
        option::of(message_id()),
        code(),
        words(),
        option::of(any::<u32>()),
    )
        .prop_map(|(id, message_id, code, reason, retry_after_ms)| Rejected {
            id,
            message_id,
            code,
            reason,
            retry_after_ms,
        });
    let update = (conversation(), user(), status(), json_seq(), message_id()).prop_map(
        |(conversation, user, status, seq, message_id)| StatusUpdate {
            conversation,
            user,
            status,
            seq,
            message_id,
        },
    );
    let history = (
        id(),
        conversation(),
        vec(shown_message(), 0..4),
        any::<bool>(),
        watermark(),
        watermark(),
    )
        .prop_map(
            |(id, conversation, messages, more, delivered, read)| HistoryPage {
                id,
                conversation,
                messages,
                more,
                delivered,
                read,
            },
        );
    let conversations =
        (id(), vec(summary(), 0..4), option::of(words())).prop_map(|(id, conversations, next)| {
            ConversationsPage {
                id,
                conversations,
                next,
            }
        });
    let failure = (id(), code(), words()).prop_map(|(id, code, reason)| Failure { id, code, reason });
    prop_oneof![
        welcome().prop_map(Event::Welcome),
        sent.prop_map(Event::Sent),
        rejected.prop_map(Event::Rejected),
        shown_message().prop_map(Event::Message),
        update.prop_map(Event::StatusUpdate),
        position().prop_map(Event::Synced),
        (words(), position()).prop_map(|(reason, oldest)| Event::Resync { reason, oldest }),
        history.prop_map(Event::History),
        conversations.prop_map(Event::Conversations),
        (any::<(u32, u32)>(), words()).prop_map(|((after_ms, jitter_ms), reason)| Event::Reconnect {
            after_ms,
            jitter_ms,
            reason
        }),
        (id(), json_time()).prop_map(|(id, server_time)| Event::Pong { id, server_time }),
        failure.prop_map(Event::Error),
    ]
}

fn words() -> impl Strategy<Value = &'static str> {
    text().prop_map(|text| &*text.leak())
}

proptest! {
    #[test]
    fn an_encoded_event_is_the_json_of_the_protocol(event in event()) {
        let text = encoded(&event);
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected(&event));
    }

    #[test]
    fn an_encoded_event_parses_to_itself(event in event()) {
        prop_assert!(parses_to(&encoded(&event), std::slice::from_ref(&event)));
    }

    #[test]
    fn a_batch_of_encoded_events_parses_to_them(events in vec(event(), 0..5)) {
        let objects: Vec<_> = events.iter().map(encoded).collect();
        let objects: Vec<_> = objects.iter().map(String::as_str).collect();
        prop_assert!(parses_to(&batch(&objects), &events));
    }

    #[test]
    fn a_truncated_event_is_refused(event in event()) {
        let text = encoded(&event);
        for length in (0..text.len()).filter(|length| text.is_char_boundary(*length)) {
            prop_assert!(parse_events(&text[..length], &mut |_| panic!("an event of a truncated frame")).is_err());
        }
    }
}

fn message_of(user: UserId, body: Body<'_>) -> Message<Body<'_>> {
    Message {
        conversation: ConversationId::direct(user, user),
        seq: Seq(1),
        message_id: MessageId::new(uuid::Uuid::from_u128(0xAB)).unwrap(),
        sender: user,
        sender_device: DeviceId::API,
        timestamp: UnixMs(9),
        body,
    }
}

#[test]
fn an_event_for_many_with_a_cursor_written_in_is_the_event_with_that_cursor() {
    let user = UserId::new(7).unwrap();
    let cursor = Position {
        generation: 0x1234_5678,
        offset: wire_base::ids::Offset(0x9abc_def0_0fed_cba9),
        index: 0x8765,
    };
    let message = ShownMessage {
        cursor: None,
        group: None,
        message: message_of(
            user,
            Body {
                content: Content::Text(r#"","cursor":"0000000000000000000000000000"#),
                media_url: None,
                kind: None,
            },
        ),
    };
    let format = Format::Json;
    let mut bytes = b"before".to_vec();
    let at = 6 + format.encode_for_many(&message, &mut bytes);
    format.write_cursor(cursor, &mut bytes[at..at + format.cursor_bytes()]);
    let own = ShownMessage {
        cursor: Some(cursor),
        ..message
    };
    assert_eq!(bytes[6..], *encoded(&Event::Message(own)).as_bytes());
}

#[test]
fn the_text_is_compact_and_in_the_order_of_the_protocol() {
    let user = UserId::new(7).unwrap();
    let message = ShownMessage {
        cursor: Some(Position::start(1)),
        group: None,
        message: message_of(
            user,
            Body {
                content: Content::Text("\u{2028}\u{7f}\"\\/\u{8}\n\r\t\u{1f}"),
                media_url: None,
                kind: Some("k"),
            },
        ),
    };
    let expected = concat!(
        r#"{"type":"message","cursor":"0000000100000000000000000000","message_id":"00000000-0000-0000-0000-0000000000ab","#,
        r#""conversation_id":"CONVERSATION","seq":1,"sender_id":7,"sender_device":0,"content":"#,
        "\"\u{2028}\u{7f}\\\"\\\\/\\u0008\\n\\r\\t\\u001f\"",
        r#","kind":"k","timestamp":9}"#
    );
    assert_eq!(
        encoded(&Event::Message(message)),
        expected.replace("CONVERSATION", &message.message.conversation.to_string())
    );
}

#[test]
fn the_largest_message_fits_a_frame_in_a_batch() {
    let (url, kind) = (
        "\u{1}".repeat(MEDIA_URL_BYTES_MAX),
        "\u{1}".repeat(KIND_BYTES_MAX),
    );
    let user = UserId::new(UserId::MAX).unwrap();
    let text = "\u{1}".repeat(10_000);
    for content in [
        Content::Ciphertext(&[255; CIPHERTEXT_BYTES_MAX]),
        Content::Text(&text),
    ] {
        let message = ShownMessage {
            cursor: Some(Position {
                generation: u32::MAX,
                ..Position::default()
            }),
            group: ConversationId::new(uuid::Uuid::max()),
            message: Message {
                conversation: ConversationId::direct(user, user),
                seq: Seq(u64::MAX),
                message_id: MessageId::new(uuid::Uuid::max()).unwrap(),
                sender: user,
                sender_device: DeviceId::new(i32::MAX as u32).unwrap(),
                timestamp: UnixMs(u64::MAX),
                body: Body {
                    content,
                    media_url: Some(&url),
                    kind: Some(&kind),
                },
            },
        };
        assert_eq!(message.message.body.check(), Ok(()));
        let length = encoded(&Event::Message(message)).len();
        assert!(Format::Json.batch_bytes(Format::Json.bytes_in_batch(length)) <= FRAME_BYTES_MAX);
        assert!(
            length <= 103_000,
            "the bound that encode_event documents: {length}"
        );
    }
}

#[test]
fn an_event_of_a_later_protocol_is_passed_over() {
    let frame = r#"{"type":"batch","messages":[{"type":"presence","user_id":1},{"type":"pong","server_time_ms":5},{"type":"x"}]}"#;
    assert!(parses_to(
        frame,
        &[Event::Pong {
            id: None,
            server_time: UnixMs(5)
        }]
    ));
    let page = r#"{"type":"history","conversation_id":"b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd","messages":[{"type":"member"}],"more":false,"delivered_seq":0,"read_seq":0}"#;
    let mut count = None;
    parse_events(page, &mut |event| match event {
        Event::History(page) => count = Some(page.messages.len()),
        other => panic!("{other:?}"),
    })
    .unwrap();
    assert_eq!(count, Some(0));
}

#[test]
fn what_no_server_says_is_refused_by_field() {
    let refused = |text: &str| -> String {
        let BadEvent { reason } = parse_events(text, &mut |_| {}).unwrap_err();
        reason
    };
    assert_eq!(refused("[]"), "frame: must be a JSON object");
    assert_eq!(refused("{}"), "type: missing");
    assert_eq!(refused(r#"{"type":"synced"}"#), "cursor: missing");
    assert_eq!(
        refused(r#"{"type":"pong","server_time_ms":-1}"#),
        "server_time_ms: must be an integer from 0 to 9007199254740991"
    );
    assert_eq!(
        refused(r#"{"type":"error","code":"oops","reason":""}"#),
        "code: not a code of the protocol"
    );
    assert_eq!(refused(r#"{"type":"error","code":"busy"}"#), "reason: missing");
    assert_eq!(refused(r#"{"type":"welcome"}"#), "limits: must be a JSON object");
    assert_eq!(refused(r#"{"type":"batch"}"#), "messages: missing");
    let many = vec![r#"{"type":"x"}"#; 101].join(",");
    assert_eq!(
        refused(&format!(r#"{{"type":"batch","messages":[{many}]}}"#)),
        "messages: at most 100"
    );
    assert_eq!(Code::from_name("oops"), None);
}

fn encoded(event: &Event<'_>) -> String {
    let mut out = Vec::new();
    encode_event(event, &mut out);
    String::from_utf8(out).unwrap()
}

/// An event lives only for its call, so the comparison happens there.
fn parses_to(text: &str, events: &[Event<'_>]) -> bool {
    let mut expected = events.iter();
    let parsed = parse_events(text, &mut |event| assert_eq!(Some(&event), expected.next()));
    assert_eq!(parsed, Ok(()), "{text}");
    expected.next().is_none()
}
