//! What each connection was sent: in order, without gaps, within its window, once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, Position, Seq, SessionNumber, UnixMs, UserId};
use wire_base::limits::WINDOW_BYTES_MAX;
use wire_base::message::Message;
use wire_base::status::StatusOf;
use wire_link::{AckRecord, SessionOpen, SessionOpened, StatusRecord};

use super::ledger::Ledger;
use super::receipts::Listener;
use super::{Findings, Invariant, Reach};
use crate::text;
use crate::transcript::{Connection, Link};

/// A device of a user.
pub(super) type Reader = (UserId, DeviceId);

#[derive(Debug)]
pub(super) struct Connections {
    devices_max: usize,
    all: BTreeMap<Connection, Life>,
    devices: BTreeMap<Reader, Device>,
    /// Counts opens as they are said and as they are answered.
    clock: u64,
    pub(super) most_bytes_in_flight: usize,
}

/// What a device has.
#[derive(Debug, Default)]
struct Device {
    received: BTreeSet<(ConversationId, Seq)>,
    /// The newest position that it acked or gave as its cursor.
    claimed: Option<Position>,
    /// It gave a cursor beyond what it had received: everything up to here it has by its own word.
    excused: Option<Position>,
    session: SessionNumber,
    /// It was connected when everybody had had the time to catch up.
    is_caught_up: bool,
}

/// A connection, from its first open on.
#[derive(Debug)]
struct Life {
    reader: Reader,
    window: usize,
    link: Link,
    stage: Stage,
    is_vanished: bool,
    /// When its latest open was said, and when it was answered.
    said_at: u64,
    opened_at: u64,
    said_unix: UnixMs,
    /// The newest entry of the inbox that anybody had seen then.
    known: Option<Position>,
    /// The newest session of the device that anybody knew then.
    session_before: SessionNumber,
    cursor: Option<Position>,
    is_announced: bool,
    session: Option<SessionNumber>,
    start: Start,
    /// The end of the backlog, as told at the open.
    head: Option<Position>,
    synced: Vec<Synced>,
    is_synced: bool,
    last: Option<Position>,
    delivered: BTreeSet<Position>,
    /// The same, from wherever it began to read.
    sent: BTreeSet<Position>,
    newest: BTreeMap<ConversationId, Seq>,
    /// In each conversation, what lies between two messages that it was sent one after the other.
    skipped: Vec<(ConversationId, Seq, Seq)>,
    in_flight: VecDeque<InFlight>,
    /// Acks may overtake what is sent again after a `resync`.
    acked: Option<Position>,
    /// What the device had acked when the connection was announced again need not be sent to it.
    had: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Said, not answered.
    Opening,
    /// Stands.
    Open,
    /// Its link is gone; it may be announced again.
    Lost,
    /// A newer connection of the device took over.
    Replaced,
    /// The router was told that it is gone, or refused it.
    Closed,
}

/// A message that was sent and not acked.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    position: Position,
    bytes: usize,
    timestamp: UnixMs,
}

/// Where a connection starts to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Right after a position that both sides know.
    After(Position),
    /// After what the router holds as acked: no later than the position.
    NotAfter(Position),
}

/// The end of a backlog, as it came.
#[derive(Clone, Copy, Debug)]
struct Synced {
    head: Position,
    /// The newest message before it, or that the device had said to have.
    last: Option<Position>,
}

impl Connections {
    pub(super) fn new(devices_max: usize) -> Self {
        Self {
            devices_max,
            all: BTreeMap::new(),
            devices: BTreeMap::new(),
            clock: 0,
            most_bytes_in_flight: 0,
        }
    }

    /// Returns how many sessions stand.
    pub(super) fn open(&self) -> usize {
        self.all.values().filter(|life| life.stage == Stage::Open).count()
    }

    pub(super) fn handle_link_down(&mut self, link: Link) {
        for life in self.all.values_mut().filter(|life| life.link == link) {
            if matches!(life.stage, Stage::Opening | Stage::Open) {
                life.stage = Stage::Lost;
            }
        }
    }

    pub(super) fn handle_vanished(&mut self, connection: Connection) {
        if let Some(life) = self.all.get_mut(&connection) {
            life.is_vanished = true;
        }
    }

