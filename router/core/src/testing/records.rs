//! Ids, bodies and records of the log, in short.

use router_records::log::{Input, LogRecord, SendInput};
use router_records::row::Pair;
use uuid::Uuid;
use wire_base::body::{Body, Content, EncodedBody};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UnixMs, UserId};
use wire_base::message::{Draft, Target};

use crate::dedupe::SendKey;
use crate::membership::{Conversation, Membership};
use crate::time::{Now, Stamp};

/// The creation number of every log and store.
pub const GENERATION: u32 = 3;

/// When worlds begin.
pub const START: Now = Now {
    mono_ms: 1_000,
    unix: UnixMs(1_800_000_000_000),
};

/// The user of a number.
pub fn user(n: u64) -> UserId {
    UserId::new(n).expect("a test names valid users")
}

/// The device of a number.
pub fn device(n: u32) -> DeviceId {
    DeviceId::new(n).expect("a test names valid devices")
}

/// A UUIDv7 of a time; `salt` tells ids of one time apart.
pub fn message_id_at(unix_ms: u64, salt: u64) -> MessageId {
    let bits = u128::from(unix_ms) << 80 | 7 << 76 | 2 << 62 | u128::from(salt);
    MessageId::new(Uuid::from_u128(bits)).expect("not nil")
}

/// A UUIDv4.
pub fn other_message_id(salt: u64) -> MessageId {
    MessageId::new(Uuid::from_u128(4 << 76 | 2 << 62 | u128::from(salt))).expect("not nil")
}

/// The conversation of two users.
pub fn direct(a: u64, b: u64) -> ConversationId {
    ConversationId::direct(user(a), user(b))
}

/// The key under which the index knows a message between two users.
pub fn send_key(sender: u64, receiver: u64, message_id: MessageId) -> SendKey {
    SendKey {
        conversation: direct(sender, receiver),
        sender: user(sender),
        message_id,
    }
}

/// When and where a record was folded.
pub fn stamp(offset: u64, time: u64) -> Stamp {
    Stamp {
        offset: Offset(offset),
        time: UnixMs(time),
    }
}

/// A body of text.
pub fn text(content: &str) -> EncodedBody {
    Body {
        content: Content::Text(content),
        media_url: None,
        kind: None,
    }
    .encode()
}

/// What a device of one user writes to another user.
pub fn draft(sender: u64, sender_device: DeviceId, receiver: u64, content: &str) -> Draft {
    Draft {
        sender: user(sender),
        sender_device,
        target: Target::Direct(user(receiver)),
        body: text(content),
    }
}

/// A send from device 1.
pub fn send(sender: u64, receiver: u64, message_id: MessageId, content: &str) -> SendInput {
    SendInput {
        message_id,
        draft: draft(sender, device(1), receiver, content),
    }
}

/// A direct conversation, by the newest message of each; its own last is the later of them.
pub fn conversation(low: u64, high: u64, (low_sent, high_sent): (u64, u64)) -> Conversation {
    Conversation {
        id: direct(low, high),
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

/// A record of the log, at a time.
pub fn record(time: u64, input: Input) -> LogRecord {
    LogRecord {
        time: UnixMs(time),
        input,
    }
}

/// A position in an inbox.
pub fn position(offset: u64, index: u16) -> Position {
    Position {
        generation: GENERATION,
        offset: Offset(offset),
        index,
    }
}
