//! The folds of a log: one call a record.
//!
//! Where one log holds everything, so does one set of folds, and a message is in its inboxes by the same record. Where each
//! slot has a log, a message, or the mark of an ack, becomes a record of another one ([`crate::fanout`]).

use router_records::log::{AckInput, Input, LogRecord, StatusInput};
use router_records::row::{DedupeRow, DeviceRow, LastSentRow, ReceiptRow};
use wire_base::ids::{ConversationId, DeviceId, Offset, Position, UnixMs, UserId};
use wire_base::message::Message;

use crate::admission::Refusal;
use crate::conversation::{ConversationConfig, ConversationFold};
use crate::dedupe::SendKey;
use crate::effects::{Effects, NewMessage};
use crate::fanout::{FanoutFold, Gap, fan_out, mark_elsewhere};
use crate::inbox::{Admission, FIRST_INDEX, InboxConfig, InboxFold, NewEntry, ReaderFacts};
use crate::membership::{Conversation, Membership};
use crate::receipts::{ReceiptFold, status_of_delivered};
use crate::time::{LogTime, Stamp};
use crate::topology::Topology;

/// What a fold needs from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookup {
    /// The state of a conversation.
    Conversation(ConversationId),
    /// The outcome of a send.
    Dedupe(SendKey),
    /// The watermarks of a member.
    Receipt(ConversationId, UserId),
    /// The devices of a user, and the newest entry of its inbox.
    User(UserId),
    /// The newest message of a conversation in the inbox of a user.
    LastSent(UserId, ConversationId),
    /// Messages that an inbox lacks.
    Gap(Gap),
    /// What came into the inbox of a user by a record.
    Entries(UserId, Offset),
}

/// The answer to a [`Lookup`]: what the store has, or that it has nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// See [`Lookup::Conversation`].
    Conversation(ConversationId, Option<Conversation>),
    /// See [`Lookup::Dedupe`].
    Dedupe(SendKey, Option<DedupeRow>),
    /// See [`Lookup::Receipt`].
    Receipt(ConversationId, UserId, Option<ReceiptRow>),
    /// See [`Lookup::User`].
    User {
        /// Whose.
        user: UserId,
        /// All of them.
        devices: Vec<DeviceRow>,
        /// The position of the newest inbox row.
        head: Option<Position>,
    },
    /// See [`Lookup::LastSent`].
    LastSent(UserId, ConversationId, Option<LastSentRow>),
    /// See [`Lookup::Gap`]: all that are still kept, by seq.
    Gap(Gap, Vec<Message>),
    /// See [`Lookup::Entries`], by position.
    Entries(UserId, Offset, Vec<(Position, Message)>),
}

/// Bounds of the folds' memory. They decide what is looked up, never what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldsConfig {
    /// Conversations and dedupe.
    pub conversations: ConversationConfig,
    /// Users and devices.
    pub inboxes: InboxConfig,
    /// Watermarks held, about 130 bytes each.
    pub receipts_max: usize,
    /// Newest messages of conversations in inboxes held, about 120 bytes each; only where inboxes have logs of their own.
    pub last_sent_max: usize,
}

impl Default for FoldsConfig {
    fn default() -> Self {
        Self {
            conversations: ConversationConfig::default(),
            inboxes: InboxConfig::default(),
            receipts_max: 128 << 10,
            last_sent_max: 128 << 10,
        }
    }
}

/// Every fold over one log.
///
/// Order: at start, [`observe`](Self::observe) the last 15 minutes of records whose effects are in the store; then for
/// each record [`missing`](Self::missing) and [`handle_loaded`](Self::handle_loaded) until nothing is missing, and
/// [`fold`](Self::fold). [`evict`](Self::evict) once a step.
#[derive(Debug)]
pub struct Folds {
    conversations: ConversationFold,
    inboxes: InboxFold,
    receipts: ReceiptFold,
    fanouts: FanoutFold,
    /// Which effects are those of other logs.
    topology: Topology,
    log_time: LogTime,
}

