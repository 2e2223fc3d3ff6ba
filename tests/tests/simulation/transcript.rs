//! What can be seen from outside the router: the records on its links, what its clients are shown, and what became of both.

use std::fmt;

use router_core::time::Now;
use wire_base::ids::{ConnectionHandle, DeviceId, MessageId, Position, UserId};
use wire_link::{FromRouter, ToRouter};

use crate::client::News;

/// A link, numbered as they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link(pub(crate) u32);

/// A connection: the gateway that holds it, and its handle there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection {
    pub(crate) gateway: usize,
    pub(crate) handle: ConnectionHandle,
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A gateway opened a link.
    LinkUp { link: Link, gateway: usize },
    /// A link ended; what it had said before was heard.
    LinkDown(Link),
    /// A client of the router said something.
    Said(Link, ToRouter),
    /// The router said something.
    Heard(Link, FromRouter),
    /// The client of a connection is gone, and its gateway does not know.
    Vanished(Connection),
    /// A client says hello.
    Connected {
        connection: Connection,
        user: UserId,
        device: DeviceId,
        window: u16,
        cursor: Option<Position>,
    },
    /// A client asks something: whether it sends a message, with which id if with one, and whether it is answered also if all
    /// goes well.
    Asked {
        connection: Connection,
        id: u32,
        is_send: bool,
        message_id: Option<MessageId>,
        is_answered: bool,
    },
    /// A client acks.
    Acked(Connection, Position),
    /// A client learns something.
    Shown(Connection, News),
    /// A client closes its connection, or its socket is closed for it.
    Left(Connection),
    /// Disk or store misbehave, or do no more.
    Trouble(bool),
    /// The wall clock of the machine is wrong by days, until then on the monotonic one.
    Leap { until_ms: u64 },
    /// A router that starts may wait until then, on the monotonic clock, for a wall clock that it believes.
    Doubt { until_ms: u64 },
    /// The machine went down.
    Down,
    /// The router takes messages.
    Up,
    /// The router does not start.
    Broken(String),
    /// The machine runs well and everybody has had the time to catch up.
    Settled,
    /// What the router says of itself: open links and sessions, and bytes that wait in links.
    Gauges(Gauges),
    /// Something that no client sees, for whoever reads the transcript.
    Remark(String),
}

/// See [`Seen::Gauges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gauges {
    pub(crate) links: u64,
    pub(crate) sessions: u64,
    pub(crate) backlog_bytes: u64,
    pub(crate) lag_records: u64,
    /// Nothing has happened for so long that nothing may be left to do.
    pub(crate) at_rest: bool,
}

/// One thing that was seen, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) now: Now,
    /// Changing calls of disk and store so far, and the number of the newest sync among them.
    pub(crate) operations: u64,
    pub(crate) last_sync: u64,
    pub(crate) seen: Seen,
}

/// Returns the first answer to a question of a client.
pub(crate) fn answer_in(events: &[Event]) -> Option<FromRouter> {
    events.iter().find_map(|event| match &event.seen {
        Seen::Heard(
            _,
            answer @ (FromRouter::HistoryPage(_) | FromRouter::ConversationsPage(_) | FromRouter::Failed(_)),
        ) => Some(answer.clone()),
        _ => None,
    })
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            now,
            operations,
            seen,
            ..
        } = self;
        write!(f, "{:>9} ms {operations:>5} ", now.mono_ms)?;
        match seen {
            Seen::Said(link, record) => write!(f, "{:>3} -> {record:?}", link.0),
            Seen::Heard(link, record) => write!(f, "{:>3} <- {record:?}", link.0),
            Seen::Remark(text) => write!(f, "    -- {text}"),
            other => write!(f, "    == {other:?}"),
        }
    }
}
