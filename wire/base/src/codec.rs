//! The binary layouts shared by link, log and store: little-endian, fixed widths, one encoding for each value.
//!
//! `Layout` is implemented for ids and plain values here, and for structs by `layout!`, field by field in the order listed. Every decoder is strict (no spare bits, no unused bytes), so whatever is accepted encodes to the same bytes again.

use bytes::Bytes;

use crate::body::{BodyHash, EncodedBody};
use crate::code::Code;
use crate::ids::{
    ConnectionHandle, ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs,
    UserId,
};
use crate::message::{Draft, Message, Target};
use crate::status::{Status, StatusCommand, StatusOf};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct DecodeError {
    /// Where: the innermost field that was being read.
    pub field: &'static str,
    /// What was wrong with it.
    pub fault: Fault,
}

/// See [`DecodeError::fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes ended inside the field.
    #[error("cut short")]
    CutShort,
    /// A kind, table or tag byte that this version does not know.
    #[error("unknown kind {0}")]
    UnknownKind(u8),
    /// A layout version that this version does not know.
    #[error("unknown layout version {0}")]
    UnknownVersion(u8),
    /// A value or length outside its bounds.
    #[error("out of bounds")]
    OutOfBounds,
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Bytes are left over.
    #[error("bytes left over")]
    LeftOver,
}

impl DecodeError {
    /// Returns an error about a field.
    pub const fn new(field: &'static str, fault: Fault) -> Self {
        Self { field, fault }
    }
}

/// A value with one byte layout.
pub trait Layout: Sized {
    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads it back, and nothing more.
    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Implements [`Layout`] for a struct: the fields one after the other; `check` names a condition between them.
#[macro_export]
macro_rules! layout {
    ($type:ident { $($field:ident),+ $(,)? } $(check $name:literal $check:expr)?) => {
        impl $crate::codec::Layout for $type {
            fn write(&self, out: &mut Vec<u8>) {
                $($crate::codec::Layout::write(&self.$field, out);)+
            }

            fn read(input: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                let value = Self { $($field: input.field(stringify!($field))?),+ };
                $(
                    let holds: fn(&Self) -> bool = $check;
                    if !holds(&value) {
                        return Err($crate::codec::DecodeError::new($name, $crate::codec::Fault::OutOfBounds));
                    }
                )?
                Ok(value)
            }
        }
    };
}
pub use layout;

/// Reads values off the front of some bytes.
pub struct Reader<'a> {
    rest: &'a [u8],
    /// What `rest` is a part of, so that a body is a slice of it and not a copy.
    source: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// Reads shared bytes: bodies come out as slices of them.
    pub fn shared(source: &'a Bytes) -> Self {
        Self {
            rest: source,
            source: Some(source),
        }
    }

    /// Reads borrowed bytes: bodies come out as copies.
    pub fn borrowed(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            source: None,
        }
    }

    /// Reads one value; a fault inside it is reported under this name unless it has a closer one.
    pub fn field<T: Layout>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        T::read(self).map_err(|error| {
            if error.field.is_empty() {
                DecodeError { field: name, ..error }
            } else {
                error
            }
        })
    }

    /// Takes the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (front, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::new("", Fault::CutShort))?;
        self.rest = rest;
        Ok(front)
    }

    /// Takes the next `count` bytes as bytes of their own, without a copy where the source is shared.
    pub fn take_bytes(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let front = self.take(count)?;
        Ok(self
            .source
            .map_or_else(|| Bytes::copy_from_slice(front), |source| source.slice_ref(front)))
    }

    /// Takes the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (front, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::new("", Fault::CutShort))?;
        self.rest = rest;
        Ok(*front)
    }

    /// Checks that nothing is left.
    pub fn finish(self, name: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::new(name, Fault::LeftOver))
        }
    }
}

macro_rules! integer_layout {
    ($($type:ident),+) => {$(
        impl Layout for $type {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.array().map($type::from_le_bytes)
            }
        }
    )+};
}
integer_layout!(u8, u16, u32, u64, u128);

