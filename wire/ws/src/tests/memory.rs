//! Memory follows what has arrived, and never what was declared.

use proptest::prelude::*;

use super::super::partial::Partial;
use super::*;

/// The struct, a control payload, and the rounding of small allocations.
const CONSTANT_BYTES_MAX: usize = 512;

const _: () = assert!(size_of::<Partial>() <= 160);

#[test]
fn a_whole_frame_is_borrowed_from_the_input() {
    let mut received = [
        masked_frame(0x81, b"text"),
        masked_frame(0x89, b"ping"),
        masked_frame(0x82, b""),
    ]
    .concat();
    let place = received.as_ptr_range();
    let rules = Rules::server();
    let mut reader = Reader::new();
    let mut input = Input::new(&mut received);
    let mut items = 0;
    while let Some(item) = reader.next(&mut input, &rules).unwrap() {
        let bytes = match item {
            Item::Text(text) => text.as_bytes(),
            Item::Binary(bytes) | Item::Ping(bytes) => bytes,
            Item::Pong(_) | Item::Close(_) => unreachable!("not sent"),
        };
        assert!(bytes.is_empty() || place.contains(&bytes.as_ptr()));
        assert!(!reader.is_partial());
        items += 1;
    }
    assert_eq!(items, 3);
}

#[test]
fn control_frames_inside_a_message_are_borrowed_too() {
    let mut received = [masked_frame(0x01, b"begun"), masked_frame(0x89, b"ping")].concat();
    let place = received.as_ptr_range();
    let mut reader = Reader::new();
    let mut input = Input::new(&mut received);
    let Some(Item::Ping(ping)) = reader.next(&mut input, &Rules::server()).unwrap() else {
        panic!("no ping")
    };
    assert!(place.contains(&ping.as_ptr()));
    assert!(reader.is_partial());
}

#[test]
fn declaring_a_length_reserves_nothing() {
    let mut header = Vec::new();
    encode_header(&mut header, true, Opcode::Binary, 128 * 1024, Some(KEY));
    for arrived in [0, 1, 100] {
        let mut reader = Reader::new();
        let stream = [&header[..], &vec![0; arrived]].concat();
        assert!(read_chunk(
            &mut reader,
            &Rules::server(),
            &stream,
            &mut Outcome::default()
        ));
        assert!(
            reader.partial_bytes() <= CONSTANT_BYTES_MAX,
            "{} bytes held",
            reader.partial_bytes()
        );
    }
}

#[test]
fn a_message_in_pieces_is_freed_when_it_is_complete_and_before_it_is_handled() {
    let stream = masked_frame(0x81, &[b'a'; 1_000]);
    let (head, tail) = stream.split_at(500);
    let rules = Rules::server();
    let mut reader = Reader::new();
    assert!(read_chunk(&mut reader, &rules, head, &mut Outcome::default()));
    assert!(reader.is_partial() && reader.partial_bytes() >= 400);

    let mut tail = tail.to_vec();
    let mut input = Input::new(&mut tail);
    let item = reader.next(&mut input, &rules).unwrap();
    assert!(!reader.is_partial() && reader.partial_bytes() == 0);
    assert_eq!(item, Some(Item::Text(&"a".repeat(1_000))));
}

#[test]
fn a_big_message_in_one_frame_ends_at_its_own_size() {
    let payload = vec![7; 100_000];
    let stream = masked_frame(0x82, &payload);
    let mut reader = Reader::new();
    let mut outcome = Outcome::default();
    for chunk in stream[..stream.len() - 1].chunks(1_000) {
        assert!(read_chunk(&mut reader, &Rules::server(), chunk, &mut outcome));
        assert!(reader.partial_bytes() <= payload.len() + CONSTANT_BYTES_MAX);
    }
    assert!(read_chunk(
        &mut reader,
        &Rules::server(),
        &stream[stream.len() - 1..],
        &mut outcome
    ));
    assert_eq!(outcome.items, [Heard::Binary(payload)]);
}

#[test]
fn endless_tiny_fragments_are_stopped_by_their_count() {
    let rules = Rules {
        fragments_max: 100,
        ..Rules::server()
    };
    let mut reader = Reader::new();
    let mut outcome = Outcome::default();
    let mut frames = 0;
    while read_chunk(
        &mut reader,
        &rules,
        &masked_frame(u8::from(frames == 0), b"x"),
        &mut outcome,
    ) {
        frames += 1;
        assert!(reader.partial_bytes() <= 256 + CONSTANT_BYTES_MAX);
    }
    assert_eq!(
        (frames, outcome.violation),
        (100, Some(Violation::TooManyFragments))
    );
}

#[test]
fn rest_returns_what_a_caller_that_stops_early_must_keep() {
    let frames = [masked_frame(0x81, b"one"), masked_frame(0x81, b"two")];
    let mut received = frames.concat();
    let rules = Rules::server();
    let mut reader = Reader::new();
    let mut input = Input::new(&mut received);
    assert_eq!(reader.next(&mut input, &rules), Ok(Some(Item::Text("one"))));
    let kept = input.rest().to_vec();
    assert_eq!(kept, frames[1]);
    let mut outcome = Outcome::default();
    assert!(read_chunk(&mut reader, &rules, &kept, &mut outcome));
    assert_eq!(outcome.items, [Heard::text("two")]);
}

/// Frames whose headers are plausible and whose lengths may lie.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        0x00_u8, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1,
    ]);
    let payload = prop::collection::vec(prop_oneof![4 => 0x20..0x7f_u8, 1 => any::<u8>()], 0..200);
    let honest = (first, payload).prop_map(|(first, payload)| masked_frame(first, &payload));
    let noise = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(prop_oneof![8 => honest, 1 => noise], 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn hostile_bytes_never_hold_more_than_a_message_and_a_constant(
        stream in hostile_bytes(),
        piece in 1..100_usize,
        message_bytes_max in 0..400_usize,
    ) {
        let rules = Rules { message_bytes_max, fragments_max: 6, ..Rules::server() };
        let mut reader = Reader::new();
        let mut outcome = Outcome::default();
        for chunk in stream.chunks(piece) {
            let goes_on = read_chunk(&mut reader, &rules, chunk, &mut outcome);
            prop_assert!(reader.partial_bytes() <= message_bytes_max + CONSTANT_BYTES_MAX);
            if !goes_on {
                break;
            }
        }
        prop_assert_eq!(outcome, read_at_once(&rules, &stream));
    }

    #[test]
    fn arbitrary_bytes_get_one_verdict(stream in prop::collection::vec(any::<u8>(), 0..100), piece in 1..20_usize) {
        for rules in [Rules::server(), Rules::client()] {
            prop_assert_eq!(read(&rules, stream.chunks(piece)), read_at_once(&rules, &stream));
        }
    }
}
