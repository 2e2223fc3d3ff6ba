//! Which messages there are, from everything that anybody saw of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UnixMs, UserId};
use wire_base::message::{Draft, Message, Target};
use wire_link::{SendRecord, SentRecord};

use super::{Findings, Invariant};

/// Identity of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) conversation: ConversationId,
    pub(super) sender: UserId,
    pub(super) message_id: MessageId,
}

/// Identity of what was written: every text of a run is unique but for repeated sends.
type Writing = (ConversationId, UserId, Bytes);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Messages that somebody was shown.
    messages: BTreeMap<(ConversationId, Seq), Message>,
    /// What each place in a conversation was said to hold: shown, or answered to its sender.
    places: BTreeMap<(ConversationId, Seq), Key>,
    ids: BTreeMap<MessageId, BTreeSet<(Key, Seq)>>,
    /// Outcomes that were answered.
    sent: BTreeMap<Key, Outcome>,
    /// Everything that was ever asked to be sent, by what was written.
    writings: BTreeMap<Writing, Writer>,
    /// Bodies with which a key was asked, and how often.
    asks: BTreeMap<Key, Asks>,
    members: BTreeMap<ConversationId, BTreeSet<UserId>>,
    /// Entries of each inbox.
    inboxes: BTreeMap<UserId, BTreeMap<Position, (ConversationId, Seq)>>,
    /// The newest entry of each inbox that was told of at an open.
    heads: BTreeMap<UserId, Position>,
    /// The same as `inboxes` the other way round.
    positions: BTreeMap<(UserId, ConversationId, Seq), Position>,
    /// When each place was taken, as far as it was shown or answered.
    times: BTreeMap<(ConversationId, Seq), UnixMs>,
    /// The newest seq of a conversation that a sender was told.
    told: BTreeMap<ConversationId, Seq>,
    /// The newest page of each conversation's whole history, read at the end.
    histories: BTreeMap<ConversationId, BTreeSet<Seq>>,
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    seq: Seq,
    timestamp: UnixMs,
    /// An answer said that it was new.
    was_new: bool,
}

/// Who may have written something.
#[derive(Clone, Debug, Default)]
struct Writer {
    devices: BTreeSet<DeviceId>,
    /// `None`: the router was to make one.
    message_ids: BTreeSet<Option<MessageId>>,
    /// Answers that said for sure that it is not in the conversation, and asks that have no such answer.
    refused: u32,
    asked: u32,
    /// Where it was seen.
    place: Option<Seq>,
}

#[derive(Clone, Debug, Default)]
struct Asks {
    count: u32,
    bodies: BTreeSet<Bytes>,
}

impl Ledger {
    /// Notes that a send is asked for; returns the newest seq that any sender of the conversation was told before.
    pub(super) fn handle_ask(&mut self, send: &SendRecord) -> Seq {
        let conversation = conversation_of(&send.draft);
        self.members
            .entry(conversation)
            .or_default()
            .extend(members_of(&send.draft));
        let body = send.draft.body.as_bytes().clone();
        let writer = self
            .writings
            .entry((conversation, send.draft.sender, body.clone()))
            .or_default();
        writer.devices.insert(send.draft.sender_device);
        writer.message_ids.insert(send.message_id);
        writer.asked += 1;
        if let Some(message_id) = send.message_id {
            let asks = self
                .asks
                .entry(Key {
                    conversation,
                    sender: send.draft.sender,
                    message_id,
                })
                .or_default();
            asks.count += 1;
            asks.bodies.insert(body);
        }
        self.told(conversation)
    }

    /// Notes that a send was answered `Sent`.
    pub(super) fn handle_sent(&mut self, send: &SendRecord, sent: &SentRecord, findings: &mut Findings) {
        let SentRecord {
            message_id,
            conversation,
            seq,
            timestamp,
            duplicate,
            ..
        } = *sent;
        let key = Key {
            conversation,
            sender: send.draft.sender,
            message_id,
        };
        let expected = conversation_of(&send.draft);
        findings.check(conversation == expected, Invariant::Explicit, || {
            format!("a send to {expected} was answered for {conversation}")
        });
        findings.check(
            send.message_id.is_none_or(|id| id == message_id),
            Invariant::Explicit,
            || format!("a send of {:?} was answered for {message_id}", send.message_id),
        );
        match self.sent.get_mut(&key) {
            None => {
                self.sent.insert(
                    key,
                    Outcome {
                        seq,
                        timestamp,
                        was_new: !duplicate,
                    },
                );
            }
            Some(first) => {
                findings.check(
                    (first.seq, first.timestamp) == (seq, timestamp),
                    Invariant::Once,
                    || {
                        format!(
                            "{key:?} was answered {first:?} and then seq {} at {}",
                            seq.0, timestamp.0
                        )
                    },
                );
                findings.check(duplicate || !first.was_new, Invariant::Once, || {
                    format!("{key:?} was called new twice")
                });
                first.was_new |= !duplicate;
            }
        }
        let asked = self.asks.get(&key).map_or(1, |asks| asks.count);
        findings.check(!duplicate || asked > 1, Invariant::Once, || {
            format!("{key:?} was called a duplicate and asked for once")
        });
        self.claim_place(key, seq, findings);
        self.times.insert((conversation, seq), timestamp);
        self.write_at(
            &(
                conversation,
                send.draft.sender,
                send.draft.body.as_bytes().clone(),
            ),
            seq,
            findings,
        );
        let told = self.told.entry(conversation).or_default();
        *told = (*told).max(seq);
    }

