//! Sessions: each device is a reader of its user's inbox, over stored pages and then live, strictly in order.
//!
//! There is no queue per device: a reader that cannot take an entry falls behind, and reads it from a page later.

mod entry;
mod hello;
mod lingering;
mod place;
mod reader;
mod table;

use std::collections::BTreeMap;

use router_records::log::AckInput;
use wire_base::ids::{ConnectionHandle, DeviceId, Position, SessionNumber, UnixMs, UserId};
use wire_base::limits::WINDOW_BYTES_MAX;
use wire_link::{AckRecord, SessionOpen, SessionOpened, SessionRef};

pub use entry::Entry;
pub use wire_link::LinkId;

use crate::fair_queue::FairQueue;
use crate::inbox::ReaderFacts;
use hello::Known;
use lingering::Lingering;
use reader::{Reader, Taken, merge};
use table::Table;

/// Bounds of [`Sessions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsConfig {
    /// Bytes of messages in flight to a device; at least one message always passes.
    pub window_bytes_max: usize,
    /// Entries asked for in one page.
    pub page_entries_max: usize,
    /// How long an ack waits for later ones of its session before it is logged, in ms; each session waits up to twice of it, so
    /// that those that began together do not all end together.
    pub ack_linger_ms: u64,
    /// Acks of closed sessions that wait for the log. Beyond it they are dropped, and their messages come again.
    pub closed_acks_max: usize,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            window_bytes_max: WINDOW_BYTES_MAX,
            page_entries_max: 100,
            ack_linger_ms: 0,
            closed_acks_max: 64 << 10,
        }
    }
}

/// What an open led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The session stands.
    Opened {
        /// For the connection.
        answer: SessionOpened,
        /// The session of the device that it takes over from; its connection is to be closed.
        replaced: Option<(LinkId, SessionRef)>,
        /// The backlog is over already: `Synced` follows the answer. Else it comes out of a page.
        synced: Option<Position>,
    },
    /// A session announced again, but a newer one of the device stands: this connection is to be closed.
    Superseded,
}

/// What an ack led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckVerdict {
    /// It moved; the window is open again.
    Taken,
    /// It says nothing new.
    Repeated,
    /// Of no session that stands, of another generation, or beyond what this connection was sent.
    Ignored,
}

/// A connection that gets an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Over which link.
    pub link: LinkId,
    /// Which.
    pub connection: ConnectionHandle,
    /// Its cursor there.
    pub position: Position,
}

/// A page that a reader waits for.
///
/// Order: one at a time for each reader; answered by [`Sessions::handle_page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Whose inbox.
    pub user: UserId,
    /// Which reader.
    pub device: DeviceId,
    /// Its session.
    pub session: SessionNumber,
    /// Entries after this,
    pub after: Position,
    /// and at most so many.
    pub limit: usize,
}

/// What a page led to, for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged {
    /// Over which link.
    pub link: LinkId,
    /// Which.
    pub connection: ConnectionHandle,
    /// In this order.
    pub steps: Vec<Step>,
}

/// See [`Paged::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this entry of the page.
    Deliver {
        /// Index in the page.
        entry: usize,
    },
    /// The backlog is over.
    Synced {
        /// Where it ended.
        cursor: Position,
    },
}

/// The sessions of the users of this node.
///
/// Shape: about 200 bytes for each idle session (measured over a million users with one device each), more only while
/// messages are in flight. Every queue holds a session at most once.
#[derive(Debug)]
pub struct Sessions {
    config: SessionsConfig,
    generation: u32,
    table: Table,
    /// Readers that want a page.
    pages: FairQueue<u32>,
    /// Readers with an ack to be logged, and some that had one: those that are marked count.
    acks: Lingering,
    /// How many are marked.
    acks_waiting: usize,
    /// Acks of sessions that ended before they were logged.
    closed_acks: BTreeMap<(UserId, DeviceId), AckInput>,
    /// When those are logged; `None` while there are none.
    closed_acks_due_ms: Option<u64>,
    /// The monotonic clock.
    now_ms: u64,
    /// Links that take nothing now, with their readers that want a page.
    full_links: BTreeMap<LinkId, FairQueue<u32>>,
}

