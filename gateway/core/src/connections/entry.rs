//! The slab entry of a connection.

use wire_base::ids::ConnectionHandle;
use wire_ws::Reader;
use wire_ws::upgrade::HeadBuffer;

use crate::outbox::Outbox;
use crate::time::{Now, Stamp};
use crate::wheel::Links;

/// One connection: what the connection layer keeps, and the application's `S`.
///
/// Shape: an idle one holds nothing on the heap.
pub(crate) struct Conn<S> {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) pauses: Pauses,
    /// Pings sent since the client was last heard.
    pub(crate) pings_missed: u8,
    pub(crate) marks: Marks,
    /// When the phase began.
    pub(crate) since: Stamp,
    /// When the client was last heard or pinged, whichever was later.
    pub(crate) quiet_since: Stamp,
    /// When the incomplete message began, if there is one.
    pub(crate) partial_since: Stamp,
    /// When the client's pings were first counted, in seconds.
    pub(crate) pings_since_s: u16,
    /// Pings and pongs since then.
    pub(crate) pings: u16,
    pub(crate) reader: Reader,
    pub(crate) outbox: Option<Box<Outbox>>,
    pub(crate) held: Option<Box<Held>>,
    pub(crate) session: S,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The HTTP request is not complete.
    Upgrading,
    /// Frames go both ways.
    Open,
    /// It has its reason; the close frame or the HTTP refusal is on its way, and what comes is thrown away.
    Closing,
    /// The socket is being closed; the entry goes away with this fact.
    Closed,
}

/// Input that cannot be handled yet, or is counted only.
pub(crate) enum Held {
    /// The start of an HTTP request.
    Head(HeadBuffer),
    /// Frames that came before reading stopped.
    Frames(Vec<u8>),
    /// Of what came behind a close frame, the number of bytes.
    Discarded(u32),
}

/// Facts about a connection that are true or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// Listed to be flushed at the end of the tick.
    pub(crate) const DIRTY: Self = Self(1);
    /// Closed because there was no place for it, so it takes none.
    pub(crate) const SURPLUS: Self = Self(2);

    pub(crate) const fn contains(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    /// Sets a mark; returns whether it was not set.
    #[inline]
    pub(crate) const fn insert(&mut self, mark: Self) -> bool {
        let is_new = !self.contains(mark);
        self.0 |= mark.0;
        is_new
    }

    pub(crate) const fn remove(&mut self, mark: Self) {
        self.0 &= !mark.0;
    }
}

/// Why a connection is not read; it is read again when none is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses(u8);

impl Pauses {
    /// The application waits for an answer before it takes more.
    pub const ANSWER: Self = Self(1);
    /// What the client asks for cannot be passed on.
    pub const LINK: Self = Self(2);
    /// Too many of its requests have no answer.
    pub const PENDING: Self = Self(4);
    /// It does not take what it is sent.
    pub const OUTBOX: Self = Self(8);

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl<S: Default> Conn<S> {
    pub(crate) fn new(generation: u32, since: Stamp) -> Self {
        Self {
            generation,
            phase: Phase::Upgrading,
            pauses: Pauses::default(),
            pings_missed: 0,
            marks: Marks::default(),
            since,
            quiet_since: since,
            partial_since: since,
            pings_since_s: 0,
            pings: 0,
            reader: Reader::new(),
            outbox: None,
            held: None,
            session: S::default(),
        }
    }
}

impl<S> Conn<S> {
    pub(crate) const fn handle(&self, slot: u32) -> ConnectionHandle {
        ConnectionHandle {
            slot,
            generation: self.generation,
        }
    }

    /// Returns whether input may be handled now.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.phase == Phase::Open && self.pauses.is_empty()
    }

    /// Notes a sign of life of the client.
    #[inline]
    pub(crate) fn touch(&mut self, now: Now) {
        self.quiet_since = Stamp::of(now);
        self.pings_missed = 0;
    }

    /// Returns the memory held for input that is not complete or waits.
    pub(crate) fn input_bytes(&self) -> usize {
        let held = match self.held.as_deref() {
            None => 0,
            Some(Held::Head(head)) => head.held_bytes(),
            Some(Held::Frames(bytes)) => bytes.capacity(),
            Some(Held::Discarded(_)) => 0,
        };
        held + self.reader.partial_bytes()
    }
}

/// Bytes of a connection while it is idle: its entry, and its place in the timer wheel.
pub(crate) const fn idle_bytes<S>() -> usize {
    size_of::<Option<Conn<S>>>() + size_of::<Option<Links>>()
}
