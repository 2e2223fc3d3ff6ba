//! What a fold intends: rows for the store, answers for senders, entries for readers, news for senders.

use router_records::log::LogRecord;
use router_records::row::Row;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UnixMs, UserId};
use wire_base::message::Message;
use wire_base::status::Status;

use crate::topology::PartitionId;

/// The effects of some records, in their order. A driver gathers those of a group in one.
///
/// Order: `rows` are applied with the group's last offset in one batch; only then does anything else leave. Where two
/// rows have one key, the later one wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be written.
    pub rows: Vec<Row>,
    /// One for each send, by the offset of its record. A send whose effects were done before, so long ago that the
    /// index has forgotten it, has none; nobody waits for it.
    pub outcomes: Vec<(Offset, SendOutcome)>,
    /// Messages that took a seq, with the inbox entries they made.
    pub messages: Vec<NewMessage>,
    /// Watermarks that moved.
    pub updates: Vec<StatusUpdate>,
    /// What they do to other partitions, by inputs of the logs of those.
    pub elsewhere: Vec<Elsewhere>,
}

impl Effects {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.outcomes.clear();
        self.messages.clear();
        self.updates.clear();
        self.elsewhere.clear();
    }
}

/// An effect on another partition: a record of its log.
///
/// Order: those of one partition stand in its log in this order. They may stand there twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    /// Whose log.
    pub partition: PartitionId,
    /// The record whose effect it is.
    pub offset: Offset,
    /// What is to be in the log: the same however often it is made.
    pub record: LogRecord,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It has its seq, now or since its first arrival.
    Sent {
        /// The sender's id for it.
        message_id: MessageId,
        /// Where it went.
        conversation: ConversationId,
        /// The seq it got.
        seq: Seq,
        /// Log time of its first arrival.
        timestamp: UnixMs,
        /// It had come before.
        duplicate: bool,
    },
    /// It has none.
    Rejected {
        /// The protocol's code.
        code: Code,
        /// Why, in words that name the field.
        reason: &'static str,
    },
}

/// A message that took a seq.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// What readers get.
    pub message: Message,
    /// Its entry in each user's inbox.
    pub entries: Vec<(UserId, Position)>,
}

/// A watermark that moved, and who is to be told. Live only: who is not connected reads it from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Where.
    pub conversation: ConversationId,
    /// Who received or read.
    pub user: UserId,
    /// Which watermark; read implies delivered.
    pub status: Status,
    /// Everything up to here.
    pub seq: Seq,
    /// The message of that seq.
    pub message_id: MessageId,
    /// Other members, told on all devices.
    pub told: Vec<UserId>,
    /// Of a read: `user` is told too, on all devices but this one.
    pub except: Option<DeviceId>,
}
