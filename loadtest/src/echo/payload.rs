//! What an echo message says: which one it is and when it was meant to leave; then padding. ASCII, so that it may travel as
//! text or as binary.

use crate::clock::Ns;
use crate::identity::{PADDING, pad, push_hex, read_hex};

/// Shortest payload.
pub(super) const PAYLOAD_BYTES_MIN: usize = NUMBER_DIGITS + TIME_DIGITS;

const NUMBER_DIGITS: usize = 8;
const TIME_DIGITS: usize = 12;

/// Writes the payload of `payload_bytes` bytes.
pub(super) fn write(number: u32, intended: Ns, payload_bytes: usize, out: &mut Vec<u8>) {
    push_hex(out, u64::from(number), NUMBER_DIGITS);
    push_hex(out, intended.0, TIME_DIGITS);
    let padding = payload_bytes.saturating_sub(PAYLOAD_BYTES_MIN);
    pad(out, 0, padding);
}

/// Reads number and time back; `None` when it is not a payload of that size, byte for byte.
pub(super) fn parse(payload: &[u8], payload_bytes: usize) -> Option<(u32, Ns)> {
    let (number, rest) = payload.split_at_checked(NUMBER_DIGITS)?;
    let (time, padding) = rest.split_at_checked(TIME_DIGITS)?;
    let whole = payload.len() == payload_bytes
        && padding
            .chunks(PADDING.len())
            .all(|part| PADDING.starts_with(part));
    whole.then_some((read_hex(number)? as u32, Ns(read_hex(time)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_payload_survives_the_round_trip_and_no_changed_padding_does(
            number: u32, ns in 0_u64..1 << 48, bytes in 20_usize..300, at in 20_usize..300,
        ) {
            let mut payload = Vec::new();
            write(number, Ns(ns), bytes, &mut payload);
            prop_assert_eq!(payload.len(), bytes);
            prop_assert_eq!(parse(&payload, bytes), Some((number, Ns(ns))));
            prop_assert_eq!(parse(&payload, bytes + 1), None);
            if at < bytes {
                payload[at] ^= 1;
                prop_assert_eq!(parse(&payload, bytes), None);
            }
        }
    }

    #[test]
    fn short_payloads_are_no_payloads() {
        for payload in [&b""[..], b"00000001", b"0000000100000000000"] {
            assert_eq!(parse(payload, payload.len()), None);
        }
    }
}