    pub(super) fn handle_open(
        &mut self,
        link: Link,
        connection: Connection,
        open: &SessionOpen,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        self.clock += 1;
        let reader = (open.user, open.device);
        let owed = owed(reader, ledger, findings);
        let device = self.devices.entry(reader).or_default();
        // What is of another store, or beyond everything, is no claim.
        let known = ledger.newest(open.user);
        if let Some(cursor) = open.cursor.filter(|cursor| Some(*cursor) <= known) {
            device.claimed = device.claimed.max(Some(cursor));
            let has_all = owed
                .iter()
                .take_while(|(position, ..)| *position <= cursor)
                .all(|(_, conversation, seq)| device.received.contains(&(*conversation, *seq)));
            if !has_all {
                device.excused = device.excused.max(Some(cursor));
            }
        }
        let life = self
            .all
            .entry(connection)
            .or_insert_with(|| Life::new(link, reader));
        assert!(
            open.session.is_none() || life.session == open.session,
            "the simulation announces what it was given"
        );
        life.link = link;
        life.stage = Stage::Opening;
        life.said_at = self.clock;
        life.said_unix = findings.unix;
        life.known = known;
        life.session_before = device.session;
        life.cursor = open.cursor;
        life.is_announced = open.session.is_some();
        life.window = usize::from(open.window);
        life.is_synced = false;
        // Also what another connection of the device said to have.
        let claimed = device.claimed.max(open.cursor);
        while life
            .in_flight
            .pop_front_if(|it| Some(it.position) <= claimed)
            .is_some()
        {}
    }

    pub(super) fn handle_opened(
        &mut self,
        link: Link,
        connection: Connection,
        opened: &SessionOpened,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) {
        self.clock += 1;
        let clock = self.clock;
        let Some(life) = expect(
            &mut self.all,
            link,
            connection,
            &[Stage::Opening],
            "SessionOpened",
            findings,
        ) else {
            return;
        };
        if life.stage == Stage::Closed {
            return;
        }
        ledger.see_head(life.reader.0, opened.cursor);
        life.opened_at = clock;
        let (reader, cursor, known) = (life.reader, life.cursor, life.known);
        let generation = opened.cursor.generation;
        let is_shown_all = known <= Some(opened.cursor) || findings.may_be_behind();
        findings.check(is_shown_all, Invariant::Durable, || {
            format!(
                "{reader:?} was shown {known:?} and is told a head of {}",
                opened.cursor
            )
        });
        life.check_session(opened, findings);
        let is_foreign =
            cursor.is_some_and(|cursor| cursor.generation != generation || cursor > opened.cursor);
        findings.check(!is_foreign || opened.resync.is_some(), Invariant::Ordered, || {
            format!("the cursor {cursor:?} of {reader:?} is of no use, and was taken: {opened:?}")
        });
        let from = cursor.unwrap_or(Position::start(generation));
        let may_resync = is_foreign || ledger.may_be_gone_after(reader.0, from, findings);
        findings.check(opened.resync.is_none() || may_resync, Invariant::Durable, || {
            format!("the cursor {cursor:?} of {reader:?} is good, and was not taken: {opened:?}")
        });
        let resumes = cursor.is_some() && opened.resync.is_none();
        findings.check(opened.resumed == resumes, Invariant::Explicit, || {
            format!("{opened:?} does not fit the cursor {cursor:?}")
        });

        life.stage = Stage::Open;
        life.session = Some(opened.session);
        life.head = Some(opened.cursor);
        let device = self.devices.entry(reader).or_default();
        device.session = device.session.max(opened.session);
        if let Some((_, oldest)) = &opened.resync {
            life.restart(Start::After(*oldest));
        } else if life.is_announced {
            life.had = life.had.max(device.claimed);
            // A lone router that starts again with its clock set back may number a fresh hello lower than a session that is announced
            // to it, which then stands, from where that hello said to be. Nodes of a cluster log each number; a lone one ends with its gateways.
            while life
                .in_flight
                .pop_front_if(|it| Some(it.position) <= device.claimed)
                .is_some()
            {}
        } else {
            let claimed = device.claimed.unwrap_or(Position::start(generation));
            life.restart(cursor.map_or(Start::NotAfter(claimed), Start::After));
        }
    }

