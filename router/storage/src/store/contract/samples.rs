//! Rows to write.

use router_records::row::{
    CheckpointRow, ConversationRow, DedupeRow, DeviceRow, InboxRow, Members, MessageRow, Pair, ReceiptRow,
    UserConversationRow,
};
use wire_base::body::{Body, BodyHash, Content, EncodedBody};
use wire_base::ids::{
    ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs, UserId,
};
use wire_base::message::Message;

/// Of the stores that are opened.
pub(crate) const GENERATION: u32 = 1_700_000_000;

pub(crate) fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

pub(crate) fn device(number: u32) -> DeviceId {
    DeviceId::new(number).unwrap()
}

pub(crate) fn conversation(number: u128) -> ConversationId {
    ConversationId::new(uuid::Uuid::from_u128(number)).unwrap()
}

pub(crate) fn message_id(number: u128) -> MessageId {
    MessageId::new(uuid::Uuid::from_u128(number)).unwrap()
}

pub(crate) fn position(generation: u32, offset: u64, index: u16) -> Position {
    Position {
        generation,
        offset: Offset(offset),
        index,
    }
}

pub(crate) fn body(text: &str) -> EncodedBody {
    Body {
        content: Content::Text(text),
        media_url: None,
        kind: None,
    }
    .encode()
}

pub(crate) fn message_row(conversation_number: u128, seq: u64, offset: u64, text: &str) -> MessageRow {
    MessageRow {
        offset: Offset(offset),
        prev_offset: Offset(offset.saturating_sub(1)),
        message: Message {
            conversation: conversation(conversation_number),
            seq: Seq(seq),
            message_id: message_id(u128::from(offset) + 1),
            sender: user(1),
            sender_device: DeviceId::API,
            timestamp: UnixMs(1_000 + offset),
            body: body(text),
        },
    }
}

pub(crate) fn index_row(
    message_number: u128,
    sender: u64,
    conversation_number: u128,
    offset: u64,
) -> DedupeRow {
    DedupeRow {
        message_id: message_id(message_number),
        sender: user(sender),
        conversation: conversation(conversation_number),
        seq: Seq(9),
        hash: BodyHash(77),
        timestamp: UnixMs(5),
        offset: Offset(offset),
    }
}

pub(crate) fn inbox_row(user_number: u64, position: Position) -> InboxRow {
    InboxRow {
        user: user(user_number),
        position,
        conversation: conversation(1),
        seq: Seq(2),
        prev_seq: Seq(1),
    }
}

pub(crate) fn device_row(user_number: u64, device_number: u32) -> DeviceRow {
    DeviceRow {
        user: user(user_number),
        device: device(device_number),
        acked: position(GENERATION, 4, 1),
        session: SessionNumber(12),
        last_seen: UnixMs(99),
    }
}

pub(crate) fn conversation_row(number: u128, last_seq: u64) -> ConversationRow {
    ConversationRow {
        conversation: conversation(number),
        members: Members::Direct(Pair {
            low: user(1),
            high: user(2),
            low_sent: Seq(1),
            high_sent: Seq(0),
        }),
        last_seq: Seq(last_seq),
        last_offset: Offset(last_seq * 10),
        last_time: UnixMs(3),
    }
}

pub(crate) fn receipt_row(conversation_number: u128, user_number: u64) -> ReceiptRow {
    ReceiptRow {
        conversation: conversation(conversation_number),
        user: user(user_number),
        delivered: Seq(5),
        read: Seq(4),
    }
}

pub(crate) fn user_conversation_row(user_number: u64, conversation_number: u128) -> UserConversationRow {
    UserConversationRow {
        user: user(user_number),
        conversation: conversation(conversation_number),
    }
}

pub(crate) fn checkpoint_row(time: u64, offset: u64) -> CheckpointRow {
    CheckpointRow {
        time: UnixMs(time),
        offset: Offset(offset),
    }
}
