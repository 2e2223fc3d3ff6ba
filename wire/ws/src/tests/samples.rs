//! The samples of RFC 6455 section 5.7.

use super::*;

const UNMASKED_HELLO: &[u8] = &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
const MASKED_HELLO: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const FRAGMENTED_HELLO: &[u8] = &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
const UNMASKED_PING: &[u8] = &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
const MASKED_PONG: &[u8] = &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

#[test]
fn the_samples_decode_whole_and_byte_by_byte() {
    let bytes_256 = [&[0x82, 0x7e, 0x01, 0x00][..], &[7; 256]].concat();
    let bytes_64k = [&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat();
    let samples = [
        (Role::Client, UNMASKED_HELLO, Heard::text("Hello")),
        (Role::Server, MASKED_HELLO, Heard::text("Hello")),
        (Role::Client, FRAGMENTED_HELLO, Heard::text("Hello")),
        (Role::Client, UNMASKED_PING, Heard::Ping(b"Hello".to_vec())),
        (Role::Server, MASKED_PONG, Heard::Pong(b"Hello".to_vec())),
        (Role::Client, &bytes_256, Heard::Binary(vec![7; 256])),
        (Role::Client, &bytes_64k, Heard::Binary(vec![7; 65_536])),
    ];
    for (role, stream, item) in samples {
        let rules = Rules {
            role,
            ..Rules::server()
        };
        let expected = Outcome {
            items: vec![item],
            violation: None,
        };
        assert_eq!(read_at_once(&rules, stream), expected);
        assert_eq!(read_byte_by_byte(&rules, stream), expected);
    }
}

#[test]
fn the_samples_are_what_the_encoder_writes() {
    let encoded = |opcode, mask| {
        let mut out = Vec::new();
        encode_frame(&mut out, opcode, b"Hello", mask);
        out
    };
    assert_eq!(encoded(Opcode::Text, None), UNMASKED_HELLO);
    assert_eq!(encoded(Opcode::Text, Some(KEY)), MASKED_HELLO);
    assert_eq!(encoded(Opcode::Ping, None), UNMASKED_PING);
    assert_eq!(encoded(Opcode::Pong, Some(KEY)), MASKED_PONG);
    let mut fragments = Vec::new();
    encode_fragment(&mut fragments, false, Opcode::Text, b"Hel", None);
    encode_fragment(&mut fragments, true, Opcode::Continuation, b"lo", None);
    assert_eq!(fragments, FRAGMENTED_HELLO);
}