    pub(super) fn handle_refused(
        &mut self,
        link: Link,
        connection: Connection,
        code: Code,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let devices_max = self.devices_max;
        let Some(life) = expect(
            &mut self.all,
            link,
            connection,
            &[Stage::Opening, Stage::Open],
            "SessionRefused",
            findings,
        ) else {
            return;
        };
        // One that was closed meanwhile may have been either.
        let stage = std::mem::replace(&mut life.stage, Stage::Closed);
        let (may_have_been_open, may_have_asked) = (stage != Stage::Opening, stage != Stage::Open);
        let (user, device) = life.reader;
        let others = self
            .devices
            .range((user, DeviceId::API)..)
            .take_while(|((of, _), _)| *of == user);
        let has_cause = match code {
            // Which of the devices came first is not seen here; that there are too many is.
            Code::TooManyDevices => may_have_asked && others.count() > devices_max,
            // Its slot goes to another owner.
            Code::Unavailable if findings.may_be_behind() => true,
            // What it had not read is deleted; from where it reads again to count its acks is not seen.
            Code::Unavailable => {
                let is_gone = ledger.may_be_gone_after(user, Position::default(), findings);
                let is_troubled = findings.trouble_until_ms.max(findings.doubt_until_ms).is_some();
                may_have_been_open && is_gone || may_have_asked && is_troubled
            }
            _ => false,
        };
        findings.check(has_cause, Invariant::Answered, || {
            format!("{user:?} {device:?} has no cause to be refused with {code:?}")
        });
    }

    pub(super) fn handle_replaced(&mut self, link: Link, connection: Connection, findings: &mut Findings) {
        let Some(life) = expect(
            &mut self.all,
            link,
            connection,
            &[Stage::Open, Stage::Opening],
            "SessionReplaced",
            findings,
        ) else {
            return;
        };
        life.stage = Stage::Replaced;
        let (reader, said_at, is_announced) = (life.reader, life.said_at, life.is_announced);
        let mut others = self
            .all
            .iter()
            .filter(|(of, other)| **of != connection && other.reader == reader);
        // The router decides in the order in which links bring it the opens, so one that was said before and has no answer
        // will do. A session that is announced again gives way to any newer one.
        let has_cause = others.any(|(_, other)| {
            is_announced
                || other.said_at > said_at
                || other.opened_at > said_at
                || other.opened_at < other.said_at
        });
        // Of two owners at once each may have given it a number, and then the higher one holds.
        let has_cause = has_cause || findings.may_be_behind();
        findings.check(has_cause, Invariant::Answered, || {
            format!("{connection:?} of {reader:?} was replaced by nothing")
        });
    }

    pub(super) fn handle_close(&mut self, connection: Connection) {
        if let Some(life) = self
            .all
            .get_mut(&connection)
            .filter(|life| life.stage != Stage::Replaced)
        {
            life.stage = Stage::Closed;
        }
    }

    /// Takes an ack; returns whether it is one that counts.
    pub(super) fn handle_ack(&mut self, link: Link, ack: &AckRecord) -> bool {
        let reader = (ack.user, ack.device);
        let Some(life) = self.all.values_mut().find(|life| {
            let stands = matches!(life.stage, Stage::Open | Stage::Opening);
            stands && life.link == link && life.reader == reader && life.session == Some(ack.session)
        }) else {
            return false;
        };
        if life.last.is_none_or(|last| last < ack.position) {
            return false;
        }
        life.acked = life.acked.max(Some(ack.position));
        while life
            .in_flight
            .pop_front_if(|it| it.position <= ack.position)
            .is_some()
        {}
        let device = self.devices.entry(reader).or_default();
        device.claimed = device.claimed.max(Some(ack.position));
        true
    }

    pub(super) fn handle_delivered(
        &mut self,
        link: Link,
        connection: Connection,
        position: Position,
        message: &Message,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) {
        let Some(life) = expect(
            &mut self.all,
            link,
            connection,
            &[Stage::Open],
            "a message",
            findings,
        ) else {
            return;
        };
        let (user, device) = life.reader;
        findings.check(
            ledger.is_member(message.conversation, user),
            Invariant::MembersOnly,
            || format!("{user:?} is no member and was sent {message:?}"),
        );
        findings.check(
            (message.sender, message.sender_device) != (user, device),
            Invariant::MembersOnly,
            || format!("{connection:?} was sent its own {message:?}"),
        );
        ledger.see_entry(user, position, message, findings);
        if life.stage == Stage::Closed {
            return;
        }
        let bytes = life.deliver(position, message, findings);
        self.most_bytes_in_flight = self.most_bytes_in_flight.max(bytes);
        // The clients of a cluster are not seen: whoever is there has what it was sent.
        if findings.reach == Reach::Cluster && !life.is_vanished {
            self.receive((user, device), message, findings);
        }
    }

