//! Watermarks: how far a user has received or read a conversation.

use crate::ids::{ConversationId, MessageId, Seq};

/// Which watermark a status moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// On a device of the recipient.
    Delivered = 1,
    /// Seen by the recipient; implies delivered.
    Read = 2,
}

impl Status {
    /// Returns the status of a stored byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Delivered),
            2 => Some(Self::Read),
            _ => None,
        }
    }

    /// Returns the protocol's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    /// Returns the status of a word of the protocol.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Delivered, Self::Read]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// A watermark that a client moves: the `status` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCommand {
    /// The watermark that moves; it never goes back.
    pub status: Status,
    /// The last message it covers.
    pub of: StatusOf,
}

/// How a status names its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusOf {
    /// A message this user received.
    Message(MessageId),
    /// A place in a conversation.
    Seq(ConversationId, Seq),
}
