//! One device reading its user's inbox: how far it has read, what is in flight to it, what it has acked.

use std::collections::VecDeque;

use router_records::log::{AckInput, Delivered};
use wire_base::ids::{ConnectionHandle, DeviceId, Position, SessionNumber, UserId};
use wire_link::SessionOpen;

use super::hello::Start;
use super::place::Place;
use super::{Entry, LinkId, Step};

/// A session of a device. It goes through the inbox strictly by position, in pages or live, and takes each entry once.
///
/// `acked` is what the client says it has, `scanned` what was read of the inbox, `forwarded` what the connection was
/// sent, `counted` what an ack record covers; that one follows the lower of `acked` and `scanned`.
/// Entries up to `acked` need no delivery, but are read all the same when they were not counted yet (a cursor in hello
/// that is ahead of the stored ack): their senders are owed a `delivered`. Entries up to `forwarded` are in flight on a
/// connection that was announced again.
///
/// Shape: all four are of one generation.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) link: LinkId,
    pub(super) connection: ConnectionHandle,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) session: SessionNumber,
    /// Messages in flight without ack.
    pub(super) window: u16,
    /// Own sends that were read and that no ack covers yet.
    own_uncounted: u16,
    pub(super) generation: u32,
    acked: Place,
    scanned: Place,
    forwarded: Place,
    /// Every entry up to here is in an ack that is stored, logged or waiting.
    counted: Place,
    /// An ack waits to be logged: of `counted`, with what `Busy::delivered` has.
    pub(super) is_ack_waiting: bool,
    /// It stands among those that wait.
    pub(super) is_ack_marked: bool,
    /// The entry after `scanned` did not fit the window; nothing is read until an ack moves.
    pub(super) is_stalled: bool,
    /// A page was asked for.
    pub(super) is_reading: bool,
    /// What an idle session does without.
    busy: Option<Box<Busy>>,
}

#[derive(Debug, Default)]
struct Busy {
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// The highest message of others in each conversation that the waiting ack covers.
    delivered: Vec<Delivered>,
    /// Head of the inbox at hello, while `synced` is owed.
    hello_head: Option<Position>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    position: Position,
    bytes: u32,
    /// `None` for messages of this user.
    delivered: Option<Delivered>,
}

/// Conversations in a waiting ack at which a reader stops until the ack is logged.
pub(super) const DELIVERED_MAX: usize = 256;

/// Own sends after which a device that acks nothing is counted as having acked them: what it reads again, at most, at
/// the hello after a crash.
const OWN_UNCOUNTED_MAX: u16 = 256;

/// What became of an entry that was offered to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// To be sent.
    Deliver,
    /// Read, and nothing to send: an own send, or the connection has it.
    Skip,
    /// Not read: the window is full.
    Refused,
}

impl Reader {
    /// Returns the reader of a session that begins; `synced` is owed once it has read up to `head`.
    pub(super) fn new(
        link: LinkId,
        request: &SessionOpen,
        session: SessionNumber,
        start: &Start,
        head: Position,
    ) -> Self {
        let generation = head.generation;
        // An ack of an inbox before this one counts nothing here: it is logged anew.
        let is_counted_here = start.counted.generation == generation;
        let mut reader = Self {
            link,
            connection: request.connection,
            user: request.user,
            device: request.device,
            session,
            window: request.window.max(1),
            own_uncounted: 0,
            generation,
            acked: Place::of(start.acked, generation),
            scanned: Place::of(start.scanned, generation),
            forwarded: Place::of(start.forwarded, generation),
            counted: match is_counted_here {
                true => Place::of(start.counted, generation),
                false => Place::of(Position::start(generation), generation),
            },
            is_ack_waiting: !is_counted_here,
            is_ack_marked: false,
            is_stalled: false,
            is_reading: false,
            busy: Some(Box::new(Busy {
                hello_head: Some(head),
                ..Busy::default()
            })),
        };
        reader.advance_counted();
        reader
    }

