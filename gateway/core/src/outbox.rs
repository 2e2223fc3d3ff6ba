//! What waits to be sent on one connection. Exists only while something does.
//!
//! An outbox is a list of items: runs of frames that are encoded already, and events. Events become frames when they leave:
//! those that follow each other share one, as a batch. Until then an item can be replaced by a newer one with its key, or
//! dropped where its kind allows that. What has left belongs to the transport; of that only the number of bytes is known
//! which the socket has not taken.

use std::mem::size_of;
use std::ops::Range;
use std::rc::Rc;

use wire_base::ids::Position;
use wire_base::limits::{BATCH_MESSAGES_MAX, FRAME_BYTES_MAX};
use wire_client::Format;
use wire_ws::{HEADER_BYTES_MAX, Opcode, encode_frame, encode_header};

use crate::event::{Frames, Kind, SharedEvent};
use crate::limits::{SHARED_BYTES_MIN, SPARE_ITEMS_MAX};
use crate::time::{Now, Stamp};

/// The outbox of one connection.
///
/// Shape: grows with what is queued; its owner checks [`Outbox::len`] against its bound.
#[derive(Default)]
pub(crate) struct Outbox {
    items: Vec<Item>,
    /// The bytes of those items that are this connection's own, in their order and without gaps.
    own: Vec<u8>,
    /// Encoded bytes of all items.
    bytes: usize,
    /// Frames in `own`.
    frames: u32,
    /// Items with a key, and among them those that are dropped first.
    keyed: u32,
    droppable: u32,
    /// Of the events: a connection has one for life.
    format: Format,
    /// Its owner has set a time at which the events leave.
    is_lingering: bool,
    /// Bytes that the transport holds because the socket did not take them.
    unsent: usize,
    /// When the transport last held fewer bytes than before.
    progress: Stamp,
}

/// One thing that waits.
enum Item {
    /// Whole frames, or what is no frame: an HTTP response.
    Frames(Range<u32>),
    /// An event of this connection alone.
    Own(Range<u32>),
    /// An event for many, and this connection's cursor.
    Shared(Rc<SharedEvent>, Position),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Frames(range) | Self::Own(range) => range.len(),
            Self::Shared(event, _) => event.len(),
        }
    }

    /// Returns how many of its bytes are copied into a frame, at most.
    fn copied_bytes(&self) -> usize {
        match self {
            Self::Shared(event, _) => event.len().min(SHARED_BYTES_MIN),
            Self::Frames(_) | Self::Own(_) => self.len(),
        }
    }

    /// Returns the kind of an event; `None` for frames.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Frames(_) => None,
            Self::Own(_) => Some(Kind::Answer),
            Self::Shared(event, _) => Some(event.kind),
        }
    }
}

/// What [`Outbox::take`] took.
pub(crate) struct Taken {
    pub(crate) bytes: Frames,
    /// Frames in it.
    pub(crate) frames: u32,
    /// Those of them that are batches.
    pub(crate) batches: u32,
}

