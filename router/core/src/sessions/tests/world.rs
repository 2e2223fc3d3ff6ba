//! Two users with two devices each, whose clients know what they must get next; the store is a list for each inbox.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use router_records::row::DeviceRow;
use wire_base::ids::{ConnectionHandle, ConversationId, DeviceId, Offset, Position, Seq, UnixMs, UserId};
use wire_link::{AckRecord, SessionOpen, SessionRef};

use super::inbox::link;
use crate::inbox::ReaderFacts;
use crate::sessions::{
    AckVerdict, Delivery, Entry, LinkId, Opened, PageRequest, Sessions, SessionsConfig, Step as PageStep,
};
use crate::testing::{self, Client, GENERATION, device, other_message_id, position, user};

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A message is stored: from whom to whom, how large.
    Append {
        sender: u64,
        sender_device: u32,
        receiver: u64,
        bytes: u32,
    },
    /// The oldest stored entries not announced yet are announced to the sessions.
    Announce,
    /// A device connects.
    Open {
        who: Who,
        cursor: Cursor,
        window: u16,
    },
    /// A device disconnects.
    Close(Who),
    /// A device acks a share (in quarters) of what it has un-acked, or beyond.
    Ack {
        who: Who,
        quarters: usize,
    },
    /// A page is asked for.
    PollPage,
    /// The oldest page asked for is read and handed in.
    AnswerPage {
        at_most: usize,
    },
    /// Acks are logged and stored.
    LogAcks {
        is_appended: bool,
    },
    Full(LinkId),
    Room(LinkId),
    /// A link breaks; its sessions are announced again, on the same link, by a later `Reannounce`.
    Down(LinkId),
    Reannounce(Who),
    /// The router starts again: everything but the store is gone.
    Restart,
    /// Entries that every device has acked, and every client received, are dropped.
    Prune,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cursor {
    None,
    /// The last message received.
    Last,
    /// The entry so many before the head.
    Back(usize),
    BeyondHead,
    OtherStore,
}

pub(super) type Who = (u64, u32);

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let who = || (1u64..3, 1u32..3);
    let any_link = || (0u16..2).prop_map(link);
    let cursor = prop_oneof![
        4 => Just(Cursor::None),
        4 => Just(Cursor::Last),
        2 => (0usize..6).prop_map(Cursor::Back),
        1 => Just(Cursor::BeyondHead),
        1 => Just(Cursor::OtherStore),
    ];
    prop_oneof![
        12 => (1u64..4, 1u32..3, 1u64..4, 1u32..60).prop_map(|(sender, sender_device, receiver, bytes)| {
            Step::Append { sender, sender_device, receiver, bytes }
        }),
        10 => Just(Step::Announce),
        4 => (who(), cursor, 1u16..6).prop_map(|(who, cursor, window)| Step::Open { who, cursor, window }),
        1 => who().prop_map(Step::Close),
        8 => (who(), 0usize..6).prop_map(|(who, quarters)| Step::Ack { who, quarters }),
        8 => Just(Step::PollPage),
        8 => (1usize..8).prop_map(|at_most| Step::AnswerPage { at_most }),
        3 => prop::bool::weighted(0.8).prop_map(|is_appended| Step::LogAcks { is_appended }),
        1 => any_link().prop_map(Step::Full),
        2 => any_link().prop_map(Step::Room),
        1 => any_link().prop_map(Step::Down),
        3 => who().prop_map(Step::Reannounce),
        1 => Just(Step::Restart),
        1 => Just(Step::Prune),
    ]
}

pub(super) struct World {
    config: SessionsConfig,
    sessions: Sessions,
    /// Entries after `oldest`.
    inboxes: BTreeMap<UserId, Vec<Entry>>,
    oldest: Position,
    unannounced: VecDeque<(UserId, Entry)>,
    devices: BTreeMap<Who, Device>,
    clients: BTreeMap<Who, Connected>,
    pages: VecDeque<PageRequest>,
    full: BTreeSet<LinkId>,
    /// Newest seq of each conversation.
    seqs: BTreeMap<ConversationId, u64>,
    offset: u64,
    connections: u32,
    now: u64,
}

