//! The router's ends of its links: records in, batches out, and what waits between the two.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use router_core::sessions::LinkId;
use wire_base::ids::{ConversationId, UserId};
use wire_link::codec::{BatchWriter, Records, decode_to_router};
use wire_link::pipe::{Endpoint, PipeWaker, SendError};
use wire_link::{FromRouter, LinkKind, StatusUpdateRecord, ToRouter};

use super::reads::Read;
use crate::metrics::Counters;

/// All links. A link keeps its id for ever; ids are not used again.
pub(super) struct Links {
    links: Vec<Option<Link>>,
    /// See [`crate::config::RouterConfig::link_backlog_bytes`].
    backlog_bytes: usize,
    counters: Arc<Counters>,
}

/// One link.
pub(super) struct Link {
    endpoint: Endpoint,
    /// `None` until its hello.
    pub(super) kind: Option<LinkKind>,
    /// The rest of a batch whose records were not all taken in one tick.
    incoming: Option<Records<ToRouter>>,
    /// Questions that are answered after the commit, in their order.
    pub(super) reads: VecDeque<Read>,
    outgoing: BatchWriter,
    /// Batches that wait for room, oldest first.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Its sessions get nothing until everything that waits is gone.
    is_full: bool,
    /// Records or questions of the link were put off because of what it was owed.
    is_held_back: bool,
    /// What it is told then: of each watermark the newest.
    held_updates: BTreeMap<(ConversationId, UserId, u8), StatusUpdateRecord>,
}

/// What a link has for the router.
pub(super) enum Incoming {
    /// Its next record.
    Record(ToRouter),
    /// None now.
    Nothing,
    /// None for ever: it was closed, or broke the format.
    Ended,
}

/// Whether the sessions of a link have to be told of a change.
pub(super) enum Flushed {
    /// Nothing changed.
    Same,
    /// It takes no more for now.
    Full,
    /// It takes more again.
    Room,
    /// Everything went at once, and something had been put off because of it: its turn is now.
    Freed,
    /// The other side closed it.
    Closed,
}

impl Links {
    pub(super) fn new(backlog_bytes: usize, counters: Arc<Counters>) -> Self {
        Self {
            links: Vec::new(),
            backlog_bytes,
            counters,
        }
    }

    pub(super) fn add(&mut self, endpoint: Endpoint) -> LinkId {
        let id = LinkId(self.links.len() as u32);
        self.links.push(Some(Link::new(endpoint)));
        id
    }

    /// Returns how many ids were given out.
    pub(super) fn ids(&self) -> u32 {
        self.links.len() as u32
    }

    /// Returns how many links are open.
    pub(super) fn open(&self) -> usize {
        self.links.iter().flatten().count()
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(id.0 as usize)?.as_mut()
    }

