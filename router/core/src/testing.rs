//! Shorthand for tests.

use router_records::log::{Input, LogRecord, SendInput};
use router_records::row::Pair;
use uuid::Uuid;
use wire_base::body::{Body, Content, EncodedBody};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UnixMs, UserId};

use wire_base::message::{Draft, Target};

use crate::dedupe::SendKey;
use crate::membership::{Conversation, Membership};
use crate::time::Stamp;

pub(crate) const GENERATION: u32 = 3;

pub(crate) fn user(n: u64) -> UserId {
    UserId::new(n).expect("a test names valid users")
}

pub(crate) fn device(n: u32) -> DeviceId {
    DeviceId::new(n).expect("a test names valid devices")
}

/// A UUIDv7 of a time; `salt` tells ids of one time apart.
pub(crate) fn message_id_at(unix_ms: u64, salt: u64) -> MessageId {
    let bits = u128::from(unix_ms) << 80 | 7 << 76 | 2 << 62 | u128::from(salt);
    MessageId::new(Uuid::from_u128(bits)).expect("not nil")
}

/// A UUIDv4.
pub(crate) fn other_message_id(salt: u64) -> MessageId {
    MessageId::new(Uuid::from_u128(4 << 76 | 2 << 62 | u128::from(salt))).expect("not nil")
}

pub(crate) fn send_key(sender: u64, receiver: u64, message_id: MessageId) -> SendKey {
    SendKey {
        conversation: ConversationId::direct(user(sender), user(receiver)),
        sender: user(sender),
        message_id,
    }
}

pub(crate) fn stamp(offset: u64, time: u64) -> Stamp {
    Stamp {
        offset: Offset(offset),
        time: UnixMs(time),
    }
}

pub(crate) fn text(content: &str) -> EncodedBody {
    Body {
        content: Content::Text(content),
        media_url: None,
        kind: None,
    }
    .encode()
}

/// A send from device 1.
pub(crate) fn send(sender: u64, receiver: u64, message_id: MessageId, content: &str) -> SendInput {
    SendInput {
        message_id,
        draft: Draft {
            sender: user(sender),
            sender_device: device(1),
            target: Target::Direct(user(receiver)),
            body: text(content),
        },
    }
}

/// A direct conversation, by the newest message of each; its own last is the later of them.
pub(crate) fn conversation(low: u64, high: u64, (low_sent, high_sent): (u64, u64)) -> Conversation {
    Conversation {
        id: ConversationId::direct(user(low), user(high)),
        membership: Membership::Direct(Pair {
            low: user(low),
            high: user(high),
            low_sent: Seq(low_sent),
            high_sent: Seq(high_sent),
        }),
        last_seq: Seq(low_sent.max(high_sent)),
        last_offset: Offset(100),
        last_time: UnixMs(1),
    }
}

pub(crate) fn record(time: u64, input: Input) -> LogRecord {
    LogRecord {
        time: UnixMs(time),
        input,
    }
}

pub(crate) fn position(offset: u64, index: u16) -> Position {
    Position {
        generation: GENERATION,
        offset: Offset(offset),
        index,
    }
}
