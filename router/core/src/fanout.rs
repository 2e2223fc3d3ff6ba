//! From one log to another: a message that took its seq in the log of its conversation, on its way into inboxes whose users have
//! logs of their own; and the mark of an ack, on its way back.
//!
//! Such a record may be appended twice, by two owners or by one that did not hear of its success. A mark is a maximum, so that
//! a repetition moves nothing. Of a message the inbox knows by its seq whether it has it: the newest one of each conversation
//! is stored, behind the entry, with the record that made it. What a record up to there has made is read, and not made again.

use std::collections::BTreeMap;

use router_records::log::{FanoutInput, Input, LogRecord, Recipient, StatusInput};
use router_records::row::{LastSentRow, Row};
use wire_base::ids::{ConversationId, Offset, Position, Seq, UserId};
use wire_base::message::Message;

use crate::cache::Cache;
use crate::effects::{Effects, Elsewhere, NewMessage};
use crate::fold::Lookup;
use crate::inbox::{FIRST_INDEX, InboxFold, NewEntry};
use crate::membership::Membership;
use crate::time::Stamp;
use crate::topology::{PartitionId, Topology};

/// Adds the effects of a new message on inboxes: a record for each log of them.
pub fn fan_out(
    topology: Topology,
    stamp: Stamp,
    message: Message,
    membership: &Membership,
    effects: &mut Effects,
) {
    let mut recipients: BTreeMap<PartitionId, Vec<Recipient>> = BTreeMap::new();
    for user in membership.recipients(message.sender) {
        let prev_seq = membership.sent_before(user, message.seq);
        let of_log = recipients.entry(topology.of_user(user)).or_default();
        of_log.push(Recipient { user, prev_seq });
    }
    for (partition, recipients) in recipients {
        let input = FanoutInput {
            message: message.clone(),
            origin: stamp.offset,
            recipients,
        };
        let record = LogRecord {
            time: stamp.time,
            input: Input::Fanout(input),
        };
        effects.elsewhere.push(Elsewhere {
            partition,
            offset: stamp.offset,
            record,
        });
    }
    effects.messages.push(NewMessage {
        message,
        entries: Vec::new(),
    });
}

/// Returns the effect of an ack on the watermarks of a conversation.
pub fn mark_elsewhere(topology: Topology, stamp: Stamp, mark: StatusInput) -> Elsewhere {
    Elsewhere {
        partition: topology.of_conversation(mark.conversation),
        offset: stamp.offset,
        record: LogRecord {
            time: stamp.time,
            input: Input::Status(mark),
        },
    }
}

/// Messages of a conversation that an inbox lacks though a later one has come: those after `after`, up to `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// Where.
    pub conversation: ConversationId,
    /// The inbox has this one.
    pub after: Seq,
    /// The last one that is missing.
    pub through: Seq,
}

/// What came into the inboxes of a log of users.
#[derive(Debug)]
pub struct FanoutFold {
    /// The newest message of a conversation in an inbox, and the record that brought it; `None`: the store knows of none.
    last: Cache<(UserId, ConversationId), Option<(Seq, Offset)>>,
    /// Messages that were read for the record that is folded next.
    gaps: BTreeMap<Gap, Vec<Message>>,
    /// What records that are to be folded have made before, at another owner or before a crash.
    made: BTreeMap<(UserId, Offset), Vec<(Position, Message)>>,
}