impl Outbox {
    /// Uses `buffer`, which is empty, for the bytes to come.
    pub(crate) fn adopt(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.own.is_empty() && buffer.is_empty());
        self.own = buffer;
    }

    /// Forgets everything; returns the buffer. The list of items keeps its memory, if that is little.
    pub(crate) fn clear(&mut self) -> Vec<u8> {
        self.drop_items();
        let mut items = std::mem::take(&mut self.items);
        let buffer = std::mem::take(self).own;
        items.shrink_to(SPARE_ITEMS_MAX);
        self.items = items;
        buffer
    }

    /// Returns the memory of what waits, in bytes: what the transport holds, and for each item its bytes and its place.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.unsent + self.bytes + self.items.len() * ITEM_BYTES
    }

    /// Returns whether nothing waits, neither here nor in the transport.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.unsent == 0
    }

    /// Returns the bytes that the transport holds.
    pub(crate) const fn unsent(&self) -> usize {
        self.unsent
    }

    /// Returns whether the transport takes nothing until the socket has taken what it holds.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.unsent > 0
    }

    /// Returns since when the transport has held as many bytes as now.
    pub(crate) const fn progress(&self) -> Stamp {
        self.progress
    }

    /// Returns whether all that waits is events of one frame that takes more.
    pub(crate) fn may_linger(&self) -> bool {
        !self.is_blocked() && self.frames == 0 && {
            let next = self.next_frame(&self.items);
            next.items == self.items.len() && next.items < BATCH_MESSAGES_MAX
        }
    }

    /// Notes that a time is set at which what lingers is sent; returns whether there was none.
    pub(crate) const fn begin_lingering(&mut self) -> bool {
        !std::mem::replace(&mut self.is_lingering, true)
    }

    /// Queues a frame.
    #[inline]
    pub(crate) fn push_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.push_with(|own| encode_frame(own, opcode, payload, None));
    }

    /// Queues bytes that are no frame, or frames already: an HTTP response, a close frame.
    #[inline]
    pub(crate) fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let range = self.write_own(encode);
        self.frames += 1;
        match self.items.last_mut() {
            Some(Item::Frames(last)) => last.end = range.end,
            Some(_) | None => self.items.push(Item::Frames(range)),
        }
    }

    /// Queues an event of this connection alone.
    pub(crate) fn push_event(&mut self, format: Format, encode: impl FnOnce(&mut Vec<u8>)) {
        self.format = format;
        let range = self.write_own(encode);
        self.items.push(Item::Own(range));
    }

    /// Queues an event for many, instead of the one with the same key if that waits; returns whether one did.
    pub(crate) fn push_shared(&mut self, event: &Rc<SharedEvent>, cursor: Position) -> bool {
        self.format = event.format;
        let is_replacing = self.keyed > 0 && event.key.is_some() && self.drop_replaced(event);
        self.bytes += event.len();
        self.keyed += u32::from(event.key.is_some());
        self.droppable += u32::from(event.kind.is_dropped_first());
        self.items.push(Item::Shared(Rc::clone(event), cursor));
        is_replacing
    }

    /// Drops events that may be dropped, oldest first, until the outbox is `bytes_max` long or none is left; returns how
    /// many.
    pub(crate) fn drop_first(&mut self, bytes_max: usize) -> u32 {
        let mut over = self.len().saturating_sub(bytes_max);
        if over == 0 || self.droppable == 0 {
            return 0;
        }
        let before = self.droppable;
        let mut dropped = 0;
        self.items.retain(|item| {
            if over == 0 || !item.kind().is_some_and(Kind::is_dropped_first) {
                return true;
            }
            dropped += item.len();
            over = over.saturating_sub(item.len() + ITEM_BYTES);
            self.droppable -= 1;
            false
        });
        self.bytes -= dropped;
        self.keyed -= before - self.droppable;
        before - self.droppable
    }

    /// Takes everything that waits, as frames in `buffer`, which is empty.
    ///
    /// Order: only while not blocked.
    pub(crate) fn take(&mut self, buffer: Vec<u8>) -> Taken {
        debug_assert!(!self.is_blocked());
        let mut taken = Taken {
            bytes: Frames {
                own: buffer,
                shared: Vec::new(),
            },
            frames: self.frames,
            batches: 0,
        };
        if let [Item::Frames(_)] = self.items[..] {
            std::mem::swap(&mut self.own, &mut taken.bytes.own);
        } else {
            self.write_frames(&mut taken);
        }
        self.drop_items();
        taken
    }

    /// Notes how many bytes the transport holds.
    pub(crate) fn handle_blocked(&mut self, unsent: usize, now: Now) {
        if self.unsent == 0 || unsent < self.unsent {
            self.progress = Stamp::of(now);
        }
        self.unsent = unsent;
    }

    /// Notes that the transport holds nothing any more.
    pub(crate) const fn handle_writable(&mut self) {
        self.unsent = 0;
    }

    /// Drops every item.
    pub(crate) fn drop_items(&mut self) {
        self.items.clear();
        self.own.clear();
        self.bytes = 0;
        (self.frames, self.keyed, self.droppable) = (0, 0, 0);
        self.is_lingering = false;
    }

    #[inline]
    fn write_own(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Range<u32> {
        if self.own.capacity() == 0 {
            self.own.reserve(BUFFER_BYTES);
        }
        let start = self.own.len();
        encode(&mut self.own);
        let end = self.own.len();
        self.bytes += end - start;
        start as u32..end as u32
    }

    /// Drops the event that has the key of `event`; returns whether there was one.
    fn drop_replaced(&mut self, event: &SharedEvent) -> bool {
        let is_replaced = |item: &Item| matches!(item, Item::Shared(other, _) if other.key == event.key);
        let Some(at) = self.items.iter().rposition(is_replaced) else {
            return false;
        };
        let old = self.items.remove(at);
        self.bytes -= old.len();
        self.keyed -= 1;
        self.droppable -= u32::from(event.kind.is_dropped_first());
        true
    }

    fn write_frames(&self, taken: &mut Taken) {
        let mut rest = &self.items[..];
        let copied: usize = self.items.iter().map(Item::copied_bytes).sum();
        taken.bytes.own.reserve(copied + HEADER_BYTES_MAX);
        while let Some(first) = rest.first() {
            if let Item::Frames(range) = first {
                taken.bytes.own.extend_from_slice(self.own_bytes(range));
                rest = &rest[1..];
                continue;
            }
            let next = self.next_frame(rest);
            let (events, others) = rest.split_at(next.items);
            self.write_frame(events, next.payload_bytes, taken);
            rest = others;
        }
    }

    /// Returns how many events share the frame that begins with the first of `items`.
    fn next_frame(&self, items: &[Item]) -> NextFrame {
        let mut next = NextFrame {
            items: 0,
            payload_bytes: 0,
        };
        let mut in_batch = 0;
        for item in items.iter().take(BATCH_MESSAGES_MAX) {
            if item.kind().is_none() {
                break;
            }
            in_batch += self.format.bytes_in_batch(item.len());
            let payload_bytes = if next.items == 0 {
                item.len()
            } else {
                self.format.batch_bytes(in_batch)
            };
            if next.items > 0 && payload_bytes > FRAME_BYTES_MAX {
                break;
            }
            next = NextFrame {
                items: next.items + 1,
                payload_bytes,
            };
        }
        next
    }

    fn write_frame(&self, events: &[Item], payload_bytes: usize, taken: &mut Taken) {
        let frames = &mut taken.bytes;
        let opcode = if self.format.is_text() {
            Opcode::Text
        } else {
            Opcode::Binary
        };
        let is_batch = events.len() > 1;
        taken.frames += 1;
        taken.batches += u32::from(is_batch);
        encode_header(&mut frames.own, true, opcode, payload_bytes, None);
        if is_batch {
            self.format.begin_batch(&mut frames.own);
        }
        for (index, event) in events.iter().enumerate() {
            if is_batch {
                self.format.begin_event(index, &mut frames.own);
            }
            match event {
                Item::Frames(range) | Item::Own(range) => frames.own.extend_from_slice(self.own_bytes(range)),
                Item::Shared(event, cursor) => event.write(*cursor, frames),
            }
        }
        if is_batch {
            self.format.end_batch(&mut frames.own);
        }
    }

    fn own_bytes(&self, range: &Range<u32>) -> &[u8] {
        &self.own[range.start as usize..range.end as usize]
    }
}

/// A frame to be made of the items at the front.
struct NextFrame {
    items: usize,
    payload_bytes: usize,
}

/// What an item takes beside its bytes.
const ITEM_BYTES: usize = size_of::<Item>();
/// What a spare outbox holds at most, its buffer aside.
pub(crate) const SPARE_OUTBOX_BYTES: usize = size_of::<Outbox>() + SPARE_ITEMS_MAX * ITEM_BYTES;
/// First capacity of a buffer: one message of a usual size.
const BUFFER_BYTES: usize = 512;

const _: () = assert!(ITEM_BYTES <= 32);

#[cfg(test)]
mod tests;
