//! The conversation fold: gives each message its seq, and each repeated send its first answer.

use router_records::log::SendInput;
use router_records::row::{ConversationRow, DedupeRow, Members, MessageRow, Row, UserConversationRow};
use std::collections::BTreeSet;

use wire_base::code::Code;
use wire_base::ids::{ConversationId, Offset, Seq, UnixMs, UserId};
use wire_link::MessageRecord;

use crate::cache::Cache;
use crate::dedupe::{SendKey, Window, WindowConfig};
use crate::effects::{Effects, SendOutcome};
use crate::fold::Lookup;
use crate::time::Stamp;

/// Bounds of a [`ConversationFold`]'s memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationConfig {
    /// States of conversations held, about 170 bytes each.
    pub conversations_max: usize,
    /// Outcomes of sends held, about 220 bytes each: what a quick retry is answered from.
    pub outcomes_max: usize,
    /// The memory that proves a send new.
    pub window: WindowConfig,
}

impl Default for ConversationConfig {
    fn default() -> Self {
        Self {
            conversations_max: 128 << 10,
            outcomes_max: 64 << 10,
            window: WindowConfig::default(),
        }
    }
}

/// State of the conversations of a slot (embedded: of all).
///
/// For each record: [`missing`](Self::missing) until it names nothing, then [`fold_send`](Self::fold_send). Bounds of
/// memory decide what is looked up, never what comes out.
#[derive(Debug)]
pub struct ConversationFold {
    /// `None`: no message yet.
    conversations: Cache<ConversationId, Option<ConversationRow>>,
    /// Index rows, those that the store does not hold yet among them.
    outcomes: Cache<SendKey, DedupeRow>,
    window: Window,
    /// Sends that the index does not have, for the records being prepared.
    absent: BTreeSet<SendKey>,
    /// The last pair asked for: a record's conversation is computed once, not once a look-up.
    direct: Option<(UserId, UserId, ConversationId)>,
}

impl ConversationFold {
    /// Returns a fold that knows of no arrivals up to log time `evicted` (see [`Window::new`]).
    pub fn new(config: ConversationConfig, evicted: UnixMs) -> Self {
        Self {
            conversations: Cache::new(config.conversations_max),
            outcomes: Cache::new(config.outcomes_max),
            window: Window::new(config.window, evicted),
            absent: BTreeSet::new(),
            direct: None,
        }
    }

    /// Remembers the id of a send whose effects are done.
    pub fn observe_send(&mut self, stamp: Stamp, send: &SendInput) {
        let key = self.key_of(send);
        self.window.insert(&key, stamp);
    }

    /// Names what the fold of this send needs and memory does not have; `None` when it can be folded.
    pub fn missing(&mut self, offset: Offset, send: &SendInput) -> Option<Lookup> {
        let key = self.key_of(send);
        let Some(state) = self.conversations.get(&key.conversation) else {
            return Some(Lookup::Conversation(key.conversation));
        };
        // Nothing was sent before in a conversation without a state.
        let state = state.as_ref()?;
        if self.outcomes.get(&key).is_some() || self.absent.contains(&key) {
            return None;
        }
        let is_done = offset <= state.last_offset;
        (is_done || !self.window.is_surely_new(&key)).then_some(Lookup::Dedupe(key))
    }

    /// Takes the state of a conversation as the store has it. What memory has is newer and stays.
    pub fn handle_conversation(&mut self, id: ConversationId, row: Option<ConversationRow>) {
        if self.conversations.get(&id).is_none() {
            self.conversations.insert(id, row, None);
        }
    }

    /// Takes the outcome of a send as the store has it.
    pub fn handle_dedupe(&mut self, key: SendKey, row: Option<DedupeRow>) {
        match row {
            Some(row) => self.outcomes.insert(key, row, None),
            None => {
                self.absent.insert(key);
            }
        }
    }

    /// Folds a send: rows and outcome go into `effects`, and a message that took a seq is returned for the inboxes.
    ///
    /// Panics: when [`missing`](Self::missing) still named the conversation.
    pub fn fold_send(
        &mut self,
        stamp: Stamp,
        send: &SendInput,
        effects: &mut Effects,
    ) -> Option<MessageRecord> {
        let key = self.key_of(send);
        self.absent.remove(&key);
        let state = *self
            .conversations
            .touch(&key.conversation)
            .expect("the caller loads what missing() names");
        let first = self.outcomes.touch(&key).copied();
        if state.is_some_and(|row| stamp.offset <= row.last_offset) {
            self.window.insert(&key, stamp);
            effects.outcomes.extend(
                first
                    .and_then(|first| done_outcome(&first, send, stamp.offset))
                    .map(|outcome| (stamp.offset, outcome)),
            );
            return None;
        }
        // An index row that this record itself or a later one wrote counts as absent.
        if let Some(first) = first.filter(|first| first.offset < stamp.offset) {
            effects
                .outcomes
                .push((stamp.offset, repeat_outcome(&first, send)));
            return None;
        }
        Some(self.fold_new(key, state, stamp, send, effects))
    }

