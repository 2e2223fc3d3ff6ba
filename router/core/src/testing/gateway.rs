//! A gateway's end of a link, which checks everything that it hears against what it said.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire_base::ids::{ConnectionHandle, ConversationId, Position, Seq, SessionNumber};
use wire_link::{Deliver, FromRouter, RequestId, SessionOpen, SessionOpened, ToRouter};

use crate::sessions::Entry;

/// A connected device, which knows what it must not be sent next.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it said at hello.
    pub open: SessionOpen,
    /// Its session.
    pub session: SessionNumber,
    /// It has, or made itself, every entry up to here.
    pub has: Position,
    /// It has acked so far.
    pub acked: Position,
    /// Head at hello while `synced` is owed.
    pub owed: Option<Position>,
    /// Entries that it did not ack, and what each takes of its window.
    pub in_flight: VecDeque<(Position, u32)>,
    window_bytes_max: usize,
}

impl Client {
    /// Returns a device whose hello was answered. Where nobody told it what it has, it is taken to have nothing.
    ///
    /// Panics: if the answer does not fit the hello.
    pub fn opened(open: &SessionOpen, answer: &SessionOpened, window_bytes_max: usize) -> Self {
        let is_taken = open.cursor.is_some() && answer.resync.is_none();
        assert_eq!(answer.resumed, is_taken, "{open:?} is answered by {answer:?}");
        assert!(open.session.is_none_or(|session| session == answer.session));
        let start = Position::start(answer.cursor.generation);
        let acked = match &answer.resync {
            Some((_, oldest)) => *oldest,
            None => open.cursor.unwrap_or(start),
        };
        Self {
            open: *open,
            session: answer.session,
            has: acked.max(open.forwarded.filter(|_| is_taken).unwrap_or(start)),
            acked,
            owed: Some(answer.cursor),
            in_flight: VecDeque::new(),
            window_bytes_max,
        }
    }

    /// Takes an entry.
    ///
    /// Panics: if it has it, made it, is owed `synced` before it, or has no room for it.
    pub fn deliver(&mut self, entry: &Entry) {
        let who = (self.open.user, self.open.device);
        assert!(entry.position > self.has, "{who:?} has {:?}: {entry:?}", self.has);
        assert_ne!((entry.sender, entry.sender_device), who, "its own {entry:?}");
        if let Some(head) = self.owed {
            assert!(entry.position <= head, "live before synced: {entry:?}");
        }
        self.has = entry.position;
        self.in_flight.push_back((entry.position, entry.bytes));
        let bytes: usize = self.in_flight.iter().map(|(_, bytes)| *bytes as usize).sum();
        let count = self.in_flight.len();
        assert!(
            count <= usize::from(self.open.window) && (bytes <= self.window_bytes_max || count == 1),
            "{count} with {bytes} bytes in flight to {who:?}"
        );
    }

    /// Hears that its backlog is over, once, and not before the head of its hello; returns that head.
    pub fn synced(&mut self, cursor: Position) -> Position {
        let head = self.owed.take().expect("it is synced once");
        assert!(cursor >= head, "synced at {cursor:?}, before {head:?}");
        head
    }

    /// Acks what it got up to a position.
    pub fn ack(&mut self, position: Position) {
        self.acked = self.acked.max(position);
        self.in_flight.retain(|(at, _)| *at > position);
    }
}

/// What a gateway knows of one link.
#[derive(Clone, Debug)]
pub struct Gateway {
    window_bytes_max: usize,
    /// What each connection said last.
    opens: BTreeMap<ConnectionHandle, SessionOpen>,
    clients: BTreeMap<ConnectionHandle, Client>,
    /// Sessions that were opened again on their own connection: the router says of the earlier that it is replaced.
    reopened: BTreeMap<ConnectionHandle, usize>,
    /// Connections that are gone; the router may not have known when it said something.
    closed: BTreeSet<ConnectionHandle>,
    /// The newest seq that each connection was sent of each conversation.
    seqs: BTreeMap<(ConnectionHandle, ConversationId), Seq>,
    /// Questions without an answer.
    asked: BTreeMap<RequestId, usize>,
}

