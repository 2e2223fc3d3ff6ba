//! Records of the router as the events that clients see, the same over WebSocket and HTTP.

use super::{ConversationsPageRecord, HistoryPageRecord, MessageRecord, SummaryRecord};
use wire_base::body::Content;
use wire_base::ids::Position;
use wire_client::{ConversationSummary, ConversationsPage, HistoryPage, Message, Target};

impl MessageRecord {
    /// Returns the message as its reader sees it; `cursor` is its place in the inbox, `None` in history.
    pub fn shown(&self, cursor: Option<Position>) -> Message<'_> {
        Message {
            cursor,
            message_id: self.message_id,
            conversation: self.conversation,
            seq: self.seq,
            sender: self.sender,
            sender_device: self.sender_device,
            group: None,
            body: self.body.decode(),
            timestamp: self.timestamp,
        }
    }
}

impl HistoryPageRecord {
    /// Returns the page as the answer to the request that had this id.
    pub fn shown(&self, id: Option<u32>) -> HistoryPage<'_> {
        HistoryPage {
            id,
            conversation: self.conversation,
            messages: self.messages.iter().map(|message| message.shown(None)).collect(),
            more: self.more,
            delivered: self.delivered,
            read: self.read,
        }
    }
}

impl ConversationsPageRecord {
    /// Returns the page as the answer to the request that had this id.
    pub fn shown(&self, id: Option<u32>) -> ConversationsPage<'_> {
        ConversationsPage {
            id,
            conversations: self.conversations.iter().map(SummaryRecord::shown).collect(),
            next: self.next.as_deref(),
        }
    }
}

impl SummaryRecord {
    fn shown(&self) -> ConversationSummary<'_> {
        let text = |content| match content {
            Content::Text(text) => Some(text),
            Content::Ciphertext(_) => None,
        };
        ConversationSummary {
            conversation: self.conversation,
            with: Target::User(self.peer),
            last_message: self
                .last_body
                .as_ref()
                .and_then(|body| text(body.decode().content)),
            last_message_at: self.last_time,
            last_seq: self.last_seq,
            unread_count: self.unread,
            delivered: self.delivered,
            read: self.read,
        }
    }
}