    /// Cuts memory back to its bounds at log time `time`.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub fn evict(&mut self, time: UnixMs, applied: Option<Offset>) {
        self.conversations.evict(applied);
        self.outcomes.evict(applied);
        self.window.evict(time, applied);
    }

    /// Returns what memory has of a conversation: nothing, that it has no message yet, or its state.
    pub fn conversation(&self, id: ConversationId) -> Option<Option<&ConversationRow>> {
        self.conversations.get(&id).map(Option::as_ref)
    }

    fn fold_new(
        &mut self,
        key: SendKey,
        state: Option<ConversationRow>,
        stamp: Stamp,
        send: &SendInput,
        effects: &mut Effects,
    ) -> MessageRecord {
        let row = next_state(key.conversation, state, stamp, send);
        let index = DedupeRow {
            message_id: key.message_id,
            sender: key.sender,
            conversation: key.conversation,
            seq: row.last_seq,
            hash: send.body.hash(),
            timestamp: stamp.time,
            offset: stamp.offset,
        };
        if state.is_none() {
            effects
                .rows
                .extend(user_conversations(&row).map(Row::UserConversation));
        }
        effects.rows.push(Row::Message(MessageRow {
            conversation: key.conversation,
            seq: row.last_seq,
            offset: stamp.offset,
            message_id: key.message_id,
            sender: send.sender,
            sender_device: send.sender_device,
            timestamp: stamp.time,
            body: send.body.clone(),
        }));
        effects.rows.push(Row::Dedupe(index));
        effects.rows.push(Row::Conversation(row));
        effects.outcomes.push((stamp.offset, sent(&index, false)));

        if let Some(held) = self.conversations.write(&key.conversation, stamp.offset) {
            *held = Some(row);
        }
        self.outcomes.insert(key, index, Some(stamp.offset));
        self.window.insert(&key, stamp);
        MessageRecord {
            conversation: key.conversation,
            seq: row.last_seq,
            message_id: key.message_id,
            sender: send.sender,
            sender_device: send.sender_device,
            timestamp: stamp.time,
            body: send.body.clone(),
        }
    }

    fn key_of(&mut self, send: &SendInput) -> SendKey {
        let conversation = match self.direct {
            Some((sender, receiver, id)) if (sender, receiver) == (send.sender, send.receiver) => id,
            _ => {
                let id = ConversationId::direct(send.sender, send.receiver);
                self.direct = Some((send.sender, send.receiver, id));
                id
            }
        };
        SendKey {
            conversation,
            sender: send.sender,
            message_id: send.message_id,
        }
    }
}

fn next_state(
    conversation: ConversationId,
    state: Option<ConversationRow>,
    stamp: Stamp,
    send: &SendInput,
) -> ConversationRow {
    let seq = state.map_or(Seq(0), |row| row.last_seq).next();
    let members = state.map_or_else(
        || Members::Direct {
            low: send.sender.min(send.receiver),
            high: send.sender.max(send.receiver),
            low_sent: Seq(0),
            high_sent: Seq(0),
        },
        |row| row.members,
    );
    let Members::Direct {
        low,
        high,
        low_sent,
        high_sent,
    } = members;
    let newest_of = |user, sent| if send.sender == user { seq } else { sent };
    ConversationRow {
        conversation,
        members: Members::Direct {
            low,
            high,
            low_sent: newest_of(low, low_sent),
            high_sent: newest_of(high, high_sent),
        },
        last_seq: seq,
        last_offset: stamp.offset,
        last_time: stamp.time,
    }
}

/// Both members' rows; one in a conversation with oneself.
fn user_conversations(row: &ConversationRow) -> impl Iterator<Item = UserConversationRow> {
    let Members::Direct { low, high, .. } = row.members;
    let conversation = row.conversation;
    let other = (low != high).then_some(UserConversationRow {
        user: high,
        conversation,
        peer: low,
    });
    std::iter::once(UserConversationRow {
        user: low,
        conversation,
        peer: high,
    })
    .chain(other)
}

/// The outcome of a record whose effects are done, once more; `None` when the index has forgotten it (30 days).
fn done_outcome(first: &DedupeRow, send: &SendInput, offset: Offset) -> Option<SendOutcome> {
    match first.offset.cmp(&offset) {
        std::cmp::Ordering::Less => Some(repeat_outcome(first, send)),
        std::cmp::Ordering::Equal => Some(sent(first, false)),
        std::cmp::Ordering::Greater => None,
    }
}

fn repeat_outcome(first: &DedupeRow, send: &SendInput) -> SendOutcome {
    if first.hash == send.body.hash() {
        sent(first, true)
    } else {
        SendOutcome::Rejected {
            code: Code::Conflict,
            reason: "message_id: used before in this conversation, for another content, media_url or kind",
        }
    }
}

fn sent(index: &DedupeRow, duplicate: bool) -> SendOutcome {
    SendOutcome::Sent {
        message_id: index.message_id,
        conversation: index.conversation,
        seq: index.seq,
        timestamp: index.timestamp,
        duplicate,
    }
}