/// What the store has of a device, and what it said.
#[derive(Debug)]
struct Device {
    row: Option<DeviceRow>,
    /// The highest position it ever acked or gave as a cursor that was taken.
    claimed: Position,
    /// The highest seq reported delivered, by conversation.
    delivered: BTreeMap<ConversationId, Seq>,
}

/// A connected device, where its gateway has it.
struct Connected {
    client: Client,
    link: LinkId,
    /// The router knows the session.
    is_open: bool,
}

impl World {
    pub(super) fn new(config: SessionsConfig) -> Self {
        let start = Position::start(GENERATION);
        let device = || Device {
            row: None,
            claimed: start,
            delivered: BTreeMap::new(),
        };
        Self {
            config,
            sessions: Sessions::new(config, GENERATION),
            inboxes: [1, 2, 3].map(|number| (user(number), Vec::new())).into(),
            oldest: start,
            unannounced: VecDeque::new(),
            devices: [(1, 1), (1, 2), (2, 1), (2, 2)].map(|who| (who, device())).into(),
            clients: BTreeMap::new(),
            pages: VecDeque::new(),
            full: BTreeSet::new(),
            seqs: BTreeMap::new(),
            offset: 0,
            connections: 0,
            now: 1_000,
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Append {
                sender,
                sender_device,
                receiver,
                bytes,
            } => {
                self.append(user(sender), device(sender_device), user(receiver), bytes);
            }
            Step::Announce => self.announce(),
            Step::Open { who, cursor, window } => self.open(who, cursor, window),
            Step::Close(who) => self.close(who),
            Step::Ack { who, quarters } => {
                self.ack(who, quarters);
            }
            Step::PollPage => self.pages.extend(self.sessions.poll_page()),
            Step::AnswerPage { at_most } => self.answer_page(at_most),
            Step::LogAcks { is_appended } => self.log_acks(is_appended),
            Step::Full(link) => {
                self.full.insert(link);
                self.sessions.handle_link_full(link);
            }
            Step::Room(link) => self.room(link),
            Step::Down(link) => {
                self.full.remove(&link);
                self.sessions.handle_link_down(link);
                self.clients
                    .values_mut()
                    .filter(|client| client.link == link)
                    .for_each(|client| client.is_open = false);
            }
            Step::Reannounce(who) => self.reannounce(who),
            Step::Restart => {
                self.sessions = Sessions::new(self.config, GENERATION);
                self.pages.clear();
                self.full.clear();
                self.unannounced.clear();
                self.clients
                    .values_mut()
                    .for_each(|client| client.is_open = false);
            }
            Step::Prune => self.prune(),
        }
        let known = self.clients.values().filter(|client| client.is_open).count();
        assert_eq!(self.sessions.len(), known);
    }

    /// Lets everything come to rest; then every connected device has everything, and its senders know.
    pub(super) fn settle(&mut self) {
        for link in [link(0), link(1)] {
            self.room(link);
        }
        for who in self.clients.keys().copied().collect::<Vec<_>>() {
            self.reannounce(who);
        }
        let mut rounds = 0;
        loop {
            let before = (self.unannounced.len(), self.pages.len());
            self.announce();
            while let Some(request) = self.sessions.poll_page() {
                self.pages.push_back(request);
                self.answer_page(3);
            }
            while !self.pages.is_empty() {
                self.answer_page(3);
            }
            let acked = self
                .clients
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .filter(|who| self.ack(*who, 4));
            let acked = acked.count();
            self.log_acks(true);
            if acked == 0 && before == (0, 0) {
                break;
            }
            rounds += 1;
            assert!(rounds < 10_000, "it never comes to rest");
        }
        for (who, Connected { client, .. }) in &self.clients {
            let missed = self.inboxes[&user(who.0)]
                .iter()
                .find(|entry| entry.position > client.has && !is_own(*who, entry));
            assert_eq!(missed, None, "{who:?} is at {:?}", client.has);
            assert_eq!(client.owed, None, "{who:?} is owed synced");
            self.check_senders_know(*who, client);
        }
    }

    fn room(&mut self, link: LinkId) {
        self.full.remove(&link);
        self.sessions.handle_link_room(link);
    }

