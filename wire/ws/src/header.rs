//! The first bytes of a frame, and every rule that they alone decide (RFC 6455 section 5.2).

use super::rules::Role;
use super::violation::Violation;

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Last frame of its message.
    pub fin: bool,
    /// What the payload is.
    pub opcode: Opcode,
    /// Key of the payload; `Some` exactly when the peer is a client.
    pub mask: Option<[u8; 4]>,
    /// Declared length of the payload, below 2^63. Nothing may be allocated for it.
    pub payload_bytes: u64,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message begun before.
    Continuation = 0,
    /// Starts a text message.
    Text = 1,
    /// Starts a binary message.
    Binary = 2,
    /// Ends the connection.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping, or is a heartbeat of its own.
    Pong = 10,
}

impl Header {
    /// Decodes a header from the front of `input`, with its length in bytes; `None` until all of it has arrived.
    ///
    /// Shape: reads 2 to 14 bytes and copies nothing. A byte that is wrong by itself is refused before the rest arrives,
    /// and so is a length over `frame_bytes_max`.
    /// Errors: the peer's fault; close with the violation's code.
    /// Source: RFC 6455 section 5.2.
    #[inline]
    pub fn decode(
        input: &[u8],
        role: Role,
        frame_bytes_max: usize,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        if first & RESERVED_BITS != 0 {
            return Err(Violation::ReservedBits);
        }
        let fin = first & FIN != 0;
        let opcode = Opcode::from_bits(first & OPCODE_BITS).ok_or(Violation::ReservedOpcode)?;
        if opcode.is_control() && !fin {
            return Err(Violation::FragmentedControl);
        }

        let Some(&second) = input.get(1) else {
            return Ok(None);
        };
        match (role, second & MASKED != 0) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            (Role::Server, true) | (Role::Client, false) => {}
        }
        let short = second & LENGTH_BITS;
        if opcode.is_control() && short > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }

        let Some((payload_bytes, key_at)) = decode_length(input, short)? else {
            return Ok(None);
        };
        if payload_bytes > frame_bytes_max as u64 {
            return Err(Violation::FrameTooBig);
        }
        if second & MASKED == 0 {
            return Ok(Some((
                Self {
                    fin,
                    opcode,
                    mask: None,
                    payload_bytes,
                },
                key_at,
            )));
        }
        let Some(key) = input.get(key_at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(None);
        };
        Ok(Some((
            Self {
                fin,
                opcode,
                mask: Some(*key),
                payload_bytes,
            },
            key_at + 4,
        )))
    }
}

impl Opcode {
    /// Returns whether this is a close, ping or pong, which may stand between the fragments of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// Returns the payload length and where the length field ends.
#[inline]
fn decode_length(input: &[u8], short: u8) -> Result<Option<(u64, usize)>, Violation> {
    let extended = &input[2..];
    match short {
        LENGTH_16 => {
            let Some(bytes) = extended.first_chunk::<2>() else {
                return Ok(None);
            };
            let length = u64::from(u16::from_be_bytes(*bytes));
            // "The minimal number of bytes MUST be used to encode the length."
            if length < u64::from(LENGTH_16) {
                Err(Violation::LengthNotMinimal)
            } else {
                Ok(Some((length, 4)))
            }
        }
        LENGTH_64 => {
            // "The most significant bit MUST be 0."
            if extended.first().is_some_and(|high| high & 0x80 != 0) {
                return Err(Violation::LengthOverflow);
            }
            let Some(bytes) = extended.first_chunk::<8>() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(*bytes);
            if length <= u64::from(u16::MAX) {
                Err(Violation::LengthNotMinimal)
            } else {
                Ok(Some((length, 10)))
            }
        }
        _ => Ok(Some((u64::from(short), 2))),
    }
}

/// Longest header: two bytes, a 64-bit length, a key.
pub const HEADER_BYTES_MAX: usize = 14;

pub(super) const FIN: u8 = 0x80;
pub(super) const MASKED: u8 = 0x80;
/// Value of the length bits when a 16-bit length follows.
pub(super) const LENGTH_16: u8 = 126;
/// Value of the length bits when a 64-bit length follows.
pub(super) const LENGTH_64: u8 = 127;
/// Longest payload of a control frame (section 5.5).
pub(super) const CONTROL_BYTES_MAX: u8 = 125;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const LENGTH_BITS: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes with every shorter prefix first: the verdict may come early, never differently.
    fn decode(bytes: &[u8], role: Role) -> Result<Option<(Header, usize)>, Violation> {
        let whole = Header::decode(bytes, role, usize::MAX);
        for cut in 0..bytes.len() {
            match Header::decode(&bytes[..cut], role, usize::MAX) {
                Ok(None) => {}
                early => assert_eq!(early, whole, "after {cut} bytes of {bytes:02x?}"),
            }
        }
        whole
    }