impl Folds {
    /// Returns the folds before the first record of a replay.
    ///
    /// `generation` is the store's. `evicted` is log time at that record: 0 when no record was ever logged before it,
    /// else the time of that record, which no earlier one exceeds.
    pub fn new(config: FoldsConfig, generation: u32, evicted: UnixMs) -> Self {
        Self {
            conversations: ConversationFold::new(config.conversations, evicted),
            inboxes: InboxFold::new(config.inboxes, generation),
            receipts: ReceiptFold::new(config.receipts_max),
            fanouts: FanoutFold::new(config.last_sent_max),
            topology: Topology::OnePartition,
            log_time: LogTime::default(),
        }
    }

    /// Returns the folds before a record in the middle of a log. `log_time` is log time at the record before it, which is
    /// known though that record is not read: no record up to there has a later time.
    pub fn starting_at(config: FoldsConfig, topology: Topology, generation: u32, log_time: UnixMs) -> Self {
        let mut folds = Self::new(config, generation, log_time);
        folds.topology = topology;
        folds.log_time.advance(log_time);
        folds
    }

    /// Takes a record whose effects are in the store: dedupe remembers it, and nothing is written.
    pub fn observe(&mut self, offset: Offset, record: &LogRecord) {
        let stamp = Stamp {
            offset,
            time: self.log_time.advance(record.time),
        };
        if let Input::Send(send) = &record.input {
            self.conversations.observe_send(stamp, send);
        }
        self.evict(Some(offset));
    }

    /// Names something that the fold of this record needs and memory does not have; `None` when it can be folded.
    pub fn missing(&mut self, offset: Offset, record: &LogRecord) -> Option<Lookup> {
        match &record.input {
            Input::Send(send) => self.conversations.missing(offset, send),
            Input::Ack(ack) => self.missing_user(ack.user).or_else(|| {
                let mut own = ack.delivered.iter().filter(|_| self.is_one());
                own.find_map(|delivered| self.missing_mark(delivered.conversation, ack.user))
            }),
            Input::Status(status) => self.missing_mark(status.conversation, status.user),
            Input::Device(device) => self.missing_user(device.user),
            Input::Fanout(fanout) => self.fanouts.missing(offset, fanout),
        }
    }

