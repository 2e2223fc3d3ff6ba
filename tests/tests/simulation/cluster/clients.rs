//! What people do: they write, read, ack, come and go, and repeat what has no answer.

use wire_base::body::EncodedBody;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UserId};
use wire_base::message::{Draft, Target};
use wire_base::status::{Status, StatusCommand, StatusOf};
use wire_link::{
    AckRecord, ConversationsRecord, HistoryRecord, RejectedRecord, RequestId, SendRecord, SentRecord,
    StatusRecord, ToRouter,
};

use super::gateway::Session;
use super::world::World;
use crate::text;
use crate::transcript::{Connection, Link, Seen};
use crate::world::{Device, Hello};
use router_core::topology::PartitionId;

/// A message that somebody wrote.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    sender: UserId,
    device: DeviceId,
    receiver: UserId,
    /// `None`: the node makes one, and it is not sent again.
    id: Option<MessageId>,
    body: EncodedBody,
    pub(crate) is_answered: bool,
    /// It is sent again then; `None` while nobody will.
    retries_at_ms: Option<u64>,
}

/// A send that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    letter: usize,
    link: Link,
}

impl World {
    /// Lets everybody do something.
    pub(crate) fn act(&mut self) {
        let rates = self.plan.rates;
        if self.rng.permille(rates.send) {
            for _ in 0..self.rng.within(1..4) {
                self.write_letter();
            }
        }
        if self.rng.permille(rates.resend) && !self.letters.is_empty() {
            let oldest = self.letters.len().saturating_sub(self.rng.pick(&[4, 4, 10_000]));
            let letter = oldest + self.rng.below(self.letters.len() - oldest);
            if self.letters[letter].id.is_some() {
                self.post(letter);
            }
        }
        if self.rng.permille(rates.contradict) && !self.letters.is_empty() {
            let mut letter = self.letters[self.rng.below(self.letters.len())].clone();
            letter.body = self.some_body();
            letter.is_answered = false;
            self.letters.push(letter);
            self.post(self.letters.len() - 1);
        }
        if self.rng.permille(rates.connect) {
            self.connect_some();
        }
        if self.rng.permille(rates.disconnect) {
            let device = self.rng.below(self.devices.len());
            self.disconnect(device);
        }
        if self.rng.permille(rates.vanish) {
            let device = self.rng.below(self.devices.len());
            self.vanish(device);
        }
        if self.rng.permille(rates.status) {
            self.say_some_status();
        }
        if self.rng.permille(rates.read) {
            self.read_something();
        }
        self.ack_some();
        self.send_again();
    }

    // ---- letters

    fn write_letter(&mut self) {
        let from = self.rng.below(self.devices.len());
        let to = self.rng.below(self.devices.len());
        let letter = self.write_to(from, self.devices[to].user);
        self.post(letter);
    }

    /// Lets a device write something, and returns its letter, which is not sent yet.
    pub(crate) fn write_to(&mut self, from: usize, receiver: UserId) -> usize {
        let letter = Letter {
            sender: self.devices[from].user,
            device: self.devices[from].device,
            receiver,
            id: self.some_id(),
            body: self.some_body(),
            is_answered: false,
            retries_at_ms: None,
        };
        self.letters.push(letter);
        self.letters.len() - 1
    }

    fn some_body(&mut self) -> EncodedBody {
        text::write(self.letters.len() as u64, self.plan.long_percent, &mut self.rng)
    }

    fn some_id(&mut self) -> Option<MessageId> {
        let bytes = self.rng.wide().to_le_bytes();
        let id = match self.rng.within(0..100) {
            0..3 => return None,
            3..20 => uuid::Builder::from_random_bytes(bytes),
            _ => {
                let ms = self.now.unix.0 + 20_000 - self.rng.within(0..40_000);
                let random = bytes[..10].try_into().expect("ten of sixteen");
                uuid::Builder::from_unix_timestamp_millis(ms, &random)
            }
        };
        MessageId::new(id.into_uuid())
    }

    /// Sends a letter over a gateway, to who owns its conversation as that knows.
    pub(crate) fn post(&mut self, letter: usize) {
        let gateway = self.rng.below(self.gateways.len());
        let request = self.request();
        let of = &mut self.letters[letter];
        of.retries_at_ms = (of.id.is_some() && !of.is_answered).then_some(self.now.mono_ms + ANSWER_MS_MAX);
        let draft = Draft {
            sender: of.sender,
            sender_device: of.device,
            target: Target::Direct(of.receiver),
            body: of.body.clone(),
        };
        let id = self.plan.topology().of_draft(&draft);
        let send = SendRecord {
            request,
            message_id: of.id,
            draft,
        };
        match self.say_to_owner(gateway, id, ToRouter::Send(send)) {
            Some(link) => {
                self.waiting.insert(request, Waiting { letter, link });
            }
            None => self.retry_later(letter),
        }
    }

