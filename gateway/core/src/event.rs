//! What is known of an event while it waits: its kind, what it replaces, and one encoding for all who get it.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use wire_base::ids::{ConversationId, Position, UserId};
use wire_base::status::Status;
use wire_client::{Event, Format, ShownMessage};

use crate::limits::SHARED_BYTES_MIN;

/// The kind of an event, which decides what may become of it in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something this connection asked for, or is told alone. Never dropped.
    Answer,
    /// An entry of the inbox. Never dropped: a client that cannot take it is closed, and resumes by its cursor.
    Message,
    /// A watermark that moved. The newest one counts, so it takes the place of those before it.
    Update,
    /// Somebody writes. The first to be dropped.
    Typing,
    /// Somebody came or left. The first to be dropped.
    Presence,
}

impl Kind {
    /// Returns whether events of this kind give way before a connection is closed for want of room.
    pub const fn is_dropped_first(self) -> bool {
        matches!(self, Self::Typing | Self::Presence)
    }
}

/// What an event is the newest word on: it takes the place of an earlier one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A watermark of a user.
    Status(ConversationId, UserId, Status),
    /// Whether a user writes.
    Typing(ConversationId, UserId),
    /// Whether a user is there.
    Presence(UserId),
}

impl Key {
    const fn kind(self) -> Kind {
        match self {
            Self::Status(..) => Kind::Update,
            Self::Typing(..) => Kind::Typing,
            Self::Presence(_) => Kind::Presence,
        }
    }
}

/// An event encoded once, in one format, for every connection of a worker that gets it.
///
/// Shape: the bytes are shared by all outboxes it waits in. A message has room for the cursor of each receiver, which is
/// written where the event is put into a frame.
pub struct SharedEvent {
    pub(crate) kind: Kind,
    pub(crate) key: Option<Key>,
    pub(crate) format: Format,
    bytes: Bytes,
    cursor_at: Option<usize>,
}

impl SharedEvent {
    /// Encodes a message, whatever its cursor.
    pub fn message(format: Format, message: &ShownMessage<'_>) -> Rc<Self> {
        let mut out = Vec::with_capacity(MESSAGE_BYTES);
        let cursor_at = format.encode_for_many(message, &mut out);
        Rc::new(Self {
            kind: Kind::Message,
            key: None,
            format,
            bytes: out.into(),
            cursor_at: Some(cursor_at),
        })
    }

    /// Encodes an event that replaces earlier ones with the same key, and is the same for all who get it.
    pub fn replacing(format: Format, key: Key, event: &Event<'_>) -> Rc<Self> {
        let mut out = Vec::with_capacity(MESSAGE_BYTES);
        format.encode(event, &mut out);
        Rc::new(Self {
            kind: key.kind(),
            key: Some(key),
            format,
            bytes: out.into(),
            cursor_at: None,
        })
    }

    /// Returns the length of the event, which is the same with every cursor.
    #[expect(clippy::len_without_is_empty, reason = "an event is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts the event into `frames` for a receiver; `cursor` counts only where the event has one.
    ///
    /// Shape: a short event is copied, of a long one only what stands before the cursor, and the cursor.
    pub(crate) fn write(&self, cursor: Position, frames: &mut Frames) {
        let start = frames.own.len();
        let is_shared = self.len() >= SHARED_BYTES_MIN;
        let Some(cursor_at) = self.cursor_at else {
            if is_shared {
                frames.shared.push((start, self.bytes.clone()));
            } else {
                frames.own.extend_from_slice(&self.bytes);
            }
            return;
        };
        let cursor_end = cursor_at + self.format.cursor_bytes();
        let copied = if is_shared { cursor_end } else { self.len() };
        frames.own.extend_from_slice(&self.bytes[..copied]);
        let place = &mut frames.own[start + cursor_at..start + cursor_end];
        self.format.write_cursor(cursor, place);
        if is_shared {
            frames
                .shared
                .push((start + cursor_end, self.bytes.slice(cursor_end..)));
        }
    }
}

impl fmt::Debug for SharedEvent {
    /// Prints no content: that belongs to users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind, self.len())
    }
}

/// Frames to send: bytes of one connection, with runs between them that others send too.
///
/// Order: each shared run goes before the byte of `own` at its index; indices never fall.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Frames {
    /// Headers, cursors, and all that is not long enough to be shared. To be recycled once it is sent.
    pub own: Vec<u8>,
    /// Runs of at least about [`SHARED_BYTES_MIN`] bytes, so there are few; mostly none.
    pub shared: Vec<(usize, Bytes)>,
}

impl Frames {
    /// Returns how many bytes there are.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared.iter().map(|(_, run)| run.len()).sum::<usize>()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a copy of all bytes in their order.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        let mut from = 0;
        for (at, run) in &self.shared {
            bytes.extend_from_slice(&self.own[from..*at]);
            bytes.extend_from_slice(run);
            from = *at;
        }
        bytes.extend_from_slice(&self.own[from..]);
        bytes
    }
}

impl fmt::Debug for Frames {
    /// Prints the lengths only: content belongs to users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frames({} bytes, {} shared runs)",
            self.len(),
            self.shared.len()
        )
    }
}

/// What an encoding starts with: a message of a usual size.
const MESSAGE_BYTES: usize = 512;
