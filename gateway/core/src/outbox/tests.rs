use proptest::prelude::*;
use uuid::Uuid;
use wire_base::body::{Body, Content};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Seq, UnixMs, UserId};
use wire_base::message::Message;
use wire_base::status::Status;
use wire_client::{Event, ShownMessage, StatusUpdate};
use wire_ws::{Input, Reader, Rules};

use super::*;
use crate::event::Key;

const NOW: Now = Now {
    mono_ms: 0,
    unix: UnixMs(0),
};
const JSON: Format = Format::Json;

/// Returns the texts of the frames in `bytes`.
fn texts(bytes: &Frames) -> Vec<String> {
    let mut bytes = bytes.to_vec();
    let mut input = Input::new(&mut bytes);
    let mut reader = Reader::new();
    let mut texts = Vec::new();
    while let Some(item) = reader.next(&mut input, &Rules::client()).unwrap() {
        match item {
            wire_ws::Item::Text(text) => texts.push(text.to_owned()),
            wire_ws::Item::Pong(_) => texts.push("pong".to_owned()),
            other => panic!("{other:?}"),
        }
    }
    assert!(!reader.is_partial());
    texts
}

/// Returns the events of each frame, taken out of their batches.
fn events(bytes: &Frames) -> Vec<Vec<String>> {
    let batch = |text: String| match text
        .strip_prefix(r#"{"type":"batch","messages":"#)
        .and_then(|rest| rest.strip_suffix('}'))
    {
        Some(array) => {
            let events: Vec<&serde_json::value::RawValue> = serde_json::from_str(array).unwrap();
            assert!((2..=BATCH_MESSAGES_MAX).contains(&events.len()) && text.len() <= FRAME_BYTES_MAX);
            events.iter().map(|event| event.get().to_owned()).collect()
        }
        None => vec![text],
    };
    texts(bytes).into_iter().map(batch).collect()
}

fn take(outbox: &mut Outbox) -> Frames {
    outbox.take(Vec::new()).bytes
}

fn object(bytes: usize) -> String {
    "1".repeat(bytes)
}

fn push(outbox: &mut Outbox, object: &str) {
    outbox.push_event(JSON, |out| out.extend_from_slice(object.as_bytes()));
}

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::direct(user(1), user(2))
}

fn at(offset: u64) -> Position {
    Position {
        generation: 1,
        offset: Offset(offset),
        index: 0,
    }
}

/// A message of that many characters.
fn message(chars: usize) -> Rc<SharedEvent> {
    with_message(&"x".repeat(chars), |message| SharedEvent::message(JSON, message))
}