    /// Takes what the store has. It stays in memory at least until [`evict`](Self::evict).
    pub fn handle_loaded(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::Conversation(id, row) => self.conversations.handle_conversation(id, row),
            Loaded::Dedupe(key, row) => self.conversations.handle_dedupe(key, row),
            Loaded::Receipt(conversation, user, row) => self.receipts.handle_loaded(conversation, user, row),
            Loaded::User { user, devices, head } => self.inboxes.handle_loaded(user, devices, head),
            Loaded::LastSent(user, conversation, row) => {
                self.fanouts.handle_last_sent(user, conversation, row);
            }
            Loaded::Gap(gap, messages) => self.fanouts.handle_gap(gap, messages),
            Loaded::Entries(user, offset, entries) => self.fanouts.handle_entries(user, offset, entries),
        }
    }

    /// Folds a record and appends its effects.
    ///
    /// Order: offsets ascend.
    /// Panics: when [`missing`](Self::missing) still names something.
    pub fn fold(&mut self, offset: Offset, record: &LogRecord, effects: &mut Effects) {
        let stamp = Stamp {
            offset,
            time: self.log_time.advance(record.time),
        };
        match &record.input {
            Input::Send(send) => {
                if let Some((message, membership)) = self.conversations.fold_send(stamp, send, effects) {
                    match self.is_one() {
                        true => self.fold_message(offset, message, &membership, effects),
                        false => fan_out(self.topology, stamp, message, &membership, effects),
                    }
                }
            }
            Input::Ack(ack) => self.fold_ack(stamp, ack, effects),
            Input::Status(status) => self.fold_mark(offset, status, effects),
            Input::Device(device) => self.inboxes.fold_device(stamp, device, effects),
            Input::Fanout(fanout) => self.fanouts.fold(offset, fanout, &mut self.inboxes, effects),
        }
    }

    /// Cuts memory back to its bounds. The effects of records up to `readable` can be read back from the store, and no older
    /// answer of it is under way. To be called also when nothing was applied, since look-ups fill memory too, and not
    /// between the look-ups of a record and its fold.
    pub fn evict(&mut self, readable: Option<Offset>) {
        self.conversations.evict(self.log_time.get(), readable);
        self.inboxes.evict(readable);
        self.receipts.evict(readable);
        self.fanouts.evict(readable);
    }

    /// Returns the time for a record that is about to be appended: the clock, but never before the newest record.
    pub fn stamp(&self, now: UnixMs) -> UnixMs {
        self.log_time.stamp(now)
    }

    /// Returns log time at the newest record.
    pub fn log_time(&self) -> UnixMs {
        self.log_time.get()
    }

    /// Names the user when a hello needs it loaded first.
    pub fn missing_user(&self, user: UserId) -> Option<Lookup> {
        self.inboxes.is_missing(user).then_some(Lookup::User(user))
    }

    /// See [`InboxFold::admit_device`].
    pub fn admit_device(&mut self, user: UserId, device: DeviceId) -> Result<Admission, Refusal> {
        self.inboxes.admit_device(user, device)
    }

    /// See [`InboxFold::cancel_device`].
    pub fn cancel_device(&mut self, user: UserId, device: DeviceId) {
        self.inboxes.cancel_device(user, device);
    }

    /// Returns what a hello must know; `oldest` is the position after which every entry is kept.
    ///
    /// Order: after [`missing_user`](Self::missing_user) names nothing.
    pub fn reader_facts(&self, user: UserId, device: DeviceId, oldest: Position) -> ReaderFacts {
        ReaderFacts {
            device: self.inboxes.device(user, device),
            head: self.inboxes.head(user),
            oldest,
        }
    }

    /// See [`ConversationFold::conversation`].
    pub fn conversation(&self, id: ConversationId) -> Option<Option<&Conversation>> {
        self.conversations.conversation(id)
    }

    fn fold_message(
        &mut self,
        offset: Offset,
        message: Message,
        membership: &Membership,
        effects: &mut Effects,
    ) {
        let mut entries = Vec::with_capacity(2);
        for (index, user) in (FIRST_INDEX..).zip(membership.recipients(message.sender)) {
            let entry = NewEntry {
                user,
                index,
                conversation: message.conversation,
                seq: message.seq,
                prev_seq: membership.sent_before(user, message.seq),
            };
            if let Some(position) = self.inboxes.fold_entry(offset, &entry, effects) {
                entries.push((user, position));
            }
        }
        effects.messages.push(NewMessage { message, entries });
    }

    fn fold_ack(&mut self, stamp: Stamp, ack: &AckInput, effects: &mut Effects) {
        self.inboxes.fold_ack(stamp, ack, effects);
        for delivered in &ack.delivered {
            let mark = status_of_delivered(ack.user, ack.device, delivered);
            match self.is_one() {
                true => self.fold_mark(stamp.offset, &mark, effects),
                false => effects.elsewhere.push(mark_elsewhere(self.topology, stamp, mark)),
            }
        }
    }

    /// Returns whether every effect is one of the same log.
    fn is_one(&self) -> bool {
        self.topology == Topology::OnePartition
    }

    fn fold_mark(&mut self, offset: Offset, mark: &StatusInput, effects: &mut Effects) {
        if let Some(conversation) = self.conversations.conversation(mark.conversation).flatten() {
            self.receipts.fold(offset, conversation, mark, effects);
        }
    }

    fn missing_mark(&self, conversation: ConversationId, user: UserId) -> Option<Lookup> {
        match self.conversations.conversation(conversation) {
            None => Some(Lookup::Conversation(conversation)),
            // A mark in an unknown conversation moves nothing.
            Some(None) => None,
            Some(Some(_)) => self
                .receipts
                .is_missing(conversation, user)
                .then_some(Lookup::Receipt(conversation, user)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
