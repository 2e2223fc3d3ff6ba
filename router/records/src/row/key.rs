//! Keys of the rows: a table byte, then the key fields big-endian, so that keys sort as their fields do.
//!
//! Every table has fixed-width keys, so a prefix of whole fields is a range: from the prefix to [`after`] it.

use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UnixMs, UserId};

/// First key byte of what the store keeps for itself (the flushed offset); no row is ever there.
pub const TABLE_META: u8 = 0;
/// First key byte of [`super::MessageRow`].
pub const TABLE_MESSAGE: u8 = 1;
/// First key byte of [`super::DedupeRow`].
pub const TABLE_DEDUPE: u8 = 2;
/// First key byte of [`super::ConversationRow`].
pub const TABLE_CONVERSATION: u8 = 3;
/// First key byte of [`super::ReceiptRow`].
pub const TABLE_RECEIPT: u8 = 4;
/// First key byte of [`super::UserConversationRow`].
pub const TABLE_USER_CONVERSATION: u8 = 5;
/// First key byte of [`super::InboxRow`].
pub const TABLE_INBOX: u8 = 6;
/// First key byte of [`super::DeviceRow`].
pub const TABLE_DEVICE: u8 = 7;
/// First key byte of [`super::CheckpointRow`].
pub const TABLE_CHECKPOINT: u8 = 8;
/// First key byte of [`super::LastSentRow`].
pub const TABLE_LAST_SENT: u8 = 9;

/// Returns the key of a message.
pub fn message(conversation: ConversationId, seq: Seq) -> [u8; 25] {
    join([&message_prefix(conversation), &seq.0.to_be_bytes()])
}

/// Returns what the keys of a conversation's messages start with; they follow in seq order.
pub fn message_prefix(conversation: ConversationId) -> [u8; 17] {
    join([&[TABLE_MESSAGE], conversation.get().as_bytes()])
}

/// Returns the key of the outcome of a send.
pub fn dedupe(message_id: MessageId, sender: UserId, conversation: ConversationId) -> [u8; 41] {
    join([
        &dedupe_prefix(message_id),
        &sender.get().to_be_bytes(),
        conversation.get().as_bytes(),
    ])
}

/// Returns what the keys of every outcome of a message id start with.
pub fn dedupe_prefix(message_id: MessageId) -> [u8; 17] {
    join([&[TABLE_DEDUPE], message_id.get().as_bytes()])
}

/// Returns the key of a conversation's state.
pub fn conversation(conversation: ConversationId) -> [u8; 17] {
    join([&[TABLE_CONVERSATION], conversation.get().as_bytes()])
}

/// Returns the key of a member's watermarks.
pub fn receipt(conversation: ConversationId, user: UserId) -> [u8; 25] {
    join([&receipt_prefix(conversation), &user.get().to_be_bytes()])
}

/// Returns what the keys of the watermarks of a conversation start with.
pub fn receipt_prefix(conversation: ConversationId) -> [u8; 17] {
    join([&[TABLE_RECEIPT], conversation.get().as_bytes()])
}

/// Returns the key of a user's part in a conversation.
pub fn user_conversation(user: UserId, conversation: ConversationId) -> [u8; 25] {
    join([&user_conversation_prefix(user), conversation.get().as_bytes()])
}

/// Returns what the keys of a user's conversations start with.
pub fn user_conversation_prefix(user: UserId) -> [u8; 9] {
    join([&[TABLE_USER_CONVERSATION], &user.get().to_be_bytes()])
}

/// Returns the key of an inbox entry.
pub fn inbox(user: UserId, position: Position) -> [u8; 23] {
    join([
        &inbox_prefix(user),
        &position.generation.to_be_bytes(),
        &position.offset.0.to_be_bytes(),
        &position.index.to_be_bytes(),
    ])
}

/// Returns what the keys of a user's inbox start with; the entries follow in order of position.
pub fn inbox_prefix(user: UserId) -> [u8; 9] {
    join([&[TABLE_INBOX], &user.get().to_be_bytes()])
}

/// Returns the key of a device.
pub fn device(user: UserId, device: DeviceId) -> [u8; 13] {
    join([&device_prefix(user), &device.get().to_be_bytes()])
}

/// Returns what the keys of a user's devices start with.
pub fn device_prefix(user: UserId) -> [u8; 9] {
    join([&[TABLE_DEVICE], &user.get().to_be_bytes()])
}

/// Returns the key of a checkpoint.
pub fn checkpoint(time: UnixMs) -> [u8; 9] {
    join([&checkpoint_prefix(), &time.0.to_be_bytes()])
}

/// Returns what the keys of the checkpoints start with; they follow in order of time.
pub fn checkpoint_prefix() -> [u8; 1] {
    [TABLE_CHECKPOINT]
}

/// Returns the key of the newest message of a conversation in a user's inbox.
pub fn last_sent(user: UserId, conversation: ConversationId) -> [u8; 25] {
    join([
        &[TABLE_LAST_SENT],
        &user.get().to_be_bytes(),
        conversation.get().as_bytes(),
    ])
}

/// Returns the least key above every key that starts with `prefix`: the open end of its range.
///
/// Panics: when every byte is 255, after which nothing comes; table bytes are small, so no prefix of a row is.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let last = prefix
        .iter()
        .rposition(|byte| *byte != u8::MAX)
        .expect("a row's prefix starts with a small table byte");
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

fn join<const PARTS: usize, const BYTES: usize>(parts: [&[u8]; PARTS]) -> [u8; BYTES] {
    let mut key = [0; BYTES];
    let mut at = 0;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, BYTES);
    key
}

#[cfg(test)]
mod tests;
