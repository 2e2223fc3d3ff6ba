//! Frames to send (RFC 6455 section 5.2): a server passes no mask, a client a fresh random key for every frame.

use super::header::{CONTROL_BYTES_MAX, FIN, HEADER_BYTES_MAX, LENGTH_16, LENGTH_64, MASKED, Opcode};
use super::mask::mask as apply_mask;

/// Appends a whole, unfragmented frame.
///
/// Panics: when a control frame is given more than 125 bytes.
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    encode_fragment(out, true, opcode, payload, mask);
}

/// Appends one frame of a message; `fin` marks the last, and all but the first are [`Opcode::Continuation`].
///
/// Panics: as [`encode_header`].
pub fn encode_fragment(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header(out, fin, opcode, payload.len(), mask);
    let payload_at = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[payload_at..], key, 0);
    }
}

/// Appends a header for `payload_bytes` that the caller appends (and masks) itself.
///
/// Shape: 2, 4 or 10 bytes, and 4 more with a mask.
/// Panics: when a control frame would be fragmented or longer than 125 bytes.
pub fn encode_header(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    payload_bytes: usize,
    mask: Option<[u8; 4]>,
) {
    assert!(
        !opcode.is_control() || (fin && payload_bytes <= usize::from(CONTROL_BYTES_MAX)),
        "a control frame is whole and at most {CONTROL_BYTES_MAX} bytes"
    );
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(if fin { FIN } else { 0 } | opcode as u8);
    if payload_bytes < usize::from(LENGTH_16) {
        out.push(masked | payload_bytes as u8);
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out.push(masked | LENGTH_16);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(masked | LENGTH_64);
        out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// Appends a close frame; a reason over 123 bytes is cut at a character boundary.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_BYTES_MAX as usize];
    let bytes = 2 + reason.len();
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..bytes].copy_from_slice(reason.as_bytes());
    encode_frame(out, Opcode::Close, &payload[..bytes], mask);
}

const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX as usize - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        let header = |payload_bytes| {
            let mut out = Vec::new();
            encode_header(&mut out, true, Opcode::Binary, payload_bytes, None);
            out
        };
        assert_eq!(header(0), [0x82, 0]);
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(65_535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(header(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_long_close_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(&mut out, 4400, &"é".repeat(100), None);
        assert_eq!(out.len(), 2 + 2 + 122);
        assert_eq!(out[..4], [0x88, 124, 0x11, 0x30]);
        assert!(std::str::from_utf8(&out[4..]).is_ok_and(|reason| reason == "é".repeat(61)));

        out.clear();
        encode_close(&mut out, 4400, &"e".repeat(200), None);
        assert_eq!(out[4..], [b'e'; 123]);
    }

    #[test]
    #[should_panic(expected = "at most 125 bytes")]
    fn a_control_frame_over_125_bytes_is_a_programming_mistake() {
        encode_frame(&mut Vec::new(), Opcode::Ping, &[0; 126], None);
    }
}
