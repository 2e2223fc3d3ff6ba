//! What waits to be sent on one connection. Exists only while something does.
//!
//! Frames are encoded straight into one buffer, which becomes one send. Events are objects of the client protocol; those
//! that follow each other share a text frame: the last frame of the buffer stays open, with room for its header, until
//! something else is queued or the buffer leaves. A lone object is its own frame; from the second on it is a `batch`.

use wire_base::limits::{BATCH_MESSAGES_MAX, FRAME_BYTES_MAX};
use wire_client::json::{BATCH_CLOSE, BATCH_OPEN, BATCH_SEPARATOR};
use wire_ws::{HEADER_BYTES_MAX, Opcode, encode_frame, encode_header};

use crate::output::SendBuf;
use crate::time::{Now, Stamp};

/// The outbox of one connection.
///
/// Shape: grows with what is queued; its owner checks [`Outbox::len`] and [`Outbox::frames`] against their bounds.
#[derive(Default)]
pub(crate) struct Outbox {
    /// What the socket did not take; goes first.
    rest: Option<SendBuf>,
    /// Frames behind it.
    bytes: Vec<u8>,
    /// The frame at the end of `bytes` that still takes objects.
    open: Option<OpenFrame>,
    frames: u32,
    batches: u32,
    /// Its owner has set a time at which the open frame leaves.
    is_lingering: bool,
    /// The socket takes nothing until it is writable.
    is_blocked: bool,
    /// Bytes given out again after a block: whether they made progress shows when some come back.
    retried_bytes: usize,
    /// When bytes last left, if some came back since.
    progress: Stamp,
}

/// What [`Outbox::take`] took.
pub(crate) struct Taken {
    pub(crate) bytes: SendBuf,
    /// Frames completed since the last time.
    pub(crate) frames: u32,
    /// Those of them that are batches.
    pub(crate) batches: u32,
}

#[derive(Clone, Copy)]
struct OpenFrame {
    /// Where its header will be.
    start: usize,
    objects: u16,
    /// An update is among them.
    has_update: bool,
}

impl OpenFrame {
    /// Returns where its first object begins.
    const fn objects_at(self) -> usize {
        let opening = if self.objects > 1 { BATCH_OPEN.len() } else { 0 };
        self.start + HEADER_BYTES + opening
    }
}

