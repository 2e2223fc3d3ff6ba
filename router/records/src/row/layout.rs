//! Byte layout of rows: the key of [`key`], and a value of a layout version and the fields that are not in the key.

use super::{
    CheckpointRow, ConversationRow, DedupeRow, DeviceRow, InboxRow, LastSentRow, Members, MessageRow, Pair,
    ReceiptRow, Row, UserConversationRow, key,
};
use wire_base::body::BodyHash;
use wire_base::codec::{DecodeError, Fault, Layout, Reader, layout};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UnixMs, UserId};
use wire_base::message::Message;

impl Row {
    /// Returns key and value.
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut value = vec![VERSION];
        let key = match self {
            Self::Message(row) => {
                let message = &row.message;
                write!(value, row.offset, message.message_id);
                write!(
                    value,
                    message.sender,
                    message.sender_device, message.timestamp, message.body
                );
                key::message(message.conversation, message.seq).to_vec()
            }
            Self::Dedupe(row) => {
                write!(value, row.seq, row.hash.0, row.timestamp, row.offset);
                key::dedupe(row.message_id, row.sender, row.conversation).to_vec()
            }
            Self::Conversation(row) => {
                write!(value, row.members, row.last_seq, row.last_offset, row.last_time);
                key::conversation(row.conversation).to_vec()
            }
            Self::Receipt(row) => {
                write!(value, row.delivered, row.read);
                key::receipt(row.conversation, row.user).to_vec()
            }
            Self::UserConversation(row) => key::user_conversation(row.user, row.conversation).to_vec(),
            Self::Inbox(row) => {
                write!(value, row.conversation, row.seq, row.prev_seq);
                key::inbox(row.user, row.position).to_vec()
            }
            Self::Device(row) => {
                write!(value, row.acked, row.session, row.last_seen);
                key::device(row.user, row.device).to_vec()
            }
            Self::Checkpoint(row) => {
                write!(value, row.offset);
                key::checkpoint(row.time).to_vec()
            }
            Self::LastSent(row) => {
                write!(value, row.seq, row.offset);
                key::last_sent(row.user, row.conversation).to_vec()
            }
        };
        (key, value)
    }

    /// Decodes a row from what [`Row::encode`] made.
    ///
    /// Errors: names the field. The store checks its bytes itself, so another version wrote them: refuse to start or to answer.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let mut key = Key(Reader::borrowed(key));
        let mut value = Reader::borrowed(value);
        let table = u8::from_be_bytes(key.array("table")?);
        let version = value.field("row version")?;
        if version != VERSION {
            return Err(DecodeError::new("row version", Fault::UnknownVersion(version)));
        }
        let row = match table {
            key::TABLE_MESSAGE => Self::Message(message(&mut key, &mut value)?),
            key::TABLE_DEDUPE => Self::Dedupe(dedupe(&mut key, &mut value)?),
            key::TABLE_CONVERSATION => Self::Conversation(conversation(&mut key, &mut value)?),
            key::TABLE_RECEIPT => Self::Receipt(receipt(&mut key, &mut value)?),
            key::TABLE_USER_CONVERSATION => Self::UserConversation(user_conversation(&mut key)?),
            key::TABLE_INBOX => Self::Inbox(inbox(&mut key, &mut value)?),
            key::TABLE_DEVICE => Self::Device(device(&mut key, &mut value)?),
            key::TABLE_CHECKPOINT => Self::Checkpoint(checkpoint(&mut key, &mut value)?),
            key::TABLE_LAST_SENT => Self::LastSent(last_sent(&mut key, &mut value)?),
            unknown => return Err(DecodeError::new("table", Fault::UnknownKind(unknown))),
        };
        key.0.finish("row key")?;
        value.finish("row value")?;
        Ok(row)
    }
}

/// Writes the fields of a value in the order given.
macro_rules! write {
    ($out:ident, $($field:expr),+) => { $($field.write(&mut $out);)+ };
}
use write;

// A struct literal is evaluated in the order written, so each of these lists key and value fields in their byte order.

