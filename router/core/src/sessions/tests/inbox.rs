//! A user's inbox and the sessions that read it.

use router_records::row::DeviceRow;
use wire_base::ids::Seq;

use crate::inbox::ReaderFacts;
use crate::sessions::*;
use crate::testing::{self, Client, GENERATION, device, direct, other_message_id, position, user};

pub(super) const LINK: LinkId = link(1);

/// Returns a link by its number.
pub(super) const fn link(slot: u16) -> LinkId {
    LinkId { slot, generation: 1 }
}

/// The session of device 1 on a connection.
pub(super) fn session_ref(connection: u32) -> SessionRef {
    SessionRef {
        connection: testing::connection(connection),
        user: user(1),
        device: device(1),
    }
}

/// A hello of user 1 with a window of 2.
pub(super) fn hello(connection: u32, device: u32) -> SessionOpen {
    SessionOpen {
        window: 2,
        ..testing::session_open(connection, 1, device)
    }
}

/// A receiver, user 1, with a window of 2 and entries from user 2.
pub(super) struct Inbox {
    pub(super) sessions: Sessions,
    pub(super) entries: Vec<Entry>,
    pub(super) stored: Option<DeviceRow>,
    /// Device 1 as it was opened last, which checks what it is sent.
    client: Option<Client>,
}

/// What came of a hello: the answer, whom it replaces, and where its backlog is over already.
pub(super) type Answered = (SessionOpened, Option<(LinkId, SessionRef)>, Option<Position>);

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            sessions: Sessions::new(SessionsConfig::default(), GENERATION),
            entries: Vec::new(),
            stored: None,
            client: None,
        }
    }

    /// Returns an inbox with so many entries from user 2.
    pub(super) fn with_backlog(count: usize) -> Self {
        let mut inbox = Self::new();
        for _ in 0..count {
            inbox.append(2, 1);
        }
        inbox
    }

    pub(super) fn append(&mut self, sender: u64, sender_device: u32) -> Vec<Delivery> {
        let seq = self.entries.len() as u64 + 1;
        let entry = Entry {
            position: position(seq * 10, 1),
            conversation: direct(1, 2),
            seq: Seq(seq),
            message_id: other_message_id(seq),
            sender: user(sender),
            sender_device: device(sender_device),
            bytes: 100,
        };
        self.entries.push(entry);
        let mut out = Vec::new();
        self.sessions.handle_entry(user(1), &entry, &mut out);
        out.iter().for_each(|_| self.client().deliver(&entry));
        out
    }

    pub(super) fn facts(&self) -> ReaderFacts {
        let oldest = Position::start(GENERATION);
        let head = self.entries.last().map_or(oldest, |entry| entry.position);
        ReaderFacts {
            device: self.stored,
            head,
            oldest,
        }
    }

    pub(super) fn try_open(
        &mut self,
        connection: u32,
        session: Option<u64>,
        cursor: Option<Position>,
    ) -> Option<Answered> {
        let request = SessionOpen {
            session: session.map(SessionNumber),
            cursor,
            ..hello(connection, 1)
        };
        let opened = self.sessions.open(LINK, &request, &self.facts(), UnixMs(1_000));
        let Opened::Opened {
            answer,
            replaced,
            synced,
        } = opened
        else {
            return None;
        };
        let client = Client::opened(&request, &answer, self.sessions.config.window_bytes_max);
        self.client = Some(client);
        if let Some(cursor) = synced {
            self.client().synced(cursor);
        }
        Some((answer, replaced, synced))
    }

    pub(super) fn open(&mut self, connection: u32, cursor: Option<Position>) -> Answered {
        let answered = self.try_open(connection, None, cursor);
        answered.expect("a new session is the newest")
    }

    /// Opens and returns the session number.
    pub(super) fn opened(&mut self, connection: u32) -> SessionNumber {
        self.open(connection, None).0.session
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("a device is open")
    }

    /// Answers every page that is wanted; returns offsets of what was delivered, and `synced` as 0.
    pub(super) fn pages(&mut self) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(request) = self.sessions.poll_page() {
            let page: Vec<_> = self
                .entries
                .iter()
                .filter(|entry| entry.position > request.after)
                .take(request.limit)
                .copied()
                .collect();
            let through = page.last().map_or(self.facts().head, |entry| entry.position);
            let steps = self.page(&request, &page, through);
            seen.extend(steps.iter().map(|step| match step {
                Step::Deliver { entry } => page[*entry].position.offset.0,
                Step::Synced { .. } => 0,
            }));
        }
        seen
    }

    /// Hands in a page that a session still waits for.
    pub(super) fn page(&mut self, request: &PageRequest, page: &[Entry], through: Position) -> Vec<Step> {
        let paged = self.sessions.handle_page(request, page, through);
        let steps = paged.expect("nothing happened meanwhile").steps;
        for step in &steps {
            match step {
                Step::Deliver { entry } => self.client().deliver(&page[*entry]),
                Step::Synced { cursor } => {
                    self.client().synced(*cursor);
                }
            }
        }
        steps.to_vec()
    }

    pub(super) fn ack(&mut self, session: SessionNumber, position: Position) -> AckVerdict {
        let record = AckRecord {
            user: user(1),
            device: device(1),
            session,
            position,
        };
        let verdict = self.sessions.handle_ack(LINK, &record);
        if verdict == AckVerdict::Taken {
            self.client().ack(position);
        }
        verdict
    }

    /// Takes the acks that are to be logged now.
    pub(super) fn poll_acks(&mut self) -> Vec<AckInput> {
        std::iter::from_fn(|| self.sessions.poll_ack()).collect()
    }

    /// Takes the next ack that is to be logged, and returns how far it goes.
    pub(super) fn poll_acked(&mut self) -> Option<Position> {
        self.sessions.poll_ack().map(|ack| ack.position)
    }
}
