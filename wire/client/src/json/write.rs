//! Writes JSON text straight into a buffer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use wire_base::body::{Body, Content};
use wire_base::ids::Position;

/// Appends JSON to a buffer. The caller writes the punctuation and the names, which need no escapes, with [`Writer::raw`].
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends text that is JSON already.
    pub(super) fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Appends `before`, then the number.
    pub(super) fn number(&mut self, before: &str, value: impl Into<u64>) {
        self.raw(before);
        self.raw(itoa::Buffer::new().format(value.into()));
    }

    /// Appends `before`, then `true` or `false`.
    pub(super) fn boolean(&mut self, before: &str, value: bool) {
        self.raw(before);
        self.raw(if value { "true" } else { "false" });
    }

    /// Appends `before`, then the UUID as a string.
    pub(super) fn uuid(&mut self, before: &str, value: Uuid) {
        self.raw(before);
        let mut text = [b'"'; 38];
        value.as_hyphenated().encode_lower(&mut text[1..]);
        self.out.extend_from_slice(&text);
    }

    /// Appends `before`, then the cursor as a string: the text of [`Position`].
    pub(super) fn cursor(&mut self, before: &str, position: Position) {
        self.raw(before);
        self.out.push(b'"');
        self.out.extend_from_slice(&position.to_text());
        self.out.push(b'"');
    }

    /// Appends `before`, then the text as a string.
    pub(super) fn string(&mut self, before: &str, text: &str) {
        self.raw(before);
        self.out.push(b'"');
        self.escape(text);
        self.out.push(b'"');
    }

    /// Appends the fields of a body, each with the comma before it.
    pub(super) fn body(&mut self, body: &Body<'_>) {
        match body.content {
            Content::Text(text) => self.string(r#","content":"#, text),
            Content::Ciphertext(bytes) => {
                self.raw(r#","ciphertext":""#);
                self.base64(bytes);
                self.raw("\"");
            }
        }
        if let Some(url) = body.media_url {
            self.string(r#","media_url":"#, url);
        }
        if let Some(kind) = body.kind {
            self.string(r#","kind":"#, kind);
        }
    }

    fn base64(&mut self, bytes: &[u8]) {
        let start = self.out.len();
        self.out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(bytes, &mut self.out[start..])
            .expect("base64 with padding is 4 characters per 3 bytes begun");
    }

    /// Copies runs that need no escape whole; quotes, backslashes and control characters are the only ones that do.
    fn escape(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = find_special(rest) {
            self.out.extend_from_slice(&rest[..at]);
            match rest[at] {
                b'"' => self.raw(r#"\""#),
                b'\\' => self.raw(r"\\"),
                b'\n' => self.raw(r"\n"),
                b'\r' => self.raw(r"\r"),
                b'\t' => self.raw(r"\t"),
                control => {
                    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                    self.raw(r"\u00");
                    self.out
                        .extend_from_slice(&[digit(control >> 4), digit(control & 15)]);
                }
            }
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
    }
}

/// Returns the place of the first byte that a JSON string cannot hold as it is; looks at eight bytes at a time.
fn find_special(bytes: &[u8]) -> Option<usize> {
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let (words, tail) = bytes.as_chunks::<8>();
    match words
        .iter()
        .position(|word| word_has_special(u64::from_le_bytes(*word)))
    {
        Some(index) => words[index].iter().position(is_special).map(|at| index * 8 + at),
        None => tail.iter().position(is_special).map(|at| words.len() * 8 + at),
    }
}

/// Source: the zero-byte and less-than tests of "Bit Twiddling Hacks" (S. E. Anderson); exact as a yes or no.
fn word_has_special(word: u64) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let quote = has_zero(word ^ (ONES * b'"' as u64));
    let backslash = has_zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
    (quote | backslash | control) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_special_byte_is_found_at_every_place_and_nowhere_else() {
        for byte in 0..=255u8 {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for place in 0..20 {
                for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut bytes = [filler; 20];
                    bytes[place] = byte;
                    assert_eq!(
                        find_special(&bytes),
                        special.then_some(place),
                        "{byte:#x} at {place} in {filler:#x}"
                    );
                }
            }
        }
        assert_eq!(find_special(b""), None);
    }

    #[test]
    fn the_first_of_several_special_bytes_is_found() {
        assert_eq!(find_special(b"0123456\n\"\\"), Some(7));
        assert_eq!(find_special(b"\"\"\"\"\"\"\"\"\""), Some(0));
        assert_eq!(find_special(b"01234567\x00"), Some(8));
    }

    #[test]
    fn a_cursor_is_written_as_position_displays_it() {
        let position = Position {
            generation: 0x00c0_ffee,
            offset: wire_base::ids::Offset(0x0123_4567_89ab_cdef),
            index: 0xf00d,
        };
        let mut out = Vec::new();
        Writer::new(&mut out).cursor("", position);
        assert_eq!(out, format!("\"{position}\"").into_bytes());
    }
}
