//! What the store of a cluster holds: a map for each table, in which a late writer changes nothing that is newer.

use std::collections::BTreeMap;

use router_core::dedupe::SendKey;
use router_core::fold::{Loaded, Lookup};
use router_core::membership::Conversation;
use router_core::node::{Answer, InboxPage, NamedMessage, Question, Summary, UserConversation};
use router_core::sessions::Entry;
use router_records::row::{
    ConversationRow, DedupeRow, DeviceRow, InboxRow, LastSentRow, MessageRow, ReceiptRow, Row,
};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UserId};
use wire_base::message::Message;

#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// The record by which each row was written, by its key.
    written: BTreeMap<Vec<u8>, Offset>,
    pub(crate) messages: BTreeMap<(ConversationId, Seq), MessageRow>,
    sends: BTreeMap<SendKey, DedupeRow>,
    pub(crate) conversations: BTreeMap<ConversationId, ConversationRow>,
    receipts: BTreeMap<(ConversationId, UserId), ReceiptRow>,
    user_conversations: BTreeMap<(UserId, ConversationId), ()>,
    pub(crate) inbox: BTreeMap<(UserId, Position), InboxRow>,
    devices: BTreeMap<(UserId, DeviceId), DeviceRow>,
    last_sent: BTreeMap<(UserId, ConversationId), LastSentRow>,
}

impl Tables {
    /// Writes a row with the time stamp of a record; returns whether a newer one stands there, and stays.
    pub(crate) fn write(&mut self, row: &Row, stamp: Offset) -> bool {
        let before = self.written.entry(row.encode().0).or_default();
        if *before > stamp {
            return true;
        }
        *before = stamp;
        match row.clone() {
            Row::Message(row) => {
                let key = (row.message.conversation, row.message.seq);
                self.messages.insert(key, row);
            }
            Row::Dedupe(row) => {
                let key = SendKey {
                    conversation: row.conversation,
                    sender: row.sender,
                    message_id: row.message_id,
                };
                self.sends.insert(key, row);
            }
            Row::Conversation(row) => {
                self.conversations.insert(row.conversation, row);
            }
            Row::Receipt(row) => {
                self.receipts.insert((row.conversation, row.user), row);
            }
            Row::UserConversation(row) => {
                self.user_conversations.insert((row.user, row.conversation), ());
            }
            Row::Inbox(row) => {
                self.inbox.insert((row.user, row.position), row);
            }
            Row::Device(row) => {
                self.devices.insert((row.user, row.device), row);
            }
            Row::LastSent(row) => {
                self.last_sent.insert((row.user, row.conversation), row);
            }
            Row::Checkpoint(_) => unreachable!("folds write none"),
        }
        false
    }

    pub(crate) fn answer(&self, question: &Question) -> Answer {
        match *question {
            Question::Lookup(lookup) => Answer::Loaded(self.load(lookup)),
            Question::Inbox {
                user,
                after,
                limit,
                bytes_max,
                oldest,
            } => Answer::Inbox(self.inbox_page(user, after, limit, bytes_max, oldest)),
            Question::Messages {
                conversation,
                before,
                limit,
                bytes_max,
            } => Answer::Messages(self.messages_before(conversation, before, limit, bytes_max).0),
            Question::History {
                conversation,
                before,
                limit,
                bytes_max,
            } => {
                let (messages, more) = self.messages_before(conversation, before, limit, bytes_max);
                Answer::History {
                    state: self.state(conversation),
                    receipts: self.receipts_of(conversation),
                    messages,
                    more,
                }
            }
            Question::Named { message_id, limit } => Answer::Named(self.named(message_id, limit)),
            Question::Conversations { user, after, limit } => {
                let own = self.user_conversations.keys();
                let own = own.filter(|(of, id)| *of == user && after.is_none_or(|after| *id > after));
                let with_state = |(_, conversation): &(UserId, ConversationId)| UserConversation {
                    conversation: *conversation,
                    state: self.state(*conversation),
                };
                Answer::Conversations(own.take(limit).map(with_state).collect())
            }
            Question::Summaries(ref conversations) => {
                Answer::Summaries(conversations.iter().map(|id| self.summary(*id)).collect())
            }
        }
    }

