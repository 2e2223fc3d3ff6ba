use proptest::prelude::*;
use wire_client::json::batch_bytes;
use wire_ws::{Input, Item, Reader, Rules};

use super::*;

const NOW: Now = Now {
    mono_ms: 0,
    unix: wire_base::ids::UnixMs(0),
};

/// Returns the texts of the frames in `bytes`.
fn texts(bytes: &[u8]) -> Vec<String> {
    let mut bytes = bytes.to_vec();
    let mut input = Input::new(&mut bytes);
    let mut reader = Reader::new();
    let mut texts = Vec::new();
    while let Some(item) = reader.next(&mut input, &Rules::client()).unwrap() {
        match item {
            Item::Text(text) => texts.push(text.to_owned()),
            Item::Pong(_) => texts.push("pong".to_owned()),
            other => panic!("{other:?}"),
        }
    }
    assert!(!reader.is_partial());
    texts
}

fn object(bytes: usize) -> String {
    "1".repeat(bytes)
}

#[test]
fn a_lone_object_is_its_own_frame_whatever_its_length() {
    for bytes in [1, 125, 126, 65_535, 65_536, FRAME_BYTES_MAX] {
        let mut outbox = Outbox::default();
        outbox.push_object(object(bytes).as_bytes());
        let taken = outbox.take();
        assert_eq!(texts(taken.bytes.as_slice()), [object(bytes)]);
        assert_eq!((taken.frames, taken.batches), (1, 0));
        assert!(outbox.is_empty());
    }
}