    /// Notes that a send was refused for sure: this writing is in no conversation because of it.
    pub(super) fn handle_refused(&mut self, send: &SendRecord) {
        let conversation = conversation_of(&send.draft);
        let writing = (
            conversation,
            send.draft.sender,
            send.draft.body.as_bytes().clone(),
        );
        self.writings.entry(writing).or_default().refused += 1;
    }

    /// Returns whether a key was asked with several bodies.
    pub(super) fn is_contradicted(&self, send: &SendRecord) -> bool {
        let conversation = conversation_of(&send.draft);
        send.message_id.is_some_and(|message_id| {
            let asks = self.asks.get(&Key {
                conversation,
                sender: send.draft.sender,
                message_id,
            });
            asks.is_some_and(|asks| asks.bodies.len() > 1)
        })
    }

    /// Takes a message that somebody was shown.
    pub(super) fn see(&mut self, message: &Message, findings: &mut Findings) {
        let place = (message.conversation, message.seq);
        if let Some(known) = self.messages.get(&place) {
            findings.check(known == message, Invariant::Once, || {
                format!(
                    "seq {} of {} is {known:?}, and then {message:?}",
                    place.1.0, place.0
                )
            });
            return;
        }
        self.check_written(message, findings);
        let key = Key {
            conversation: message.conversation,
            sender: message.sender,
            message_id: message.message_id,
        };
        self.claim_place(key, message.seq, findings);
        let writing = (
            message.conversation,
            message.sender,
            message.body.as_bytes().clone(),
        );
        self.write_at(&writing, message.seq, findings);
        self.times.insert(place, message.timestamp);
        self.messages.insert(place, message.clone());
    }

    /// Checks that somebody asked for exactly this message to be sent.
    fn check_written(&self, message: &Message, findings: &mut Findings) {
        let writing = (
            message.conversation,
            message.sender,
            message.body.as_bytes().clone(),
        );
        let is_known = self.writings.get(&writing).is_some_and(|writer| {
            let has_id =
                writer.message_ids.contains(&Some(message.message_id)) || writer.message_ids.contains(&None);
            has_id && writer.devices.contains(&message.sender_device)
        });
        findings.check(is_known, Invariant::MembersOnly, || {
            format!("nobody sent {message:?}")
        });
    }

    fn claim_place(&mut self, key: Key, seq: Seq, findings: &mut Findings) {
        self.ids.entry(key.message_id).or_default().insert((key, seq));
        let held = *self.places.entry((key.conversation, seq)).or_insert(key);
        findings.check(held == key, Invariant::Once, || {
            format!(
                "seq {} of {} belongs to {held:?} and to {key:?}",
                seq.0, key.conversation
            )
        });
    }

    fn write_at(&mut self, writing: &Writing, seq: Seq, findings: &mut Findings) {
        let Some(writer) = self.writings.get_mut(writing) else {
            return;
        };
        let held = *writer.place.get_or_insert(seq);
        findings.check(held == seq, Invariant::Once, || {
            format!(
                "what {:?} wrote to {} stands at seq {} and at seq {}",
                writing.1, writing.0, held.0, seq.0
            )
        });
    }

    /// Takes an entry of an inbox.
    pub(super) fn see_entry(
        &mut self,
        user: UserId,
        position: Position,
        message: &Message,
        findings: &mut Findings,
    ) {
        let place = (message.conversation, message.seq);
        let held = *self
            .inboxes
            .entry(user)
            .or_default()
            .entry(position)
            .or_insert(place);
        findings.check(held == place, Invariant::Ordered, || {
            format!("{position} in the inbox of {user:?} is {held:?} and {place:?}")
        });
        let held = *self
            .positions
            .entry((user, message.conversation, message.seq))
            .or_insert(position);
        findings.check(held == position, Invariant::Ordered, || {
            format!("{place:?} stands at {held} and at {position} in the inbox of {user:?}")
        });
    }

