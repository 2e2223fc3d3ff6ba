//! The payload of a close frame (RFC 6455 sections 5.5.1 and 7.4).

use super::violation::Violation;

/// Why the peer closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// One that [`is_close_code`] allows.
    pub code: u16,
    /// For a person; often empty.
    pub reason: &'a str,
}

/// Returns whether a close frame may carry `code`.
///
/// Source: RFC 6455 section 7.4 and the IANA registry: 1004 is reserved; 1005, 1006 and 1015 stand for what was not
/// received; 1016 to 2999 are unassigned. 3000 to 3999 are registered by libraries, 4000 to 4999 are private.
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl<'a> CloseFrame<'a> {
    /// Decodes the payload of a close frame; `None` for an empty one.
    pub(super) fn decode(payload: &'a [u8]) -> Result<Option<Self>, Violation> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() {
                Ok(None)
            } else {
                Err(Violation::CloseLength)
            };
        };
        let code = u16::from_be_bytes(*code);
        if !is_close_code(code) {
            return Err(Violation::CloseCode);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
        Ok(Some(Self { code, reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_autobahn_7_7_7_9_and_7_13() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
        ] {
            assert!(is_close_code(code), "{code}");
        }
        for code in [
            0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
        ] {
            assert!(!is_close_code(code), "{code}");
        }
    }

    #[test]
    fn the_payload_is_empty_or_a_code_and_a_text() {
        let good = |code, reason| Ok(Some(CloseFrame { code, reason }));
        assert_eq!(CloseFrame::decode(b""), Ok(None));
        assert_eq!(CloseFrame::decode(b"\x03\xe8"), good(1000, ""));
        assert_eq!(CloseFrame::decode(b"\x0f\xa0bye"), good(4000, "bye"));
        assert_eq!(CloseFrame::decode(b"\x03"), Err(Violation::CloseLength));
        assert_eq!(CloseFrame::decode(b"\x03\xed\xff"), Err(Violation::CloseCode));
        assert_eq!(CloseFrame::decode(b"\x03\xe8\xc3"), Err(Violation::InvalidUtf8));
        assert_eq!(
            CloseFrame::decode(b"\x03\xe8\xed\xa0\x80"),
            Err(Violation::InvalidUtf8)
        );
    }
}
