//! The node's side of its links: batches taken apart, and what waits for room.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use wire_base::ids::{ConversationId, UserId};
use wire_link::codec::{Records, decode_to_router};
use wire_link::{FromRouter, LinkHello, LinkKind, StatusUpdateRecord, ToRouter};

use super::Outgoing;
use super::peers::{Greeting, Peers};
use crate::fair_queue::FairQueue;
use crate::sessions::LinkId;

/// All links that are up.
#[derive(Debug)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    peers: Peers,
    /// Links with something to hand over and room for it, or that were full and have emptied; each has `is_outgoing`.
    outgoing: VecDeque<LinkId>,
    /// Bytes that wait for room in all links.
    waiting_bytes: usize,
    /// Links with records that were not taken yet.
    incoming: FairQueue<LinkId>,
    /// Links that emptied after they were full, or after something was put off because of what they were owed.
    freed: Vec<LinkId>,
    /// See [`super::NodeConfig::link_backlog_bytes`].
    backlog_bytes: usize,
}

#[derive(Debug, Default)]
struct Link {
    /// `None` until its hello.
    kind: Option<LinkKind>,
    /// The rest of a batch.
    incoming: Option<Records<ToRouter>>,
    outgoing: Outgoing,
    /// Stands in [`Links::outgoing`].
    is_outgoing: bool,
    /// Batches that wait for room, oldest first.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Nothing is handed over until there is room.
    is_blocked: bool,
    /// Its sessions get nothing until everything that waits is gone.
    is_full: bool,
    /// Records or answers were put off because of what it is owed.
    is_held_back: bool,
    /// What it is told then: of each watermark the newest.
    held_updates: BTreeMap<(ConversationId, UserId, u8), StatusUpdateRecord>,
}

/// What a link has for the node.
pub(super) enum Incoming {
    /// Its next record.
    Record(Option<LinkKind>, ToRouter),
    /// No batch.
    Nothing,
    /// The batch is taken.
    EndOfBatch,
    /// It broke the format: why.
    Broken(String),
}

impl Links {
    pub(super) fn new(backlog_bytes: usize) -> Self {
        Self {
            links: BTreeMap::new(),
            peers: Peers::default(),
            outgoing: VecDeque::new(),
            waiting_bytes: 0,
            incoming: FairQueue::default(),
            freed: Vec::new(),
            backlog_bytes,
        }
    }

    pub(super) fn add(&mut self, id: LinkId) {
        self.links.insert(id, Link::default());
    }

    /// Forgets a link; returns whether it was there.
    pub(super) fn remove(&mut self, id: LinkId) -> bool {
        self.incoming.remove(id);
        let Some(link) = self.links.remove(&id) else {
            return false;
        };
        self.waiting_bytes -= link.backlog();
        self.peers.remove(id);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Takes the hello of a link.
    pub(super) fn greet(&mut self, id: LinkId, hello: &LinkHello) -> Greeting {
        if let Some(link) = self.links.get_mut(&id) {
            link.kind = Some(hello.kind);
        }
        self.peers.greet(id, hello)
    }

    /// Returns the bytes that wait for room in all links.
    pub(super) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn wants_batch(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| link.incoming.is_none())
    }

    pub(super) fn handle_batch(&mut self, id: LinkId, batch: Bytes) {
        if let Some(link) = self.links.get_mut(&id) {
            debug_assert!(link.incoming.is_none(), "asked before it is given");
            link.incoming = Some(decode_to_router(batch));
            self.incoming.insert(id);
        }
    }

    /// Returns how many links have records.
    pub(super) fn incoming(&self) -> usize {
        self.incoming.len()
    }

    /// Returns the next link with records, links in turn.
    pub(super) fn pop_incoming(&mut self) -> Option<LinkId> {
        self.incoming.pop()
    }

    /// Gives a link with records another turn.
    pub(super) fn push_incoming(&mut self, id: LinkId) {
        if self.links.contains_key(&id) {
            self.incoming.insert(id);
        }
    }

    /// Takes the next record of a link.
    pub(super) fn receive(&mut self, id: LinkId) -> Incoming {
        let Some(link) = self.links.get_mut(&id) else {
            return Incoming::Nothing;
        };
        let Some(incoming) = &mut link.incoming else {
            return Incoming::Nothing;
        };
        match incoming.next() {
            Some(Ok(record)) => Incoming::Record(link.kind, record),
            Some(Err(error)) => Incoming::Broken(error.to_string()),
            None => {
                link.incoming = None;
                Incoming::EndOfBatch
            }
        }
    }

    /// Returns whether more may be taken from a link, or read for it: what it is owed is within bounds. Notes where not, since
    /// the other side knows nothing of it and calls nobody.
    pub(super) fn may_owe(&mut self, id: LinkId) -> bool {
        let bound = 2 * self.backlog_bytes;
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        let may = link.backlog() <= bound;
        link.is_held_back |= !may;
        may
    }