    /// Takes the newest entry of an inbox as a connection was told it.
    pub(super) fn see_head(&mut self, user: UserId, head: Position) {
        let newest = self.heads.entry(user).or_insert(head);
        *newest = (*newest).max(head);
    }

    /// Returns the newest entry of an inbox that anybody was sent or told of.
    pub(super) fn newest(&self, user: UserId) -> Option<Position> {
        let sent = self.inbox(user).next_back().map(|(position, ..)| position);
        sent.max(self.heads.get(&user).copied())
    }

    /// Notes that the whole history of a conversation was read at the end, and what was in it.
    pub(super) fn see_history(&mut self, conversation: ConversationId, seqs: impl Iterator<Item = Seq>) {
        self.histories.entry(conversation).or_default().extend(seqs);
    }

    pub(super) fn told(&self, conversation: ConversationId) -> Seq {
        self.told.get(&conversation).copied().unwrap_or_default()
    }

    /// Returns the newest message at or before a seq that the user surely received from another, or in a conversation
    /// with oneself.
    pub(super) fn received(&self, conversation: ConversationId, user: UserId, seq: Seq) -> Option<Seq> {
        let is_with_oneself = self.peer(conversation, user)? == user;
        let places = self.places.range((conversation, Seq(0))..=(conversation, seq));
        let mut received = places
            .rev()
            .filter(|(_, key)| key.sender != user || is_with_oneself);
        received.next().map(|((_, seq), _)| *seq)
    }

    /// Returns whether a message may be gone by now. It is no older than what came before it in its conversation.
    pub(super) fn may_be_gone(&self, conversation: ConversationId, seq: Seq, findings: &Findings) -> bool {
        let mut before = self.times.range((conversation, Seq(0))..=(conversation, seq));
        findings.is_expired_after(before.next_back().map(|(_, time)| *time))
    }

    /// Returns whether something of an inbox after a position may be gone by now, if all that goes is older than what
    /// stays.
    pub(super) fn may_be_gone_after(&self, user: UserId, position: Position, findings: &Findings) -> bool {
        let inbox = self.inboxes.get(&user);
        let before = inbox.and_then(|inbox| inbox.range(..=position).next_back());
        findings.is_expired_after(before.and_then(|(_, place)| self.times.get(place)).copied())
    }

    /// Returns the newest message of a member that was shown or answered.
    pub(super) fn last_of(&self, conversation: ConversationId, sender: UserId) -> Seq {
        let mut places = self
            .places
            .range((conversation, Seq(0))..=(conversation, Seq(u64::MAX)));
        places
            .rfind(|(_, key)| key.sender == sender)
            .map_or(Seq(0), |((_, seq), _)| *seq)
    }

    /// Returns whether somebody was shown or answered what stands at a place.
    pub(super) fn is_known(&self, conversation: ConversationId, seq: Seq) -> bool {
        self.places.contains_key(&(conversation, seq))
    }

    pub(super) fn is_member(&self, conversation: ConversationId, user: UserId) -> bool {
        self.members
            .get(&conversation)
            .is_some_and(|members| members.contains(&user))
    }

    /// Returns the other member; the user in a conversation with oneself.
    pub(super) fn peer(&self, conversation: ConversationId, user: UserId) -> Option<UserId> {
        let members = self.members.get(&conversation)?;
        members.contains(&user).then(|| {
            members
                .iter()
                .copied()
                .find(|member| *member != user)
                .unwrap_or(user)
        })
    }

    /// Returns the conversations of a user that surely have a message.
    pub(super) fn conversations(&self, user: UserId) -> impl Iterator<Item = ConversationId> {
        self.told
            .keys()
            .copied()
            .filter(move |conversation| self.is_member(*conversation, user))
    }

    pub(super) fn message(&self, conversation: ConversationId, seq: Seq) -> Option<&Message> {
        self.messages.get(&(conversation, seq))
    }

    /// Returns the newest message of a conversation that was shown to anybody.
    pub(super) fn last(&self, conversation: ConversationId) -> Option<&Message> {
        self.messages_of(conversation).next_back()
    }

    pub(super) fn messages_of(
        &self,
        conversation: ConversationId,
    ) -> impl DoubleEndedIterator<Item = &Message> {
        let range = (conversation, Seq(0))..=(conversation, Seq(u64::MAX));
        self.messages.range(range).map(|(_, message)| message)
    }

