//! The smallest store: a map for each table, and the answers to a node's questions.

use std::collections::BTreeMap;
use std::ops::Deref;

use router_records::row::{
    ConversationRow, DedupeRow, DeviceRow, InboxRow, LastSentRow, MessageRow, ReceiptRow, Row,
    UserConversationRow,
};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UserId};
use wire_base::message::Message;

use crate::dedupe::SendKey;
use crate::fold::{Loaded, Lookup};
use crate::membership::Conversation;
use crate::node::{Answer, InboxPage, NamedMessage, Question, Summary, UserConversation};
use crate::sessions::Entry;

/// A map for each table.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // Each is named for its rows.
pub struct Tables {
    pub messages: BTreeMap<(ConversationId, Seq), MessageRow>,
    pub index: BTreeMap<SendKey, DedupeRow>,
    pub conversations: BTreeMap<ConversationId, ConversationRow>,
    pub receipts: BTreeMap<(ConversationId, UserId), ReceiptRow>,
    pub user_conversations: BTreeMap<(UserId, ConversationId), UserConversationRow>,
    pub inbox: BTreeMap<(UserId, Position), InboxRow>,
    pub devices: BTreeMap<(UserId, DeviceId), DeviceRow>,
    pub last_sent: BTreeMap<(UserId, ConversationId), LastSentRow>,
}

/// Tables that several write to: what a late writer brings changes nothing that is newer.
#[derive(Clone, Debug, Default)]
pub struct SharedTables {
    tables: Tables,
    /// The record by which each row was written, by its key.
    written: BTreeMap<Vec<u8>, Offset>,
}

impl SharedTables {
    /// Writes a row as of a record; returns whether a newer one stands there, and stays.
    pub fn write(&mut self, row: &Row, of: Offset) -> bool {
        let before = self.written.entry(row.encode().0).or_default();
        let is_stale = *before > of;
        if !is_stale {
            *before = of;
            self.tables.write(row);
        }
        is_stale
    }
}

impl Deref for SharedTables {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl Tables {
    /// Writes a row over what stands under its key.
    pub fn write(&mut self, row: &Row) {
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
                self.index.insert(key, row);
            }
            Row::Conversation(row) => {
                self.conversations.insert(row.conversation, row);
            }
            Row::Receipt(row) => {
                self.receipts.insert((row.conversation, row.user), row);
            }
            Row::UserConversation(row) => {
                self.user_conversations.insert((row.user, row.conversation), row);
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
    }

    /// Answers a question of a node.
    pub fn answer(&self, question: &Question) -> Answer {
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
                let own = self.user_conversations.values();
                let own = own.filter(|row| row.user == user && Some(row.conversation) > after);
                let with_state = |row: &UserConversationRow| UserConversation {
                    conversation: row.conversation,
                    state: self.state(row.conversation),
                };
                Answer::Conversations(own.take(limit).map(with_state).collect())
            }
            Question::Summaries(ref conversations) => {
                Answer::Summaries(conversations.iter().map(|id| self.summary(*id)).collect())
            }
        }
    }

    /// Looks up what a fold lacks.
    pub fn load(&self, lookup: Lookup) -> Loaded {
        match lookup {
            Lookup::Conversation(id) => Loaded::Conversation(id, self.state(id)),
            Lookup::Dedupe(key) => Loaded::Dedupe(key, self.index.get(&key).copied()),
            Lookup::Receipt(conversation, user) => {
                let row = self.receipts.get(&(conversation, user));
                Loaded::Receipt(conversation, user, row.copied())
            }
            Lookup::LastSent(user, conversation) => {
                let row = self.last_sent.get(&(user, conversation));
                Loaded::LastSent(user, conversation, row.copied())
            }
            Lookup::Gap(gap) => {
                let rows = self.messages_of(gap.conversation).map(|row| &row.message);
                let rows = rows.filter(|message| gap.after < message.seq && message.seq <= gap.through);
                Loaded::Gap(gap, rows.cloned().collect())
            }
            Lookup::Entries(user, offset) => {
                let rows = self.inbox_of(user).filter(|row| row.position.offset == offset);
                let entries = rows.map(|row| (row.position, self.message(row)));
                Loaded::Entries(user, offset, entries.collect())
            }
            Lookup::User(user) => Loaded::User {
                user,
                devices: (self.devices.values().filter(|row| row.user == user).copied()).collect(),
                head: self.head(user),
            },
        }
    }

    /// Returns the messages of a conversation, oldest first.
    pub fn messages_of(&self, id: ConversationId) -> impl DoubleEndedIterator<Item = &MessageRow> {
        self.messages
            .range((id, Seq(0))..=(id, Seq(u64::MAX)))
            .map(|(_, row)| row)
    }

    /// Returns the inbox of a user, oldest first.
    pub fn inbox_of(&self, user: UserId) -> impl DoubleEndedIterator<Item = &InboxRow> {
        let end = Position {
            generation: u32::MAX,
            offset: Offset(u64::MAX),
            index: u16::MAX,
        };
        self.inbox
            .range((user, Position::start(0))..=(user, end))
            .map(|(_, row)| row)
    }

    /// Returns the position of the newest entry of an inbox.
    pub fn head(&self, user: UserId) -> Option<Position> {
        self.inbox_of(user).next_back().map(|row| row.position)
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

    /// Returns the messages before a seq, newest first, and whether there are more.
    fn messages_before(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
        bytes_max: usize,
    ) -> (Vec<MessageRow>, bool) {
        let older = self.messages_of(conversation).rev();
        let older = older.filter(|row| before.is_none_or(|before| row.message.seq < before));
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in older {
            bytes += row.message.body.as_bytes().len();
            if rows.len() == limit || bytes > bytes_max && !rows.is_empty() {
                return (rows, true);
            }
            rows.push(row.clone());
        }
        (rows, false)
    }

    fn named(&self, message_id: MessageId, limit: usize) -> Vec<NamedMessage> {
        let rows = self.index.values().filter(|row| row.message_id == message_id);
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (row.sender, row.conversation));
        let with_state = |row: &DedupeRow| NamedMessage {
            index: *row,
            state: self.state(row.conversation),
        };
        rows.into_iter().take(limit).map(with_state).collect()
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