/// Conversations in one ack record; a reader with more gives several.
const ACK_DELIVERED_MAX: usize = 64;

impl Sessions {
    /// Returns an empty set of sessions over inboxes of a store's generation.
    pub fn new(config: SessionsConfig, generation: u32) -> Self {
        Self {
            config,
            generation,
            table: Table::default(),
            pages: FairQueue::default(),
            acks: Lingering::new(config.ack_linger_ms),
            acks_waiting: 0,
            closed_acks: BTreeMap::new(),
            closed_acks_due_ms: None,
            now_ms: 0,
            full_links: BTreeMap::new(),
        }
    }

    /// Learns the time on the monotonic clock, in ms.
    pub fn handle_now(&mut self, mono_ms: u64) {
        self.now_ms = mono_ms;
    }

    /// Opens a session of an admitted device, or takes one back whose link broke. The newest session of a device wins.
    ///
    /// Order: send `answer`, then `synced`, and tell `replaced`; then poll pages.
    pub fn open(&mut self, link: LinkId, request: &SessionOpen, facts: &ReaderFacts, now: UnixMs) -> Opened {
        let (user, device) = (request.user, request.device);
        let held = self.find(user, device).map(|(_, reader)| reader.session);
        let newest = facts.device.map(|row| row.session).max(held);
        if request.session.is_some_and(|announced| Some(announced) < newest) {
            return Opened::Superseded;
        }
        let previous = self.end(user, device);
        let left = self.closed_acks.remove(&(user, device));
        let newest = newest
            .max(left.as_ref().map(|ack| ack.session))
            .unwrap_or_default();
        let session = request.session.unwrap_or_else(|| session_number(now, newest));

        let known = Known {
            counted: previous
                .as_ref()
                .map(|reader| reader.counted())
                .max(left.as_ref().map(|ack| ack.position)),
            acked: previous.as_ref().map(|reader| reader.acked()),
        };
        let start = hello::start(request, facts, known, self.generation);
        let mut reader = Reader::new(link, request, session, &start, facts.head);
        if let Some(ack) = left {
            reader.restore_ack(&ack);
        }
        let synced = reader.poll_synced();
        let slot = self.table.insert(reader, facts.head);
        self.queue(slot);
        Opened::Opened {
            answer: SessionOpened {
                connection: request.connection,
                session,
                cursor: facts.head,
                resumed: start.is_resumed,
                resync: start.resync.map(|(reason, oldest)| (reason.to_owned(), oldest)),
            },
            replaced: previous.and_then(|reader| replaced(&reader, link, request.connection)),
            synced,
        }
    }

    /// Ends a session, if that connection still holds it; its last ack stays to be logged.
    pub fn close(&mut self, link: LinkId, session: &SessionRef) -> bool {
        let holds = self
            .find(session.user, session.device)
            .is_some_and(|(_, reader)| (reader.link, reader.connection) == (link, session.connection));
        holds && self.end(session.user, session.device).is_some()
    }

    /// Returns the connection of every session, and its link.
    pub fn all(&self) -> impl Iterator<Item = (LinkId, ConnectionHandle)> {
        let readers = (0..self.table.slots()).filter_map(|slot| self.table.get(slot));
        readers.map(|reader| (reader.link, reader.connection))
    }

    /// Ends every session of a link that broke.
    ///
    /// Shape: looks at every session once.
    pub fn handle_link_down(&mut self, link: LinkId) {
        for slot in 0..self.table.slots() {
            if let Some(reader) = self.table.get(slot).filter(|reader| reader.link == link) {
                self.end(reader.user, reader.device);
            }
        }
        self.full_links.remove(&link);
    }

