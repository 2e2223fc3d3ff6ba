//! Formats of the client protocol: how a server turns events into the payload of frames.
//!
//! A format encodes an event, leaves room in an event for many receivers where the cursor of each goes, and joins events
//! that share a frame. Nothing ever looks into what it encoded.

use wire_base::ids::Position;
use wire_base::limits::FRAME_BYTES_MAX;

use crate::json;
use crate::{Event, ShownMessage};

/// The format of a connection, chosen by its subprotocol, the same for as long as it lives.
///
/// Order: of a batch, first `begin_batch`; then for each event `begin_event` and its bytes; then `end_batch`. A lone event
/// is its own payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// Text frames of JSON, `tidegate.json.v1`.
    #[default]
    Json,
}

impl Format {
    /// How many formats there are: [`Format::index`] is below it.
    pub const COUNT: usize = 1;

    /// Returns the place of this format in a table of all.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns whether its frames are text frames; those of the others are binary.
    pub const fn is_text(self) -> bool {
        match self {
            Self::Json => true,
        }
    }

    /// Appends one event.
    pub fn encode(self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::encode_event(event, out),
        }
    }

    /// Appends a page with as many of its `entries` as a frame holds, but one at least; `page` shows the first so many, and
    /// says whether there are more.
    pub fn encode_page<'a>(self, entries: usize, page: impl Fn(usize) -> Event<'a>, out: &mut Vec<u8>) {
        let start = out.len();
        let mut count = entries;
        loop {
            self.encode(&page(count), out);
            let bytes = out.len() - start;
            if bytes <= FRAME_BYTES_MAX || count <= 1 {
                return;
            }
            out.truncate(start);
            // Entries differ in length, so this may have to be done again; each time there are fewer.
            count = (count * FRAME_BYTES_MAX / bytes).clamp(1, count - 1);
        }
    }

    /// Appends a message for receivers that differ in the cursor alone; returns where its [`Format::cursor_bytes`] bytes
    /// begin, counted from the first byte appended.
    ///
    /// Shape: what stands in the place of the cursor has no meaning until [`Format::write_cursor`] has been there.
    pub fn encode_for_many(self, message: &ShownMessage<'_>, out: &mut Vec<u8>) -> usize {
        let cursor = Some(Position::default());
        match self {
            Self::Json => {
                json::encode_event(&Event::Message(ShownMessage { cursor, ..*message }), out);
                json::MESSAGE_CURSOR_AT
            }
        }
    }

    /// Returns the length of a cursor, the same for each.
    pub const fn cursor_bytes(self) -> usize {
        match self {
            Self::Json => Position::TEXT_BYTES,
        }
    }

    /// Writes a cursor into its place.
    ///
    /// Panics: when `place` is not [`Format::cursor_bytes`] long.
    pub fn write_cursor(self, cursor: Position, place: &mut [u8]) {
        match self {
            Self::Json => place.copy_from_slice(&cursor.to_text()),
        }
    }

    /// Returns what an event adds to the events of a batch.
    pub const fn bytes_in_batch(self, event_bytes: usize) -> usize {
        match self {
            Self::Json => event_bytes + json::BATCH_SEPARATOR.len(),
        }
    }

    /// Returns the size of a batch of one or more events, from the sum of their [`Format::bytes_in_batch`].
    pub const fn batch_bytes(self, bytes_in_batch: usize) -> usize {
        match self {
            Self::Json => {
                // One separator less than there are events.
                json::BATCH_OPEN.len() + bytes_in_batch - json::BATCH_SEPARATOR.len()
                    + json::BATCH_CLOSE.len()
            }
        }
    }

    /// Appends the start of a batch.
    pub fn begin_batch(self, out: &mut Vec<u8>) {
        match self {
            Self::Json => out.extend_from_slice(json::BATCH_OPEN),
        }
    }

    /// Appends what stands before the event number `index` of a batch, counted from 0.
    pub fn begin_event(self, index: usize, out: &mut Vec<u8>) {
        match self {
            Self::Json if index > 0 => out.extend_from_slice(json::BATCH_SEPARATOR),
            Self::Json => {}
        }
    }

    /// Appends the end of a batch.
    pub fn end_batch(self, out: &mut Vec<u8>) {
        match self {
            Self::Json => out.extend_from_slice(json::BATCH_CLOSE),
        }
    }
}
