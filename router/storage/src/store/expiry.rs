//! Expiry lists: what has to be deleted once a message is past retention, written down when the message is stored.
//!
//! Of each batch the lists say, message by message, which rows it wrote that do not stay. They lie in order of the log, so
//! that retention walks them from the oldest on, deletes by key what they name, together with the list, and looks at
//! nothing that it does not delete. The first list that is left is how far it came, also over a restart.

use router_records::row::{DedupeRow, InboxRow, MessageRow, Row, TABLE_META, Table as _, after};
use wire_base::codec::{DecodeError, Fault, Layout as _, Reader, layout};
use wire_base::ids::{ConversationId, MessageId, Offset, Position, Seq, UserId};

/// A message, and the rows that were written with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiring {
    /// The record that made it.
    pub(crate) offset: Offset,
    pub(crate) conversation: ConversationId,
    pub(crate) seq: Seq,
    /// Of the outcome of its send.
    pub(crate) message_id: MessageId,
    /// As above.
    pub(crate) sender: UserId,
    pub(crate) readers: Vec<Reading>,
}

/// Somebody whose inbox points to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) user: UserId,
    /// Of the position, whose offset is that of the message.
    pub(crate) index: u16,
}

layout!(Expiring {
    offset,
    conversation,
    seq,
    message_id,
    sender,
    readers
});
layout!(Reading { user, index });

impl Expiring {
    /// Returns what a batch of rows needs for its deletion, in order of the log.
    ///
    /// Order: the rows of a record are in one batch.
    pub(super) fn of(rows: &[Row]) -> Vec<Self> {
        let messages = rows.iter().filter_map(|row| match row {
            Row::Message(row) => Some(Self {
                offset: row.offset,
                conversation: row.message.conversation,
                seq: row.message.seq,
                message_id: row.message.message_id,
                sender: row.message.sender,
                readers: Vec::new(),
            }),
            _ => None,
        });
        let mut messages: Vec<_> = messages.collect();
        messages.sort_unstable_by_key(|message| message.offset);
        for row in rows {
            if let Row::Inbox(row) = row
                && let Ok(at) = messages.binary_search_by_key(&row.position.offset, |message| message.offset)
            {
                let (user, index) = (row.user, row.position.index);
                messages[at].readers.push(Reading { user, index });
            }
        }
        messages
    }

    pub(crate) fn message_key(&self) -> Vec<u8> {
        MessageRow::encode_key(self.conversation, self.seq)
    }

    pub(crate) fn index_key(&self) -> Vec<u8> {
        DedupeRow::encode_key(self.message_id, (self.sender, self.conversation))
    }

    /// Returns the key of a reader's entry, in a store of this generation.
    pub(crate) fn inbox_key(&self, reader: &Reading, generation: u32) -> Vec<u8> {
        let position = Position {
            generation,
            offset: self.offset,
            index: reader.index,
        };
        InboxRow::encode_key(reader.user, position)
    }
}

/// Returns key and value of a list; it is not empty.
pub(super) fn encode_list(messages: &[Expiring]) -> (Vec<u8>, Vec<u8>) {
    let mut value = vec![VERSION];
    messages.to_vec().write(&mut value);
    (list_key(messages[0].offset), value)
}

pub(crate) fn decode_list(value: &[u8]) -> Result<Vec<Expiring>, DecodeError> {
    let mut input = Reader::borrowed(value);
    let version = input.field("list version")?;
    if version != VERSION {
        return Err(DecodeError::new("list version", Fault::UnknownVersion(version)));
    }
    let messages: Vec<Expiring> = input.field("list")?;
    input.finish("list")?;
    match messages.is_empty() {
        true => Err(DecodeError::new("list", Fault::OutOfBounds)),
        false => Ok(messages),
    }
}

/// Returns the key of the list whose first message a record made.
pub(crate) fn list_key(first: Offset) -> Vec<u8> {
    [&LISTS[..], &first.0.to_be_bytes()].concat()
}

/// Returns the open end of the keys of lists.
pub(crate) fn lists_end() -> Vec<u8> {
    after(&LISTS)
}

/// Most messages of a list: a step of retention may have to write the rest of one again.
pub(super) const LIST_MESSAGES_MAX: usize = 64;
const LISTS: [u8; 2] = [TABLE_META, 5];
const VERSION: u8 = 1;
