//! A message from its sender to its readers: the draft that is sent, and what everybody gets once it has its place.

use crate::body::{Body, EncodedBody};
use crate::ids::{ConversationId, DeviceId, MessageId, Seq, UnixMs, UserId};

/// To whom a message goes, and what a conversation is to one of its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A user: the direct conversation with it, oneself included.
    Direct(UserId),
    /// A group, by its conversation.
    Group(ConversationId),
}

/// A message without a place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The user who wrote it.
    pub sender: UserId,
    /// The device it was written on; [`DeviceId::API`] over HTTP. That device gets no echo.
    pub sender_device: DeviceId,
    /// To whom it goes.
    pub target: Target,
    /// Content, media URL and kind.
    pub body: EncodedBody,
}

/// A message in its place. `B` is how the body is held: encoded while it travels, its fields where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<B = EncodedBody> {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Place in it.
    pub seq: Seq,
    /// The sender's id for it.
    pub message_id: MessageId,
    /// The user who wrote it.
    pub sender: UserId,
    /// The device it was written on; [`DeviceId::API`] over HTTP.
    pub sender_device: DeviceId,
    /// Log time of the record that gave it its place, in ms since 1970.
    pub timestamp: UnixMs,
    /// Content, media URL and kind, within the bounds of [`crate::limits`].
    pub body: B,
}

impl Message {
    /// Returns the message with its body taken apart.
    pub fn view(&self) -> Message<Body<'_>> {
        self.with_body(self.body.decode())
    }
}

impl<B> Message<B> {
    /// Returns the message with its body in another form.
    pub fn with_body<C>(&self, body: C) -> Message<C> {
        Message {
            conversation: self.conversation,
            seq: self.seq,
            message_id: self.message_id,
            sender: self.sender,
            sender_device: self.sender_device,
            timestamp: self.timestamp,
            body,
        }
    }
}
