//! Fields of keys: big-endian and of fixed width, so that keys sort as their fields do.

use wire_base::codec::{DecodeError, Fault, Layout, Reader};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UnixMs, UserId};

/// First key byte of what a store keeps for itself (the flushed offset); no row is ever there.
pub const TABLE_META: u8 = 0;

/// A part of a key.
pub trait KeyField: Copy + Ord {
    /// Its width.
    const BYTES: usize;
    /// Appends it.
    fn write_key(&self, out: &mut Vec<u8>);
    /// Reads it back.
    fn read_key(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Returns the least key above every key that starts with `prefix`: the open end of its range.
///
/// Panics: when every byte is 255, after which nothing comes; table bytes are small, so no prefix of a row is.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let last = prefix
        .iter()
        .rposition(|byte| *byte != u8::MAX)
        .expect("a row's prefix starts with a small table byte");
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

macro_rules! integer_keys {
    ($($type:ty),+) => {$(
        impl KeyField for $type {
            const BYTES: usize = size_of::<$type>();

            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read_key(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.array().map(<$type>::from_be_bytes)
            }
        }
    )+};
}
integer_keys!(u16, u32, u64);

/// Implements [`KeyField`] for a newtype by what it holds: `get` takes it out, `make` checks it (`None`: out of bounds).
macro_rules! newtype_keys {
    ($($type:ty: $inner:ty, $get:expr, $make:expr;)+) => {$(
        impl KeyField for $type {
            const BYTES: usize = <$inner>::BYTES;

            fn write_key(&self, out: &mut Vec<u8>) {
                let get: fn(&$type) -> $inner = $get;
                get(self).write_key(out);
            }

            fn read_key(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let make: fn($inner) -> Option<$type> = $make;
                make(<$inner>::read_key(input)?).ok_or(DecodeError::new("", Fault::OutOfBounds))
            }
        }
    )+};
}
newtype_keys! {
    UserId: u64, |id| id.get(), UserId::new;
    DeviceId: u32, |id| id.get(), DeviceId::from_stored;
    Seq: u64, |seq| seq.0, |value| Some(Seq(value));
    Offset: u64, |offset| offset.0, |value| Some(Offset(value));
    UnixMs: u64, |time| time.0, |value| Some(UnixMs(value));
}

/// Sixteen bytes in the order in which they are written anywhere.
macro_rules! uuid_keys {
    ($($type:ty),+) => {$(
        impl KeyField for $type {
            const BYTES: usize = 16;

            fn write_key(&self, out: &mut Vec<u8>) {
                self.write(out);
            }

            fn read_key(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Self::read(input)
            }
        }
    )+};
}
uuid_keys!(ConversationId, MessageId);

impl KeyField for Position {
    const BYTES: usize = 4 + 8 + 2;

    fn write_key(&self, out: &mut Vec<u8>) {
        self.generation.write_key(out);
        self.offset.write_key(out);
        self.index.write_key(out);
    }

    fn read_key(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: u32::read_key(input)?,
            offset: Offset::read_key(input)?,
            index: u16::read_key(input)?,
        })
    }
}

/// A table whose rows have no owner, or whose owners have one row.
impl KeyField for () {
    const BYTES: usize = 0;

    fn write_key(&self, _: &mut Vec<u8>) {}

    fn read_key(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl<A: KeyField, B: KeyField> KeyField for (A, B) {
    const BYTES: usize = A::BYTES + B::BYTES;

    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
        self.1.write_key(out);
    }

    fn read_key(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::read_key(input)?, B::read_key(input)?))
    }
}

#[cfg(test)]
mod tests;