impl Outbox {
    /// Uses `buffer`, which is empty, for the frames to come.
    pub(crate) fn adopt(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.bytes.is_empty() && buffer.is_empty());
        self.bytes = buffer;
    }

    /// Forgets everything; returns the buffer.
    pub(crate) fn clear(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }

    /// Returns the bytes that wait, the header of an open frame included.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.rest.as_ref().map_or(0, SendBuf::len) + self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of an earlier send that came back.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, SendBuf::len)
    }

    /// Returns the frames queued since the last send.
    pub(crate) const fn frames(&self) -> u32 {
        self.frames
    }

    /// Returns whether the socket takes nothing until it is writable.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Returns since when a blocked outbox has made no progress.
    pub(crate) const fn progress(&self) -> Stamp {
        self.progress
    }

    /// Returns whether all that waits is an open frame that takes more objects.
    pub(crate) fn may_linger(&self) -> bool {
        self.rest.is_none()
            && self
                .open
                .is_some_and(|open| open.start == 0 && usize::from(open.objects) < BATCH_MESSAGES_MAX)
    }

    /// Notes that a time is set at which what lingers is sent; returns whether there was none.
    pub(crate) const fn begin_lingering(&mut self) -> bool {
        !std::mem::replace(&mut self.is_lingering, true)
    }

    /// Queues a frame.
    #[inline]
    pub(crate) fn push_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.end_frame();
        encode_frame(&mut self.bytes, opcode, payload, None);
        self.frames += 1;
    }

    /// Queues bytes that are no frame, or frames already: an HTTP response, a close frame.
    pub(crate) fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.end_frame();
        encode(&mut self.bytes);
        self.frames += 1;
    }

    /// Queues an encoded object of the client protocol.
    pub(crate) fn push_object(&mut self, object: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes
                .reserve((HEADER_BYTES + object.len()).max(BUFFER_BYTES));
        }
        if let Some(open) = self.open
            && (usize::from(open.objects) == BATCH_MESSAGES_MAX
                || self.batch_bytes_with(open, object) > FRAME_BYTES_MAX)
        {
            self.end_frame();
        }
        match &mut self.open {
            None => {
                self.open = Some(OpenFrame {
                    start: self.bytes.len(),
                    objects: 1,
                    has_update: false,
                });
                self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
            }
            Some(open) => {
                if open.objects == 1 {
                    insert(&mut self.bytes, open.start + HEADER_BYTES, BATCH_OPEN);
                }
                self.bytes.extend_from_slice(BATCH_SEPARATOR);
                open.objects += 1;
            }
        }
        self.bytes.extend_from_slice(object);
    }

    /// Queues an encoded object instead of the one that begins with the same `key_bytes` bytes, if that stands in the open
    /// frame; returns whether it did.
    ///
    /// Shape: such an object has no braces inside. What is a brace in a string of another object does not look like its
    /// key, whose quotes would be escaped there.
    pub(crate) fn push_update(&mut self, object: &[u8], key_bytes: usize) -> bool {
        let is_replacing = self.drop_update(&object[..key_bytes]);
        self.push_object(object);
        if let Some(open) = &mut self.open {
            open.has_update = true;
        }
        is_replacing
    }

    /// Drops the update of the open frame that begins with `key`; returns whether there was one.
    fn drop_update(&mut self, key: &[u8]) -> bool {
        let Some(mut open) = self.open.filter(|open| open.has_update) else {
            return false;
        };
        let objects_at = open.objects_at();
        let Some(before) = self.bytes[objects_at..]
            .windows(key.len())
            .rposition(|window| window[0] == b'{' && window == key)
        else {
            return false;
        };
        let at = objects_at + before;
        let brace = self.bytes[at..].iter().position(|&byte| byte == b'}');
        let end = at + brace.expect("an object ends with its brace") + 1;
        if open.objects == 1 {
            self.bytes.truncate(open.start);
            self.open = None;
            return true;
        }
        if end < self.bytes.len() {
            self.bytes.drain(at..end + BATCH_SEPARATOR.len());
        } else {
            self.bytes.truncate(at - BATCH_SEPARATOR.len());
        }
        open.objects -= 1;
        if open.objects == 1 {
            self.bytes.drain(objects_at - BATCH_OPEN.len()..objects_at);
        }
        self.open = Some(open);
        true
    }

    /// Takes everything that waits, as one buffer.
    ///
    /// Order: only while not blocked. What the socket does not take is given back to `handle_rest`.
    pub(crate) fn take(&mut self) -> Taken {
        debug_assert!(!self.is_blocked);
        self.end_frame();
        self.is_lingering = false;
        let bytes = match self.rest.take() {
            None => SendBuf::Owned(std::mem::take(&mut self.bytes)),
            Some(rest) => {
                self.retried_bytes = rest.len() + self.bytes.len();
                self.join(rest)
            }
        };
        Taken {
            bytes,
            frames: std::mem::take(&mut self.frames),
            batches: std::mem::take(&mut self.batches),
        }
    }

    /// Puts what waits behind `rest`.
    fn join(&mut self, rest: SendBuf) -> SendBuf {
        if self.bytes.is_empty() {
            return rest;
        }
        let mut joined = Vec::with_capacity(rest.len() + self.bytes.len());
        joined.extend_from_slice(rest.as_slice());
        joined.append(&mut self.bytes);
        SendBuf::Owned(joined)
    }

    /// Takes back what the socket did not take, and waits for it.
    pub(crate) fn handle_rest(&mut self, rest: SendBuf, now: Now) {
        debug_assert!(self.rest.is_none(), "one unfinished send at a time");
        if rest.len() != self.retried_bytes {
            self.progress = Stamp::of(now);
        }
        self.retried_bytes = 0;
        self.rest = Some(rest);
        self.is_blocked = true;
    }

    /// Notes that the socket takes bytes again.
    pub(crate) const fn handle_writable(&mut self) {
        self.is_blocked = false;
    }

    /// Returns whether this outbox exists only to see whether a retried send comes back.
    pub(crate) fn is_retrying(&self) -> bool {
        self.retried_bytes > 0
    }

    /// Notes that the retried send did not come back.
    pub(crate) const fn end_retry(&mut self) {
        self.retried_bytes = 0;
    }

    /// Drops every frame of which nothing was sent; returns how many bytes that freed.
    pub(crate) fn drop_unsent(&mut self) -> usize {
        self.open = None;
        let dropped = self.bytes.len();
        self.bytes = Vec::new();
        (self.frames, self.batches) = (0, 0);
        self.is_lingering = false;
        dropped
    }

    /// Completes the open frame: its header and the end of a batch.
    #[inline]
    fn end_frame(&mut self) {
        if let Some(open) = self.open.take() {
            self.end_open_frame(open);
        }
    }

    fn end_open_frame(&mut self, open: OpenFrame) {
        if open.objects > 1 {
            self.bytes.extend_from_slice(BATCH_CLOSE);
            self.batches += 1;
        }
        self.frames += 1;
        let payload_bytes = self.bytes.len() - open.start - HEADER_BYTES;
        // Encoded behind the payload, then moved to its place.
        let end = self.bytes.len();
        encode_header(&mut self.bytes, true, Opcode::Text, payload_bytes, None);
        let header_bytes = self.bytes.len() - end;
        let mut header = [0; HEADER_BYTES_MAX];
        header[..header_bytes].copy_from_slice(&self.bytes[end..]);
        self.bytes.truncate(end);
        let payload_at = open.start + HEADER_BYTES;
        if header_bytes > HEADER_BYTES {
            insert(
                &mut self.bytes,
                payload_at,
                &[0; HEADER_BYTES_MAX][..header_bytes - HEADER_BYTES],
            );
        } else if header_bytes < HEADER_BYTES {
            self.bytes.copy_within(payload_at.., open.start + header_bytes);
            self.bytes.truncate(end - (HEADER_BYTES - header_bytes));
        }
        self.bytes[open.start..open.start + header_bytes].copy_from_slice(&header[..header_bytes]);
    }

    /// Returns the payload of the open frame if `object` joined it and it ended then.
    fn batch_bytes_with(&self, open: OpenFrame, object: &[u8]) -> usize {
        let payload_bytes = self.bytes.len() - open.start - HEADER_BYTES;
        let opening = if open.objects == 1 { BATCH_OPEN.len() } else { 0 };
        opening + payload_bytes + BATCH_SEPARATOR.len() + object.len() + BATCH_CLOSE.len()
    }
}

/// Moves what is at `at` back and puts `inserted` there.
fn insert(bytes: &mut Vec<u8>, at: usize, inserted: &[u8]) {
    let end = bytes.len();
    bytes.extend_from_slice(inserted);
    bytes.copy_within(at..end, at + inserted.len());
    bytes[at..at + inserted.len()].copy_from_slice(inserted);
}

/// First capacity of a buffer for objects: one message of a usual size.
const BUFFER_BYTES: usize = 512;
/// Room left for a header: that of a payload of 126 to 65,535 bytes. Any other length moves the payload once.
const HEADER_BYTES: usize = 4;

#[cfg(test)]
mod tests;
