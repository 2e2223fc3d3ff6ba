//! Rows of the router's store: each table is one declaration below. Every adapter keeps these; the embedded one also takes
//! its byte layout from here.
//!
//! [`table`] says what a declaration makes: the struct of a row, how it is found ([`Table`]), its bytes, and what
//! `tidegate store check` holds it to ([`Claims`]). [`Row`] is a row of any of them.

mod key;
mod layout;
#[macro_use]
mod table;

pub use self::key::{KeyField, TABLE_META, after};
pub use self::table::{Claims, Kept, Table, TableInfo};

use wire_base::body::{BodyHash, EncodedBody};
use wire_base::ids::{
    ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs, UserId,
};
use wire_base::message::Message;

tables! {
    Message(MessageRow) = 1, "message", "messages", ExpiresButTheNewest {
        owner { conversation: ConversationId, }
        order { seq: Seq, }
        value {
            offset: Offset,
            prev_offset: Offset,
            message_id: MessageId,
            sender: UserId,
            sender_device: DeviceId,
            timestamp: UnixMs,
            body: EncodedBody,
        }
        shape: MessageRow {
            offset,
            prev_offset,
            message: Message { conversation, seq, message_id, sender, sender_device, timestamp, body },
        };
        bytes: |row| row.message.body.len();
        claims: |row| Claims {
            offset: Some(row.offset),
            // Retention deletes from the oldest on, so that what is left of a conversation has no gap.
            number: Some(row.message.seq.0),
            previous: Some(row.prev_offset),
            ..Claims::default()
        };
    }

    /// Outcome of a send, for dedupe. Insert-only, kept 30 days.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Dedupe(DedupeRow) = 2, "outcome of a send", "outcomes", Expires {
        owner {
            /// Key.
            message_id: MessageId,
        }
        order {
            /// Key.
            sender: UserId,
            /// Key.
            conversation: ConversationId,
        }
        value {
            /// The seq it got.
            seq: Seq,
            /// What it said.
            hash: BodyHash,
            /// When.
            timestamp: UnixMs,
            /// The log record that made it.
            offset: Offset,
        }
        claims: |row| Claims {
            offset: Some(row.offset),
            message: Some((row.conversation, row.seq)),
            ..Claims::default()
        };
    }

    /// State of a conversation, overwritten in place: a record at or below `last_offset` is done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Conversation(ConversationRow) = 3, "conversation", "conversations", Stays {
        owner {
            /// Key.
            conversation: ConversationId,
        }
        order {}
        value {
            /// Who may write and read.
            members: Members,
            /// The newest seq.
            last_seq: Seq,
            /// The newest record that took a seq.
            last_offset: Offset,
            /// Its timestamp.
            last_time: UnixMs,
        }
        claims: |row| match row.last_seq {
            Seq(0) => Claims::default(),
            last_seq => Claims {
                offset: Some(row.last_offset),
                message: Some((row.conversation, last_seq)),
                ..Claims::default()
            },
        };
    }

    /// Watermarks of a member. Max-merge.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Receipt(ReceiptRow) = 4, "receipt", "receipts", Stays {
        owner {
            /// Key.
            conversation: ConversationId,
        }
        order {
            /// Key.
            user: UserId,
        }
        value {
            /// Everything up to here is on a device of the user.
            delivered: Seq,
            /// Everything up to here was read; never above `delivered`.
            read: Seq,
        }
        claims: |row| Claims {
            fault: (row.read > row.delivered).then_some("read beyond delivered"),
            ..Claims::default()
        };
    }

    /// That a user takes part in a conversation. Written once.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    UserConversation(UserConversationRow) = 5, "conversation of a user", "conversations of users", Stays {
        owner {
            /// Key.
            user: UserId,
        }
        order {
            /// Key.
            conversation: ConversationId,
        }
        value {}
        claims: |_| Claims::default();
    }

    /// An entry of a user's inbox: a pointer to a message. Insert-only.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Inbox(InboxRow) = 6, "inbox entry", "inbox entries", ExpiresButTheNewest {
        owner {
            /// Key.
            user: UserId,
        }
        order {
            /// Key.
            position: Position,
        }
        value {
            /// Where the message is.
            conversation: ConversationId,
            /// Which it is.
            seq: Seq,
            /// The seq of that conversation this user was sent before it; 0 at first.
            prev_seq: Seq,
        }
        claims: |row| Claims {
            offset: Some(row.position.offset),
            message: Some((row.conversation, row.seq)),
            ..Claims::default()
        };
    }

    /// A device: a reader of its user's inbox. Overwritten, each field only grows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Device(DeviceRow) = 7, "device", "devices", Stays {
        owner {
            /// Key.
            user: UserId,
        }
        order {
            /// Key.
            device: DeviceId,
        }
        value {
            /// Everything up to here is on the device.
            acked: Position,
            /// The newest session that was logged.
            session: SessionNumber,
            /// Log time of the newest record of the device.
            last_seen: UnixMs,
        }
        claims: |_| Claims::default();
    }

    /// A place in the log with its time, about one an hour: what retention is counted by.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Checkpoint(CheckpointRow) = 8, "checkpoint", "checkpoints", Apart {
        owner {}
        order {
            /// Key. No record before `offset` has a later log time.
            time: UnixMs,
        }
        value {
            /// At most the one after the last record that the store has.
            offset: Offset,
        }
        claims: |row| Claims {
            offset: Some(Offset(row.offset.0.saturating_sub(1))),
            ..Claims::default()
        };
    }

    /// The newest message of a conversation that came into a user's inbox. Overwritten, only grows; written after the entry.
    /// Only where inboxes have logs of their own, into which an entry may come twice.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    LastSent(LastSentRow) = 9, "newest entry of a conversation", "newest entries", Stays {
        owner {
            /// Key.
            user: UserId,
        }
        order {
            /// Key.
            conversation: ConversationId,
        }
        value {
            /// Everything up to here is in the inbox, as far as it goes to that user.
            seq: Seq,
            /// The record that made the entry: one up to it has made its entries already, if any.
            offset: Offset,
        }
        claims: |_| Claims::default();
    }
}

/// A message of a conversation. Insert-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// The log record that made it.
    pub offset: Offset,
    /// The record that made the message before it in the conversation; its own when it is the first.
    pub prev_offset: Offset,
    /// The message; key: its conversation and seq.
    pub message: Message,
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

#[cfg(test)]
mod tests;