    /// Learns that a link takes nothing now: its readers fall behind and go on from pages.
    pub fn handle_link_full(&mut self, link: LinkId) {
        self.full_links.entry(link).or_default();
    }

    /// Learns that a link takes batches again.
    pub fn handle_link_room(&mut self, link: LinkId) {
        if let Some(waiting) = self.full_links.remove(&link) {
            self.pages.append(waiting);
        }
    }

    /// Takes an ack: it opens the window at once, and waits to be logged.
    pub fn handle_ack(&mut self, link: LinkId, ack: &AckRecord) -> AckVerdict {
        let generation = self.generation;
        let Some((slot, reader)) = self.find_mut(ack.user, ack.device) else {
            return AckVerdict::Ignored;
        };
        let is_its_own = reader.link == link && reader.session == ack.session;
        let was_sent = ack.position <= reader.scanned().max(reader.forwarded());
        if !is_its_own || !was_sent || ack.position.generation != generation {
            return AckVerdict::Ignored;
        }
        if !reader.ack(ack.position) {
            return AckVerdict::Repeated;
        }
        self.queue(slot);
        AckVerdict::Taken
    }

    /// Returns the next ack whose time has come; each device has its newest one, in several records when it covers very many
    /// conversations.
    ///
    /// Order: drain when a group is formed. One that could not be appended goes to [`Sessions::restore_ack`].
    pub fn poll_ack(&mut self) -> Option<AckInput> {
        if self
            .closed_acks_due_ms
            .is_some_and(|due_ms| due_ms <= self.now_ms)
        {
            if let Some((key, ack)) = self.closed_acks.pop_first() {
                let (ack, rest) = self.split(ack);
                if let Some(rest) = rest {
                    self.closed_acks.insert(key, rest);
                }
                return Some(ack);
            }
            self.closed_acks_due_ms = None;
        }
        loop {
            let slot = self.acks.pop(self.now_ms)?;
            if !self.unmark_ack(slot) {
                continue;
            }
            let Some(ack) = self.table.get_mut(slot).and_then(Reader::take_ack) else {
                continue;
            };
            let (ack, rest) = self.split(ack);
            if let Some((rest, reader)) = rest.zip(self.table.get_mut(slot)) {
                reader.restore_ack(&rest);
            }
            self.queue(slot);
            return Some(ack);
        }
    }

    /// Returns when [`Sessions::poll_ack`] has something.
    pub fn acks_due_ms(&self) -> Option<u64> {
        let due = (self.acks_waiting > 0).then(|| self.acks.due_ms()).flatten();
        self.closed_acks_due_ms.into_iter().chain(due).min()
    }

    /// Takes back an ack that was not appended.
    pub fn restore_ack(&mut self, ack: AckInput) {
        match self.find_mut(ack.user, ack.device) {
            Some((slot, reader)) => {
                reader.restore_ack(&ack);
                self.queue(slot);
            }
            None => self.keep_closed_ack(ack),
        }
    }

    /// Takes a new entry of a user's inbox and names the connections that get it now. A reader that is behind, or whose
    /// window or link is full, reads it from a page later.
    ///
    /// Order: when the entry can be read from the store; ascending for each user.
    pub fn handle_entry(&mut self, user: UserId, entry: &Entry, out: &mut Vec<Delivery>) {
        let Some((head_before, first)) = self.table.advance_head(user, entry.position) else {
            return;
        };
        let mut chain = Some(first);
        while let Some(slot) = chain {
            chain = self.table.next(slot);
            let Some(reader) = self.table.get_mut(slot) else {
                return;
            };
            // Behind, it waits for a page; ahead, a page has brought the entry before it was announced here.
            let is_next = (head_before..entry.position).contains(&reader.scanned());
            let can_send = reader.is_own(entry) || !self.full_links.contains_key(&reader.link);
            if is_next && can_send && reader.take(entry, self.config.window_bytes_max) == Taken::Deliver {
                let (link, connection) = (reader.link, reader.connection);
                out.push(Delivery {
                    link,
                    connection,
                    position: entry.position,
                });
            }
            self.queue(slot);
        }
    }

