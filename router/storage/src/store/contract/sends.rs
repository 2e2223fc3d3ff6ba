//! A model of what sends write and what retention leaves of it.

use std::collections::{BTreeMap, BTreeSet};

use router_records::row::{ConversationRow, DedupeRow, InboxRow, Members, MessageRow, Pair, Row};
use wire_base::body::BodyHash;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UnixMs, UserId};
use wire_base::message::Message;

use super::samples::{body, message_id, user};
use crate::store::{Direction, Limits, Range, Reads};

/// Sends between users, as the folds write them, and how far retention came.
#[derive(Clone, Debug)]
pub(crate) struct Sends {
    generation: u32,
    next: u64,
    sent: Vec<Sent>,
    /// Everything before this was gone through.
    swept: Offset,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    offset: Offset,
    conversation: ConversationId,
    seq: Seq,
    message_id: MessageId,
    sender: UserId,
    receiver: UserId,
}

impl Sent {
    /// Returns the entries that point to it.
    fn entries(&self, generation: u32) -> impl Iterator<Item = (UserId, Position)> {
        let (offset, sender) = (self.offset, self.sender);
        let others = (sender != self.receiver).then_some(sender);
        (1..)
            .zip(std::iter::once(self.receiver).chain(others))
            .map(move |(index, user)| {
                let position = Position {
                    generation,
                    offset,
                    index,
                };
                (user, position)
            })
    }
}

impl Sends {
    pub(crate) fn new(generation: u32) -> Self {
        Self {
            generation,
            next: 0,
            sent: Vec::new(),
            swept: Offset(0),
        }
    }

    /// Returns the rows of a send.
    pub(crate) fn send(&mut self, sender: u64, receiver: u64) -> Vec<Row> {
        let (sender, receiver) = (user(sender), user(receiver));
        let conversation = ConversationId::direct(sender, receiver);
        let previous = self.of(conversation).last().copied();
        let offset = Offset(self.next);
        let sent = Sent {
            offset,
            conversation,
            seq: previous.map_or(Seq(0), |sent| sent.seq).next(),
            message_id: message_id(u128::from(offset.0) + 1),
            sender,
            receiver,
        };
        self.next += 1;
        self.sent.push(sent);
        let Sent { seq, message_id, .. } = sent;
        let entries = sent.entries(self.generation).map(|(user, position)| {
            Row::Inbox(InboxRow {
                user,
                position,
                conversation,
                seq,
                prev_seq: Seq(seq.0 - 1),
            })
        });
        let message = MessageRow {
            offset,
            prev_offset: previous.map_or(offset, |sent| sent.offset),
            message: Message {
                conversation,
                seq,
                message_id,
                sender,
                sender_device: DeviceId::API,
                timestamp: UnixMs(1),
                body: body("x"),
            },
        };
        let index = DedupeRow {
            message_id,
            sender,
            conversation,
            seq,
            hash: BodyHash(1),
            timestamp: UnixMs(1),
            offset,
        };
        let state = ConversationRow {
            conversation,
            members: Members::Direct(Pair {
                low: sender.min(receiver),
                high: sender.max(receiver),
                low_sent: Seq(0),
                high_sent: Seq(0),
            }),
            last_seq: seq,
            last_offset: offset,
            last_time: UnixMs(1),
        };
        entries
            .chain([message.into(), index.into(), state.into()])
            .collect()
    }

    /// Notes a record that makes no message.
    pub(crate) fn skip(&mut self) {
        self.next += 1;
    }

    /// Returns the last record.
    pub(crate) fn last(&self) -> Option<Offset> {
        self.next.checked_sub(1).map(Offset)
    }

    /// Returns the last record, once there is one.
    pub(crate) fn through(&self) -> Offset {
        self.last().unwrap_or_default()
    }

    /// Notes a step of retention and returns what it is to say.
    pub(crate) fn prune(&mut self, below: Offset, messages_max: usize) -> Option<Offset> {
        let left = self.sent.iter().filter(|sent| sent.offset >= self.swept);
        let mut old = left.filter(|sent| sent.offset < below).map(|sent| sent.offset);
        if let Some(last) = old.by_ref().take(messages_max.max(1)).last() {
            let next = old.next();
            self.swept = Offset(last.0 + 1);
            return next;
        }
        None
    }

    /// Returns the first row that should be there and is not, or the other way round.
    pub(crate) fn disagreement(&self, store: &impl Reads) -> Option<String> {
        let mut newest = BTreeMap::new();
        let mut heads = BTreeMap::new();
        for sent in &self.sent {
            newest.insert(sent.conversation, sent.seq);
            heads.extend(sent.entries(self.generation));
        }
        for sent in &self.sent {
            let is_left = sent.offset >= self.swept;
            let message: Option<MessageRow> = store.get(sent.conversation, sent.seq).unwrap();
            if message.is_some() != (is_left || newest[&sent.conversation] == sent.seq) {
                return Some(format!("{self:?}: {message:?} of {sent:?}"));
            }
            let index: Option<DedupeRow> = store
                .get(sent.message_id, (sent.sender, sent.conversation))
                .unwrap();
            if index.is_some() != is_left {
                return Some(format!("{self:?}: {index:?} of {sent:?}"));
            }
            for (user, position) in sent.entries(self.generation) {
                let entry: Option<InboxRow> = store.get(user, position).unwrap();
                if entry.is_some() != (is_left || heads[&user] == position) {
                    return Some(format!("{self:?}: {entry:?} of {user:?} for {sent:?}"));
                }
            }
        }
        let owners: BTreeSet<_> = newest.keys().collect();
        owners.into_iter().find_map(|owner| {
            let rows = store.scan(
                Range::<MessageRow>::of(*owner),
                Direction::Forward,
                Limits::rows(usize::MAX),
            );
            let more = rows.unwrap().rows.iter().any(|row| row.offset > self.through());
            more.then(|| format!("{owner:?} has messages that nobody sent"))
        })
    }

    fn of(&self, conversation: ConversationId) -> impl Iterator<Item = &Sent> {
        self.sent
            .iter()
            .filter(move |sent| sent.conversation == conversation)
    }
}
