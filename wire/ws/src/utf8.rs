//! Text that arrives in pieces, checked as it arrives (RFC 6455 section 8.1).

use super::partial::capacity_for;

/// The text of a message so far: whole characters, and up to three bytes of one that is still arriving.
#[derive(Default)]
pub(super) struct ArrivingText {
    text: String,
    tail: [u8; 4],
    tail_bytes: u8,
}

/// No continuation can make the bytes so far UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidUtf8;

impl ArrivingText {
    /// Appends bytes, or refuses them as soon as one of them cannot be part of any UTF-8 text.
    ///
    /// Shape: one pass over `bytes`; the capacity never passes `bytes_max`, which the caller has checked is enough.
    pub(super) fn push(&mut self, bytes: &[u8], bytes_max: usize) -> Result<(), InvalidUtf8> {
        let wanted = capacity_for(self.text.capacity(), self.len() + bytes.len(), bytes_max);
        self.text.reserve_exact(wanted - self.text.len());

        let bytes = self.complete_tail(bytes)?;
        let (whole, tail) = bytes.split_at(bytes.len() - unfinished_bytes(bytes));
        self.text
            .push_str(simdutf8::basic::from_utf8(whole).map_err(|_| InvalidUtf8)?);
        if !tail.is_empty() {
            check_prefix(tail)?;
            self.tail[..tail.len()].copy_from_slice(tail);
            self.tail_bytes = tail.len() as u8;
        }
        Ok(())
    }

    /// Returns the text, or refuses one that ends inside a character.
    pub(super) fn finish(self) -> Result<String, InvalidUtf8> {
        if self.tail_bytes == 0 {
            Ok(self.text)
        } else {
            Err(InvalidUtf8)
        }
    }

    /// Returns the bytes received.
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.tail_bytes)
    }

    /// Returns the bytes of memory held on the heap.
    pub(super) fn held_bytes(&self) -> usize {
        self.text.capacity()
    }

    /// Feeds the unfinished character until it is whole; returns the bytes behind it.
    fn complete_tail<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], InvalidUtf8> {
        while self.tail_bytes > 0
            && let Some((&byte, rest)) = bytes.split_first()
        {
            // A character has at most four bytes: three that are unfinished, and this one.
            self.tail[usize::from(self.tail_bytes)] = byte;
            let tail = &self.tail[..=usize::from(self.tail_bytes)];
            if let Ok(character) = std::str::from_utf8(tail) {
                self.text.push_str(character);
                self.tail_bytes = 0;
            } else {
                check_prefix(tail)?;
                self.tail_bytes += 1;
            }
            bytes = rest;
        }
        // While the character is unfinished there are no bytes left, so that nothing is taken out of order.
        Ok(bytes)
    }
}

/// Returns how many bytes at the end start a character that needs more of them: 0 to 3.
///
/// Looks at lengths only; the bytes may still be invalid.
fn unfinished_bytes(bytes: &[u8]) -> usize {
    for (back, &byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            0x00..=0x7f => 1,
        };
        return if back + 1 < needed { back + 1 } else { 0 };
    }
    0
}

/// Refuses an unfinished character that no further byte can make valid.
fn check_prefix(tail: &[u8]) -> Result<(), InvalidUtf8> {
    match std::str::from_utf8(tail) {
        // `None`: the input ended where more was expected, and what there is fits.
        Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => Ok(()),
        _ => Err(InvalidUtf8),
    }
}
