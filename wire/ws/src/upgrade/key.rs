//! `Sec-WebSocket-Key` and its answer (RFC 6455 sections 1.3, 4.1 and 4.2.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The nonce of a handshake in its text form: 16 bytes as base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; KEY_CHARS]);

impl Key {
    /// Returns the key of a client that drew `nonce` at random.
    pub fn from_nonce(nonce: [u8; 16]) -> Self {
        let mut text = [0; KEY_CHARS];
        let written = STANDARD.encode_slice(nonce, &mut text);
        debug_assert_eq!(written, Ok(KEY_CHARS));
        Self(text)
    }

    /// Returns the key of a header, or `None` if it is not the base64 of 16 bytes.
    ///
    /// The four bits beyond the 16 bytes are not checked: nothing depends on them, and clients exist that draw characters.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (digits, padding) = value.split_first_chunk::<KEY_DIGITS>()?;
        let is_digit = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        if padding == b"==" && digits.iter().all(is_digit) {
            value.try_into().ok().map(Self)
        } else {
            None
        }
    }

    /// Returns the value of `Sec-WebSocket-Accept` that answers this key.
    pub fn accept(&self) -> [u8; 28] {
        let digest = Sha1::new().chain_update(self.0).chain_update(GUID).finalize();
        let mut text = [0; 28];
        let written = STANDARD.encode_slice(digest, &mut text);
        debug_assert_eq!(written, Ok(28));
        text
    }

    /// Returns the text as it stands in the header.
    pub fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

/// Base64 digits of 16 bytes; two characters of padding follow.
const KEY_DIGITS: usize = 22;
const KEY_CHARS: usize = KEY_DIGITS + 2;
/// Fixed by RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_key_of_section_1_3_gets_the_sample_answer() {
        let key = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(&key.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(Key::from_nonce(*b"the sample nonce"), key);
    }

    #[test]
    fn only_base64_of_16_bytes_is_a_key() {
        for bad in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQ===",
            b"dGhlIHNhbXBsZSBub25jZ===",
            b"dGhlIHNhbXBsZSBub25j-Q==",
            b"dGhlIHNhbXBsZSBub25j\xffQ==",
            b"dGhlIHNhbXBsZSBub25jZXM=", // 17 bytes.
            b"AAAAAAAAAAAAAAAAAAAA",     // 15 bytes.
        ] {
            assert_eq!(Key::parse(bad), None, "{:?}", bad.escape_ascii().to_string());
        }
    }
}
