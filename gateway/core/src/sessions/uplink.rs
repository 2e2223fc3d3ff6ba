//! The link to the router: records to batches, and what waits while the link is full.

use std::collections::VecDeque;

use bytes::Bytes;
use wire_link::codec::BatchWriter;
use wire_link::{LinkId, ToRouter};

use crate::limits::{LINK_BATCH_BYTES, LINK_BYTES_MAX};

/// The records of one worker on their way to the router.
///
/// Shape: about [`LINK_BYTES_MAX`] bytes: whoever pushes asks [`Uplink::has_room`] first, and one record may pass it.
/// Order: records leave in the order they were pushed; a batch that was refused goes before all others.
pub(super) struct Uplink {
    link: Option<LinkId>,
    writer: BatchWriter,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    is_refused: bool,
}

impl Uplink {
    pub(super) fn new() -> Self {
        Self {
            link: None,
            writer: BatchWriter::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            is_refused: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.is_some()
    }

    pub(super) fn is(&self, link: LinkId) -> bool {
        self.link == Some(link)
    }

    /// Returns whether the link gave a batch back and has not said that there is room.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Returns the bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.ready_bytes + self.writer.len()
    }

    /// Returns whether records may be pushed.
    pub(super) fn has_room(&self) -> bool {
        self.is_up() && self.len() < LINK_BYTES_MAX
    }

    /// Returns whether records that can wait as state may be pushed: only half of the room is theirs.
    pub(super) fn has_room_for_state(&self) -> bool {
        self.is_up() && !self.is_refused && self.len() < LINK_BYTES_MAX / 2
    }

    pub(super) fn push(&mut self, record: &ToRouter) {
        self.writer.push_to_router(record);
        if self.writer.len() >= LINK_BATCH_BYTES {
            self.cut();
        }
    }

    /// Ends the batch.
    pub(super) fn cut(&mut self) {
        if !self.writer.is_empty() {
            let batch = self.writer.take();
            self.ready_bytes += batch.len();
            self.ready.push_back(batch);
        }
    }

    /// Returns the next batch, unless the link is full.
    pub(super) fn poll(&mut self) -> Option<(LinkId, Bytes)> {
        let link = self.link.filter(|_| !self.is_refused)?;
        let batch = self.ready.pop_front()?;
        self.ready_bytes -= batch.len();
        Some((link, batch))
    }

    pub(super) fn handle_up(&mut self, link: LinkId) {
        *self = Self::new();
        self.link = Some(link);
    }

    pub(super) fn handle_down(&mut self) {
        *self = Self::new();
    }

    pub(super) fn handle_refused(&mut self, batch: Bytes) {
        self.ready_bytes += batch.len();
        self.ready.push_front(batch);
        self.is_refused = true;
    }

    pub(super) const fn handle_room(&mut self) {
        self.is_refused = false;
    }
}
