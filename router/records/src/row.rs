//! Rows of the router's store. Every adapter keeps these; the embedded one also takes its byte layout from here:
//! [`key`] makes keys and ranges, [`Row::encode`] and [`Row::decode`] go both ways.

pub mod key;
mod layout;

use wire_base::body::BodyHash;
use wire_base::ids::{
    ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs, UserId,
};
use wire_base::message::Message;

/// A row as the folds write it: key and value together. Rewriting a row after a crash gives the identical row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// See [`MessageRow`].
    Message(MessageRow),
    /// See [`DedupeRow`].
    Dedupe(DedupeRow),
    /// See [`ConversationRow`].
    Conversation(ConversationRow),
    /// See [`ReceiptRow`].
    Receipt(ReceiptRow),
    /// See [`UserConversationRow`].
    UserConversation(UserConversationRow),
    /// See [`InboxRow`].
    Inbox(InboxRow),
    /// See [`DeviceRow`].
    Device(DeviceRow),
    /// See [`CheckpointRow`].
    Checkpoint(CheckpointRow),
    /// See [`LastSentRow`].
    LastSent(LastSentRow),
}

/// A message of a conversation. Key: (conversation, seq) of the message. Insert-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// The log record that made it.
    pub offset: Offset,
    /// The message.
    pub message: Message,
}

/// Outcome of a send, for dedupe. Key: (message_id, sender, conversation). Insert-only, kept 30 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeRow {
    /// Key.
    pub message_id: MessageId,
    /// Key.
    pub sender: UserId,
    /// Key.
    pub conversation: ConversationId,
    /// The seq it got.
    pub seq: Seq,
    /// What it said.
    pub hash: BodyHash,
    /// When.
    pub timestamp: UnixMs,
    /// The log record that made it.
    pub offset: Offset,
}

/// State of a conversation, overwritten in place: a record at or below `last_offset` is done. Key: conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationRow {
    /// Key.
    pub conversation: ConversationId,
    /// Who may write and read.
    pub members: Members,
    /// The newest seq.
    pub last_seq: Seq,
    /// The newest record that took a seq.
    pub last_offset: Offset,
    /// Its timestamp.
    pub last_time: UnixMs,
}

/// Who belongs to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// Of a direct conversation.
    Direct(Pair),
}

/// Two users, `low <= high` (equal in a conversation with oneself), and the newest own seq of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The smaller user id.
    pub low: UserId,
    /// The larger user id.
    pub high: UserId,
    /// Newest message of `low`; 0 when there is none.
    pub low_sent: Seq,
    /// Newest message of `high`; 0 when there is none.
    pub high_sent: Seq,
}

impl Pair {
    /// Returns the other user (in a conversation with oneself: the user); `None` for who is neither.
    pub fn other(&self, user: UserId) -> Option<UserId> {
        match user {
            _ if user == self.low => Some(self.high),
            _ if user == self.high => Some(self.low),
            _ => None,
        }
    }

    /// Returns the newest seq of one of the two; `None` for who is neither.
    pub fn newest_sent(&self, user: UserId) -> Option<Seq> {
        match user {
            _ if user == self.low => Some(self.low_sent),
            _ if user == self.high => Some(self.high_sent),
            _ => None,
        }
    }
}

/// Watermarks of a member. Key: (conversation, user). Max-merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Key.
    pub conversation: ConversationId,
    /// Key.
    pub user: UserId,
    /// Everything up to here is on a device of the user.
    pub delivered: Seq,
    /// Everything up to here was read; never above `delivered`.
    pub read: Seq,
}

/// That a user takes part in a conversation. Key: (user, conversation). Written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserConversationRow {
    /// Key.
    pub user: UserId,
    /// Key.
    pub conversation: ConversationId,
}

/// An entry of a user's inbox: a pointer to a message. Key: (user, position). Insert-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRow {
    /// Key.
    pub user: UserId,
    /// Key.
    pub position: Position,
    /// Where the message is.
    pub conversation: ConversationId,
    /// Which it is.
    pub seq: Seq,
    /// The seq of that conversation this user was sent before it; 0 at first.
    pub prev_seq: Seq,
}

/// A device: a reader of its user's inbox. Key: (user, device). Overwritten, each field only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// Key.
    pub user: UserId,
    /// Key.
    pub device: DeviceId,
    /// Everything up to here is on the device.
    pub acked: Position,
    /// The newest session that was logged.
    pub session: SessionNumber,
    /// Log time of the newest record of the device.
    pub last_seen: UnixMs,
}

/// A place in the log with its time, about one an hour: what retention is counted by. Key: time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Key. No record before `offset` has a later log time.
    pub time: UnixMs,
    /// At most the one after the last record that the store has.
    pub offset: Offset,
}

/// The newest message of a conversation that came into a user's inbox. Key: (user, conversation). Overwritten, only grows;
/// written after the entry. Only where inboxes have logs of their own, into which an entry may come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSentRow {
    /// Key.
    pub user: UserId,
    /// Key.
    pub conversation: ConversationId,
    /// Everything up to here is in the inbox, as far as it goes to that user.
    pub seq: Seq,
    /// The record that made the entry: one up to it has made its entries already, if any.
    pub offset: Offset,
}