    /// Notes that a device has a message. What is read again at the end shows what there is, and counts for nothing.
    fn receive(&mut self, reader: Reader, message: &Message, findings: &Findings) {
        if !findings.is_settled {
            let received = &mut self.devices.entry(reader).or_default().received;
            received.insert((message.conversation, message.seq));
        }
    }

    /// Notes that a client was shown a message. Returns whether the router had sent it to this connection.
    pub(super) fn handle_shown(
        &mut self,
        connection: Connection,
        position: Position,
        message: &Message,
        findings: &Findings,
    ) -> bool {
        let Some(life) = self.all.get(&connection) else {
            return false;
        };
        let (reader, was_sent) = (life.reader, life.sent.contains(&position));
        self.receive(reader, message, findings);
        was_sent
    }

    pub(super) fn handle_synced(
        &mut self,
        link: Link,
        connection: Connection,
        cursor: Position,
        findings: &mut Findings,
    ) {
        let Some(life) = expect(
            &mut self.all,
            link,
            connection,
            &[Stage::Open],
            "Synced",
            findings,
        ) else {
            return;
        };
        if life.stage == Stage::Closed {
            return;
        }
        findings.check(!life.is_synced, Invariant::Ordered, || {
            format!("{connection:?} was synced twice")
        });
        life.is_synced = true;
        let Some(head) = life.head else { return };
        findings.check(cursor >= head, Invariant::Ordered, || {
            format!("{connection:?} was synced at {cursor}, before its head {head}")
        });
        let last = life.last.max(life.had);
        life.synced.push(Synced { head, last });
    }

    /// Returns whom a status update on a connection is for, and whether it is heard there. One that waited for room may come
    /// after the connection was replaced or closed; its handle says so.
    pub(super) fn listener(
        &mut self,
        link: Link,
        connection: Connection,
        findings: &mut Findings,
    ) -> Option<(Reader, bool)> {
        let life = expect(
            &mut self.all,
            link,
            connection,
            &[Stage::Open, Stage::Replaced],
            "a status update",
            findings,
        )?;
        Some((life.reader, life.stage == Stage::Open && !life.is_vanished))
    }

    /// Returns the connections that hear of a status: those of the other member that stand.
    pub(super) fn peers(&self, status: &StatusRecord, ledger: &Ledger) -> Vec<Listener> {
        let StatusOf::Seq(conversation, _) = status.command.of else {
            return Vec::new();
        };
        let peer = ledger
            .peer(conversation, status.user)
            .filter(|peer| *peer != status.user);
        let all = self.all.iter().map(|(connection, life)| Listener {
            connection: *connection,
            link: life.link,
            reader: life.reader,
        });
        all.filter(|it| Some(it.reader.0) == peer && self.stands(it))
            .collect()
    }

    /// Returns whether a connection is still open over the same link, and its client there.
    pub(super) fn stands(&self, listener: &Listener) -> bool {
        self.all
            .get(&listener.connection)
            .is_some_and(|life| life.stage == Stage::Open && life.link == listener.link && !life.is_vanished)
    }

    pub(super) fn check_settled(&mut self, findings: &mut Findings) {
        for (connection, life) in &self.all {
            if life.stage == Stage::Open && !life.is_vanished {
                self.devices.entry(life.reader).or_default().is_caught_up = true;
            }
            // Where slots move, a gateway may forget a connection while nobody that it knows of owns the user.
            let is_forgotten = findings.reach == Reach::Cluster && life.is_vanished;
            let is_done =
                is_forgotten || life.stage != Stage::Opening && (life.is_synced || life.stage != Stage::Open);
            findings.check(is_done, Invariant::Converges, || {
                format!(
                    "{connection:?} of {:?} is {:?} and not synced",
                    life.reader, life.stage
                )
            });
        }
    }

