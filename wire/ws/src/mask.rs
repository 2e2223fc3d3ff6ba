//! Masking of client frames (RFC 6455 section 5.3).

/// Masks `payload` in place, or takes the mask off again; `offset` is how many bytes of the frame came before it.
///
/// Shape: eight bytes at a time.
/// Source: RFC 6455 section 5.3.
#[inline]
pub fn mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let [a, b, c, d] = rotate(key, offset);
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// Returns the key as the bytes after `offset` others see it.
pub(super) fn rotate(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask_byte_by_byte(payload: &mut [u8], key: [u8; 4], offset: usize) {
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[(i + offset) % 4];
        }
    }

    #[test]
    fn every_length_and_offset_equals_the_byte_loop_of_the_rfc() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..=67 {
            for offset in 0..=9 {
                let mut fast: Vec<u8> = (0..length).collect();
                let mut plain = fast.clone();
                mask(&mut fast, key, offset);
                mask_byte_by_byte(&mut plain, key, offset);
                assert_eq!(fast, plain, "length {length}, offset {offset}");
            }
        }
    }

    proptest! {
        #[test]
        fn masking_in_pieces_equals_masking_at_once(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            key in any::<[u8; 4]>(),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(payload.len() + 1);
            let mut whole = payload.clone();
            mask_byte_by_byte(&mut whole, key, 0);
            let mut pieces = payload;
            let (head, tail) = pieces.split_at_mut(at);
            mask(head, key, 0);
            mask(tail, key, at);
            prop_assert_eq!(pieces, whole);
        }
    }
}