impl FanoutFold {
    /// Returns a fold that holds at most `last_max` newest messages, about 120 bytes each.
    pub fn new(last_max: usize) -> Self {
        Self {
            last: Cache::new(last_max),
            gaps: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// Names what the fold of a message needs and memory does not have.
    pub fn missing(&self, offset: Offset, fanout: &FanoutInput) -> Option<Lookup> {
        let conversation = fanout.message.conversation;
        fanout.recipients.iter().find_map(|recipient| {
            let user = recipient.user;
            match self.last.get(&(user, conversation)) {
                None => Some(Lookup::LastSent(user, conversation)),
                Some(Some((_, by))) if *by >= offset => {
                    let is_known = self.made.contains_key(&(user, offset));
                    (!is_known).then_some(Lookup::Entries(user, offset))
                }
                Some(last) => gap(fanout, recipient, *last)
                    .filter(|gap| !self.gaps.contains_key(gap))
                    .map(Lookup::Gap),
            }
        })
    }

    /// Takes what the store has. What memory has is newer and stays.
    pub fn handle_last_sent(&mut self, user: UserId, conversation: ConversationId, row: Option<LastSentRow>) {
        if self.last.get(&(user, conversation)).is_none() {
            let last = row.map(|row| (row.seq, row.offset));
            self.last.insert((user, conversation), last, None);
        }
    }

    /// Takes the messages that an inbox lacks.
    pub fn handle_gap(&mut self, gap: Gap, messages: Vec<Message>) {
        self.gaps.insert(gap, messages);
    }

    /// Takes the entries that a record has made.
    pub fn handle_entries(&mut self, user: UserId, offset: Offset, entries: Vec<(Position, Message)>) {
        self.made.insert((user, offset), entries);
    }

    /// Puts a message into the inboxes that do not have it, behind those that they lack.
    ///
    /// Panics: when [`missing`](Self::missing) still names something.
    pub fn fold(
        &mut self,
        offset: Offset,
        fanout: &FanoutInput,
        inboxes: &mut InboxFold,
        effects: &mut Effects,
    ) {
        let mut entries = Vec::with_capacity(fanout.recipients.len());
        for recipient in &fanout.recipients {
            if let Some(made) = self.made.remove(&(recipient.user, offset)) {
                announce(offset, recipient.user, made, inboxes, effects);
                continue;
            }
            let position = self.fold_recipient(offset, fanout, recipient, inboxes, effects);
            entries.extend(position.map(|position| (recipient.user, position)));
        }
        self.gaps.clear();
        if !entries.is_empty() {
            let message = fanout.message.clone();
            effects.messages.push(NewMessage { message, entries });
        }
    }

    /// Cuts memory back to its bound.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub fn evict(&mut self, applied: Option<Offset>) {
        self.last.evict(applied);
    }

    fn fold_recipient(
        &mut self,
        offset: Offset,
        fanout: &FanoutInput,
        recipient: &Recipient,
        inboxes: &mut InboxFold,
        effects: &mut Effects,
    ) -> Option<Position> {
        let Message {
            conversation, seq, ..
        } = fanout.message;
        let user = recipient.user;
        let last = self
            .last
            .write(&(user, conversation), offset)
            .expect("the caller loads what missing() names");
        let mut prev_seq = last.map_or(recipient.prev_seq, |(seq, _)| seq);
        if seq <= prev_seq {
            return None;
        }
        let gap = gap(fanout, recipient, *last);
        *last = Some((seq, offset));
        let mut index = FIRST_INDEX;
        let missed = gap.and_then(|gap| self.gaps.get(&gap));
        for message in missed.into_iter().flatten() {
            let entry = NewEntry {
                user,
                index,
                conversation,
                seq: message.seq,
                prev_seq,
            };
            let position = inboxes.place_entry(offset, &entry, effects);
            effects.messages.push(NewMessage {
                message: message.clone(),
                entries: vec![(user, position)],
            });
            (index, prev_seq) = (index + 1, message.seq);
        }
        let entry = NewEntry {
            user,
            index,
            conversation,
            seq,
            prev_seq,
        };
        let position = inboxes.place_entry(offset, &entry, effects);
        // Behind the entry, so that a message counts as there only when it is.
        effects.rows.push(Row::LastSent(LastSentRow {
            user,
            conversation,
            seq,
            offset,
        }));
        Some(position)
    }
}

/// Tells readers of entries that are in the store already. They may be news to those who read here.
fn announce(
    offset: Offset,
    user: UserId,
    made: Vec<(Position, Message)>,
    inboxes: &mut InboxFold,
    effects: &mut Effects,
) {
    for (position, message) in made {
        inboxes.note_entry(offset, user, position);
        effects.messages.push(NewMessage {
            message,
            entries: vec![(user, position)],
        });
    }
}

/// Returns what an inbox lacks before a message.
fn gap(fanout: &FanoutInput, recipient: &Recipient, last: Option<(Seq, Offset)>) -> Option<Gap> {
    let (after, _) = last?;
    let is_new = fanout.message.seq > after;
    (is_new && recipient.prev_seq > after).then_some(Gap {
        conversation: fanout.message.conversation,
        after,
        through: recipient.prev_seq,
    })
}