    pub(super) fn conclude(&self, ledger: &Ledger, findings: &mut Findings) {
        for (connection, life) in &self.all {
            life.conclude(*connection, ledger, findings);
        }
        for (reader, device) in self.devices.iter().filter(|(_, device)| device.is_caught_up) {
            device.conclude(*reader, ledger, findings);
        }
    }
}

/// Returns the connection that a record is for; `None`, and a violation, when there is none in one of the stages. One that
/// was closed meanwhile is returned all the same: the router had not heard of it.
fn expect<'a>(
    all: &'a mut BTreeMap<Connection, Life>,
    link: Link,
    connection: Connection,
    stages: &[Stage],
    what: &'static str,
    findings: &mut Findings,
) -> Option<&'a mut Life> {
    let Some(life) = all.get_mut(&connection) else {
        findings.violate(
            Invariant::MembersOnly,
            format!("{what} is for {connection:?}, which never was"),
        );
        return None;
    };
    let is_right = life.link == link && (stages.contains(&life.stage) || life.stage == Stage::Closed);
    findings.check(is_right, Invariant::Answered, || {
        format!(
            "{what} came to {connection:?} over {link:?}, which is {:?} on {:?}",
            life.stage, life.link
        )
    });
    is_right.then_some(life)
}

impl Life {
    fn new(link: Link, reader: Reader) -> Self {
        Self {
            reader,
            window: 0,
            link,
            stage: Stage::Opening,
            is_vanished: false,
            said_at: 0,
            opened_at: 0,
            said_unix: UnixMs(0),
            known: None,
            session_before: SessionNumber(0),
            cursor: None,
            is_announced: false,
            session: None,
            start: Start::NotAfter(Position::default()),
            head: None,
            synced: Vec::new(),
            is_synced: false,
            last: None,
            delivered: BTreeSet::new(),
            sent: BTreeSet::new(),
            newest: BTreeMap::new(),
            skipped: Vec::new(),
            in_flight: VecDeque::new(),
            acked: None,
            had: None,
        }
    }

    fn check_session(&self, opened: &SessionOpened, findings: &mut Findings) {
        let (reader, before, number) = (self.reader, self.session_before, opened.session);
        if self.is_announced {
            findings.check(Some(number) == self.session, Invariant::Answered, || {
                format!("{reader:?} announced {:?} and got {number:?}", self.session)
            });
        } else {
            // The router may have only its clock to number by, and that was perhaps set back, even since it was asked, or is
            // that of the newest record until it is believed.
            let is_known = findings.doubt_until_ms < Some(findings.mono_ms);
            let slack_ms = match findings.reach {
                Reach::OneRouter => 0,
                Reach::Cluster => findings.clock_slack_ms,
            };
            let said_ms = self.said_unix.0.min(findings.unix.0).saturating_sub(slack_ms);
            let is_later = is_known && before.0 >> 16 < said_ms;
            findings.check(number > before || !is_later, Invariant::Answered, || {
                format!("{reader:?} had {before:?} and its new session is {number:?}")
            });
        }
    }

    /// The connection begins to read somewhere else.
    fn restart(&mut self, start: Start) {
        self.start = start;
        self.last = match start {
            Start::After(position) => Some(position),
            Start::NotAfter(_) => None,
        };
        self.delivered.clear();
        self.newest.clear();
        self.synced.clear();
        self.in_flight.clear();
    }

