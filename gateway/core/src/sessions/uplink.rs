//! The link to one router: records to batches, what waits while it is full, and what the router is still to be told.

use std::collections::VecDeque;

use bytes::Bytes;
use wire_base::ids::ConnectionHandle;
use wire_link::codec::BatchWriter;
use wire_link::{LinkId, ToRouter};

use super::link::Gone;
use crate::limits::LINK_BATCH_BYTES;

/// The records of one worker on their way to one router, and what is kept as state until they can be.
///
/// Shape: bounded by who pushes, which asks [`super::uplinks::Uplinks::has_room`] first; one record may pass the bound.
/// Order: records leave in the order they were pushed; a batch that was refused goes before all others.
pub(super) struct Uplink {
    link: Option<LinkId>,
    writer: BatchWriter,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    is_refused: bool,
    /// Where the walk over sessions that the router must be told of goes on.
    pub(super) announce_from: Option<u32>,
    /// Sessions whose ack is to be passed on; each has [`super::session::Flags::ACK_QUEUED`], until it ends.
    pub(super) acks: Vec<ConnectionHandle>,
    /// Sessions that ended, or went to another router, and of which this one does not know that.
    pub(super) gone: Vec<Gone>,
    /// Connections that are paused for this link.
    pub(super) behind: Vec<ConnectionHandle>,
}

impl Uplink {
    pub(super) fn new() -> Self {
        Self {
            link: None,
            writer: BatchWriter::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            is_refused: false,
            announce_from: None,
            acks: Vec::new(),
            gone: Vec::new(),
            behind: Vec::new(),
        }
    }

    pub(super) const fn is_up(&self) -> bool {
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

    /// Returns whether the router is to be told something that the link would take.
    pub(super) fn has_state(&self) -> bool {
        let has_state = self.announce_from.is_some() || !self.gone.is_empty() || !self.acks.is_empty();
        has_state && self.is_up() && !self.is_refused
    }

    /// Looks at sessions from a slot on that the router must be told of, at the end of the tick.
    pub(super) fn announce_from(&mut self, slot: u32) {
        self.announce_from = Some(self.announce_from.map_or(slot, |from| from.min(slot)));
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

    /// Forgets what only the link knew; returns the connections that were paused for it.
    pub(super) fn handle_down(&mut self) -> Vec<ConnectionHandle> {
        std::mem::replace(self, Self::new()).behind
    }

    pub(super) fn handle_refused(&mut self, batch: Bytes) {
        self.ready_bytes += batch.len();
        self.ready.push_front(batch);
        self.is_refused = true;
    }

    /// Notes that there is room; returns the connections that were paused for it.
    pub(super) fn handle_room(&mut self) -> Vec<ConnectionHandle> {
        self.is_refused = false;
        std::mem::take(&mut self.behind)
    }
}