fn message(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<MessageRow, DecodeError> {
    Ok(MessageRow {
        offset: value.field("offset")?,
        message: Message {
            conversation: key.conversation()?,
            seq: key.seq()?,
            message_id: value.field("message_id")?,
            sender: value.field("sender")?,
            sender_device: value.field("sender_device")?,
            timestamp: value.field("timestamp")?,
            body: value.field("body")?,
        },
    })
}

fn dedupe(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<DedupeRow, DecodeError> {
    Ok(DedupeRow {
        message_id: key.message_id()?,
        sender: key.user()?,
        conversation: key.conversation()?,
        seq: value.field("seq")?,
        hash: BodyHash(value.field("hash")?),
        timestamp: value.field("timestamp")?,
        offset: value.field("offset")?,
    })
}

fn conversation(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<ConversationRow, DecodeError> {
    Ok(ConversationRow {
        conversation: key.conversation()?,
        members: value.field("members")?,
        last_seq: value.field("last_seq")?,
        last_offset: value.field("last_offset")?,
        last_time: value.field("last_time")?,
    })
}

fn receipt(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<ReceiptRow, DecodeError> {
    Ok(ReceiptRow {
        conversation: key.conversation()?,
        user: key.user()?,
        delivered: value.field("delivered")?,
        read: value.field("read")?,
    })
}

fn user_conversation(key: &mut Key<'_>) -> Result<UserConversationRow, DecodeError> {
    Ok(UserConversationRow {
        user: key.user()?,
        conversation: key.conversation()?,
    })
}

fn inbox(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<InboxRow, DecodeError> {
    Ok(InboxRow {
        user: key.user()?,
        position: key.position()?,
        conversation: value.field("conversation")?,
        seq: value.field("seq")?,
        prev_seq: value.field("prev_seq")?,
    })
}

fn device(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<DeviceRow, DecodeError> {
    Ok(DeviceRow {
        user: key.user()?,
        device: key.device()?,
        acked: value.field("acked")?,
        session: value.field("session")?,
        last_seen: value.field("last_seen")?,
    })
}

fn checkpoint(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<CheckpointRow, DecodeError> {
    Ok(CheckpointRow {
        time: UnixMs(key.u64("time")?),
        offset: value.field("offset")?,
    })
}

fn last_sent(key: &mut Key<'_>, value: &mut Reader<'_>) -> Result<LastSentRow, DecodeError> {
    Ok(LastSentRow {
        user: key.user()?,
        conversation: key.conversation()?,
        seq: value.field("seq")?,
        offset: value.field("offset")?,
    })
}

layout!(
    Pair { low, high, low_sent, high_sent }
    check "members" |pair| pair.low <= pair.high
);

/// A member form byte, then its fields.
impl Layout for Members {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Direct(pair) => {
                out.push(MEMBERS_DIRECT);
                pair.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.field("members")? {
            MEMBERS_DIRECT => Ok(Self::Direct(input.field("members")?)),
            unknown => Err(DecodeError::new("members", Fault::UnknownKind(unknown))),
        }
    }
}

/// Reads the big-endian fields of a key.
struct Key<'a>(Reader<'a>);

impl Key<'_> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        self.0.field(field)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    fn conversation(&mut self) -> Result<ConversationId, DecodeError> {
        self.0.field("conversation")
    }

    fn message_id(&mut self) -> Result<MessageId, DecodeError> {
        self.0.field("message_id")
    }

    fn user(&mut self) -> Result<UserId, DecodeError> {
        UserId::new(self.u64("user")?).ok_or(DecodeError::new("user", Fault::OutOfBounds))
    }

    fn device(&mut self) -> Result<DeviceId, DecodeError> {
        let number = self.array("device").map(u32::from_be_bytes)?;
        DeviceId::from_stored(number).ok_or(DecodeError::new("device", Fault::OutOfBounds))
    }

    fn seq(&mut self) -> Result<Seq, DecodeError> {
        self.u64("seq").map(Seq)
    }

    fn position(&mut self) -> Result<Position, DecodeError> {
        Ok(Position {
            generation: self.array("generation").map(u32::from_be_bytes)?,
            offset: Offset(self.u64("offset")?),
            index: self.array("index").map(u16::from_be_bytes)?,
        })
    }
}

/// Raised when the fields of any value change.
const VERSION: u8 = 2;
const MEMBERS_DIRECT: u8 = 1;

#[cfg(test)]
mod tests;