/// Implements [`Layout`] for a newtype by what it holds: `get` takes it out, `make` checks it (`None`: out of bounds).
macro_rules! newtype_layout {
    ($($type:ty: $inner:ty, $get:expr, $make:expr;)+) => {$(
        impl Layout for $type {
            fn write(&self, out: &mut Vec<u8>) {
                let get: fn(&$type) -> $inner = $get;
                get(self).write(out);
            }

            fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let make: fn($inner) -> Option<$type> = $make;
                make(<$inner>::read(input)?).ok_or(DecodeError::new("", Fault::OutOfBounds))
            }
        }
    )+};
}
newtype_layout! {
    bool: u8, |value| u8::from(*value), |byte| match byte { 0 => Some(false), 1 => Some(true), _ => None };
    UserId: u64, |id| id.get(), UserId::new;
    DeviceId: u32, |id| id.get(), DeviceId::from_stored;
    uuid::Uuid: [u8; 16], |id| *id.as_bytes(), |bytes| Some(uuid::Uuid::from_bytes(bytes));
    ConversationId: uuid::Uuid, |id| id.get(), ConversationId::new;
    MessageId: uuid::Uuid, |id| id.get(), MessageId::new;
    Seq: u64, |seq| seq.0, |value| Some(Seq(value));
    Offset: u64, |offset| offset.0, |value| Some(Offset(value));
    SessionNumber: u64, |session| session.0, |value| Some(SessionNumber(value));
    UnixMs: u64, |time| time.0, |value| Some(UnixMs(value));
    BodyHash: u128, |hash| hash.0, |value| Some(BodyHash(value));
    Status: u8, |status| *status as u8, Status::from_byte;
    Code: u8, |code| *code as u8, Code::from_byte;
}
layout!(Position {
    generation,
    offset,
    index
});
layout!(ConnectionHandle { slot, generation });
layout!(StatusCommand { status, of });
layout!(Draft {
    sender,
    sender_device,
    target,
    body
});
layout!(Message {
    conversation,
    seq,
    message_id,
    sender,
    sender_device,
    timestamp,
    body
});

/// A kind byte and the id.
impl Layout for Target {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Direct(user) => {
                out.push(1);
                user.write(out);
            }
            Self::Group(conversation) => {
                out.push(2);
                conversation.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.field("target kind")? {
            1u8 => Ok(Self::Direct(input.field("receiver")?)),
            2 => Ok(Self::Group(input.field("group")?)),
            unknown => Err(DecodeError::new("target kind", Fault::UnknownKind(unknown))),
        }
    }
}

impl Layout for StatusOf {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message(message_id) => {
                out.push(1);
                message_id.write(out);
            }
            Self::Seq(conversation, seq) => {
                out.push(2);
                conversation.write(out);
                seq.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.field("status of")? {
            1u8 => Ok(Self::Message(input.field("message_id")?)),
            2 => Ok(Self::Seq(input.field("conversation")?, input.field("seq")?)),
            unknown => Err(DecodeError::new("status of", Fault::UnknownKind(unknown))),
        }
    }
}

impl<const N: usize> Layout for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array()
    }
}

/// A byte 0, or a byte 1 and the value.
impl<T: Layout> Layout for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        bool::read(input)?.then(|| T::read(input)).transpose()
    }
}

impl<A: Layout, B: Layout> Layout for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::read(input)?, B::read(input)?))
    }
}

/// A u32 count and the items. The count alone allocates nothing: memory follows the items that are really there.
impl<T: Layout> Layout for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        for item in self {
            item.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = u32::read(input)? as usize;
        let mut items = Vec::with_capacity(count.min(VEC_ITEMS_RESERVED_MAX));
        for _ in 0..count {
            items.push(T::read(input)?);
        }
        Ok(items)
    }
}

/// A u16 length and at most [`TEXT_BYTES_MAX`] bytes; what is longer is cut at a character on writing.
///
/// These texts are words for people, names and page tokens. A cut sentence is still a sentence, and a cut token is refused
/// by whoever made it.
impl Layout for String {
    fn write(&self, out: &mut Vec<u8>) {
        let text = &self[..self.floor_char_boundary(TEXT_BYTES_MAX)];
        (text.len() as u16).write(out);
        out.extend_from_slice(text.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(u16::read(input)?);
        if length > TEXT_BYTES_MAX {
            return Err(DecodeError::new("", Fault::OutOfBounds));
        }
        let text = simdutf8::basic::from_utf8(input.take(length)?)
            .map_err(|_| DecodeError::new("", Fault::NotUtf8))?;
        Ok(text.to_owned())
    }
}

/// A u32 length and the bytes of the body.
impl Layout for EncodedBody {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = u32::read(input)? as usize;
        EncodedBody::parse(input.take_bytes(length)?)
    }
}

/// Longest text on a link.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Room made for a list before its items have been seen.
const VEC_ITEMS_RESERVED_MAX: usize = 128;

const _: () = assert!(TEXT_BYTES_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests;
