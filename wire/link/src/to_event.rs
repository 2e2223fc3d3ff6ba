//! Records of the router as the events that clients see, the same over WebSocket and HTTP.

use super::{ConversationsPageRecord, HistoryPageRecord, SummaryRecord};
use wire_base::body::Content;
use wire_client::{ConversationSummary, ConversationsPage, HistoryPage, ShownMessage};

impl HistoryPageRecord {
    /// Returns the first `count` messages of the page as the answer to the request that had this id.
    pub fn shown(&self, id: Option<u32>, count: usize) -> HistoryPage<'_> {
        let messages = self.messages.iter().take(count);
        HistoryPage {
            id,
            conversation: self.conversation,
            messages: messages.map(|message| ShownMessage::new(message, None)).collect(),
            more: self.more || count < self.messages.len(),
            delivered: self.delivered,
            read: self.read,
        }
    }
}

impl ConversationsPageRecord {
    /// Returns the first `count` conversations of the page as the answer to the request that had this id.
    pub fn shown(&self, id: Option<u32>, count: usize) -> ConversationsPage<'_> {
        let shown = self.conversations.iter().take(count);
        ConversationsPage {
            id,
            conversations: shown.map(SummaryRecord::shown).collect(),
            next: self.next_behind(count),
        }
    }
}

impl ConversationsPageRecord {
    /// Returns the `before` of the page that goes on behind the first `count` conversations; `None` where there are no more.
    pub fn next_behind(&self, count: usize) -> Option<&str> {
        let shown = &self.conversations[..count.min(self.conversations.len())];
        let has_more = self.more || shown.len() < self.conversations.len();
        shown.last().filter(|_| has_more).map(|last| last.next.as_str())
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
            with: self.with,
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