    /// Closes a link and forgets what it had asked.
    pub(super) fn remove(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id.0 as usize) {
            *link = None;
        }
    }

    /// Sets what the pipes call when one of them has something, or room.
    pub(super) fn set_waker(&self, waker: &PipeWaker) {
        for link in self.links.iter().flatten() {
            link.endpoint.set_waker(Arc::clone(waker));
        }
    }

    /// Returns the bytes that wait for room in all links.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.links.iter().flatten().map(Link::backlog).sum()
    }

    /// Returns whether anything may be read from the link: what it is owed already is within bounds.
    pub(super) fn may_receive(&mut self, id: LinkId) -> bool {
        let bound = 2 * self.backlog_bytes;
        self.unless_held_back(id, |link| {
            link.backlog() <= bound && link.reads.len() < READS_PER_LINK_MAX
        })
    }

    /// Returns whether the answer to a read may be added.
    pub(super) fn may_answer(&mut self, id: LinkId) -> bool {
        let bound = 2 * self.backlog_bytes;
        self.unless_held_back(id, |link| link.backlog() <= bound)
    }

    /// Notes where the answer is no, since the other side knows nothing of it and calls nobody.
    fn unless_held_back(&mut self, id: LinkId, may: impl Fn(&Link) -> bool) -> bool {
        let Some(link) = self.get_mut(id) else {
            return false;
        };
        let may = may(link);
        link.is_held_back |= !may;
        may
    }

    /// Takes the next record of a link.
    pub(super) fn receive(&mut self, id: LinkId) -> Incoming {
        let Some(link) = self.get_mut(id) else {
            return Incoming::Nothing;
        };
        loop {
            if let Some(records) = &mut link.incoming {
                match records.next() {
                    Some(Ok(record)) => return Incoming::Record(record),
                    Some(Err(error)) => {
                        tracing::error!(link = id.0, %error, "a link broke the format and is closed");
                        self.counters.link_faults.add(1);
                        return Incoming::Ended;
                    }
                    None => link.incoming = None,
                }
            }
            match link.endpoint.try_recv() {
                Ok(Some(batch)) => link.incoming = Some(decode_to_router(batch)),
                Ok(None) => return Incoming::Nothing,
                Err(_) => return Incoming::Ended,
            }
        }
    }

    /// Adds a record for the client of a link; a link that is gone needs none.
    pub(super) fn push(&mut self, id: LinkId, record: &FromRouter) {
        if let Some(link) = self.get_mut(id) {
            link.push(record);
        }
    }

    /// Adds a status update, or keeps it for later while the link stands still.
    pub(super) fn push_update(&mut self, id: LinkId, update: StatusUpdateRecord) {
        let connections = update.to.len() as u64;
        let Some(link) = self.get_mut(id) else { return };
        if !link.is_full {
            link.push(&FromRouter::StatusUpdate(update));
            self.counters.status_updates.add(connections);
            return;
        }
        let key = (update.conversation, update.user, update.status as u8);
        if link.held_updates.len() < HELD_UPDATES_MAX || link.held_updates.contains_key(&key) {
            link.held_updates.insert(key, update);
        } else {
            self.counters.status_updates_lost.add(connections);
        }
    }

    /// Returns whether a link has just passed its backlog, so that its sessions must stop.
    pub(super) fn has_become_full(&mut self, id: LinkId) -> bool {
        let bound = self.backlog_bytes;
        let Some(link) = self.get_mut(id) else {
            return false;
        };
        let is_new = !link.is_full && link.backlog() > bound;
        link.is_full |= is_new;
        is_new
    }

    /// Hands over what waits, as far as there is room.
    pub(super) fn flush(&mut self, id: LinkId) -> Flushed {
        let counters = Arc::clone(&self.counters);
        let Some(link) = self.get_mut(id) else {
            return Flushed::Same;
        };
        match link.flush() {
            Ok(true) if link.is_full => {
                link.is_full = false;
                link.is_held_back = false;
                for update in std::mem::take(&mut link.held_updates).into_values() {
                    counters.status_updates.add(update.to.len() as u64);
                    link.push(&FromRouter::StatusUpdate(update));
                }
                Flushed::Room
            }
            Ok(true) if std::mem::take(&mut link.is_held_back) => Flushed::Freed,
            Ok(true) => Flushed::Same,
            Ok(false) => {
                counters.link_refusals.add(1);
                let was_full = std::mem::replace(&mut link.is_full, true);
                if was_full { Flushed::Same } else { Flushed::Full }
            }
            Err(LinkClosed) => Flushed::Closed,
        }
    }
}

struct LinkClosed;

impl Link {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            kind: None,
            incoming: None,
            reads: VecDeque::new(),
            outgoing: BatchWriter::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            is_full: false,
            is_held_back: false,
            held_updates: BTreeMap::new(),
        }
    }

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

    /// Returns whether nothing is left.
    fn flush(&mut self) -> Result<bool, LinkClosed> {
        loop {
            // Sealed only when it can go at once, so that a link that stands still gathers few large batches.
            if self.waiting.is_empty() && !self.outgoing.is_empty() {
                self.seal();
            }
            let Some(batch) = self.waiting.pop_front() else {
                return Ok(true);
            };
            let bytes = batch.len();
            match self.endpoint.try_send(batch) {
                Ok(()) => self.waiting_bytes -= bytes,
                Err(SendError::Full(batch)) => {
                    self.waiting.push_front(batch);
                    return Ok(false);
                }
                Err(SendError::Closed(_)) => return Err(LinkClosed),
            }
        }
    }
}

/// Questions of one link that wait for the end of the tick; over it nothing more is read from the link.
const READS_PER_LINK_MAX: usize = 256;
/// Watermarks kept for a link that stands still, about 150 bytes each.
const HELD_UPDATES_MAX: usize = 4_096;
