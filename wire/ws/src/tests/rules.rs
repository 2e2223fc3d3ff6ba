//! Every fault that frames can have, and the close code it earns.

use super::*;

const RULES: Rules = Rules {
    role: Role::Server,
    frame_bytes_max: 1_000,
    message_bytes_max: 1_500,
    fragments_max: 4,
    takes_binary: true,
};

/// What the peer sends, and the violation that ends it with its close code.
struct Fault {
    name: &'static str,
    stream: Vec<u8>,
    violation: Violation,
    close_code: u16,
}

fn fault(name: &'static str, frames: &[&[u8]], violation: Violation, close_code: u16) -> Fault {
    Fault {
        name,
        stream: frames.concat(),
        violation,
        close_code,
    }
}

#[rustfmt::skip]
fn faults() -> Vec<Fault> {
    use Violation::*;
    let frame = masked_frame;
    let text = |payload: &[u8]| masked_frame(0x81, payload);
    let close = |payload: &[u8]| masked_frame(0x88, payload);
    vec![
        fault("client frame without mask", &[b"\x81\x05Hello"], Unmasked, 1002),
        fault("RSV1", &[&frame(0xc1, b"x")], ReservedBits, 1002),
        fault("RSV2", &[&frame(0xa1, b"x")], ReservedBits, 1002),
        fault("RSV3", &[&frame(0x91, b"x")], ReservedBits, 1002),
        fault("RSV2 and RSV3 on a ping", &[&frame(0xb9, b"x")], ReservedBits, 1002),
        fault("opcode 3", &[&frame(0x83, b"x")], ReservedOpcode, 1002),
        fault("opcode 7", &[&frame(0x87, b"x")], ReservedOpcode, 1002),
        fault("opcode 11", &[&frame(0x8b, b"x")], ReservedOpcode, 1002),
        fault("opcode 15", &[&frame(0x8f, b"x")], ReservedOpcode, 1002),
        fault("64-bit length with its highest bit", &[b"\x82\xff\x80\0\0\0\0\0\0\0"], LengthOverflow, 1002),
        fault("all ones as length", &[b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"], LengthOverflow, 1002),
        fault("5 in 16 bits", &[b"\x82\xfe\0\x05"], LengthNotMinimal, 1002),
        fault("125 in 16 bits", &[b"\x82\xfe\0\x7d"], LengthNotMinimal, 1002),
        fault("65535 in 64 bits", &[b"\x82\xff\0\0\0\0\0\0\xff\xff"], LengthNotMinimal, 1002),
        fault("ping of 126 bytes", &[&frame(0x89, &[0; 126])], ControlTooLong, 1002),
        fault("close of 126 bytes", &[&frame(0x88, &[0; 126])], ControlTooLong, 1002),
        fault("ping without FIN", &[&frame(0x09, b"")], FragmentedControl, 1002),
        fault("pong without FIN inside a message", &[&frame(0x01, b"a"), &frame(0x0a, b"")], FragmentedControl, 1002),
        fault("continuation first", &[&frame(0x80, b"a")], UnexpectedContinuation, 1002),
        fault("open continuation first", &[&frame(0x00, b"a")], UnexpectedContinuation, 1002),
        fault("continuation behind a whole message", &[&text(b"a"), &frame(0x80, b"b")], UnexpectedContinuation, 1002),
        fault("text inside text", &[&frame(0x01, b"a"), &text(b"b")], InterleavedMessage, 1002),
        fault("open binary inside text", &[&frame(0x01, b"a"), &frame(0x02, b"b")], InterleavedMessage, 1002),
        fault("frame over the bound", &[&frame(0x82, &[0; 1_001])], FrameTooBig, 1009),
        fault("2^63 - 1 bytes", &[b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", &KEY], FrameTooBig, 1009),
        fault("message over the bound", &[&frame(0x02, &[0; 1_000]), &frame(0x80, &[0; 501])], MessageTooBig, 1009),
        fault("a fifth fragment", &[&frame(0x01, b""), &frame(0, b""), &frame(0, b""), &frame(0, b""), &frame(0x80, b"")],
            TooManyFragments, 1008),
        fault("close of one byte", &[&close(b"\x03")], CloseLength, 1002),
        fault("close 0", &[&close(b"\0\0")], CloseCode, 1002),
        fault("close 999", &[&close(&999_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 1004", &[&close(&1004_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 1005", &[&close(&1005_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 1006", &[&close(&1006_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 1015", &[&close(&1015_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 1016", &[&close(&1016_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 2999", &[&close(&2999_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 5000", &[&close(&5000_u16.to_be_bytes())], CloseCode, 1002),
        fault("close 65535", &[&close(&65_535_u16.to_be_bytes())], CloseCode, 1002),
        fault("close reason not UTF-8", &[&close(b"\x03\xe8\xff")], InvalidUtf8, 1007),
        fault("close reason cut in a character", &[&close(b"\x03\xe8\xe2\x82")], InvalidUtf8, 1007),
        fault("text not UTF-8", &[&text(b"a\xffb")], InvalidUtf8, 1007),
        fault("text with a surrogate", &[&text(b"\xed\xa0\x80")], InvalidUtf8, 1007),
        fault("text in overlong form", &[&text(b"\xc0\xaf")], InvalidUtf8, 1007),
        fault("text cut in a character at FIN", &[&text(b"a\xe2\x82")], InvalidUtf8, 1007),
        fault("last fragment cut in a character", &[&frame(0x01, b"\xe2"), &frame(0x80, b"\x82")], InvalidUtf8, 1007),
        fault("empty last fragment behind half a character", &[&frame(0x01, b"\xe2"), &frame(0x80, b"")], InvalidUtf8, 1007),
    ]
}

#[test]
fn every_fault_ends_the_stream_with_its_code_however_it_is_cut() {
    for Fault {
        name,
        stream,
        violation,
        close_code,
    } in faults()
    {
        assert_eq!(violation.close_code(), close_code, "{name}");
        let whole = read_at_once(&RULES, &stream);
        assert_eq!(whole.violation, Some(violation), "{name}");
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(read(&RULES, [head, tail]), whole, "{name}, cut at {cut}");
        }
        assert_eq!(read_byte_by_byte(&RULES, &stream), whole, "{name}");
    }
}

#[test]
fn a_faulty_frame_gives_no_item_and_nothing_behind_it_is_read() {
    let good = masked_frame(0x81, b"good");
    for Fault {
        name,
        stream,
        violation,
        ..
    } in faults()
    {
        let alone = read_at_once(&RULES, &stream);
        let followed = read_at_once(&RULES, &[&good[..], &stream, &good].concat());
        assert_eq!(followed.items[0], Heard::text("good"), "{name}");
        assert_eq!(followed.items[1..], alone.items, "{name}");
        assert_eq!(followed.violation, Some(violation), "{name}");
    }
}

#[test]
fn lengths_are_refused_from_the_header_alone() {
    let header = |first: u8, payload_bytes: usize| {
        let mut out = Vec::new();
        encode_header(&mut out, true, Opcode::Binary, payload_bytes, Some(KEY));
        out[0] = first;
        out
    };
    assert_eq!(
        read_at_once(&RULES, &header(0x82, 1_001)).violation,
        Some(Violation::FrameTooBig)
    );
    let second = [masked_frame(0x02, &[0; 1_000]), header(0x80, 501)].concat();
    assert_eq!(
        read_at_once(&RULES, &second).violation,
        Some(Violation::MessageTooBig)
    );
    assert_eq!(
        read_at_once(&RULES, &[0x89, 0xfe]).violation,
        Some(Violation::ControlTooLong)
    );
    // A wrong bit is refused before its header is whole.
    assert_eq!(
        read_at_once(&RULES, &[0xc1]).violation,
        Some(Violation::ReservedBits)
    );
    assert_eq!(
        read_at_once(&RULES, &[0x81, 0x05]).violation,
        Some(Violation::Unmasked)
    );
}

#[test]
fn where_there_is_text_only_a_binary_message_is_refused_from_its_first_header() {
    let rules = Rules {
        takes_binary: false,
        ..RULES
    };
    for first in [0x82, 0x02] {
        let mut frame = masked_frame(first, b"payload");
        frame.truncate(6);
        for stream in [frame.clone(), [masked_frame(0x81, b"text"), frame].concat()] {
            for outcome in [read_at_once(&rules, &stream), read_byte_by_byte(&rules, &stream)] {
                assert_eq!(outcome.violation, Some(Violation::BinaryMessage));
            }
        }
    }
    assert_eq!(Violation::BinaryMessage.close_code(), 1003);
    let inside = [masked_frame(0x01, b"a"), masked_frame(0x82, b"b")].concat();
    assert_eq!(
        read_at_once(&rules, &inside).violation,
        Some(Violation::InterleavedMessage)
    );
    let text = [masked_frame(0x01, b"a"), masked_frame(0x80, b"b")].concat();
    assert_eq!(read_at_once(&rules, &text).items, [Heard::text("ab")]);
}

#[test]
fn sizes_and_counts_at_their_bounds_pass() {
    let whole = read_at_once(&RULES, &masked_frame(0x82, &[5; 1_000]));
    assert_eq!(
        whole,
        Outcome {
            items: vec![Heard::Binary(vec![5; 1_000])],
            violation: None
        }
    );
    let fragments = [
        masked_frame(0x02, &[5; 1_000]),
        masked_frame(0x00, &[5; 499]),
        masked_frame(0x00, &[]),
        masked_frame(0x80, &[5; 1]),
    ];
    let summed = read_at_once(&RULES, &fragments.concat());
    assert_eq!(
        summed,
        Outcome {
            items: vec![Heard::Binary(vec![5; 1_500])],
            violation: None
        }
    );
}

#[test]
fn a_client_refuses_masked_frames_of_a_server() {
    let rules = Rules {
        role: Role::Client,
        ..RULES
    };
    assert_eq!(
        read_at_once(&rules, &masked_frame(0x81, b"x")).violation,
        Some(Violation::Masked)
    );
    assert_eq!(read_at_once(&rules, b"\x81\x01x").items, [Heard::text("x")]);
}

#[test]
fn every_close_code_is_judged_and_the_good_ones_are_given_on() {
    for code in 0..=u16::MAX {
        let outcome = read_at_once(&RULES, &masked_frame(0x88, &code.to_be_bytes()));
        if is_close_code(code) {
            assert_eq!(outcome.items, [Heard::Close(Some((code, String::new())))]);
        } else {
            assert_eq!(
                (outcome.items, outcome.violation),
                (vec![], Some(Violation::CloseCode)),
                "{code}"
            );
        }
    }
}

#[test]
fn whatever_follows_a_close_is_ignored() {
    let close = masked_frame(0x88, b"\x0f\xa0bye");
    let expected = Outcome {
        items: vec![Heard::Close(Some((4000, "bye".to_owned())))],
        violation: None,
    };
    for behind in [
        masked_frame(0x81, b"more"),
        masked_frame(0x88, b""),
        vec![0xff; 20],
    ] {
        let stream = [close.clone(), behind].concat();
        assert_eq!(read_at_once(&RULES, &stream), expected);
        assert_eq!(read_byte_by_byte(&RULES, &stream), expected);
    }
    // Also inside a message that will never end.
    let inside = [masked_frame(0x01, b"open"), masked_frame(0x88, b"")].concat();
    assert_eq!(
        read_at_once(&RULES, &inside),
        Outcome {
            items: vec![Heard::Close(None)],
            violation: None
        }
    );
}

#[test]
fn control_frames_between_fragments_come_first_and_leave_the_message_intact() {
    let stream = [
        masked_frame(0x01, b"a\xe2\x82"),
        masked_frame(0x89, b"ping"),
        masked_frame(0x00, b""),
        masked_frame(0x8a, &[9; 125]),
        masked_frame(0x80, b"\xacz"),
        masked_frame(0x81, b"next"),
    ]
    .concat();
    let expected = Outcome {
        items: vec![
            Heard::Ping(b"ping".to_vec()),
            Heard::Pong(vec![9; 125]),
            Heard::text("a€z"),
            Heard::text("next"),
        ],
        violation: None,
    };
    for cut in 0..=stream.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(read(&RULES, [head, tail]), expected, "cut at {cut}");
    }
    assert_eq!(read_byte_by_byte(&RULES, &stream), expected);
}