    /// Reads a page that has all there is in (`scanned`, `through`], until the window is full; returns what to send.
    pub(super) fn read_page(&mut self, entries: &[Entry], through: Position, bytes_max: usize) -> Vec<Step> {
        let mut steps = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            if entry.position <= self.scanned() {
                continue;
            }
            self.approach(entry.position);
            steps.extend(self.poll_synced().map(|cursor| Step::Synced { cursor }));
            match self.take(entry, bytes_max) {
                Taken::Deliver => steps.push(Step::Deliver { entry: at }),
                Taken::Skip => {}
                Taken::Refused => return steps,
            }
        }
        self.scan(through);
        steps.extend(self.poll_synced().map(|cursor| Step::Synced { cursor }));
        steps
    }

    /// Returns the end of the backlog, once, when it is read.
    pub(super) fn poll_synced(&mut self) -> Option<Position> {
        self.hello_head().filter(|head| *head <= self.scanned())?;
        self.busy().hello_head = None;
        self.tidy();
        Some(self.scanned())
    }

    /// Passes the head as it was at hello when `next` is the first entry after it.
    fn approach(&mut self, next: Position) {
        if let Some(head) = self.hello_head().filter(|head| *head < next) {
            self.scan(head);
        }
    }

    /// Offers the next entry of the inbox. At most `bytes_max` are in flight, but at least one message.
    ///
    /// Order: nothing lies between `scanned` and this entry.
    pub(super) fn take(&mut self, entry: &Entry, bytes_max: usize) -> Taken {
        if self.is_own(entry) {
            self.scan(entry.position);
            self.own_uncounted = self.own_uncounted.saturating_add(1);
            if self.own_uncounted >= OWN_UNCOUNTED_MAX {
                self.settle();
            }
            return Taken::Skip;
        }
        if !self.is_open(bytes_max) {
            return self.refuse();
        }
        let delivered = self.delivered_of(entry);
        if entry.position <= self.acked() {
            self.count(delivered);
            self.scan(entry.position);
            return Taken::Skip;
        }
        let bytes = self.in_flight_bytes() + entry.bytes as usize;
        if self.in_flight() > 0 && bytes > bytes_max {
            return self.refuse();
        }
        let busy = self.busy();
        busy.in_flight.push_back(InFlight {
            position: entry.position,
            bytes: entry.bytes,
            delivered,
        });
        busy.in_flight_bytes = bytes;
        self.scan(entry.position);
        if entry.position <= self.forwarded() {
            return Taken::Skip;
        }
        self.forwarded = Place::of(entry.position, self.generation);
        Taken::Deliver
    }

    /// Learns that nothing is left up to `position`.
    pub(super) fn scan(&mut self, position: Position) {
        self.scanned = self.scanned.max(Place::of(position, self.generation));
        self.advance_counted();
    }

    /// Takes an ack of something this connection was sent; returns whether it moved.
    pub(super) fn ack(&mut self, position: Position) -> bool {
        if position <= self.acked() {
            return false;
        }
        self.acked = Place::of(position, self.generation);
        while let Some(busy) = &mut self.busy
            && let Some(in_flight) = busy
                .in_flight
                .pop_front_if(|in_flight| in_flight.position <= position)
        {
            busy.in_flight_bytes -= in_flight.bytes as usize;
            self.count(in_flight.delivered);
        }
        self.is_stalled = false;
        self.advance_counted();
        self.tidy();
        true
    }

    /// Counts own sends at the end of what was read as acked: the device made them.
    pub(super) fn settle(&mut self) {
        if self.in_flight() == 0 {
            self.acked = self.acked.max(self.scanned);
            self.advance_counted();
        }
    }

    /// Takes the waiting ack.
    pub(super) fn take_ack(&mut self) -> Option<AckInput> {
        if !std::mem::take(&mut self.is_ack_waiting) {
            return None;
        }
        self.is_stalled = false;
        let delivered = self
            .busy
            .as_mut()
            .map(|busy| std::mem::take(&mut busy.delivered))
            .unwrap_or_default();
        self.tidy();
        Some(AckInput {
            user: self.user,
            device: self.device,
            session: self.session,
            position: self.counted(),
            delivered,
        })
    }

    /// Puts back an ack that was not logged, or that another session of the device left.
    pub(super) fn restore_ack(&mut self, ack: &AckInput) {
        self.counted = self.counted.max(Place::of(ack.position, self.generation));
        for delivered in &ack.delivered {
            merge(&mut self.busy().delivered, *delivered);
        }
        self.is_ack_waiting = true;
    }

    /// Returns what the client says it has.
    pub(super) fn acked(&self) -> Position {
        self.position_of(self.acked)
    }

    /// Returns how far the inbox was read.
    pub(super) fn scanned(&self) -> Position {
        self.position_of(self.scanned)
    }

    /// Returns how far the connection was sent the inbox.
    pub(super) fn forwarded(&self) -> Position {
        self.position_of(self.forwarded)
    }

    /// Returns what an ack covers that is stored, logged or waiting.
    pub(super) fn counted(&self) -> Position {
        self.position_of(self.counted)
    }

    /// Returns the position of a place in the inbox.
    pub(super) fn position_of(&self, place: Place) -> Position {
        place.in_generation(self.generation)
    }

    /// Returns how many entries the next page can be read of: those that have to be sent need room in the window.
    pub(super) fn page_entries(&self) -> usize {
        if self.scanned < self.forwarded {
            return usize::MAX;
        }
        usize::from(self.window).saturating_sub(self.in_flight())
    }

    /// Returns whether the reader can take another entry.
    pub(super) fn is_open(&self, bytes_max: usize) -> bool {
        let Some(busy) = &self.busy else { return true };
        let has_room = busy.in_flight.len() < usize::from(self.window) && busy.in_flight_bytes < bytes_max;
        busy.delivered.len() < DELIVERED_MAX && (busy.in_flight.is_empty() || has_room)
    }

    /// Returns whether the reader made this entry itself.
    pub(super) fn is_own(&self, entry: &Entry) -> bool {
        entry.sender == self.user && entry.sender_device == self.device
    }

    /// Returns how many messages are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.in_flight.len())
    }

    /// Returns how many bytes they have.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.in_flight_bytes)
    }

    fn hello_head(&self) -> Option<Position> {
        self.busy.as_ref()?.hello_head
    }

    fn refuse(&mut self) -> Taken {
        self.is_stalled = true;
        Taken::Refused
    }

    fn delivered_of(&self, entry: &Entry) -> Option<Delivered> {
        let is_owed = entry.sender != self.user && entry.position > self.counted();
        is_owed.then_some(Delivered {
            conversation: entry.conversation,
            seq: entry.seq,
            message_id: entry.message_id,
        })
    }

    fn count(&mut self, delivered: Option<Delivered>) {
        if let Some(delivered) = delivered {
            merge(&mut self.busy().delivered, delivered);
        }
    }

    fn advance_counted(&mut self) {
        let counted = self.acked.min(self.scanned);
        if counted > self.counted {
            self.counted = counted;
            self.own_uncounted = 0;
            self.is_ack_waiting = true;
        }
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    fn tidy(&mut self) {
        self.busy.take_if(|busy| {
            busy.in_flight.is_empty() && busy.delivered.is_empty() && busy.hello_head.is_none()
        });
    }
}

/// Adds a message to the highest of each conversation.
pub(super) fn merge(all: &mut Vec<Delivered>, delivered: Delivered) {
    match all
        .iter_mut()
        .find(|held| held.conversation == delivered.conversation)
    {
        Some(held) if held.seq < delivered.seq => *held = delivered,
        Some(_) => {}
        None => all.push(delivered),
    }
}

/// What an idle session costs, a million at once.
const _: () = assert!(size_of::<Reader>() <= 96);