    /// Returns a page that some reader can use, readers in turn.
    pub fn poll_page(&mut self) -> Option<PageRequest> {
        loop {
            let slot = self.pages.pop()?;
            if !self.wants_page(slot) {
                continue;
            }
            let Some(reader) = self.table.get_mut(slot) else {
                continue;
            };
            if let Some(waiting) = self.full_links.get_mut(&reader.link) {
                waiting.insert(slot);
                continue;
            }
            reader.is_reading = true;
            return Some(PageRequest {
                user: reader.user,
                device: reader.device,
                session: reader.session,
                after: reader.scanned(),
                limit: reader
                    .page_entries()
                    .clamp(1, self.config.page_entries_max.max(1)),
            });
        }
    }

    /// Returns whether a reader still waits for the page that was asked for.
    pub fn waits_for(&self, request: &PageRequest) -> bool {
        self.find(request.user, request.device)
            .is_some_and(|(_, reader)| reader.is_reading && reader.session == request.session)
    }

    /// Ends the session of a reader whose page cannot be had any more, and names its connection, which is to be closed:
    /// its next hello says what it missed. `None` when the reader is gone or was replaced.
    pub fn abandon(&mut self, request: &PageRequest) -> Option<(LinkId, ConnectionHandle)> {
        if !self.waits_for(request) {
            return None;
        }
        let reader = self.end(request.user, request.device)?;
        Some((reader.link, reader.connection))
    }

    /// Takes a page: `entries` are all there are in (`request.after`, `through`]. `through` is the last of them when a
    /// bound cut the page, else the head of the inbox as it was read.
    ///
    /// Returns what to send, or `None` when the reader is gone, was replaced or moved on, or its link filled up meanwhile.
    pub fn handle_page(
        &mut self,
        request: &PageRequest,
        entries: &[Entry],
        through: Position,
    ) -> Option<Paged> {
        let bytes_max = self.config.window_bytes_max;
        if !self.waits_for(request) {
            return None;
        }
        let (slot, reader) = self.find(request.user, request.device)?;
        let is_full = self.full_links.contains_key(&reader.link);
        let reader = self.table.get_mut(slot)?;
        reader.is_reading = false;
        // An ack may have moved it meanwhile; then it reads on from there.
        let is_of_use = !is_full && reader.scanned() == request.after;
        let paged = is_of_use.then(|| {
            let steps = reader.read_page(entries, through, bytes_max);
            Paged {
                link: reader.link,
                connection: reader.connection,
                steps,
            }
        });
        self.queue(slot);
        paged
    }

    /// Returns the connections of a user: all, or those of every device but one.
    pub fn connections(
        &self,
        user: UserId,
        except: Option<DeviceId>,
    ) -> impl Iterator<Item = (LinkId, ConnectionHandle)> {
        self.table
            .of_user(user)
            .filter_map(|slot| self.table.get(slot))
            .filter(move |reader| Some(reader.device) != except)
            .map(|reader| (reader.link, reader.connection))
    }

    /// Returns how many sessions there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many sessions wait for a page, those of full links among them.
    pub fn behind(&self) -> usize {
        self.pages.len() + self.full_links.values().map(FairQueue::len).sum::<usize>()
    }

    /// Returns how many devices have an ack to be logged.
    pub fn acks_waiting(&self) -> usize {
        self.acks_waiting + self.closed_acks.len()
    }

    fn find(&self, user: UserId, device: DeviceId) -> Option<(u32, &Reader)> {
        let slot = self.table.find(user, device)?;
        Some((slot, self.table.get(slot)?))
    }

    fn find_mut(&mut self, user: UserId, device: DeviceId) -> Option<(u32, &mut Reader)> {
        let slot = self.table.find(user, device)?;
        Some((slot, self.table.get_mut(slot)?))
    }

