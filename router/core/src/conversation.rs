//! The conversation fold: gives each message its seq, and each repeated send its first answer.

use router_records::log::SendInput;
use router_records::row::{DedupeRow, MessageRow, Row, UserConversationRow};
use std::collections::BTreeSet;

use wire_base::code::Code;
use wire_base::ids::{ConversationId, Offset, UnixMs, UserId};
use wire_base::message::{Message, Target};

use crate::cache::Cache;
use crate::dedupe::{SendKey, Window, WindowConfig};
use crate::effects::{Effects, SendOutcome};
use crate::fold::Lookup;
use crate::membership::{Conversation, Membership};
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
    conversations: Cache<ConversationId, Option<Conversation>>,
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
    pub fn handle_conversation(&mut self, id: ConversationId, state: Option<Conversation>) {
        if self.conversations.get(&id).is_none() {
            self.conversations.insert(id, state, None);
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

    /// Folds a send: rows and outcome go into `effects`, and a message that took a seq is returned for the inboxes, with the
    /// members as of it.
    ///
    /// Panics: when [`missing`](Self::missing) still named the conversation.
    pub fn fold_send(
        &mut self,
        stamp: Stamp,
        send: &SendInput,
        effects: &mut Effects,
    ) -> Option<(Message, Membership)> {
        let key = self.key_of(send);
        self.absent.remove(&key);
        let state = self
            .conversations
            .touch(&key.conversation)
            .expect("the caller loads what missing() names")
            .clone();
        let first = self.outcomes.touch(&key).copied();
        if state
            .as_ref()
            .is_some_and(|state| stamp.offset <= state.last_offset)
        {
            self.window.insert(&key, stamp);
            effects.outcomes.extend(
                first
                    .and_then(|first| done_outcome(&first, send, stamp.offset))
                    .map(|outcome| (stamp.offset, outcome)),
            );
            return None;
        }
        let membership = match &state {
            Some(state) => Some(state.membership.clone()).filter(|members| members.may_send(&send.draft)),
            None => Membership::begun_by(&send.draft),
        };
        let Some(membership) = membership else {
            effects.outcomes.push((stamp.offset, NOT_A_MEMBER));
            return None;
        };
        // An index row that this record itself or a later one wrote counts as absent.
        if let Some(first) = first.filter(|first| first.offset < stamp.offset) {
            effects
                .outcomes
                .push((stamp.offset, repeat_outcome(&first, send)));
            return None;
        }
        if state.is_none() {
            let conversation = key.conversation;
            let row = |user| Row::UserConversation(UserConversationRow { user, conversation });
            effects.rows.extend(membership.members().map(row));
        }
        let prev_offset = state.as_ref().map_or(stamp.offset, |state| state.last_offset);
        let next = Conversation::next(key.conversation, state.as_ref(), membership, stamp, key.sender);
        Some(self.fold_new(key, next, prev_offset, stamp, send, effects))
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
    pub fn conversation(&self, id: ConversationId) -> Option<Option<&Conversation>> {
        self.conversations.get(&id).map(Option::as_ref)
    }

    fn fold_new(
        &mut self,
        key: SendKey,
        state: Conversation,
        prev_offset: Offset,
        stamp: Stamp,
        send: &SendInput,
        effects: &mut Effects,
    ) -> (Message, Membership) {
        let index = DedupeRow {
            message_id: key.message_id,
            sender: key.sender,
            conversation: key.conversation,
            seq: state.last_seq,
            hash: send.draft.body.hash(),
            timestamp: stamp.time,
            offset: stamp.offset,
        };
        let message = Message {
            conversation: key.conversation,
            seq: state.last_seq,
            message_id: key.message_id,
            sender: key.sender,
            sender_device: send.draft.sender_device,
            timestamp: stamp.time,
            body: send.draft.body.clone(),
        };
        effects.rows.push(Row::Message(MessageRow {
            offset: stamp.offset,
            prev_offset,
            message: message.clone(),
        }));
        effects.rows.push(Row::Dedupe(index));
        effects.rows.push(Row::Conversation(state.row()));
        effects.outcomes.push((stamp.offset, sent(&index, false)));

        let membership = state.membership.clone();
        if let Some(held) = self.conversations.write(&key.conversation, stamp.offset) {
            *held = Some(state);
        }
        self.outcomes.insert(key, index, Some(stamp.offset));
        self.window.insert(&key, stamp);
        (message, membership)
    }

    fn key_of(&mut self, send: &SendInput) -> SendKey {
        let sender = send.draft.sender;
        let conversation = match send.draft.target {
            Target::Group(conversation) => conversation,
            Target::Direct(receiver) => self.direct(sender, receiver),
        };
        SendKey {
            conversation,
            sender,
            message_id: send.message_id,
        }
    }

    fn direct(&mut self, sender: UserId, receiver: UserId) -> ConversationId {
        match self.direct {
            Some((a, b, id)) if (a, b) == (sender, receiver) => id,
            _ => {
                let id = ConversationId::direct(sender, receiver);
                self.direct = Some((sender, receiver, id));
                id
            }
        }
    }
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
    if first.hash == send.draft.body.hash() {
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

/// There are no groups yet, so that this is everybody's answer to a send to one.
const NOT_A_MEMBER: SendOutcome = SendOutcome::Rejected {
    code: Code::Forbidden,
    reason: "group_id: not a group of this user",
};
