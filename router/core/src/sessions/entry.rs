//! What a reader must know of an inbox entry.

use wire_base::body::{Body, Content};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UserId};
use wire_base::message::Message;

/// An entry of an inbox, without what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// Where the message is.
    pub conversation: ConversationId,
    /// Which it is.
    pub seq: Seq,
    /// The sender's id for it.
    pub message_id: MessageId,
    /// Who sent it.
    pub sender: UserId,
    /// From which device.
    pub sender_device: DeviceId,
    /// What it takes of the window.
    pub bytes: u32,
}

impl Entry {
    /// Returns the entry of a message at a position.
    pub fn new(position: Position, message: &Message) -> Self {
        Self {
            position,
            conversation: message.conversation,
            seq: message.seq,
            message_id: message.message_id,
            sender: message.sender,
            sender_device: message.sender_device,
            bytes: u32::try_from(bytes_as_text(&message.body.decode())).unwrap_or(u32::MAX),
        }
    }
}

/// Returns what a body takes in a JSON frame, escapes and base64 included.
///
/// The window is counted in these, so that what is in flight to a device always fits the connection's outbox, whatever
/// the content: a reader that overran it would be closed, come back, and be sent the same again.
fn bytes_as_text(body: &Body<'_>) -> usize {
    let content = match body.content {
        Content::Text(text) => escaped_bytes(text),
        Content::Ciphertext(bytes) => bytes.len().div_ceil(3) * 4,
    };
    content + body.media_url.map_or(0, escaped_bytes) + body.kind.map_or(0, escaped_bytes)
}

fn escaped_bytes(text: &str) -> usize {
    let added = text.bytes().map(|byte| match byte {
        0..0x20 => 5,
        b'"' | b'\\' => 1,
        _ => 0,
    });
    text.len() + added.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_counts_with_its_escapes_and_ciphertext_as_base64() {
        let bytes = |content| {
            bytes_as_text(&Body {
                content,
                media_url: None,
                kind: None,
            })
        };
        assert_eq!(bytes(Content::Text("häh\"\n")), 4 + 2 + 6);
        assert_eq!(bytes(Content::Ciphertext(&[0; 4])), 8);
        let body = Body {
            content: Content::Text("x"),
            media_url: Some("a\\"),
            kind: Some("k"),
        };
        assert_eq!(bytes_as_text(&body), 1 + 3 + 1);
    }
}