    /// Takes a message; returns the bytes that are in flight then.
    fn deliver(&mut self, position: Position, message: &Message, findings: &mut Findings) -> usize {
        let (reader, last) = (self.reader, self.last);
        findings.check(
            last.is_none_or(|last| last < position),
            Invariant::Ordered,
            || format!("{reader:?} was sent {position} after {last:?}"),
        );
        if let Some(head) = self.head {
            findings.check(self.is_synced == (position > head), Invariant::Ordered, || {
                let when = if self.is_synced { "after" } else { "before" };
                format!("{reader:?} was sent {position} {when} it was synced to {head}")
            });
        }
        self.last = self.last.max(Some(position));
        self.delivered.insert(position);
        self.sent.insert(position);
        let newest = self.newest.insert(message.conversation, message.seq);
        findings.check(
            newest.is_none_or(|newest| newest < message.seq),
            Invariant::Ordered,
            || format!("{reader:?} was sent {message:?} after {newest:?}"),
        );
        if let Some(newest) = newest.filter(|newest| newest.next() < message.seq) {
            self.skipped.push((message.conversation, newest, message.seq));
        }
        if Some(position) <= self.acked {
            return 0;
        }
        let bytes = text::wire_bytes(message);
        self.in_flight.push_back(InFlight {
            position,
            bytes,
            timestamp: message.timestamp,
        });
        // What is no longer kept cannot be counted by a router that was started since.
        let kept = self
            .in_flight
            .iter()
            .filter(|it| !findings.is_expired(it.timestamp));
        let (count, bytes) = kept.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.bytes));
        findings.check(count <= self.window.max(1), Invariant::Bounded, || {
            format!(
                "{count} messages are in flight to {reader:?}, its window is {}",
                self.window
            )
        });
        findings.check(
            bytes <= WINDOW_BYTES_MAX || count <= 1,
            Invariant::Bounded,
            || format!("{bytes} bytes are in flight to {reader:?}"),
        );
        bytes
    }

    /// Everything that the inbox has from the start of the connection to where it came was sent to it, but its own.
    fn conclude(&self, connection: Connection, ledger: &Ledger, findings: &mut Findings) {
        let reader = self.reader;
        let (surely_from, from) = match self.start {
            Start::After(position) => (position, position),
            Start::NotAfter(position) => (
                position,
                self.delivered
                    .first()
                    .map_or(position, |first| position.min(*first)),
            ),
        };
        let entries = owed(reader, ledger, findings);
        if let Some(last) = self.last {
            for (entry, ..) in entries
                .iter()
                .filter(|(entry, ..)| *entry > from && *entry <= last && Some(*entry) > self.had)
            {
                findings.check(self.delivered.contains(entry), Invariant::Ordered, || {
                    format!(
                        "{connection:?} of {reader:?} went from {from} to {last} and was never sent {entry}"
                    )
                });
            }
        }
        for synced in &self.synced {
            let passed = synced.last.max(Some(surely_from));
            let late = entries
                .iter()
                .find(|(entry, ..)| Some(*entry) > passed && *entry <= synced.head);
            findings.check(late.is_none(), Invariant::Ordered, || {
                format!(
                    "{connection:?} of {reader:?} was synced to {} before it was sent {late:?}",
                    synced.head
                )
            });
        }
        for (conversation, before, after) in &self.skipped {
            for seq in before.0 + 1..after.0 {
                let own = ledger.message(*conversation, Seq(seq));
                let is_own = own.is_none_or(|own| {
                    (own.sender, own.sender_device) == reader || findings.is_expired(own.timestamp)
                });
                let position = ledger.position(reader.0, *conversation, Seq(seq));
                let had = position.is_some_and(|position| Some(position) <= self.had);
                findings.check(is_own || had, Invariant::Ordered, || {
                    format!("{connection:?} of {reader:?} was never sent seq {seq} of {conversation}, but later ones")
                });
            }
        }
    }
}

impl Device {
    /// Everything in the inbox of the user is on the device, but what it sent itself and what it said to have.
    fn conclude(&self, reader: Reader, ledger: &Ledger, findings: &mut Findings) {
        for conversation in ledger.conversations(reader.0) {
            for message in ledger.messages_of(conversation) {
                if !is_owed(reader, message, findings) {
                    continue;
                }
                let position = ledger.position(reader.0, conversation, message.seq);
                let is_excused = position.is_some_and(|position| Some(position) <= self.excused);
                let has = self.received.contains(&(conversation, message.seq));
                findings.check(has || is_excused, Invariant::Durable, || {
                    format!("{reader:?} never received {message:?}")
                });
            }
        }
    }
}

/// Returns whether a message has to be sent to a device of one of its members.
fn is_owed(reader: Reader, message: &Message, findings: &Findings) -> bool {
    (message.sender, message.sender_device) != reader && !findings.is_expired(message.timestamp)
}

/// Returns the entries of a device's inbox that have to be sent to it, as far as they were seen.
pub(super) fn owed(
    reader: Reader,
    ledger: &Ledger,
    findings: &Findings,
) -> Vec<(Position, ConversationId, Seq)> {
    let is_owed = |conversation, seq| {
        ledger
            .message(conversation, seq)
            .is_some_and(|message| is_owed(reader, message, findings))
    };
    ledger
        .inbox(reader.0)
        .filter(|(_, conversation, seq)| is_owed(*conversation, *seq))
        .collect()
}