    fn retry_later(&mut self, letter: usize) {
        let after_ms = self.rng.within(50..1_500);
        let of = &mut self.letters[letter];
        of.retries_at_ms = (of.id.is_some() && !of.is_answered).then_some(self.now.mono_ms + after_ms);
    }

    /// Sends again what was refused, lost, or not answered for too long.
    pub(crate) fn send_again(&mut self) {
        for letter in 0..self.letters.len() {
            let due = self.letters[letter].retries_at_ms;
            if due.is_some_and(|due_ms| due_ms <= self.now.mono_ms) {
                self.coverage.note("sent again");
                self.post(letter);
            }
        }
    }

    /// Says something to who owns a slot, as a gateway knows; returns over which link.
    fn say_to_owner(&mut self, gateway: usize, id: PartitionId, record: ToRouter) -> Option<Link> {
        let at = self.gateways[gateway].view.owner(id)?;
        let link = self.links.get(&(gateway, at))?.link;
        self.say(gateway, at, record).then_some(link)
    }

    pub(crate) fn hear_sent(&mut self, sent: &SentRecord) {
        self.coverage.note("sent");
        self.coverage.add("duplicate", u64::from(sent.duplicate));
        if let Some(waiting) = self.waiting.remove(&sent.request) {
            let letter = &mut self.letters[waiting.letter];
            (letter.is_answered, letter.retries_at_ms) = (true, None);
        }
    }

    pub(crate) fn hear_rejected(&mut self, rejected: &RejectedRecord) {
        self.coverage.note(format!("rejected: {:?}", rejected.code));
        let Some(waiting) = self.waiting.remove(&rejected.request) else {
            return;
        };
        if matches!(rejected.code, Code::Unavailable | Code::Busy) {
            self.retry_later(waiting.letter);
        } else {
            let letter = &mut self.letters[waiting.letter];
            (letter.is_answered, letter.retries_at_ms) = (true, None);
        }
    }

    /// What was asked over a link that is gone has no answer.
    pub(crate) fn lose_questions(&mut self, link: Link) {
        let lost = self.waiting.extract_if(.., |_, waiting| waiting.link == link);
        let letters: Vec<_> = lost.map(|(_, waiting)| waiting.letter).collect();
        for letter in letters {
            self.retry_later(letter);
        }
    }

    /// Returns how many letters are still to be answered.
    pub(crate) fn unanswered(&self) -> usize {
        let is_open = |letter: &&Letter| letter.id.is_some() && !letter.is_answered;
        self.letters.iter().filter(is_open).count()
    }

    // ---- connections

    fn connect_some(&mut self) {
        let device = self.rng.below(self.devices.len());
        let gateway = self.rng.below(self.gateways.len());
        let window = self.rng.pick(&[1, 1, 2, 3, 8, 64]);
        let cursor = self.devices[device].cursor;
        let hello = match (self.rng.within(0..100), cursor) {
            (0..35, _) | (_, None) => Hello::Plain,
            (35..90, _) => Hello::Resume,
            (90..94, Some(cursor)) => Hello::At(Position::start(cursor.generation)),
            (94..97, Some(cursor)) => Hello::At(Position {
                generation: cursor.generation + 1,
                ..cursor
            }),
            (_, Some(cursor)) => Hello::At(Position {
                offset: Offset(cursor.offset.0 + 1_000_000),
                ..cursor
            }),
        };
        self.connect(device, gateway, hello, window);
        self.devices[device].withholds = self.rng.percent(15);
    }

    /// Connects a device to a gateway; whatever connection it had is left half open.
    pub(crate) fn connect(&mut self, device: usize, gateway: usize, hello: Hello, window: u16) {
        self.vanish(device);
        let cursor = match hello {
            Hello::Plain => None,
            Hello::Resume => self.devices[device].cursor,
            Hello::At(position) => Some(position),
        };
        let handle = self.gateways[gateway].take_handle();
        let session = Session::new(device, window, cursor);
        self.gateways[gateway].sessions.insert(handle, session);
        self.devices[device].at = Some((gateway, handle));
        self.announce(gateway, handle);
    }

    /// Lets a device go without a word.
    fn vanish(&mut self, device: usize) {
        let Some((gateway, handle)) = self.devices[device].at.take() else {
            return;
        };
        if let Some(session) = self.gateways[gateway].sessions.get_mut(&handle) {
            session.is_vanished = true;
            self.see(Seen::Vanished(Connection { gateway, handle }));
        }
    }

    fn disconnect(&mut self, device: usize) {
        if let Some((gateway, handle)) = self.devices[device].at {
            self.close_session(gateway, handle);
        }
    }