impl Gateway {
    /// `window_bytes_max`: what may be in flight to a device at most.
    pub fn new(window_bytes_max: usize) -> Self {
        Self {
            window_bytes_max,
            opens: BTreeMap::new(),
            clients: BTreeMap::new(),
            reopened: BTreeMap::new(),
            closed: BTreeSet::new(),
            seqs: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Returns the client of a connection, if it has a session.
    pub fn client(&self, connection: ConnectionHandle) -> Option<&Client> {
        self.clients.get(&connection)
    }

    /// Notes what is said to the router.
    pub fn said(&mut self, record: &ToRouter) {
        match record {
            ToRouter::SessionOpen(open) => {
                self.closed.remove(&open.connection);
                self.opens.insert(open.connection, *open);
            }
            ToRouter::SessionClose(session) => {
                self.clients.remove(&session.connection);
                self.closed.insert(session.connection);
            }
            ToRouter::Ack(ack) => {
                let is_of = |client: &&mut Client| {
                    let SessionOpen { user, device, .. } = client.open;
                    (user, device, client.session) == (ack.user, ack.device, ack.session)
                };
                let client = self.clients.values_mut().find(is_of);
                if let Some(client) = client.filter(|client| client.has >= ack.position) {
                    client.ack(ack.position);
                }
            }
            ToRouter::Send(send) => self.ask(send.request),
            ToRouter::Status(status) => self.ask(status.request),
            ToRouter::History(history) => self.ask(history.request),
            ToRouter::Conversations(conversations) => self.ask(conversations.request),
            ToRouter::Hello(_) => {}
        }
    }

    fn ask(&mut self, request: RequestId) {
        *self.asked.entry(request).or_default() += 1;
    }

    /// Notes what the router says.
    ///
    /// Panics: if it may not say so.
    pub fn heard(&mut self, record: &FromRouter) {
        match record {
            FromRouter::SessionOpened(answer) => self.opened(answer),
            FromRouter::SessionRefused(refused) => {
                self.clients.remove(&refused.connection);
            }
            FromRouter::SessionReplaced(session) => self.replaced(session.connection),
            FromRouter::Deliver(deliver) => self.deliver(deliver),
            FromRouter::Synced(synced) => {
                if let Some(client) = self.client_of(synced.connection, record) {
                    client.synced(synced.cursor);
                }
            }
            FromRouter::StatusUpdate(update) => {
                for connection in &update.to {
                    self.client_of(*connection, record);
                }
            }
            FromRouter::Sent(sent) => self.answered(sent.request, record),
            FromRouter::Rejected(rejected) => self.answered(rejected.request, record),
            FromRouter::Done(request) => self.answered(*request, record),
            FromRouter::Failed(failed) => self.answered(failed.request, record),
            FromRouter::HistoryPage(page) => self.answered(page.request, record),
            FromRouter::ConversationsPage(page) => self.answered(page.request, record),
        }
    }

    fn opened(&mut self, answer: &SessionOpened) {
        let connection = answer.connection;
        if self.closed.contains(&connection) {
            return;
        }
        let open = self
            .opens
            .get(&connection)
            .expect("who said no hello gets no answer");
        let client = Client::opened(open, answer, self.window_bytes_max);
        self.seqs.retain(|(of, _), _| *of != connection);
        if self.clients.insert(connection, client).is_some() {
            *self.reopened.entry(connection).or_default() += 1;
        }
    }

    fn replaced(&mut self, connection: ConnectionHandle) {
        match self.reopened.get_mut(&connection).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => {
                self.clients.remove(&connection);
            }
        }
    }

    fn deliver(&mut self, deliver: &Deliver) {
        let message = &deliver.message;
        for (connection, position) in &deliver.to {
            let Some(client) = self.client_of(*connection, deliver) else {
                continue;
            };
            client.deliver(&Entry::new(*position, message));
            let newest = self.seqs.entry((*connection, message.conversation)).or_default();
            assert!(*newest < message.seq, "behind {newest:?}: {deliver:?}");
            *newest = message.seq;
        }
    }

    /// Returns the client that is spoken of, unless it is gone, so that nobody cares.
    fn client_of(
        &mut self,
        connection: ConnectionHandle,
        said: &impl std::fmt::Debug,
    ) -> Option<&mut Client> {
        let is_gone = self.closed.contains(&connection);
        let client = self.clients.get_mut(&connection);
        assert!(
            client.is_some() || is_gone,
            "{connection:?} has no session: {said:?}"
        );
        client
    }

    fn answered(&mut self, request: RequestId, answer: &FromRouter) {
        let waiting = self.asked.get_mut(&request).filter(|count| **count > 0);
        *waiting.unwrap_or_else(|| panic!("nobody waits for {answer:?}")) -= 1;
    }
}
