use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::json::{BadCommand, BadKind, FrameKind, encode_request, parse_frame};
use crate::{Command, Conversations, Hello, History, Presence, Request, Send, SendBody, Typing};
use wire_base::body::Content;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UserId};
use wire_base::limits::{CIPHERTEXT_BYTES_MAX, FRAME_BYTES_MAX, WINDOW_MAX};
use wire_base::message::Target;
use wire_base::samples::*;
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};

const MESSAGE: &str = "01900000-0001-7000-8000-000000000001";
const OTHER: &str = "b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd";
const CURSOR: &str = "0000000100000000000000090001";

#[test]
fn every_command_of_the_protocol_is_understood() {
    let position: Position = CURSOR.parse().unwrap();
    let hello = Hello {
        user: None,
        token: None,
        device: None,
        cursor: None,
        window: 64,
    };
    let send = |to, content| {
        let body = SendBody::Borrowed(wire_base::body::Body {
            content,
            media_url: None,
            kind: None,
        });
        Command::Send(Send {
            message_id: None,
            to,
            body,
        })
    };
    let status = |status, of| Command::Status(StatusCommand { status, of });
    let cases = [
        (r#"{"type":"hello"}"#.to_owned(), Command::Hello(hello)),
        (
            format!(
                r#"{{"type":"hello","user_id":7,"token":"a.b.c","device_id":3,"cursor":"{CURSOR}","window":256}}"#
            ),
            Command::Hello(Hello {
                user: Some(user_id(7)),
                token: Some("a.b.c"),
                device: DeviceId::new(3),
                cursor: Some(position),
                window: 256,
            }),
        ),
        (
            r#"{"type":"send","receiver_id":2,"content":"hi"}"#.to_owned(),
            send(Target::Direct(user_id(2)), Content::Text("hi")),
        ),
        (
            format!(r#"{{"type":"send","group_id":"{OTHER}","ciphertext":"AAEC\/w=="}}"#),
            send(
                Target::Group(ConversationId::new(uuid(OTHER)).unwrap()),
                Content::Ciphertext(&[0, 1, 2, 255]),
            ),
        ),
        (
            format!(r#"{{"type":"ack","cursor":"{CURSOR}"}}"#),
            Command::Ack(position),
        ),
        (
            format!(r#"{{"type":"status","status":"delivered","message_id":"{MESSAGE}"}}"#),
            status(Status::Delivered, StatusOf::Message(message_id_one())),
        ),
        (
            format!(r#"{{"type":"status","status":"read","conversation_id":"{OTHER}","seq":9}}"#),
            status(Status::Read, StatusOf::Seq(conversation_one(), Seq(9))),
        ),
        (
            r#"{"type":"typing","receiver_id":2,"state":"start"}"#.to_owned(),
            Command::Typing(Typing {
                to: Target::Direct(user_id(2)),
                active: true,
            }),
        ),
        (
            r#"{"type":"presence","user_ids":[1, 2]}"#.to_owned(),
            Command::Presence(Presence {
                users: vec![user_id(1), user_id(2)],
                watch: false,
            }),
        ),
        (
            format!(r#"{{"type":"history","conversation_id":"{OTHER}"}}"#),
            Command::History(History {
                conversation: conversation_one(),
                before: None,
                limit: 50,
            }),
        ),
        (
            r#"{"type":"conversations","limit":100,"before":"abc"}"#.to_owned(),
            Command::Conversations(Conversations {
                limit: 100,
                before: Some("abc"),
            }),
        ),
        (
            r#"{"type":"refresh","token":"a.b.c"}"#.to_owned(),
            Command::Refresh("a.b.c"),
        ),
        (r#"{"type":"ping"}"#.to_owned(), Command::Ping),
    ];
    for (text, command) in cases {
        assert_eq!(
            one(&text),
            Ok(Request {
                id: None,
                command: command.clone()
            }),
            "{text}"
        );
        let with_id = text.replacen('{', "{\"id\":4294967295,", 1);
        assert_eq!(
            one(&with_id),
            Ok(Request {
                id: Some(u32::MAX),
                command
            }),
            "{text}"
        );
    }
}

#[test]
fn reading_forgives_what_json_and_time_bring() {
    let ping = Ok(Request {
        id: Some(1),
        command: Command::Ping,
    });
    assert_eq!(one(r#" { "id" : 1 , "type" : "ping" } "#), ping, "white space");
    assert_eq!(one("{\"\\u0074ype\":\"p\\u0069ng\",\"id\":1}"), ping, "escapes");
    assert_eq!(
        one(r#"{"type":"ping","id":1,"new":{"a":[1,2,{"b":null}]},"x":1e300}"#),
        ping,
        "unknown fields"
    );
    assert_eq!(
        one(r#"{"type":"ping","id":2,"id":1}"#),
        ping,
        "the last of a repeated field"
    );
    assert_eq!(
        one(
            r#"{"type":"hello","user_id":null,"token":null,"device_id":null,"cursor":null,"window":null,"id":null}"#
        ),
        one(r#"{"type":"hello"}"#),
        "null is absent"
    );
    let upper = MESSAGE.to_uppercase();
    let text = format!(r#"{{"type":"status","status":"read","message_id":"{upper}"}}"#);
    assert!(one(&text).is_ok(), "upper case in a UUID");
}

#[test]
fn text_without_escapes_is_borrowed_and_text_with_escapes_is_decoded() {
    let plain = r#"{"type":"send","receiver_id":2,"content":"grüße","media_url":"u","kind":"k"}"#;
    let Ok(Request {
        command: Command::Send(Send {
            body: SendBody::Borrowed(body),
            ..
        }),
        ..
    }) = one(plain)
    else {
        panic!("borrowed")
    };
    assert_eq!(
        (body.content, body.media_url, body.kind),
        (Content::Text("grüße"), Some("u"), Some("k"))
    );
    for (content, url) in [
        ("\\u00e9\\n\\ud83d\\ude00", "u"),
        ("é\\n😀", "\\/"),
        ("é\\n😀", "u"),
    ] {
        let text = format!(r#"{{"type":"send","receiver_id":2,"content":"{content}","media_url":"{url}"}}"#);
        let Ok(Request {
            command: Command::Send(send),
            ..
        }) = one(&text)
        else {
            panic!("{text}")
        };
        assert!(matches!(send.body, SendBody::Encoded(_)));
        assert_eq!(send.body.view().content, Content::Text("é\n😀"));
        assert_eq!(send.body.view().media_url, Some(url.trim_start_matches('\\')));
    }
}

#[test]
fn every_bad_field_is_named_and_the_ids_come_back() {
    let long = |count| "x".repeat(count);
    let cases: Vec<(String, &str)> = [
        (r#"{"content":"x"}"#.to_owned(), "type: missing"),
        (r#"{"type":7}"#.to_owned(), "type: must be a string"),
        (r#"{"type":"sned"}"#.to_owned(), "type: not a command"),
        (
            r#"{"type":"hello","user_id":0}"#.to_owned(),
            "user_id: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"hello","user_id":9007199254740992}"#.to_owned(),
            "user_id: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"hello","user_id":"7"}"#.to_owned(),
            "user_id: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"hello","user_id":7.0}"#.to_owned(),
            "user_id: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"hello","user_id":99999999999999999999}"#.to_owned(),
            "user_id: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"hello","device_id":0}"#.to_owned(),
            "device_id: must be an integer from 1 to 2147483647",
        ),
        (
            r#"{"type":"hello","device_id":2147483648}"#.to_owned(),
            "device_id: must be an integer from 1 to 2147483647",
        ),
        (
            r#"{"type":"hello","window":0}"#.to_owned(),
            "window: must be an integer from 1 to 256",
        ),
        (
            r#"{"type":"hello","window":257}"#.to_owned(),
            "window: must be an integer from 1 to 256",
        ),
        (
            r#"{"type":"hello","cursor":"abc"}"#.to_owned(),
            "cursor: a cursor is 28 lowercase hex digits",
        ),
        (
            r#"{"type":"hello","token":"a\u002eb"}"#.to_owned(),
            "token: must not have JSON escapes",
        ),
        (
            r#"{"type":"send","content":"x"}"#.to_owned(),
            "receiver_id: missing, and so is group_id",
        ),
        (
            format!(r#"{{"type":"send","content":"x","receiver_id":1,"group_id":"{OTHER}"}}"#),
            "receiver_id: give either receiver_id or group_id",
        ),
        (
            r#"{"type":"send","content":"x","receiver_id":-1}"#.to_owned(),
            "receiver_id: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"send","content":"x","group_id":"00000000-0000-0000-0000-000000000000"}"#.to_owned(),
            "group_id: must be a UUID with hyphens, and not nil",
        ),
        (
            r#"{"type":"send","receiver_id":1}"#.to_owned(),
            "content: missing, and so is ciphertext",
        ),
        (
            r#"{"type":"send","receiver_id":1,"content":"x","ciphertext":"AA=="}"#.to_owned(),
            "content: give either content or ciphertext",
        ),
        (
            r#"{"type":"send","receiver_id":1,"content":""}"#.to_owned(),
            "content: must not be empty",
        ),
        (
            r#"{"type":"send","receiver_id":1,"content":["x"]}"#.to_owned(),
            "content: must be a string",
        ),
        (
            r#"{"type":"send","receiver_id":1,"content":"\ud800"}"#.to_owned(),
            "content: has an escape that is no Unicode character",
        ),
        (
            r#"{"type":"send","receiver_id":1,"ciphertext":""}"#.to_owned(),
            "ciphertext: must not be empty",
        ),
        (
            r#"{"type":"send","receiver_id":1,"ciphertext":"AA"}"#.to_owned(),
            "ciphertext: must be base64 of the standard alphabet, with padding",
        ),
        (
            r#"{"type":"send","receiver_id":1,"ciphertext":"A-_A"}"#.to_owned(),
            "ciphertext: must be base64 of the standard alphabet, with padding",
        ),
        (
            format!(
                r#"{{"type":"send","receiver_id":1,"content":"{}"}}"#,
                long(10_001)
            ),
            "content: at most 10000 characters",
        ),
        (
            format!(
                r#"{{"type":"send","receiver_id":1,"content":"x","media_url":"{}"}}"#,
                long(2_049)
            ),
            "media_url: at most 2048 bytes",
        ),
        (
            format!(
                r#"{{"type":"send","receiver_id":1,"content":"x","kind":"{}"}}"#,
                long(65)
            ),
            "kind: at most 64 bytes",
        ),
        (
            r#"{"type":"send","receiver_id":1,"content":"x","kind":1}"#.to_owned(),
            "kind: must be a string",
        ),
        (r#"{"type":"ack"}"#.to_owned(), "cursor: missing"),
        (
            r#"{"type":"ack","cursor":12}"#.to_owned(),
            "cursor: must be a string",
        ),
        (r#"{"type":"status"}"#.to_owned(), "status: missing"),
        (
            r#"{"type":"status","status":"seen"}"#.to_owned(),
            "status: must be delivered or read",
        ),
        (
            format!(r#"{{"type":"status","status":"read","conversation_id":"{OTHER}","seq":0}}"#),
            "seq: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"typing","receiver_id":1,"state":"on"}"#.to_owned(),
            "state: must be start or stop",
        ),
        (
            r#"{"type":"typing","state":"stop"}"#.to_owned(),
            "receiver_id: missing, and so is group_id",
        ),
        (r#"{"type":"presence"}"#.to_owned(), "user_ids: missing"),
        (
            r#"{"type":"presence","user_ids":1}"#.to_owned(),
            "user_ids: must be an array",
        ),
        (
            r#"{"type":"presence","user_ids":[1,"2"]}"#.to_owned(),
            "user_ids: must be an integer from 1 to 9007199254740991",
        ),
        (
            r#"{"type":"presence","user_ids":[null]}"#.to_owned(),
            "user_ids: missing",
        ),
        (
            format!(r#"{{"type":"presence","user_ids":[{}1]}}"#, "1,".repeat(100)),
            "user_ids: at most 100",
        ),
        (
            r#"{"type":"presence","user_ids":[],"watch":1}"#.to_owned(),
            "watch: must be true or false",
        ),
        (r#"{"type":"history"}"#.to_owned(), "conversation_id: missing"),
        (
            format!(
                r#"{{"type":"history","conversation_id":"{}"}}"#,
                OTHER.replace('-', "")
            ),
            "conversation_id: must be a UUID with hyphens, and not nil",
        ),
        (
            format!(r#"{{"type":"history","conversation_id":"{OTHER}","limit":0}}"#),
            "limit: must be an integer from 1 to 100",
        ),
        (
            format!(r#"{{"type":"history","conversation_id":"{OTHER}","limit":101}}"#),
            "limit: must be an integer from 1 to 100",
        ),
        (
            format!(r#"{{"type":"history","conversation_id":"{OTHER}","before_seq":0}}"#),
            "before_seq: must be an integer from 1 to 9007199254740991",
        ),
        (
            format!(r#"{{"type":"conversations","before":"{}"}}"#, long(129)),
            "before: not the next of a page",
        ),
        (r#"{"type":"refresh"}"#.to_owned(), "token: missing"),
    ]
    .into();
    for (text, reason) in cases {
        let code = if reason.contains(": at most") && !reason.starts_with("user_ids") {
            Code::TooLong
        } else {
            Code::BadRequest
        };
        let kind = match text.as_str() {
            _ if reason.starts_with("type") => BadKind::Unknown,
            text if text.contains(r#""type":"send""#) => BadKind::Send,
            text if text.contains(r#""type":"hello""#) => BadKind::Hello,
            _ => BadKind::Other,
        };
        let bad = BadCommand {
            id: None,
            message_id: None,
            kind,
            code,
            reason: reason.to_owned(),
        };
        assert_eq!(one(&text), Err(bad.clone()), "{text}");
        // Before and after the fault alike.
        let front = text.replacen('{', &format!(r#"{{"id":7,"message_id":"{MESSAGE}","#), 1);
        let back = format!(r#"{},"message_id":"{MESSAGE}","id":7}}"#, &text[..text.len() - 1]);
        for text in [front, back] {
            let bad = BadCommand {
                id: Some(7),
                message_id: Some(message_id_one()),
                ..bad.clone()
            };
            assert_eq!(one(&text), Err(bad), "{text}");
        }
    }
}

#[test]
fn ids_that_cannot_be_read_are_the_fault_themselves() {
    let bad = |text: &str| one(text).unwrap_err();
    let id = bad(r#"{"type":"send","id":"x","receiver_id":1,"content":"x"}"#);
    assert_eq!(
        (id.id, id.kind, id.reason.as_str()),
        (None, BadKind::Send, "id: must be an integer from 0 to 4294967295")
    );
    for nil in ["00000000-0000-0000-0000-000000000000", "x", ""] {
        let text = format!(r#"{{"type":"send","id":3,"message_id":"{nil}","receiver_id":1,"content":"x"}}"#);
        let message_id = bad(&text);
        assert_eq!((message_id.id, message_id.message_id), (Some(3), None));
        assert_eq!(
            message_id.reason,
            "message_id: must be a UUID with hyphens, and not nil"
        );
    }
}

#[test]
fn a_status_names_its_message_in_one_way() {
    let fields = [
        format!(r#","message_id":"{MESSAGE}""#),
        format!(r#","conversation_id":"{OTHER}""#),
        r#","seq":1"#.to_owned(),
    ];
    for choice in 0..8 {
        let given = (0..3)
            .filter(|bit| choice >> bit & 1 == 1)
            .map(|bit| fields[bit].as_str())
            .collect::<String>();
        let text = format!(r#"{{"type":"status","status":"read"{given}}}"#);
        let parsed = one(&text);
        match choice {
            0b001 | 0b110 => assert!(parsed.is_ok(), "{given}"),
            _ => {
                let reason = parsed.unwrap_err().reason;
                assert_eq!(
                    reason, "message_id: give either message_id, or conversation_id and seq",
                    "{given}"
                );
            }
        }
    }
}

#[test]
fn the_largest_fields_are_taken() {
    let (content, url, kind) = ("é".repeat(10_000), "u".repeat(2_048), "k".repeat(64));
    let text = format!(
        r#"{{"type":"send","receiver_id":1,"content":"{content}","media_url":"{url}","kind":"{kind}"}}"#
    );
    assert!(one(&text).is_ok());

    use base64::Engine as _;
    let base64 = |bytes| base64::engine::general_purpose::STANDARD.encode(vec![0xfb; bytes]);
    let text = |bytes| {
        format!(
            r#"{{"type":"send","receiver_id":1,"ciphertext":"{}","id":1}}"#,
            base64(bytes)
        )
    };
    assert!(one(&text(CIPHERTEXT_BYTES_MAX)).is_ok());
    for over in [
        CIPHERTEXT_BYTES_MAX + 1,
        CIPHERTEXT_BYTES_MAX + 2,
        CIPHERTEXT_BYTES_MAX + 3,
        CIPHERTEXT_BYTES_MAX + 1_000,
    ] {
        let bad = one(&text(over)).unwrap_err();
        assert_eq!(
            (bad.code, bad.reason.as_str()),
            (Code::TooLong, "ciphertext: at most 65536 bytes")
        );
    }
}

#[test]
fn a_frame_that_is_not_an_object_is_one_error() {
    for text in ["", " ", "[]", "7", "null", "\"secret words\"", "[[[[", "true"] {
        let bad = one(text).unwrap_err();
        assert_eq!(
            (bad.id, bad.kind, bad.code),
            (None, BadKind::Unknown, Code::BadRequest),
            "{text}"
        );
        assert!(
            bad.reason.starts_with("frame: ") && !bad.reason.contains("secret"),
            "{}",
            bad.reason
        );
    }
    assert_eq!(one("[]").unwrap_err().reason, "frame: must be a JSON object");
    assert_eq!(
        one(r#"{"type":"ping"} {}"#).unwrap_err().reason,
        "frame: malformed JSON at line 1, column 17"
    );
}

#[test]
fn malformed_json_gives_back_what_stood_before_it() {
    let text = format!(r#"{{"type":"send","id":5,"message_id":"{MESSAGE}","content":secret}}"#);
    let bad = one(&text).unwrap_err();
    assert_eq!(
        (bad.id, bad.message_id, bad.kind),
        (Some(5), Some(message_id_one()), BadKind::Send)
    );
    assert_eq!(bad.reason, "frame: malformed JSON at line 1, column 85");
    assert_eq!(one(r#"{"id":5,"type":"ping","x":"\q"}"#).unwrap_err().id, Some(5));
    assert_eq!(
        one("{\"id\":5,\"type\":\"ping\",\"x\":\"\u{1}\"}")
            .unwrap_err()
            .id,
        Some(5)
    );
    assert_eq!(one(r#"{"id":5,"type":"ping","x":01}"#).unwrap_err().id, Some(5));
}

#[test]
fn a_batch_runs_in_order_and_each_fault_stands_in_its_place() {
    let (kind, all) = frame(
        r#"{"type":"batch","id":1,"messages":[{"type":"ping","id":2},{"type":"hello","id":3},{"type":"batch","id":4,"messages":[]},7,null,{"type":"ping","id":5}]}"#,
    );
    assert_eq!(kind, FrameKind::Batch);
    let outcomes: Vec<_> = all
        .iter()
        .map(|result| {
            result.as_ref().map(|request| request.id).map_err(|bad| {
                assert_eq!(bad.kind, BadKind::Other);
                (bad.id, bad.reason.as_str())
            })
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            Ok(Some(2)),
            Err((Some(3), "type: hello cannot stand in a batch")),
            Err((Some(4), "type: a batch cannot stand in a batch")),
            Err((None, "messages: must be a JSON object")),
            Err((None, "messages: must be a JSON object")),
            Ok(Some(5)),
        ]
    );
}

#[test]
fn an_escaped_type_is_the_same_type() {
    let (kind, all) = frame(r#"{"type":"b\u0061tch","messages":[{"type":"pin\u0067"}]}"#);
    assert_eq!((kind, all.len(), all[0].is_ok()), (FrameKind::Batch, 1, true));
    assert_eq!(one(r#"{"type":"s\u0065nd"}"#).unwrap_err().kind, BadKind::Send);
}

#[test]
fn a_batch_over_its_bound_is_one_error_and_none_of_it_is_run() {
    let batch = |count: usize| {
        let items = vec![r#"{"type":"ping"}"#; count].join(",");
        format!(r#"{{"type":"batch","messages":[{items}],"id":9}}"#)
    };
    let text = batch(100);
    let (kind, all) = frame(&text);
    assert_eq!((kind, all.len()), (FrameKind::Batch, 100));
    assert!(all.iter().all(Result::is_ok));
    for count in [101, 200] {
        let text = batch(count);
        let (kind, all) = frame(&text);
        let bad = all.into_iter().next().unwrap().unwrap_err();
        assert_eq!(
            (kind, bad.id, bad.code, bad.reason.as_str()),
            (
                FrameKind::Batch,
                Some(9),
                Code::BadRequest,
                "messages: at most 100"
            )
        );
    }
    for (text, reason) in [
        (r#"{"type":"batch","id":9}"#, "messages: missing"),
        (
            r#"{"type":"batch","id":9,"messages":{}}"#,
            "messages: must be an array",
        ),
        (
            r#"{"type":"batch","id":9,"messages":[{"type":"ping"}"#,
            "frame: malformed JSON at line 1, column 50",
        ),
    ] {
        let (_, all) = frame(text);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (
                all[0].as_ref().unwrap_err().id,
                all[0].as_ref().unwrap_err().reason.as_str()
            ),
            (Some(9), reason)
        );
    }
}

/// Every frame here nests as deep as a frame can; a parser that recursed would need far more stack than this thread has.
#[test]
fn hostile_nesting_costs_no_stack() {
    let deep = |open: &str, close: &str| {
        let depth = (FRAME_BYTES_MAX - 200) / (open.len() + close.len());
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let check = move || {
        for (value, unclosed) in [
            (deep("[", "]"), "[".repeat(100_000)),
            (deep("{\"a\":", "}"), "{\"a\":".repeat(20_000)),
        ] {
            for value in [&value, &unclosed] {
                for field in [
                    "unknown", "type", "id", "messages", "content", "user_ids", "token",
                ] {
                    let (_, all) = frame_owned(&format!(r#"{{"id":1,"{field}":{value}}}"#));
                    assert_eq!(all.len(), 1);
                    assert!(all[0].is_err());
                }
                frame_owned(value);
                frame_owned(&format!(r#"{{"type":"batch","messages":[{value}]}}"#));
                frame_owned(&format!(r#"{{"type":"presence","user_ids":[{value}]}}"#));
                frame_owned(&format!(r#"{{"type":"ping","{value}"#));
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(check)
        .unwrap()
        .join()
        .unwrap();
}

fn hello() -> impl Strategy<Value = Command<'static>> {
    let token = option::of("[A-Za-z0-9_.-]{0,30}");
    (
        option::of(user()),
        token,
        option::of(device()),
        option::of(position()),
        1..=WINDOW_MAX,
    )
        .prop_map(|(user, token, device, cursor, window)| {
            Command::Hello(Hello {
                user,
                token: token.map(leak),
                device,
                cursor,
                window,
            })
        })
}

fn command() -> impl Strategy<Value = Command<'static>> {
    let send = (option::of(message_id()), target(), body()).prop_map(|(message_id, to, body)| {
        Command::Send(Send {
            message_id,
            to,
            body: SendBody::Encoded(body),
        })
    });
    let history =
        (conversation(), option::of(json_seq()), 1..=100u32).prop_map(|(conversation, before, limit)| {
            Command::History(History {
                conversation,
                before,
                limit,
            })
        });
    let conversations = (1..=100u32, option::of("[!#-\\[\\]-~]{0,128}")).prop_map(|(limit, before)| {
        Command::Conversations(Conversations {
            limit,
            before: before.map(leak),
        })
    });
    prop_oneof![
        hello(),
        send,
        position().prop_map(Command::Ack),
        status_command(json_seq()).prop_map(Command::Status),
        (target(), any::<bool>()).prop_map(|(to, active)| Command::Typing(Typing { to, active })),
        (vec(user(), 0..=100), any::<bool>())
            .prop_map(|(users, watch)| Command::Presence(Presence { users, watch })),
        history,
        conversations,
        "[A-Za-z0-9_.-]{0,30}".prop_map(|token| Command::Refresh(leak(token))),
        Just(Command::Ping),
    ]
}

fn request() -> impl Strategy<Value = Request<'static>> {
    (option::of(any::<u32>()), command()).prop_map(|(id, command)| Request { id, command })
}

fn encoded(request: &Request<'_>) -> String {
    let mut out = Vec::new();
    encode_request(request, &mut out);
    String::from_utf8(out).unwrap()
}

proptest! {
    #[test]
    fn requests_round_trip(request in request()) {
        let text = encoded(&request);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        prop_assert_eq!(one(&text), Ok(request));
    }

    #[test]
    fn a_bad_command_says_what_it_is(command in command()) {
        let text = encoded(&Request { id: None, command: command.clone() }).replacen('{', r#"{"id":"x","#, 1);
        let kind = match command {
            Command::Hello(_) => BadKind::Hello,
            Command::Send(_) => BadKind::Send,
            _ => BadKind::Other,
        };
        prop_assert_eq!(one(&text).unwrap_err().kind, kind);
        let text = format!(r#"{{"type":"batch","messages":[{text}]}}"#);
        let kind = if kind == BadKind::Hello { BadKind::Other } else { kind };
        prop_assert_eq!(frame(&text).1.pop().unwrap().unwrap_err().kind, kind);
    }

    #[test]
    fn requests_round_trip_in_a_batch(requests in vec(request(), 0..6)) {
        let text = format!(r#"{{"type":"batch","messages":[{}]}}"#, requests.iter().map(encoded).collect::<Vec<_>>().join(","));
        let (kind, all) = frame(&text);
        prop_assert_eq!((kind, all.len()), (FrameKind::Batch, requests.len()));
        for (parsed, sent) in all.into_iter().zip(requests) {
            match sent.command {
                Command::Hello(_) => prop_assert_eq!(parsed.unwrap_err().id, sent.id),
                _ => prop_assert_eq!(parsed, Ok(sent)),
            }
        }
    }

    #[test]
    fn a_truncated_frame_is_one_error(request in request()) {
        let text = encoded(&request);
        for length in (0..text.len()).filter(|length| text.is_char_boundary(*length)) {
            let bad = one(&text[..length]).unwrap_err();
            prop_assert_eq!(bad.code, Code::BadRequest);
            prop_assert!(bad.reason.starts_with("frame: "));
        }
    }

    #[test]
    fn no_text_panics(request in request(), place in any::<prop::sample::Index>(), noise in "[\\[\\]{}\",:\\\\u0-9a-z]{0,4}") {
        let mut text = encoded(&request);
        let places: Vec<_> = (0..text.len()).filter(|place| text.is_char_boundary(*place)).collect();
        text.insert_str(places[place.index(places.len())], &noise);
        frame_owned(&text);
    }
}

fn frame<'a>(text: &'a str) -> (FrameKind, Vec<Result<Request<'a>, BadCommand>>) {
    let mut all = Vec::new();
    let kind = parse_frame(text, &mut |result| all.push(result));
    (kind, all)
}

fn frame_owned(text: &str) -> (FrameKind, Vec<Result<(), BadCommand>>) {
    let (kind, all) = frame(text);
    (kind, all.into_iter().map(|result| result.map(drop)).collect())
}

fn one(text: &str) -> Result<Request<'_>, BadCommand> {
    let (kind, mut all) = frame(text);
    assert_eq!((kind, all.len()), (FrameKind::One, 1), "{text}");
    all.remove(0)
}

fn leak(text: String) -> &'static str {
    text.leak()
}

fn user_id(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn uuid(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap()
}

fn message_id_one() -> MessageId {
    MessageId::new(uuid(MESSAGE)).unwrap()
}

fn conversation_one() -> ConversationId {
    ConversationId::new(uuid(OTHER)).unwrap()
}