#[test]
fn objects_in_a_row_share_a_frame_of_at_most_a_hundred() {
    let mut outbox = Outbox::default();
    for n in 1..=201 {
        outbox.push_object(format!("{n}").as_bytes());
    }
    let texts = texts(outbox.take().bytes.as_slice());
    assert_eq!(texts.len(), 3);
    assert!(texts[0].starts_with(r#"{"type":"batch","messages":[1,2,"#) && texts[0].ends_with(",100]}"));
    assert!(texts[1].ends_with(",199,200]}"));
    assert_eq!(texts[2], "201");
}

/// An update of `key`, and how much of it is the key.
fn update(key: u8, seq: u32) -> (String, usize) {
    let key = format!(r#"{{"type":"status_update","user_id":{key},"status":"read""#);
    (format!(r#"{key},"seq":{seq}}}"#), key.len())
}

#[test]
fn an_update_takes_the_place_of_the_one_before_while_that_waits() {
    let mut outbox = Outbox::default();
    let push = |outbox: &mut Outbox, key, seq| {
        let (object, key_bytes) = update(key, seq);
        outbox.push_update(object.as_bytes(), key_bytes)
    };
    assert!(!push(&mut outbox, 1, 9));
    assert!(push(&mut outbox, 1, 10), "alone in its frame");
    let bytes = outbox.take().bytes;
    assert_eq!(texts(bytes.as_slice()), [update(1, 10).0]);
    outbox.handle_rest(bytes, NOW);
    for seq in 11..5_000 {
        assert_eq!(push(&mut outbox, 1, seq), seq > 11);
    }
    assert!(!push(&mut outbox, 2, 1));
    let text = serde_json::to_string(&update(1, 7).0).unwrap();
    outbox.push_object(text.as_bytes());
    assert!(push(&mut outbox, 2, 2) && push(&mut outbox, 1, 5_000));
    outbox.handle_writable();
    let [(second, _), (first, _)] = [update(2, 2), update(1, 5_000)];
    assert_eq!(
        texts(outbox.take().bytes.as_slice()),
        [
            update(1, 10).0,
            format!(r#"{{"type":"batch","messages":[{text},{second},{first}]}}"#)
        ]
    );
}

#[test]
fn a_batch_frame_is_never_larger_than_a_frame_may_be() {
    let half = (FRAME_BYTES_MAX - batch_bytes(2, 0)) / 2;
    let mut outbox = Outbox::default();
    outbox.push_object(object(half).as_bytes());
    outbox.push_object(object(half).as_bytes());
    let exact = texts(outbox.take().bytes.as_slice());
    assert_eq!(
        exact.iter().map(String::len).collect::<Vec<_>>(),
        [batch_bytes(2, 2 * half)]
    );
    outbox.push_object(object(half).as_bytes());
    outbox.push_object(object(half + 2).as_bytes());
    assert_eq!(texts(outbox.take().bytes.as_slice()).len(), 2);
}

#[test]
fn another_frame_ends_a_batch_and_keeps_its_place() {
    let mut outbox = Outbox::default();
    outbox.push_object(b"1");
    outbox.push_object(b"2");
    outbox.push_frame(Opcode::Pong, b"");
    outbox.push_object(b"3");
    assert!(!outbox.may_linger());
    assert_eq!(
        texts(outbox.take().bytes.as_slice()),
        [r#"{"type":"batch","messages":[1,2]}"#, "pong", "3"]
    );
}

#[test]
fn what_came_back_goes_before_what_was_queued_meanwhile() {
    let mut outbox = Outbox::default();
    outbox.push_object(b"1");
    let Taken { bytes, .. } = outbox.take();
    outbox.push_object(b"2");
    let mut sent = bytes.as_slice()[..2].to_vec();
    outbox.handle_rest(SendBuf::Owned(bytes.as_slice()[2..].to_vec()), NOW);
    assert!(outbox.is_blocked());
    outbox.push_object(b"3");
    outbox.handle_writable();
    sent.extend_from_slice(outbox.take().bytes.as_slice());
    assert_eq!(texts(&sent), ["1", r#"{"type":"batch","messages":[2,3]}"#]);
}

#[test]
fn a_retry_that_comes_back_whole_is_no_progress() {
    let at = |mono_ms| Now { mono_ms, ..NOW };
    let mut outbox = Outbox::default();
    outbox.push_object(b"1234");
    outbox.take();
    outbox.handle_rest(SendBuf::Owned(vec![0; 5]), at(100));
    outbox.handle_writable();
    let rest = outbox.take().bytes;
    outbox.handle_rest(rest, at(200));
    assert_eq!(outbox.progress(), Stamp::of(at(100)));
    outbox.handle_writable();
    outbox.take();
    outbox.handle_rest(SendBuf::Owned(vec![0; 4]), at(300));
    assert_eq!(outbox.progress(), Stamp::of(at(300)));
}

#[test]
fn dropping_what_is_unsent_keeps_the_frame_that_was_begun() {
    let mut outbox = Outbox::default();
    outbox.push_object(b"1");
    let bytes = outbox.take().bytes;
    outbox.handle_rest(SendBuf::Owned(bytes.as_slice()[1..].to_vec()), NOW);
    outbox.push_object(b"2");
    assert!(outbox.drop_unsent() > 0);
    outbox.push_object(b"3");
    outbox.handle_writable();
    let mut sent = bytes.as_slice()[..1].to_vec();
    sent.extend_from_slice(outbox.take().bytes.as_slice());
    assert_eq!(texts(&sent), ["1", "3"]);
}

proptest! {
    /// Any mix of objects and frames comes out in order, in frames within their bounds.
    #[test]
    fn order_is_kept(steps in prop::collection::vec((0usize..4, 1usize..3_000), 1..300)) {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        let mut sent = Vec::new();
        for (kind, bytes) in steps {
            match kind {
                0 => { outbox.push_frame(Opcode::Pong, b""); expected.push("pong".to_owned()); }
                1 if bytes < 100 => sent.extend_from_slice(outbox.take().bytes.as_slice()),
                _ => { outbox.push_object(object(bytes).as_bytes()); expected.push(object(bytes)); }
            }
        }
        sent.extend_from_slice(outbox.take().bytes.as_slice());
        let mut flat = Vec::new();
        for text in texts(&sent) {
            prop_assert!(text.len() <= FRAME_BYTES_MAX);
            match text.strip_prefix(r#"{"type":"batch","messages":["#).and_then(|rest| rest.strip_suffix("]}")) {
                Some(objects) => flat.extend(objects.split(',').map(str::to_owned)),
                None => flat.push(text),
            }
        }
        prop_assert_eq!(flat, expected);
    }

    /// The newest update of each key stands where it was queued, once in a frame; all else is as if it were alone.
    #[test]
    fn updates_are_conflated_within_a_frame(steps in prop::collection::vec((0usize..6, 0u8..3), 1..90)) {
        let mut outbox = Outbox::default();
        let (mut expected, mut frame_start) = (Vec::<String>::new(), 0);
        let mut sent = Vec::new();
        for (n, (kind, key)) in steps.into_iter().enumerate() {
            match kind {
                0 => {
                    outbox.push_frame(Opcode::Pong, b"");
                    expected.push("pong".to_owned());
                    frame_start = expected.len();
                }
                1 => {
                    sent.extend_from_slice(outbox.take().bytes.as_slice());
                    frame_start = expected.len();
                }
                2 => { outbox.push_object(object(n + 1).as_bytes()); expected.push(object(n + 1)); }
                _ => {
                    let (object, key_bytes) = update(key, n as u32);
                    let before = expected[frame_start..].iter().position(|other| other.starts_with(&object[..key_bytes]));
                    if let Some(before) = before {
                        expected.remove(frame_start + before);
                    }
                    prop_assert_eq!(outbox.push_update(object.as_bytes(), key_bytes), before.is_some());
                    expected.push(object);
                }
            }
        }
        sent.extend_from_slice(outbox.take().bytes.as_slice());
        let mut flat = Vec::new();
        for text in texts(&sent) {
            match text.strip_prefix(r#"{"type":"batch","messages":["#).and_then(|rest| rest.strip_suffix("]}")) {
                Some(objects) => {
                    let array = format!("[{objects}]");
                    let objects: Vec<&serde_json::value::RawValue> = serde_json::from_str(&array).unwrap();
                    prop_assert!(objects.len() >= 2);
                    flat.extend(objects.iter().map(|object| object.get().to_owned()));
                }
                None => flat.push(text),
            }
        }
        prop_assert_eq!(flat, expected);
    }
}
