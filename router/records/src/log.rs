//! Records of the router's log: the inputs of the folds, in the order that decides everything.

mod layout;

use wire_base::ids::{
    ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs, UserId,
};
use wire_base::message::{Draft, Message};
use wire_base::status::Status;

/// One log record: when it was appended, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Wall clock of the router that appended it. Log time is the running maximum of these.
    pub time: UnixMs,
    /// The fact.
    pub input: Input,
}

/// What a record says. Unknown kind bytes are refused by the decoder: a fold must never skip a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message from a user to another, or to a group.
    Send(SendInput),
    /// A device has everything up to a position.
    Ack(AckInput),
    /// A user has received or read everything up to a seq of a conversation.
    Status(StatusInput),
    /// A device said hello: for the first time, or where another node may own its user next.
    Device(DeviceInput),
    /// A message took a seq in the log of its conversation, and goes to inboxes of this one.
    Fanout(FanoutInput),
}

/// See [`Input::Send`]. Content, rate and id limits were checked before the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendInput {
    /// Idempotency key.
    pub message_id: MessageId,
    /// Who says what to whom.
    pub draft: Draft,
}

/// See [`Input::Ack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckInput {
    /// Whose inbox.
    pub user: UserId,
    /// Which reader of it.
    pub device: DeviceId,
    /// The session that acked; stored with the device so that the next one gets a higher number.
    pub session: SessionNumber,
    /// Everything up to here is on the device.
    pub position: Position,
    /// The highest message of others in each conversation that this ack newly covers.
    pub delivered: Vec<Delivered>,
}

/// A message of another user that an ack covers: the highest of its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its seq.
    pub seq: Seq,
    /// Its id, repeated in the `status_update`.
    pub message_id: MessageId,
}

/// See [`Input::Status`]. Membership and bounds were checked before the log and are checked again by the fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusInput {
    /// Who received or read.
    pub user: UserId,
    /// The device that said so; it gets no `status_update` of its own read.
    pub device: DeviceId,
    /// Where.
    pub conversation: ConversationId,
    /// Which watermark.
    pub status: Status,
    /// Everything up to here.
    pub seq: Seq,
    /// The message of that seq.
    pub message_id: MessageId,
}

/// See [`Input::Device`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInput {
    /// Whose device.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// Its first session.
    pub session: SessionNumber,
}

/// See [`Input::Fanout`]. The same message may come again, from another owner of its conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutInput {
    /// What readers get.
    pub message: Message,
    /// The record of the conversation's log that gave it its place.
    pub origin: Offset,
    /// Whose inboxes it goes to, all of this log.
    pub recipients: Vec<Recipient>,
}

/// A user who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub user: UserId,
    /// The seq of that conversation that the user was sent before it; 0 at first.
    pub prev_seq: Seq,
}