    fn append(&mut self, sender: UserId, sender_device: DeviceId, receiver: UserId, bytes: u32) {
        self.offset += 1;
        let conversation = ConversationId::direct(sender, receiver);
        let seq = self.seqs.entry(conversation).or_insert(0);
        *seq += 1;
        let entry = |index| Entry {
            position: position(self.offset, index),
            conversation,
            seq: Seq(*seq),
            message_id: other_message_id(*seq),
            sender,
            sender_device,
            bytes,
        };
        let users = [(1, receiver), (2, sender)];
        for (index, user) in users.into_iter().take(if sender == receiver { 1 } else { 2 }) {
            self.inboxes.entry(user).or_default().push(entry(index));
            self.unannounced.push_back((user, entry(index)));
        }
    }

    fn announce(&mut self) {
        while let Some((user, entry)) = self.unannounced.pop_front() {
            let mut out = Vec::new();
            self.sessions.handle_entry(user, &entry, &mut out);
            for Delivery {
                link,
                connection,
                position,
            } in out
            {
                assert_eq!(position, entry.position);
                self.deliver(link, connection, &entry);
            }
        }
    }

    fn facts(&self, who: Who) -> ReaderFacts {
        // A router knows of an entry when it is announced.
        let unannounced = self
            .unannounced
            .iter()
            .find(|(user, _)| user.get() == who.0)
            .map(|(_, entry)| entry.position);
        let known = self.inboxes[&user(who.0)].iter().map(|entry| entry.position);
        let head = known
            .filter(|at| unannounced.is_none_or(|first| *at < first))
            .max()
            .unwrap_or(Position::start(GENERATION));
        ReaderFacts {
            device: self.devices[&who].row,
            head,
            oldest: self.oldest,
        }
    }

    fn open(&mut self, who: Who, cursor: Cursor, window: u16) {
        let facts = self.facts(who);
        let last = self.clients.get(&who).map(|of| of.client.has);
        let back = |n: usize| {
            self.inboxes[&user(who.0)]
                .iter()
                .rev()
                .map(|entry| entry.position)
                .filter(|at| *at <= facts.head)
                .nth(n)
        };
        let cursor = match cursor {
            Cursor::None => None,
            Cursor::Last => last,
            Cursor::Back(n) => back(n),
            Cursor::BeyondHead => Some(Position {
                index: facts.head.index + 1,
                ..facts.head
            }),
            Cursor::OtherStore => Some(Position {
                generation: GENERATION + 1,
                ..facts.head
            }),
        };
        self.connections += 1;
        let request = SessionOpen {
            connection: ConnectionHandle {
                slot: self.connections % 3,
                generation: self.connections,
            },
            cursor,
            window,
            ..testing::session_open(0, who.0, who.1)
        };
        self.start(who, link((self.connections % 2) as u16), &request, &facts);
    }

    fn reannounce(&mut self, who: Who) {
        let facts = self.facts(who);
        let Some(Connected { client, link, .. }) = self.clients.get(&who).filter(|of| !of.is_open) else {
            return;
        };
        let (link, has) = (*link, client.has);
        let request = SessionOpen {
            session: Some(client.session),
            cursor: Some(client.acked),
            forwarded: Some(has),
            ..client.open
        };
        // A page may have brought the client an entry that is not announced yet; whoever opens a session knows of it.
        let facts = ReaderFacts {
            head: facts.head.max(has),
            ..facts
        };
        self.start(who, link, &request, &facts);
    }

