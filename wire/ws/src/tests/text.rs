//! Text is refused at the first byte that cannot be UTF-8, wherever frames and reads cut it.

use proptest::prelude::*;

use super::super::utf8::{ArrivingText, InvalidUtf8};
use super::*;

/// Returns the index of the first byte after which no continuation can be valid, by the standard library.
fn first_bad_byte(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len())
        .find(|&at| std::str::from_utf8(&bytes[..=at]).is_err_and(|error| error.error_len().is_some()))
}

/// Pushes the pieces of `bytes` and compares every verdict, and the text itself, with the standard library.
fn check_pieces(bytes: &[u8], cuts: &[usize]) {
    let bad = first_bad_byte(bytes);
    let mut text = ArrivingText::default();
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        let verdict = text.push(&bytes[from..to], bytes.len());
        let expected = if bad.is_some_and(|at| at < to) {
            Err(InvalidUtf8)
        } else {
            Ok(())
        };
        assert_eq!(verdict, expected, "{bytes:02x?} cut at {cuts:?}, up to {to}");
        if expected.is_err() {
            return;
        }
        assert_eq!(text.len(), to);
        from = to;
    }
    let expected = std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| InvalidUtf8);
    assert_eq!(text.finish(), expected, "{bytes:02x?} cut at {cuts:?}");
}

/// Checks whole, cut at every position, and byte by byte.
fn check_every_cut(bytes: &[u8]) {
    (0..=bytes.len()).for_each(|cut| check_pieces(bytes, &[cut]));
    check_pieces(bytes, &(0..bytes.len()).collect::<Vec<_>>());
}

#[test]
fn every_sequence_of_up_to_three_bytes_at_a_class_boundary_gets_the_verdict_of_std() {
    // The first and last byte of each row and column of table 3-7 of the Unicode standard, and their neighbours.
    const EDGES: [u8; 24] = [
        0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
        0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
    ];
    for a in EDGES {
        for b in EDGES {
            for c in EDGES {
                check_every_cut(&[a, b, c]);
            }
        }
    }
}

#[test]
fn every_four_byte_sequence_at_a_class_boundary_gets_the_verdict_of_std() {
    const SECOND: [u8; 7] = [0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0, 0xf0];
    const LATER: [u8; 5] = [0x41, 0x80, 0xbf, 0xc2, 0xff];
    for a in 0xee..=0xff {
        for b in SECOND {
            for c in LATER {
                for d in LATER {
                    check_every_cut(&[a, b, c, d]);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn random_and_mutated_text_gets_the_verdict_of_std_at_every_cut(
        text in any::<String>().prop_map(|text| text.chars().take(40).collect::<String>()),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = text.into_bytes();
        for (at, byte) in mutations {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        check_every_cut(&bytes);
    }

    #[test]
    fn random_bytes_get_the_verdict_of_std_at_random_cuts(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..=0xbf_u8], 0..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        check_pieces(&bytes, &cuts);
    }
}

/// Autobahn 6.4.1 to 6.4.4: valid text, then a byte that makes it impossible, then more text.
const IMPOSSIBLE: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
const FIRST_BAD: usize = 12;

#[test]
fn the_first_impossible_byte_ends_the_stream_before_the_frame_is_whole() {
    assert_eq!(first_bad_byte(IMPOSSIBLE), Some(FIRST_BAD));
    let rules = Rules::server();
    let frame = masked_frame(0x81, IMPOSSIBLE);
    let header_bytes = frame.len() - IMPOSSIBLE.len();
    // The lead byte alone is possible.
    assert_eq!(
        read_byte_by_byte(&rules, &frame[..header_bytes + FIRST_BAD]),
        Outcome::default()
    );
    let with_bad = &frame[..header_bytes + FIRST_BAD + 1];
    assert_eq!(
        read_byte_by_byte(&rules, with_bad).violation,
        Some(Violation::InvalidUtf8)
    );
    assert_eq!(
        read_at_once(&rules, with_bad).violation,
        Some(Violation::InvalidUtf8)
    );
}

#[test]
fn the_first_impossible_byte_ends_the_stream_before_the_message_is_whole() {
    let rules = Rules::server();
    let first = masked_frame(0x01, &IMPOSSIBLE[..FIRST_BAD]);
    assert_eq!(read_at_once(&rules, &first), Outcome::default());
    let second = masked_frame(0x00, &IMPOSSIBLE[FIRST_BAD..=FIRST_BAD]);
    assert_eq!(
        read(&rules, [&first[..], &second]).violation,
        Some(Violation::InvalidUtf8)
    );
    // A ping behind the bad fragment is not heard any more.
    let behind = [first, second, masked_frame(0x89, b"")].concat();
    assert_eq!(read_at_once(&rules, &behind).items, []);
}

#[test]
fn binary_messages_are_not_checked() {
    let frames = [masked_frame(0x02, b"\xff\xfe"), masked_frame(0x80, b"\xc0")].concat();
    assert_eq!(
        read_byte_by_byte(&Rules::server(), &frames).items,
        [Heard::Binary(b"\xff\xfe\xc0".to_vec())]
    );
}