    // ---- acks

    fn ack_some(&mut self) {
        for device in 0..self.devices.len() {
            let Some((gateway, handle)) = self.devices[device].at else {
                continue;
            };
            let session = self.gateways[gateway].sessions.get(&handle);
            let unacked = session.map_or(0, |session| session.unacked.len());
            if unacked == 0 {
                continue;
            }
            if self.devices[device].withholds {
                self.devices[device].withholds = !self.rng.percent(3);
                continue;
            }
            match self.rng.within(0..100) {
                0..35 => self.ack(device, 1),
                35..70 => self.ack(device, unacked),
                _ => {}
            }
        }
    }

    /// Acks the first `count` of what a device got.
    pub(crate) fn ack(&mut self, device: usize, count: usize) {
        let client = &self.devices[device];
        let Some((gateway, handle)) = client.at else {
            return;
        };
        let Some(session) = self.gateways[gateway].sessions.get_mut(&handle) else {
            return;
        };
        // One that is announced again may ack before that is answered.
        let (Some(number), Some((at, _))) = (session.number, session.at) else {
            return;
        };
        let count = count.min(session.unacked.len());
        let Some(position) = session.unacked.drain(..count).next_back() else {
            return;
        };
        session.acked = session.acked.max(Some(position));
        let ack = AckRecord {
            user: client.user,
            device: client.device,
            session: number,
            position,
        };
        self.say(gateway, at, ToRouter::Ack(ack));
    }

    // ---- statuses and pages

    fn say_some_status(&mut self) {
        let device = self.rng.below(self.devices.len());
        let got = &self.devices[device].got;
        let newest = got.len().saturating_sub(9);
        let some = match got.len() {
            0 => (self.some_conversation(device), Seq(self.rng.within(0..9)), None),
            count => {
                let (conversation, seq, id) = got[newest + self.rng.below(count - newest)];
                (conversation, seq, Some(id))
            }
        };
        let of = match (self.rng.within(0..10), some) {
            (0..5, (.., Some(id))) => StatusOf::Message(id),
            (0..8, (conversation, seq, _)) => StatusOf::Seq(conversation, seq),
            (_, (conversation, seq, _)) => StatusOf::Seq(conversation, Seq(seq.0 + self.rng.within(0..9))),
        };
        let status = self.rng.pick(&[Status::Delivered, Status::Read, Status::Read]);
        self.say_status(device, StatusCommand { status, of });
    }

    pub(crate) fn say_status(&mut self, device: usize, command: StatusCommand) {
        let gateway = self.rng.below(self.gateways.len());
        let Device { user, device, .. } = self.devices[device];
        let topology = self.plan.topology();
        let id = match command.of {
            StatusOf::Message(_) => topology.of_user(user),
            StatusOf::Seq(conversation, _) => topology.of_conversation(conversation),
        };
        let request = self.request();
        let status = StatusRecord {
            request,
            user,
            device,
            command,
        };
        self.say_to_owner(gateway, id, ToRouter::Status(status));
    }

    /// Returns a conversation: of the device's user, or of others.
    fn some_conversation(&mut self, device: usize) -> ConversationId {
        let other = self.rng.below(self.devices.len());
        let a = if self.rng.percent(80) { device } else { other };
        let b = self.rng.below(self.devices.len());
        ConversationId::direct(self.devices[a].user, self.devices[b].user)
    }

    fn read_something(&mut self) {
        let device = self.rng.below(self.devices.len());
        let user = self.devices[device].user;
        let limit = self.rng.pick(&[1, 3, 50, 100]);
        if self.rng.percent(30) {
            self.ask_conversations(user, limit, None);
            return;
        }
        let conversation = self.some_conversation(device);
        let before = self.rng.percent(30).then(|| Seq(self.rng.within(1..40)));
        self.ask_history(user, conversation, before, limit);
    }

    pub(crate) fn ask_history(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: u32,
    ) {
        let gateway = self.rng.below(self.gateways.len());
        let request = self.request();
        let history = HistoryRecord {
            request,
            user,
            conversation,
            before,
            limit,
        };
        let id = self.plan.topology().of_conversation(conversation);
        self.say_to_owner(gateway, id, ToRouter::History(history));
    }

    pub(crate) fn ask_conversations(&mut self, user: UserId, limit: u32, before: Option<String>) {
        let gateway = self.rng.below(self.gateways.len());
        let request = self.request();
        let conversations = ConversationsRecord {
            request,
            user,
            limit,
            before,
        };
        let id = self.plan.topology().of_user(user);
        self.say_to_owner(gateway, id, ToRouter::Conversations(conversations));
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }
}

/// Who sent something waits so long for the answer before it sends it again.
const ANSWER_MS_MAX: u64 = 5_000;