    #[test]
    fn every_first_byte_is_accepted_or_refused_by_the_table_of_section_5_2() {
        for first in 0..=u8::MAX {
            let verdict =
                decode(&[first, 0x80, 1, 2, 3, 4], Role::Server).map(|found| found.unwrap().0.opcode as u8);
            let expected = match first {
                b if b & 0x70 != 0 => Err(Violation::ReservedBits),
                0x00..=0x02 | 0x80..=0x82 | 0x88..=0x8a => Ok(first & 0x0f),
                0x08..=0x0a => Err(Violation::FragmentedControl),
                _ => Err(Violation::ReservedOpcode),
            };
            assert_eq!(verdict, expected, "{first:#04x}");
        }
    }

    #[test]
    fn lengths_are_refused_unless_minimal_and_below_two_to_the_63() {
        let length = |bytes: &[u8]| {
            decode(bytes, Role::Client).map(|found| found.map(|(h, at)| (h.payload_bytes, at)))
        };
        let wide = |n: u64| [&[0x82, 127][..], &n.to_be_bytes()].concat();
        assert_eq!(length(&[0x82, 0]), Ok(Some((0, 2))));
        assert_eq!(length(&[0x82, 125]), Ok(Some((125, 2))));
        assert_eq!(length(&[0x82, 126, 0, 125]), Err(Violation::LengthNotMinimal));
        assert_eq!(length(&[0x82, 126, 0, 126]), Ok(Some((126, 4))));
        assert_eq!(length(&[0x82, 126, 0xff, 0xff]), Ok(Some((65_535, 4))));
        assert_eq!(length(&wide(0)), Err(Violation::LengthNotMinimal));
        assert_eq!(length(&wide(65_535)), Err(Violation::LengthNotMinimal));
        assert_eq!(length(&wide(65_536)), Ok(Some((65_536, 10))));
        assert_eq!(length(&wide(i64::MAX as u64)), Ok(Some((i64::MAX as u64, 10))));
        assert_eq!(length(&wide(1 << 63)), Err(Violation::LengthOverflow));
        assert_eq!(length(&wide(u64::MAX)), Err(Violation::LengthOverflow));
    }

    #[test]
    fn a_control_frame_declares_at_most_125_bytes() {
        for opcode in [0x88, 0x89, 0x8a] {
            assert!(
                decode(&[opcode, 0x80 | 125, 0, 0, 0, 0], Role::Server)
                    .unwrap()
                    .is_some()
            );
            assert_eq!(
                decode(&[opcode, 0x80 | 126], Role::Server),
                Err(Violation::ControlTooLong)
            );
            assert_eq!(
                decode(&[opcode, 0x80 | 127], Role::Server),
                Err(Violation::ControlTooLong)
            );
        }
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_the_masking_key_arrives() {
        let header = [&[0x81, 0xff][..], &70_000_u64.to_be_bytes()].concat();
        assert_eq!(
            Header::decode(&header, Role::Server, 69_999),
            Err(Violation::FrameTooBig)
        );
        assert_eq!(Header::decode(&header, Role::Server, 70_000), Ok(None));
    }

    #[test]
    fn each_role_refuses_the_masking_of_its_own_side() {
        assert_eq!(decode(&[0x81, 0x05], Role::Server), Err(Violation::Unmasked));
        assert_eq!(decode(&[0x81, 0x85], Role::Client), Err(Violation::Masked));
        let (header, bytes) = decode(&[0x81, 0x85, 9, 8, 7, 6], Role::Server).unwrap().unwrap();
        assert_eq!(
            (header.mask, header.payload_bytes, bytes),
            (Some([9, 8, 7, 6]), 5, 6)
        );
    }
}