    /// Adds a record for the client of a link; a link that is gone needs none.
    pub(super) fn push(&mut self, id: LinkId, record: &FromRouter) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let before = link.backlog();
        link.push(record);
        self.waiting_bytes += link.backlog() - before;
        self.hand_over(id);
    }

    /// Adds a status update, or keeps it for later while the link stands still. Returns whether it is lost instead.
    pub(super) fn push_update(&mut self, id: LinkId, update: StatusUpdateRecord) -> UpdateFate {
        let Some(link) = self.links.get_mut(&id) else {
            return UpdateFate::Lost;
        };
        if !link.is_full {
            self.push(id, &FromRouter::StatusUpdate(update));
            return UpdateFate::Sent;
        }
        let key = (update.conversation, update.user, update.status as u8);
        if link.held_updates.len() < HELD_UPDATES_MAX || link.held_updates.contains_key(&key) {
            link.held_updates.insert(key, update);
            UpdateFate::Held
        } else {
            UpdateFate::Lost
        }
    }

    /// Returns whether a link has just passed its backlog, so that its sessions must stop.
    pub(super) fn has_become_full(&mut self, id: LinkId) -> bool {
        let bound = self.backlog_bytes;
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        let is_new = !link.is_full && link.backlog() > bound;
        link.is_full |= is_new;
        is_new
    }

    /// Returns the next link with something to hand over.
    pub(super) fn poll_link(&mut self) -> Option<LinkId> {
        loop {
            let id = self.outgoing.pop_front()?;
            if let Some(link) = self.links.get_mut(&id) {
                link.is_outgoing = false;
                return Some(id);
            }
        }
    }

    /// Gives a link its turn to hand over.
    fn hand_over(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id)
            && !link.is_blocked
            && !std::mem::replace(&mut link.is_outgoing, true)
        {
            self.outgoing.push_back(id);
        }
    }

    pub(super) fn is_full(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| link.is_full)
    }

    /// Returns the links that are full.
    pub(super) fn full(&self) -> impl Iterator<Item = LinkId> {
        let full = self.links.iter().filter(|(_, link)| link.is_full);
        full.map(|(id, _)| *id)
    }

    /// Returns the next batch to hand over, as long as there is room.
    pub(super) fn poll_batch(&mut self, id: LinkId) -> Option<Bytes> {
        let link = self.links.get_mut(&id)?;
        if link.is_blocked {
            return None;
        }
        // Sealed only when it can go at once, so that a link that stands still gathers few large batches.
        if link.waiting.is_empty() && !link.outgoing.is_empty() {
            link.seal();
        }
        let Some(batch) = link.waiting.pop_front() else {
            if link.is_full || link.is_held_back {
                link.is_held_back = false;
                self.freed.push(id);
                self.incoming.insert(id);
            }
            return None;
        };
        link.waiting_bytes -= batch.len();
        self.waiting_bytes -= batch.len();
        Some(batch)
    }

    /// Takes back a batch that found no room; returns whether the link is full now and was not before.
    pub(super) fn handle_refused(&mut self, id: LinkId, batch: Bytes) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        link.waiting_bytes += batch.len();
        self.waiting_bytes += batch.len();
        link.waiting.push_front(batch);
        link.is_blocked = true;
        !std::mem::replace(&mut link.is_full, true)
    }

    pub(super) fn handle_room(&mut self, id: LinkId) {
        let is_freed = |link: &mut Link| std::mem::take(&mut link.is_blocked);
        if self.links.get_mut(&id).is_some_and(is_freed) {
            self.hand_over(id);
        }
    }

    /// Returns whether [`Self::take_freed`] has something.
    pub(super) fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }

    /// Returns the links that emptied; those that were full are no longer.
    pub(super) fn take_freed(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.freed)
    }

    /// Returns what a link that was full was not told; it is full no longer. `None` when it was not.
    pub(super) fn take_held_updates(&mut self, id: LinkId) -> Option<Vec<StatusUpdateRecord>> {
        let link = self.links.get_mut(&id)?;
        std::mem::take(&mut link.is_full)
            .then(|| std::mem::take(&mut link.held_updates).into_values().collect())
    }
}

/// What became of a status update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpdateFate {
    /// It is on its way.
    Sent,
    /// It waits for the link, or for a newer one in its place.
    Held,
    /// Nobody is told.
    Lost,
}

impl Link {
    fn backlog(&self) -> usize {
        self.waiting_bytes + self.outgoing.len()
    }

    fn push(&mut self, record: &FromRouter) {
        if self.outgoing.is_full() {
            self.seal();
        }
        self.outgoing.push_from_router(record);
    }

    fn seal(&mut self) {
        let batch = self.outgoing.take();
        self.waiting_bytes += batch.len();
        self.waiting.push_back(batch);
    }
}

/// Watermarks kept for a link that stands still, about 150 bytes each.
const HELD_UPDATES_MAX: usize = 4_096;
