//! The smallest store: a map for each table.

use std::collections::BTreeMap;

use router_records::row::{
    ConversationRow, DedupeRow, DeviceRow, InboxRow, LastSentRow, MessageRow, ReceiptRow, Row,
    UserConversationRow,
};
use wire_base::ids::{ConversationId, DeviceId, Position, Seq, UserId};

use crate::dedupe::SendKey;
use crate::fold::{Loaded, Lookup};
use crate::membership::Conversation;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MapStore {
    pub(crate) messages: BTreeMap<(ConversationId, Seq), MessageRow>,
    pub(crate) index: BTreeMap<SendKey, DedupeRow>,
    pub(crate) conversations: BTreeMap<ConversationId, ConversationRow>,
    pub(crate) receipts: BTreeMap<(ConversationId, UserId), ReceiptRow>,
    pub(crate) user_conversations: BTreeMap<(UserId, ConversationId), UserConversationRow>,
    pub(crate) inbox: BTreeMap<(UserId, Position), InboxRow>,
    pub(crate) devices: BTreeMap<(UserId, DeviceId), DeviceRow>,
    pub(crate) last_sent: BTreeMap<(UserId, ConversationId), LastSentRow>,
}

impl MapStore {
    pub(crate) fn apply(&mut self, rows: &[Row]) {
        for row in rows {
            match row.clone() {
                Row::Message(row) => {
                    self.messages
                        .insert((row.message.conversation, row.message.seq), row);
                }
                Row::Dedupe(row) => {
                    let DedupeRow {
                        conversation,
                        sender,
                        message_id,
                        ..
                    } = row;
                    self.index.insert(
                        SendKey {
                            conversation,
                            sender,
                            message_id,
                        },
                        row,
                    );
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
    }

    pub(crate) fn load(&self, lookup: Lookup) -> Loaded {
        match lookup {
            Lookup::Conversation(id) => {
                Loaded::Conversation(id, self.conversations.get(&id).copied().map(Conversation::from))
            }
            Lookup::Dedupe(key) => Loaded::Dedupe(key, self.index.get(&key).copied()),
            Lookup::Receipt(conversation, user) => Loaded::Receipt(
                conversation,
                user,
                self.receipts.get(&(conversation, user)).copied(),
            ),
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
                let rows = self.inbox.values();
                let rows = rows.filter(|row| row.user == user && row.position.offset == offset);
                let message = |row: &InboxRow| self.messages[&(row.conversation, row.seq)].message.clone();
                Loaded::Entries(
                    user,
                    offset,
                    rows.map(|row| (row.position, message(row))).collect(),
                )
            }
            Lookup::User(user) => Loaded::User {
                user,
                devices: self
                    .devices
                    .values()
                    .filter(|row| row.user == user)
                    .copied()
                    .collect(),
                head: self
                    .inbox
                    .values()
                    .filter(|row| row.user == user)
                    .map(|row| row.position)
                    .max(),
            },
        }
    }

    pub(crate) fn messages_of(&self, conversation: ConversationId) -> impl Iterator<Item = &MessageRow> {
        self.messages
            .values()
            .filter(move |row| row.message.conversation == conversation)
    }
}

pub(crate) fn kind(row: &Row) -> &'static str {
    match row {
        Row::Message(_) => "message",
        Row::Dedupe(_) => "index",
        Row::Conversation(_) => "conversation",
        Row::Receipt(_) => "receipt",
        Row::UserConversation(_) => "user_conversation",
        Row::Inbox(_) => "inbox",
        Row::Device(_) => "device",
        Row::Checkpoint(_) => "checkpoint",
        Row::LastSent(_) => "last_sent",
    }
}
