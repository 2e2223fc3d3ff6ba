//! What a message of the load tool says: who sent it, which one it is, when it was meant to leave; then padding.
//!
//! Text, all of it ASCII: `tg1`, run (8 hex digits), pair (8), number (8), intended time in ns (12), padding, check (8).
//! The check covers everything before it, so a message damaged on its way is never taken for another one.

use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Ns;

/// Shortest content that holds an identity.
pub(crate) const CONTENT_BYTES_MIN: usize = HEAD_BYTES + CHECK_BYTES;

/// What makes a message of this tool unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Tells runs apart on a server that keeps messages.
    pub(crate) run: u32,
    /// Sender and receiver, as the plan numbers them.
    pub(crate) pair: u32,
    /// Counts the sends of the pair from 1.
    pub(crate) number: u32,
    /// Distance from the start of the schedule, below 2^48 ns (78 hours).
    pub(crate) intended: Ns,
}

/// Why a content gives no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnIdentity {
    /// Somebody else's message.
    Foreign,
    /// A message of this tool whose content was changed.
    Damaged,
}

impl Identity {
    /// Writes the content of `content_bytes` bytes, but not fewer than [`CONTENT_BYTES_MIN`].
    ///
    /// The same identity and size give the same bytes: a repeated send must not differ from the first.
    pub(crate) fn write(&self, content_bytes: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(MARK);
        push_hex(out, u64::from(self.run), 8);
        push_hex(out, u64::from(self.pair), 8);
        push_hex(out, u64::from(self.number), 8);
        push_hex(out, self.intended.0, 12);
        let padding_bytes = content_bytes.saturating_sub(CONTENT_BYTES_MIN);
        pad(out, self.number as usize % PADDING.len(), padding_bytes);
        let check = xxh3_64(&out[start..]);
        push_hex(out, check & 0xffff_ffff, CHECK_BYTES);
    }

    /// Reads the identity back.
    pub(crate) fn parse(content: &str) -> Result<Self, NotAnIdentity> {
        let bytes = content.as_bytes();
        if bytes.len() < CONTENT_BYTES_MIN || !bytes.starts_with(MARK) {
            return Err(NotAnIdentity::Foreign);
        }
        let (covered, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        if read_hex(check) != Some(xxh3_64(covered) & 0xffff_ffff) {
            return Err(NotAnIdentity::Damaged);
        }
        let field = |start: usize, digits: usize| {
            read_hex(&covered[start..start + digits]).ok_or(NotAnIdentity::Damaged)
        };
        Ok(Self {
            run: field(3, 8)? as u32,
            pair: field(11, 8)? as u32,
            number: field(19, 8)? as u32,
            intended: Ns(field(27, 12)?),
        })
    }
}

/// Appends `bytes` bytes of the padding, repeated as often as it takes, from `offset` within it on.
pub(crate) fn pad(out: &mut Vec<u8>, offset: usize, bytes: usize) {
    let end = out.len() + bytes;
    let mut from = offset;
    while out.len() < end {
        let part = &PADDING[from..];
        out.extend_from_slice(&part[..part.len().min(end - out.len())]);
        from = 0;
    }
}

/// Appends the low `digits` hex digits of `value`.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64, digits: usize) {
    out.extend(
        (0..digits)
            .rev()
            .map(|digit| HEX[(value >> (digit * 4)) as usize & 15]),
    );
}

/// Reads lowercase hex digits, at most 16 of them.
pub(crate) fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u64::from(nibble))
    })
}

const MARK: &[u8] = b"tg1";
const HEX: &[u8; 16] = b"0123456789abcdef";
const HEAD_BYTES: usize = 3 + 8 + 8 + 8 + 12;
const CHECK_BYTES: usize = 8;
pub(crate) const PADDING: &[u8] = b"the quick brown fox jumps over the lazy dog ";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(identity: Identity, bytes: usize) -> String {
        let mut out = Vec::new();
        identity.write(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn any_identity() -> impl Strategy<Value = Identity> {
        (any::<u32>(), any::<u32>(), any::<u32>(), 0_u64..1 << 48).prop_map(|(run, pair, number, ns)| {
            Identity {
                run,
                pair,
                number,
                intended: Ns(ns),
            }
        })
    }

    proptest! {
        #[test]
        fn an_identity_survives_the_round_trip_at_every_size(identity in any_identity(), bytes in 0_usize..400) {
            let text = content(identity, bytes);
            prop_assert_eq!(text.len(), bytes.max(CONTENT_BYTES_MIN));
            prop_assert_eq!(Identity::parse(&text), Ok(identity));
        }

        #[test]
        fn a_changed_byte_is_noticed(identity in any_identity(), bytes in 47_usize..120, at in 3_usize..120, to in b' '..b'~') {
            let mut changed = content(identity, bytes).into_bytes();
            let at = at % changed.len();
            prop_assume!(at >= 3 && changed[at] != to);
            changed[at] = to;
            prop_assert_eq!(Identity::parse(std::str::from_utf8(&changed).unwrap()), Err(NotAnIdentity::Damaged));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = Identity::parse(&text);
            let _ = Identity::parse(&format!("tg1{text}{text}{text}"));
        }
    }

    #[test]
    fn text_of_others_is_foreign() {
        for text in ["", "hello", "tg1", &"tg2".repeat(40)] {
            assert_eq!(Identity::parse(text), Err(NotAnIdentity::Foreign), "{text}");
        }
    }
}