    fn start(&mut self, who: Who, link: LinkId, request: &SessionOpen, facts: &ReaderFacts) {
        self.now += 1;
        let opened = self.sessions.open(link, request, facts, UnixMs(self.now));
        let Opened::Opened {
            answer,
            replaced,
            synced,
        } = opened
        else {
            panic!("no session is newer")
        };
        let old = self.clients.remove(&who);
        let was_open = old
            .as_ref()
            .filter(|old| old.is_open)
            .map(|old| (old.link, old.client.open.connection));
        assert_eq!(replaced.map(|(link, old)| (link, old.connection)), was_open);
        assert!(
            request.session.is_some() || old.as_ref().is_none_or(|old| old.client.session < answer.session)
        );
        assert_eq!(answer.cursor, facts.head);

        let device = self.devices.get_mut(&who).expect("all devices are there");
        let (_, reader) = self
            .sessions
            .find(request.user, request.device)
            .expect("just opened");
        let own_start = reader.acked();
        let mut client = Client::opened(request, &answer, self.config.window_bytes_max);
        match (&answer.resync, request.cursor) {
            (Some((_, oldest)), _) => assert_eq!(*oldest, facts.oldest.min(facts.head)),
            (None, Some(cursor)) => assert!(
                cursor.generation == GENERATION
                    && cursor <= facts.head
                    && cursor >= facts.oldest.min(facts.head)
            ),
            (None, None) => {
                // Not before what is stored, and nothing is skipped that the device did not ack or send itself.
                assert!(device.row.is_none_or(|row| row.acked <= own_start));
                let skipped = self.inboxes[&request.user].iter().find(|entry| {
                    entry.position > device.claimed && entry.position <= own_start && !is_own(who, entry)
                });
                assert_eq!(skipped, None);
                (client.has, client.acked) = (own_start, own_start);
            }
        }
        device.claimed = device.claimed.max(client.acked);
        if let Some(old) = old.filter(|_| request.forwarded.is_some() && answer.resync.is_none()) {
            client.in_flight = old.client.in_flight;
        }
        let connected = Connected {
            client,
            link,
            is_open: true,
        };
        self.clients.insert(who, connected);
        if let Some(cursor) = synced {
            self.synced(link, request.connection, cursor);
        }
        // A first hello is logged.
        let session = answer.session;
        let row = DeviceRow {
            user: request.user,
            device: request.device,
            acked: Position::start(GENERATION),
            session,
            last_seen: UnixMs(0),
        };
        self.devices
            .get_mut(&who)
            .expect("all devices are there")
            .row
            .get_or_insert(row);
    }

    fn close(&mut self, who: Who) {
        if let Some(Connected {
            client,
            link,
            is_open,
        }) = self.clients.remove(&who)
        {
            let session = SessionRef {
                connection: client.open.connection,
                user: user(who.0),
                device: device(who.1),
            };
            assert_eq!(self.sessions.close(link, &session), is_open);
        }
    }

    fn ack(&mut self, who: Who, quarters: usize) -> bool {
        let Some(Connected { client, link, .. }) = self.clients.get_mut(&who).filter(|of| of.is_open) else {
            return false;
        };
        let beyond = Position {
            offset: Offset(client.has.offset.0 + 1_000_000),
            ..client.has
        };
        let position = match client.in_flight.len() * quarters / 4 {
            _ if quarters == 5 => beyond,
            0 => return false,
            count => client.in_flight[count - 1].0,
        };
        let record = AckRecord {
            user: user(who.0),
            device: device(who.1),
            session: client.session,
            position,
        };
        let verdict = self.sessions.handle_ack(*link, &record);
        if quarters == 5 {
            assert_eq!(verdict, AckVerdict::Ignored);
            return false;
        }
        assert_eq!(verdict, AckVerdict::Taken);
        client.ack(position);
        let device = self.devices.get_mut(&who).expect("all devices are there");
        device.claimed = device.claimed.max(position);
        true
    }

    fn answer_page(&mut self, at_most: usize) {
        let Some(request) = self.pages.pop_front() else {
            return;
        };
        let inbox = &self.inboxes[&request.user];
        let limit = request.limit.min(at_most);
        let page: Vec<_> = inbox
            .iter()
            .filter(|entry| entry.position > request.after)
            .take(limit)
            .copied()
            .collect();
        let is_cut = page.len() == limit;
        let head = inbox.last().map_or(request.after, |entry| entry.position);
        let through = if is_cut {
            page.last().map_or(head, |entry| entry.position)
        } else {
            head
        };
        let Some(paged) = self.sessions.handle_page(&request, &page, through) else {
            return;
        };
        for step in paged.steps {
            match step {
                PageStep::Deliver { entry } => self.deliver(paged.link, paged.connection, &page[entry]),
                PageStep::Synced { cursor } => self.synced(paged.link, paged.connection, cursor),
            }
        }
    }

