//! What the folds ought to do, said as plainly as possible: unbounded memory, one record after the other, no look-ups.

use std::collections::BTreeMap;

use router_records::log::{Input, LogRecord, SendInput, StatusInput};
use router_records::row::{
    ConversationRow, DedupeRow, DeviceRow, InboxRow, Members, MessageRow, Pair, ReceiptRow,
    UserConversationRow,
};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, Offset, Position, Seq, UnixMs, UserId};
use wire_base::message::{Message, Target};
use wire_base::status::Status;

use crate::dedupe::SendKey;
use crate::effects::{SendOutcome, StatusUpdate};
use crate::receipts::status_of_delivered;
use crate::testing::{GENERATION, Tables, position};

#[derive(Default)]
pub(super) struct Model {
    pub(super) store: Tables,
    pub(super) outcomes: BTreeMap<Offset, SendOutcome>,
    pub(super) updates: Vec<StatusUpdate>,
    time: UnixMs,
}

impl Model {
    pub(super) fn of(log: &[LogRecord]) -> Self {
        let mut model = Self::default();
        for (at, record) in log.iter().enumerate() {
            model.time = model.time.max(record.time);
            model.take(at as u64, &record.input);
        }
        model
    }

    fn take(&mut self, offset: u64, input: &Input) {
        match input {
            Input::Send(send) => {
                let outcome = self.send(offset, send);
                self.outcomes.insert(Offset(offset), outcome);
            }
            Input::Ack(ack) => {
                let head = self.store.head(ack.user);
                let acked = ack.position.min(head.unwrap_or(Position::start(GENERATION)));
                let row = DeviceRow {
                    user: ack.user,
                    device: ack.device,
                    acked,
                    session: ack.session,
                    last_seen: self.time,
                };
                self.device(row);
                for delivered in &ack.delivered {
                    self.mark(status_of_delivered(ack.user, ack.device, delivered));
                }
            }
            Input::Status(status) => self.mark(*status),
            Input::Device(input) => self.device(DeviceRow {
                user: input.user,
                device: input.device,
                acked: Position::start(GENERATION),
                session: input.session,
                last_seen: self.time,
            }),
            Input::Fanout(_) => unreachable!("one log holds everything"),
        }
    }

    fn send(&mut self, offset: u64, send: &SendInput) -> SendOutcome {
        let SendInput {
            message_id,
            ref draft,
        } = *send;
        let sender = draft.sender;
        let Target::Direct(receiver) = draft.target else {
            return SendOutcome::Rejected {
                code: Code::Forbidden,
                reason: "group_id: not a group of this user",
            };
        };
        let conversation = ConversationId::direct(sender, receiver);
        let key = SendKey {
            conversation,
            sender,
            message_id,
        };
        if let Some(first) = self.store.index.get(&key) {
            return if first.hash == draft.body.hash() {
                SendOutcome::Sent {
                    message_id,
                    conversation,
                    seq: first.seq,
                    timestamp: first.timestamp,
                    duplicate: true,
                }
            } else {
                SendOutcome::Rejected {
                    code: Code::Conflict,
                    reason: "message_id: used before in this conversation, for another content, media_url or kind",
                }
            };
        }
        let seq = Seq(self.store.messages_of(conversation).count() as u64 + 1);
        let previous = self.store.messages_of(conversation).map(|row| row.offset).max();
        self.store.messages.insert(
            (conversation, seq),
            MessageRow {
                offset: Offset(offset),
                prev_offset: previous.unwrap_or(Offset(offset)),
                message: Message {
                    conversation,
                    seq,
                    message_id,
                    sender,
                    sender_device: draft.sender_device,
                    timestamp: self.time,
                    body: draft.body.clone(),
                },
            },
        );
        let index = DedupeRow {
            message_id,
            sender,
            conversation,
            seq,
            hash: draft.body.hash(),
            timestamp: self.time,
            offset: Offset(offset),
        };
        self.store.index.insert(key, index);
        let (low, high) = (sender.min(receiver), sender.max(receiver));
        let sent_by = |user| {
            self.store
                .messages_of(conversation)
                .map(|row| &row.message)
                .filter(|message| message.sender == user)
                .map(|message| message.seq)
                .max()
                .unwrap_or_default()
        };
        let members = Members::Direct(Pair {
            low,
            high,
            low_sent: sent_by(low),
            high_sent: sent_by(high),
        });
        let row = ConversationRow {
            conversation,
            members,
            last_seq: seq,
            last_offset: Offset(offset),
            last_time: self.time,
        };
        self.store.conversations.insert(conversation, row);
        for user in [low, high] {
            let row = UserConversationRow { user, conversation };
            self.store.user_conversations.insert((user, conversation), row);
        }
        self.entry(receiver, position(offset, 1), conversation, seq);
        if sender != receiver {
            self.entry(sender, position(offset, 2), conversation, seq);
        }
        SendOutcome::Sent {
            message_id,
            conversation,
            seq,
            timestamp: self.time,
            duplicate: false,
        }
    }

    fn entry(&mut self, user: UserId, position: Position, conversation: ConversationId, seq: Seq) {
        let row = InboxRow {
            user,
            position,
            conversation,
            seq,
            prev_seq: Seq(seq.0 - 1),
        };
        self.store.inbox.insert((user, position), row);
    }

    fn device(&mut self, new: DeviceRow) {
        let row = self.store.devices.entry((new.user, new.device)).or_insert(new);
        row.acked = row.acked.max(new.acked);
        row.session = row.session.max(new.session);
        row.last_seen = row.last_seen.max(new.last_seen);
    }

    fn mark(&mut self, mark: StatusInput) {
        let Some(conversation) = self.store.conversations.get(&mark.conversation) else {
            return;
        };
        let Members::Direct(Pair { low, high, .. }) = conversation.members;
        if mark.user != low && mark.user != high {
            return;
        }
        let seq = mark.seq.min(conversation.last_seq);
        let key = (mark.conversation, mark.user);
        let before = self.store.receipts.get(&key).copied();
        let none = ReceiptRow {
            conversation: mark.conversation,
            user: mark.user,
            delivered: Seq(0),
            read: Seq(0),
        };
        let mut row = before.unwrap_or(none);
        row.delivered = row.delivered.max(seq);
        if mark.status == Status::Read {
            row.read = row.read.max(seq);
        }
        if row == before.unwrap_or(none) {
            return;
        }
        self.store.receipts.insert(key, row);
        let peer = if mark.user == low { high } else { low };
        let is_read = mark.status == Status::Read;
        if seq == mark.seq && (peer != mark.user || is_read) {
            self.updates.push(StatusUpdate {
                conversation: mark.conversation,
                user: mark.user,
                status: mark.status,
                seq,
                message_id: mark.message_id,
                told: [peer].into_iter().filter(|peer| *peer != mark.user).collect(),
                except: is_read.then_some(mark.device),
            });
        }
    }
}
