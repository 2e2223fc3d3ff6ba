//! Ids and positions. A newtype for each, so that two `u64`s never swap.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A user of the host system: 1 to 2^53 - 1, so that every JSON reader holds it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(u64);

impl UserId {
    /// The largest user id, 2^53 - 1.
    pub const MAX: u64 = (1 << 53) - 1;

    /// Returns the id, or `None` for 0 and for anything above [`UserId::MAX`].
    pub const fn new(value: u64) -> Option<Self> {
        if value == 0 || value > Self::MAX {
            None
        } else {
            Some(Self(value))
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One device of a user: 1 to 2^31 - 1, or [`DeviceId::API`] for a send that came over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u32);

impl DeviceId {
    /// The sender device of a message sent over HTTP. No session ever has it, so every device gets the echo.
    pub const API: Self = Self(0);
    /// The device of a `hello` that names none.
    pub const DEFAULT: Self = Self(1);

    /// Returns the id of a session's device, or `None` outside 1 to 2^31 - 1.
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > i32::MAX as u32 {
            None
        } else {
            Some(Self(value))
        }
    }

    /// Returns a stored id, where 0 stands for [`DeviceId::API`]; `None` above 2^31 - 1.
    pub const fn from_stored(value: u32) -> Option<Self> {
        if value > i32::MAX as u32 {
            None
        } else {
            Some(Self(value))
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns the id, or `None` for the nil UUID.
            pub fn new(value: Uuid) -> Option<Self> {
                (!value.is_nil()).then_some(Self(value))
            }

            /// Returns the UUID.
            pub const fn get(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A conversation: of two users by [`ConversationId::direct`], of a group by its group id.
    ConversationId
}
uuid_id! {
    /// A sender's idempotency key within (conversation, sender); best a UUIDv7.
    MessageId
}

/// The namespace of direct conversations (the DNS namespace of RFC 9562, fixed by docs/protocol.md section 1).
const DIRECT_NAMESPACE: Uuid = Uuid::from_u128(0x6ba7b810_9dad_11d1_80b4_00c04fd430c8);

impl ConversationId {
    /// Returns the conversation of two users, the same whichever way they are given: UUIDv5 of `"{min}:{max}"`.
    pub fn direct(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self(Uuid::new_v5(
            &DIRECT_NAMESPACE,
            format!("{}:{}", low.get(), high.get()).as_bytes(),
        ))
    }
}

impl MessageId {
    /// Returns the milliseconds since 1970 that a UUIDv7 carries; `None` for another version.
    pub fn unix_ms(self) -> Option<u64> {
        (self.0.get_version_num() == 7).then(|| (self.0.as_u128() >> 80) as u64)
    }
}

/// Place of a message in its conversation, dense from 1; 0 means "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Returns the following seq.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Position of a record in a log, counted in records from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Position in a user's inbox; as text (lowercase hex, fixed width) it is the protocol's `cursor`.
///
/// Shape: ordered by generation, log offset, index; the text sorts the same way. 28 characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Creation number of the store or topic that gave the position.
    pub generation: u32,
    /// The log record that made the entry.
    pub offset: Offset,
    /// One record may give a user several entries.
    pub index: u16,
}

impl Position {
    /// Length of the text form.
    pub const TEXT_BYTES: usize = 28;

    /// Returns the text form in ASCII, for those who write many.
    pub fn to_text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [0; Self::TEXT_BYTES];
        let (generation, rest) = text.split_at_mut(8);
        let (offset, index) = rest.split_at_mut(16);
        write_hex(&self.generation.to_be_bytes(), generation);
        write_hex(&self.offset.0.to_be_bytes(), offset);
        write_hex(&self.index.to_be_bytes(), index);
        text
    }

    /// Returns the position before every entry of a generation.
    pub const fn start(generation: u32) -> Self {
        Self {
            generation,
            offset: Offset(0),
            index: 0,
        }
    }
}

/// Writes two lowercase digits for each byte.
fn write_hex(bytes: &[u8], text: &mut [u8]) {
    for (byte, digits) in bytes.iter().zip(text.as_chunks_mut::<2>().0) {
        *digits = HEX[usize::from(*byte)];
    }
}

/// The digits of every byte: a cursor is written for every delivery.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08x}{:016x}{:04x}",
            self.generation, self.offset.0, self.index
        )
    }
}

/// A text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is {} lowercase hex digits", Position::TEXT_BYTES)]
pub struct BadCursor;

impl FromStr for Position {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let hex = |range: std::ops::Range<usize>| {
            let part = text.get(range).ok_or(BadCursor)?;
            if part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                u64::from_str_radix(part, 16).map_err(|_| BadCursor)
            } else {
                Err(BadCursor)
            }
        };
        if text.len() != Self::TEXT_BYTES {
            return Err(BadCursor);
        }
        Ok(Self {
            generation: hex(0..8)? as u32,
            offset: Offset(hex(8..24)?),
            index: hex(24..28)? as u16,
        })
    }
}

/// Number of a device's session, given by the owner of the user slot; the highest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

/// One connection of one worker, for as long as its socket is open: the reactor gives it out, and it names the connection to the
/// hub and on the worker's link. A reused slot gets another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionHandle {
    /// Index in the reactor's table and in the worker's slab: dense, small, reused.
    pub slot: u32,
    /// Counts the uses of that slot, so that a late answer never reaches a successor.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u64) -> UserId {
        UserId::new(n).unwrap()
    }

    #[test]
    fn direct_conversation_is_symmetric_and_matches_the_uuid_library_of_python() {
        // uuid.uuid5(uuid.NAMESPACE_DNS, "1:2")
        assert_eq!(
            ConversationId::direct(user(1), user(2)).to_string(),
            "b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd"
        );
        assert_eq!(
            ConversationId::direct(user(1), user(2)),
            ConversationId::direct(user(2), user(1))
        );
    }

    #[test]
    fn user_ids_outside_the_exact_range_of_json_numbers_are_refused() {
        assert_eq!(UserId::new(0), None);
        assert_eq!(UserId::new(1 << 53), None);
        assert_eq!(UserId::new((1 << 53) - 1).map(UserId::get), Some((1 << 53) - 1));
    }

    #[test]
    fn cursor_text_round_trips_and_sorts_like_the_position() {
        let position = |generation, offset, index| Position {
            generation,
            offset: Offset(offset),
            index,
        };
        let ascending = [
            position(1, 0, 0),
            position(1, 9, 1),
            position(1, 16, 0),
            position(2, 0, 0),
        ];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string());
            assert_eq!(pair[0].to_string().parse(), Ok(pair[0]));
            assert_eq!(pair[0].to_string().as_bytes(), pair[0].to_text());
        }
        for bad in [
            "",
            "0",
            "g000000000000000000000000000",
            &"0".repeat(29),
            &"A".repeat(28),
            "é".repeat(14).as_str(),
        ] {
            assert_eq!(bad.parse::<Position>(), Err(BadCursor), "{bad}");
        }
    }

    #[test]
    fn uuid_v7_gives_its_time_and_other_versions_give_none() {
        let v7 = Uuid::from_u128(0x0190_0000_0001_7000_8000_0000_0000_0001);
        assert_eq!(MessageId::new(v7).unwrap().unix_ms(), Some(0x0190_0000_0001));
        assert_eq!(MessageId::new(Uuid::from_u128(4 << 76)).unwrap().unix_ms(), None);
        assert_eq!(MessageId::new(Uuid::nil()), None);
    }
}