    fn log_acks(&mut self, is_appended: bool) {
        let mut polled = Vec::new();
        while let Some(ack) = self.sessions.poll_ack() {
            let device = self
                .devices
                .get_mut(&(ack.user.get(), ack.device.get()))
                .expect("all devices are there");
            // The position may run over own sends after what the device acked.
            let who = (ack.user.get(), ack.device.get());
            let own_up_to = self.inboxes[&ack.user]
                .iter()
                .filter(|entry| entry.position > device.claimed)
                .take_while(|entry| is_own(who, entry))
                .last()
                .map_or(device.claimed, |entry| entry.position);
            assert!(ack.position <= own_up_to, "{ack:?} is more than {own_up_to:?}");
            polled.push(ack);
        }
        for ack in polled {
            if !is_appended {
                self.sessions.restore_ack(ack);
                continue;
            }
            let device = self
                .devices
                .get_mut(&(ack.user.get(), ack.device.get()))
                .expect("all devices are there");
            let row = device.row.as_mut().expect("a device is logged first");
            row.acked = row.acked.max(ack.position);
            row.session = row.session.max(ack.session);
            for delivered in ack.delivered {
                let seq = device.delivered.entry(delivered.conversation).or_default();
                assert!(*seq < delivered.seq, "told again: {delivered:?}");
                *seq = delivered.seq;
            }
        }
    }

    fn prune(&mut self) {
        let acked = self
            .devices
            .values()
            .filter_map(|device| device.row)
            .map(|row| row.acked)
            .min();
        let has = self
            .clients
            .values()
            .map(|of| of.client.has.min(of.client.acked))
            .min();
        let announced = self.unannounced.front().map(|(_, entry)| entry.position);
        let Some(keep) = [acked, has, announced].into_iter().flatten().min() else {
            return;
        };
        self.oldest = self.oldest.max(Position { index: 0, ..keep });
        for inbox in self.inboxes.values_mut() {
            // The newest row of a user stays, as in the store.
            let newest = inbox.last().copied();
            inbox.retain(|entry| entry.position > self.oldest || Some(*entry) == newest);
        }
    }

    fn deliver(&mut self, link: LinkId, connection: ConnectionHandle, entry: &Entry) {
        assert!(!self.full.contains(&link), "a full link takes nothing");
        let (who, client) = connected(&mut self.clients, link, connection);
        let next = self.inboxes[&user(who.0)]
            .iter()
            .find(|next| next.position > client.has && !is_own(who, next));
        assert_eq!(next, Some(entry), "{who:?} is at {:?}", client.has);
        client.deliver(entry);
    }

    fn synced(&mut self, link: LinkId, connection: ConnectionHandle, cursor: Position) {
        let (who, client) = connected(&mut self.clients, link, connection);
        let head = client.synced(cursor);
        let missed = self.inboxes[&user(who.0)]
            .iter()
            .find(|entry| entry.position > client.has && entry.position <= head && !is_own(who, entry));
        assert_eq!(missed, None, "before the end of the backlog");
    }

    /// Everything of others that the device's stored ack covers was reported, and nothing that it never claimed.
    fn check_senders_know(&self, who: Who, client: &Client) {
        let device = &self.devices[&who];
        let acked = device.row.map_or(self.oldest, |row| row.acked);
        assert!(acked.max(self.oldest) >= client.acked);
        for entry in self.inboxes[&user(who.0)]
            .iter()
            .filter(|entry| entry.sender != user(who.0))
        {
            if entry.position > self.oldest && entry.position <= acked {
                let told = device.delivered.get(&entry.conversation);
                assert!(
                    told >= Some(&entry.seq),
                    "{who:?} acked {entry:?}, its sender knows {told:?}"
                );
            }
        }
        for (conversation, seq) in &device.delivered {
            let highest = self.inboxes[&user(who.0)]
                .iter()
                .filter(|entry| entry.conversation == *conversation && entry.position <= device.claimed)
                .map(|entry| entry.seq)
                .max();
            assert!(
                highest.is_none_or(|highest| *seq <= highest),
                "{who:?} never acked {seq:?}"
            );
        }
    }
}

fn is_own(who: Who, entry: &Entry) -> bool {
    entry.sender == user(who.0) && entry.sender_device == device(who.1)
}

/// Returns whose connection it is.
fn connected(
    clients: &mut BTreeMap<Who, Connected>,
    link: LinkId,
    connection: ConnectionHandle,
) -> (Who, &mut Client) {
    let mut open = clients.iter_mut().filter(|(_, of)| of.is_open && of.link == link);
    let found = open.find(|(_, of)| of.client.open.connection == connection);
    let (who, of) = found.expect("only to a connection that stands");
    (*who, &mut of.client)
}