fn with_message<T>(text: &str, then: impl FnOnce(&ShownMessage<'_>) -> T) -> T {
    then(&ShownMessage {
        cursor: None,
        group: None,
        message: Message {
            conversation: conversation(),
            seq: Seq(1),
            message_id: MessageId::new(Uuid::from_u128(1)).unwrap(),
            sender: user(1),
            sender_device: DeviceId::DEFAULT,
            timestamp: UnixMs(9),
            body: Body {
                content: Content::Text(text),
                media_url: None,
                kind: None,
            },
        },
    })
}

/// Returns a message as JSON, with a cursor.
fn message_text(chars: usize, cursor: Position) -> String {
    with_message(&"x".repeat(chars), |message| {
        let mut out = Vec::new();
        let cursor = Some(cursor);
        JSON.encode(&Event::Message(ShownMessage { cursor, ..*message }), &mut out);
        String::from_utf8(out).unwrap()
    })
}

/// Returns what a user has read, as an event with a key.
fn update(of: u64, seq: u64) -> Rc<SharedEvent> {
    let event = Event::StatusUpdate(StatusUpdate {
        conversation: conversation(),
        user: user(of),
        status: Status::Read,
        seq: Seq(seq),
        message_id: MessageId::new(Uuid::from_u128(1)).unwrap(),
    });
    SharedEvent::replacing(JSON, Key::Status(conversation(), user(of), Status::Read), &event)
}

fn update_text(of: u64, seq: u64) -> String {
    format!(
        r#"{{"type":"status_update","conversation_id":"{}","user_id":{of},"status":"read","seq":{seq},"message_id":"{}"}}"#,
        conversation(),
        Uuid::from_u128(1)
    )
}

/// Returns an event with a key whose text is that of a pong: neither typing nor presence has a text in this version.
fn dropped_first(key: Key, time: u64) -> (Rc<SharedEvent>, String) {
    let pong = Event::Pong {
        id: None,
        server_time: UnixMs(time),
    };
    let text = format!(r#"{{"type":"pong","server_time_ms":{time}}}"#);
    (SharedEvent::replacing(JSON, key, &pong), text)
}

#[test]
fn a_lone_event_is_its_own_frame_whatever_its_length() {
    for bytes in [1, 125, 126, 65_535, 65_536, FRAME_BYTES_MAX] {
        let mut outbox = Outbox::default();
        push(&mut outbox, &object(bytes));
        let taken = outbox.take(Vec::new());
        assert_eq!(texts(&taken.bytes), [object(bytes)]);
        assert_eq!((taken.frames, taken.batches), (1, 0));
        assert_eq!((outbox.is_empty(), outbox.len()), (true, 0));
    }
}

#[test]
fn events_in_a_row_share_a_frame_of_at_most_a_hundred() {
    let mut outbox = Outbox::default();
    for n in 1..=201 {
        push(&mut outbox, &format!("{n}"));
    }
    let taken = outbox.take(Vec::new());
    let texts = texts(&taken.bytes);
    assert_eq!((taken.frames, taken.batches), (3, 2));
    assert!(texts[0].starts_with(r#"{"type":"batch","messages":[1,2,"#) && texts[0].ends_with(",100]}"));
    assert!(texts[1].ends_with(",199,200]}"));
    assert_eq!(texts[2], "201");
}

#[test]
fn a_batch_frame_is_never_larger_than_a_frame_may_be() {
    let half = (FRAME_BYTES_MAX - JSON.batch_bytes(2 * JSON.bytes_in_batch(0))) / 2;
    let mut outbox = Outbox::default();
    push(&mut outbox, &object(half));
    push(&mut outbox, &object(half));
    let exact = texts(&take(&mut outbox));
    assert_eq!(
        exact.iter().map(String::len).collect::<Vec<_>>(),
        [JSON.batch_bytes(2 * JSON.bytes_in_batch(half))]
    );
    push(&mut outbox, &object(half));
    push(&mut outbox, &object(half + 2));
    assert_eq!(texts(&take(&mut outbox)).len(), 2);
}

#[test]
fn another_frame_ends_a_batch_and_keeps_its_place() {
    let mut outbox = Outbox::default();
    push(&mut outbox, "1");
    push(&mut outbox, "2");
    assert!(outbox.may_linger());
    outbox.push_frame(Opcode::Pong, b"");
    outbox.push_frame(Opcode::Pong, b"");
    push(&mut outbox, "3");
    assert!(!outbox.may_linger());
    let taken = outbox.take(Vec::new());
    assert_eq!(
        texts(&taken.bytes),
        [r#"{"type":"batch","messages":[1,2]}"#, "pong", "pong", "3"]
    );
    assert_eq!((taken.frames, taken.batches), (4, 1));
}

#[test]
fn frames_alone_leave_in_the_buffer_they_were_written_to() {
    let mut outbox = Outbox::default();
    outbox.push_frame(Opcode::Pong, b"");
    outbox.push_frame(Opcode::Pong, b"");
    let written = outbox.own.as_ptr();
    let bytes = take(&mut outbox);
    assert_eq!((bytes.own.as_ptr(), texts(&bytes).len()), (written, 2));
}

#[test]
fn an_event_for_many_differs_in_its_cursor_alone() {
    for chars in [64, SHARED_BYTES_MIN, 9_000] {
        let event = message(chars);
        for offset in [7, u64::MAX] {
            let mut outbox = Outbox::default();
            outbox.push_shared(&event, at(offset));
            assert_eq!(texts(&take(&mut outbox)), [message_text(chars, at(offset))]);
            outbox.push_shared(&event, at(offset));
            push(&mut outbox, "1");
            outbox.push_shared(&event, at(offset));
            let text = message_text(chars, at(offset));
            assert_eq!(
                texts(&take(&mut outbox)),
                [format!(r#"{{"type":"batch","messages":[{text},1,{text}]}}"#)]
            );
        }
    }
}

#[test]
fn a_short_event_is_copied_and_a_long_one_is_not() {
    let (short, long) = (message(64), message(9_000));
    let bytes: Vec<_> = [1, 2]
        .map(|offset| {
            let mut outbox = Outbox::default();
            outbox.push_shared(&short, at(offset));
            outbox.push_shared(&long, at(offset));
            take(&mut outbox)
        })
        .into();
    let [(at, first)] = &bytes[0].shared[..] else {
        panic!("{:?}", bytes[0])
    };
    let (_, second) = &bytes[1].shared[0];
    assert_eq!((first.as_ptr(), *at), (second.as_ptr(), bytes[0].own.len() - 2));
    assert!(first.len() > 9_000 && bytes[0].own.len() < 600);
}

#[test]
fn an_update_takes_the_place_of_the_one_before_while_that_waits() {
    let mut outbox = Outbox::default();
    let mut push_update = |of, seq| outbox.push_shared(&update(of, seq), Position::default());
    assert!(!push_update(1, 9));
    assert!(push_update(1, 10), "alone");
    assert_eq!(texts(&take(&mut outbox)), [update_text(1, 10)]);
    outbox.handle_blocked(5, NOW);
    let mut push_update = |of, seq| outbox.push_shared(&update(of, seq), Position::default());
    for seq in 11..5_000 {
        assert_eq!(push_update(1, seq), seq > 11, "what has left is not replaced");
    }
    assert!(!push_update(2, 1));
    let text = serde_json::to_string(&update_text(1, 7)).unwrap();
    push(&mut outbox, &text);
    let mut push_update = |of, seq| outbox.push_shared(&update(of, seq), Position::default());
    assert!(push_update(2, 2) && push_update(1, 5_000));
    outbox.handle_writable();
    let bytes = take(&mut outbox);
    assert_eq!(events(&bytes), [[text, update_text(2, 2), update_text(1, 5_000)]]);
}

#[test]
fn an_update_is_replaced_in_front_of_a_frame_too() {
    let mut outbox = Outbox::default();
    outbox.push_shared(&update(1, 1), Position::default());
    outbox.push_frame(Opcode::Pong, b"");
    assert!(outbox.push_shared(&update(1, 2), Position::default()));
    assert_eq!(texts(&take(&mut outbox)), ["pong".to_owned(), update_text(1, 2)]);
}

#[test]
fn typing_and_presence_go_first_updates_give_way_to_newer_ones_and_messages_stay() {
    let mut outbox = Outbox::default();
    outbox.handle_blocked(1, NOW);
    let typing = |of, time| dropped_first(Key::Typing(conversation(), user(of)), time);
    let presence = |of, time| dropped_first(Key::Presence(user(of)), time);
    for n in 1..=10 {
        outbox.push_shared(&message(64), at(n));
        outbox.push_shared(&typing(n, n).0, Position::default());
        outbox.push_shared(&update(n % 2 + 1, n), Position::default());
        outbox.push_shared(&presence(n, 100 + n).0, Position::default());
    }
    assert!(
        outbox.push_shared(&typing(10, 11).0, Position::default()),
        "it is replaced too"
    );
    let full = outbox.len();
    assert_eq!(outbox.drop_first(full), 0, "there is room");
    let one = typing(1, 1).0.len() + ITEM_BYTES;
    assert_eq!(
        outbox.drop_first(full - 2 * one + 1),
        2,
        "the oldest, no more than needed"
    );
    assert_eq!(outbox.drop_first(0), 18);
    assert_eq!(outbox.drop_first(0), 0, "nothing else may be dropped");
    outbox.handle_writable();
    let expected: Vec<_> = (1..=10)
        .flat_map(|n| {
            let update = (n > 8).then(|| update_text(n % 2 + 1, n));
            [Some(message_text(64, at(n))), update]
        })
        .flatten()
        .collect();
    assert_eq!(events(&take(&mut outbox)), [expected]);
    assert_eq!((outbox.len(), outbox.keyed, outbox.droppable), (0, 0, 0));
}

#[test]
fn progress_is_made_when_the_transport_holds_less() {
    let at = |mono_ms| Now { mono_ms, ..NOW };
    let mut outbox = Outbox::default();
    outbox.handle_blocked(5, at(100));
    outbox.handle_blocked(5, at(200));
    assert_eq!((outbox.progress(), outbox.unsent()), (Stamp::of(at(100)), 5));
    outbox.handle_blocked(4, at(300));
    assert_eq!((outbox.progress(), outbox.len()), (Stamp::of(at(300)), 4));
    outbox.handle_writable();
    outbox.handle_blocked(9, at(400));
    assert_eq!(outbox.progress(), Stamp::of(at(400)));
}

#[test]
fn dropping_the_items_leaves_what_the_transport_holds() {
    let mut outbox = Outbox::default();
    outbox.handle_blocked(7, NOW);
    push(&mut outbox, "1");
    outbox.push_shared(&update(1, 1), Position::default());
    outbox.drop_items();
    assert_eq!((outbox.len(), outbox.is_blocked()), (7, true));
    push(&mut outbox, "2");
    outbox.handle_writable();
    assert_eq!(texts(&take(&mut outbox)), ["2"]);
}

#[test]
fn a_spare_outbox_keeps_little() {
    let mut outbox = Outbox::default();
    for n in 0..1_000 {
        push(&mut outbox, &format!("{n}"));
    }
    outbox.clear();
    assert!(outbox.items.capacity() <= SPARE_ITEMS_MAX && outbox.own.capacity() == 0);
    assert_eq!((outbox.is_empty(), outbox.len()), (true, 0));
}

proptest! {
    /// Any mix of events and frames comes out in order, in frames within their bounds; the newest event of each key stands
    /// where it was queued, once in what leaves together.
    #[test]
    fn order_is_kept(steps in prop::collection::vec((0usize..8, 1usize..9_000), 1..300)) {
        let mut outbox = Outbox::default();
        let (mut expected, mut sent) = (Vec::<String>::new(), Vec::new());
        let mut left = 0;
        for (n, (kind, bytes)) in steps.into_iter().enumerate() {
            let n = n as u64;
            match kind {
                0 => { outbox.push_frame(Opcode::Pong, b""); expected.push("pong".to_owned()); }
                1 if bytes < 2_000 => {
                    sent.extend(events(&take(&mut outbox)).into_iter().flatten());
                    left = expected.len();
                }
                1 | 2 => { push(&mut outbox, &object(bytes)); expected.push(object(bytes)); }
                3 | 4 => {
                    outbox.push_shared(&message(bytes), at(n));
                    expected.push(message_text(bytes, at(n)));
                }
                _ => {
                    let of = kind as u64;
                    let start = update_text(of, 0);
                    let start = &start[..start.find(r#","seq""#).unwrap()];
                    let before = expected[left..].iter().position(|other| other.starts_with(start));
                    prop_assert_eq!(outbox.push_shared(&update(of, n), Position::default()), before.is_some());
                    if let Some(before) = before {
                        expected.remove(left + before);
                    }
                    expected.push(update_text(of, n));
                }
            }
            let waiting: usize = expected[left..].iter().map(|text| if text == "pong" { 2 } else { text.len() }).sum();
            prop_assert_eq!(outbox.bytes, waiting);
        }
        sent.extend(events(&take(&mut outbox)).into_iter().flatten());
        prop_assert_eq!(sent, expected);
    }
}