    /// Returns the messages that carry an id, as far as they were answered or shown.
    pub(super) fn with_id(&self, message_id: MessageId) -> impl Iterator<Item = (Key, Seq)> {
        self.ids.get(&message_id).into_iter().flatten().copied()
    }

    pub(super) fn inbox(
        &self,
        user: UserId,
    ) -> impl DoubleEndedIterator<Item = (Position, ConversationId, Seq)> {
        let entries = self.inboxes.get(&user).into_iter().flatten();
        entries.map(|(position, (conversation, seq))| (*position, *conversation, *seq))
    }

    /// Returns where a message stands in a user's inbox, when that was seen.
    pub(super) fn position(&self, user: UserId, conversation: ConversationId, seq: Seq) -> Option<Position> {
        self.positions.get(&(user, conversation, seq)).copied()
    }

    pub(super) fn conclude(&self, findings: &mut Findings) {
        for (key, outcome) in &self.sent {
            self.conclude_sent(key, outcome, findings);
        }
        for (conversation, seqs) in &self.histories {
            self.conclude_history(*conversation, seqs, findings);
        }
        for (writing, writer) in &self.writings {
            let is_refused = writer.refused == writer.asked;
            findings.check(!is_refused || writer.place.is_none(), Invariant::Explicit, || {
                format!(
                    "{writing:?} was refused each time and stands at {:?}",
                    writer.place
                )
            });
        }
        for user in self.inboxes.keys() {
            self.conclude_inbox(*user, findings);
        }
    }

    fn conclude_sent(&self, key: &Key, outcome: &Outcome, findings: &mut Findings) {
        let is_kept = self
            .histories
            .get(&key.conversation)
            .is_some_and(|seqs| seqs.contains(&outcome.seq));
        let is_expired = findings.is_expired(outcome.timestamp);
        findings.check(is_kept || is_expired, Invariant::Durable, || {
            format!(
                "{key:?} was sent as seq {} and is not in the history",
                outcome.seq.0
            )
        });
        if let Some(message) = self.message(key.conversation, outcome.seq) {
            findings.check(message.timestamp == outcome.timestamp, Invariant::Once, || {
                format!("{key:?} was answered with another time than {message:?}")
            });
        }
    }

    /// Everything from the first message that is kept to the last is there, and their times do not go back.
    fn conclude_history(&self, conversation: ConversationId, seqs: &BTreeSet<Seq>, findings: &mut Findings) {
        let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else {
            return;
        };
        let is_dense = last.0 - first.0 + 1 == seqs.len() as u64;
        findings.check(is_dense, Invariant::Ordered, || {
            format!("the seqs of {conversation} have gaps: {seqs:?}")
        });
        findings.check(
            first.0 == 1 || self.may_be_gone(conversation, Seq(first.0 - 1), findings),
            Invariant::Durable,
            || format!("the history of {conversation} begins at seq {}", first.0),
        );
        let newest = self.last(conversation).map(|message| message.seq);
        findings.check(newest <= Some(*last), Invariant::Durable, || {
            format!("{conversation} had {newest:?} and ends at seq {}", last.0)
        });
        let times = self.messages_of(conversation).map(|message| message.timestamp);
        findings.check(times.is_sorted(), Invariant::Ordered, || {
            format!("the times of {conversation} go back")
        });
    }

    /// The order of an inbox is that of its conversations, each message once.
    fn conclude_inbox(&self, user: UserId, findings: &mut Findings) {
        let mut newest: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        for (position, conversation, seq) in self.inbox(user) {
            let before = newest.insert(conversation, seq);
            findings.check(before.is_none_or(|before| before < seq), Invariant::Ordered, || {
                format!("in the inbox of {user:?}, {position} brings seq {} of {conversation} after {before:?}", seq.0)
            });
            findings.check(self.is_member(conversation, user), Invariant::MembersOnly, || {
                format!("{conversation} is in the inbox of {user:?}, who is no member")
            });
        }
    }
}

/// Returns where a draft goes.
fn conversation_of(draft: &Draft) -> ConversationId {
    match draft.target {
        Target::Direct(receiver) => ConversationId::direct(draft.sender, receiver),
        Target::Group(conversation) => conversation,
    }
}

/// Returns whom a draft makes members: both of a direct conversation, nobody of a group.
fn members_of(draft: &Draft) -> Vec<UserId> {
    match draft.target {
        Target::Direct(receiver) => vec![draft.sender, receiver],
        Target::Group(_) => Vec::new(),
    }
}