    /// Takes a reader out of everything but the acks to be logged.
    fn end(&mut self, user: UserId, device: DeviceId) -> Option<Reader> {
        let slot = self.table.find(user, device)?;
        self.unmark_ack(slot);
        let mut reader = self.table.remove(slot)?;
        self.pages.remove(slot);
        if let Some(waiting) = self.full_links.get_mut(&reader.link) {
            waiting.remove(slot);
        }
        reader.settle();
        if let Some(ack) = reader.take_ack() {
            self.keep_closed_ack(ack);
        }
        Some(reader)
    }

    fn keep_closed_ack(&mut self, ack: AckInput) {
        let is_full = self.closed_acks.len() >= self.config.closed_acks_max;
        match self.closed_acks.get_mut(&(ack.user, ack.device)) {
            Some(held) => {
                held.session = held.session.max(ack.session);
                held.position = held.position.max(ack.position);
                for delivered in ack.delivered {
                    merge(&mut held.delivered, delivered);
                }
            }
            None if is_full => {}
            None => {
                self.closed_acks.insert((ack.user, ack.device), ack);
                let due_ms = self.now_ms.saturating_add(self.config.ack_linger_ms);
                self.closed_acks_due_ms.get_or_insert(due_ms);
            }
        }
    }

    /// Cuts an ack to what fits a record. The position comes with the last part: were it logged before the rest, a
    /// crash between them would lose news that nobody repeats.
    fn split(&self, mut ack: AckInput) -> (AckInput, Option<AckInput>) {
        if ack.delivered.len() <= ACK_DELIVERED_MAX {
            return (ack, None);
        }
        let delivered = ack.delivered.split_off(ack.delivered.len() - ACK_DELIVERED_MAX);
        (
            AckInput {
                position: Position::start(self.generation),
                delivered,
                ..ack
            },
            Some(ack),
        )
    }

    /// Puts a reader where its state belongs: among those with an ack to log, and those that want a page.
    fn queue(&mut self, slot: u32) {
        let Some(reader) = self.table.get_mut(slot) else {
            return;
        };
        if reader.is_ack_waiting && !std::mem::replace(&mut reader.is_ack_marked, true) {
            self.acks_waiting += 1;
            self.acks.insert(slot, self.now_ms);
        }
        let link = reader.link;
        if self.wants_page(slot) {
            match self.full_links.get_mut(&link) {
                Some(waiting) => waiting.insert(slot),
                None => self.pages.insert(slot),
            }
        }
    }

    /// Takes the mark off a reader with an ack to be logged; returns whether it was there.
    fn unmark_ack(&mut self, slot: u32) -> bool {
        let reader = self.table.get_mut(slot);
        let is_marked = reader.is_some_and(|reader| std::mem::take(&mut reader.is_ack_marked));
        self.acks_waiting -= usize::from(is_marked);
        is_marked
    }

    fn wants_page(&self, slot: u32) -> bool {
        let Some(reader) = self.table.get(slot) else {
            return false;
        };
        let is_behind = self
            .table
            .head(reader.user)
            .is_some_and(|head| reader.scanned() < head);
        is_behind && !reader.is_reading && !reader.is_stalled && reader.is_open(self.config.window_bytes_max)
    }
}

/// Returns the number of a new session: above every earlier one of the device, whatever the clock did.
fn session_number(now: UnixMs, newest: SessionNumber) -> SessionNumber {
    SessionNumber(now.0.saturating_mul(1 << 16).max(newest.0.saturating_add(1)))
}

/// Names the session that was replaced, unless the same connection opened again.
fn replaced(reader: &Reader, link: LinkId, connection: ConnectionHandle) -> Option<(LinkId, SessionRef)> {
    let is_other = (reader.link, reader.connection) != (link, connection);
    let (user, device) = (reader.user, reader.device);
    is_other.then_some((
        reader.link,
        SessionRef {
            connection: reader.connection,
            user,
            device,
        },
    ))
}

#[cfg(test)]
mod tests;
