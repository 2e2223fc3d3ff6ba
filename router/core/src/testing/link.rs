//! What is said on a link, and what is read off it.

use bytes::Bytes;
use wire_base::body::{Content, EncodedBody};
use wire_base::ids::{ConnectionHandle, DeviceId, MessageId};
use wire_link::codec::{BatchWriter, decode_from_router};
use wire_link::{
    FromRouter, HistoryPageRecord, HistoryRecord, LINK_VERSION, LinkHello, LinkKind, RequestId, SendRecord,
    SessionOpen, ToRouter,
};

use super::{direct, records, user};

/// The first record of a link, of worker 0 of the node `test` in its first life.
pub fn link_hello(kind: LinkKind) -> LinkHello {
    LinkHello {
        version: LINK_VERSION,
        kind,
        node: "test".into(),
        epoch: 1,
        worker: 0,
    }
}

/// The first connection in a slot of a gateway.
pub fn connection(slot: u32) -> ConnectionHandle {
    ConnectionHandle { slot, generation: 1 }
}

/// A hello of a user's device that has nothing, with room for a hundred messages.
pub fn session_open(slot: u32, of: u64, device: u32) -> SessionOpen {
    SessionOpen {
        connection: connection(slot),
        user: user(of),
        device: records::device(device),
        session: None,
        cursor: None,
        forwarded: None,
        window: 100,
    }
}

/// A send of text from a device of one user to another user.
pub fn send_of(
    request: RequestId,
    (sender, sender_device): (u64, DeviceId),
    receiver: u64,
    message_id: Option<MessageId>,
    content: &str,
) -> SendRecord {
    SendRecord {
        request,
        message_id,
        draft: records::draft(sender, sender_device, receiver, content),
    }
}

/// A user's question for the newest messages of a conversation with another one.
pub fn history_of(request: RequestId, of: u64, other: u64, limit: u32) -> HistoryRecord {
    HistoryRecord {
        request,
        user: user(of),
        conversation: direct(of, other),
        before: None,
        limit,
    }
}

/// Writes records to a router as one batch.
pub fn encode(records: &[ToRouter]) -> Bytes {
    let mut batch = BatchWriter::new();
    records.iter().for_each(|record| batch.push_to_router(record));
    batch.take()
}

/// Reads the records of a router's batch.
///
/// Panics: where the router did not keep to the layout.
pub fn decode(batch: Bytes) -> impl Iterator<Item = FromRouter> {
    decode_from_router(batch).map(|record| record.expect("a router writes what can be read"))
}

/// Returns the text of a body, or how much ciphertext it is.
pub fn text_of(body: &EncodedBody) -> String {
    match body.decode().content {
        Content::Text(text) => text.to_owned(),
        Content::Ciphertext(bytes) => format!("{} bytes of ciphertext", bytes.len()),
    }
}

/// Returns the texts of a history page, oldest first, with their seqs.
pub fn page_texts(page: &HistoryPageRecord) -> Vec<(u64, String)> {
    let oldest_first = page.messages.iter().rev();
    oldest_first
        .map(|message| (message.seq.0, text_of(&message.body)))
        .collect()
}