    fn load(&self, lookup: Lookup) -> Loaded {
        match lookup {
            Lookup::Conversation(id) => Loaded::Conversation(id, self.state(id)),
            Lookup::Dedupe(key) => Loaded::Dedupe(key, self.sends.get(&key).copied()),
            Lookup::Receipt(conversation, user) => {
                let row = self.receipts.get(&(conversation, user));
                Loaded::Receipt(conversation, user, row.copied())
            }
            Lookup::LastSent(user, conversation) => {
                let row = self.last_sent.get(&(user, conversation));
                Loaded::LastSent(user, conversation, row.copied())
            }
            Lookup::Gap(gap) => {
                let range = (gap.conversation, gap.after.next())..=(gap.conversation, gap.through);
                let rows = self.messages.range(range).map(|(_, row)| row.message.clone());
                Loaded::Gap(gap, rows.collect())
            }
            Lookup::Entries(user, offset) => {
                let rows = self.inbox_of(user).filter(|row| row.position.offset == offset);
                let entries = rows.map(|row| (row.position, self.message(row)));
                Loaded::Entries(user, offset, entries.collect())
            }
            Lookup::User(user) => Loaded::User {
                user,
                devices: (self.devices.values().filter(|row| row.user == user).copied()).collect(),
                head: self.inbox_of(user).next_back().map(|row| row.position),
            },
        }
    }

    pub(crate) fn inbox_of(&self, user: UserId) -> impl DoubleEndedIterator<Item = &InboxRow> {
        self.inbox.values().filter(move |row| row.user == user)
    }

    fn message(&self, row: &InboxRow) -> Message {
        let of = self.messages.get(&(row.conversation, row.seq));
        of.expect("an entry is written behind its message")
            .message
            .clone()
    }

    fn inbox_page(
        &self,
        user: UserId,
        after: Position,
        limit: usize,
        bytes_max: usize,
        oldest: Position,
    ) -> InboxPage {
        let mut page = InboxPage::default();
        let mut bytes = 0;
        for row in self.inbox_of(user).filter(|row| row.position > after).take(limit) {
            page.through = Some(row.position);
            if row.position <= oldest {
                continue;
            }
            let message = self.message(row);
            bytes += Entry::new(row.position, &message).bytes as usize;
            page.entries.push((row.position, message));
            if bytes >= bytes_max {
                break;
            }
        }
        page
    }

    fn messages_before(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
        bytes_max: usize,
    ) -> (Vec<MessageRow>, bool) {
        let end = before.unwrap_or(Seq(u64::MAX));
        let mut older = self
            .messages
            .range((conversation, Seq(0))..(conversation, end))
            .rev();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < limit {
            let Some((_, row)) = older.next() else {
                return (rows, false);
            };
            bytes += row.message.body.as_bytes().len();
            if bytes > bytes_max && !rows.is_empty() {
                return (rows, true);
            }
            rows.push(row.clone());
        }
        (rows, older.next().is_some())
    }

    fn named(&self, message_id: MessageId, limit: usize) -> Vec<NamedMessage> {
        let rows = self.sends.values().filter(|row| row.message_id == message_id);
        let with_state = |row: &DedupeRow| NamedMessage {
            index: *row,
            state: self.state(row.conversation),
        };
        rows.take(limit).map(with_state).collect()
    }

    fn state(&self, id: ConversationId) -> Option<Conversation> {
        self.conversations.get(&id).copied().map(Conversation::from)
    }

    fn receipts_of(&self, id: ConversationId) -> Vec<ReceiptRow> {
        let of = self.receipts.values().filter(|row| row.conversation == id);
        of.copied().collect()
    }

    fn summary(&self, conversation: ConversationId) -> Summary {
        let state = self.state(conversation);
        let last = state
            .as_ref()
            .and_then(|state| self.messages.get(&(conversation, state.last_seq)));
        Summary {
            conversation,
            last: last.cloned(),
            receipts: self.receipts_of(conversation),
            state,
        }
    }
}
