//! The client protocol: commands and events as types; a [`Format`] encodes events, [`json`] being the one there is.
//!
//! A gateway decodes commands and encodes events. The other way round is a client's part, which servers do not compile:
//! feature `client`.

pub mod format;
pub mod json;

pub use format::Format;

use wire_base::body::{Body, EncodedBody};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UnixMs, UserId};
use wire_base::message::{Message, Target};
use wire_base::status::Status;
use wire_base::status::StatusCommand;

/// A command with the client's optional id, which every answer to it repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Repeated in answers.
    pub id: Option<u32>,
    /// The command, its fields checked against their bounds.
    pub command: Command<'a>,
}

/// Everything a client may say (docs/protocol.md section 5). Fields were checked against the bounds of [`wire_base::limits`].
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// First frame of a connection.
    Hello(Hello<'a>),
    /// A message to a user or a group.
    Send(Send<'a>),
    /// Everything up to the cursor is on the device.
    Ack(Position),
    /// A watermark moves.
    Status(StatusCommand),
    /// Somebody writes; never stored.
    Typing(Typing),
    /// Who is online, and tell me when it changes.
    Presence(Presence),
    /// A page of a conversation, newest first.
    History(History),
    /// A page of the inbox, newest activity first.
    Conversations(Conversations<'a>),
    /// A new token for this session.
    Refresh(&'a str),
    /// Answered by `pong`.
    Ping,
}

/// See [`Command::Hello`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hello<'a> {
    /// Only with `--insecure-dev`.
    pub user: Option<UserId>,
    /// Bearer token, when no header or subprotocol carried it.
    pub token: Option<&'a str>,
    /// `None` where the client named none: the token's, else [`DeviceId::DEFAULT`].
    pub device: Option<DeviceId>,
    /// Where to continue; counts as an ack.
    pub cursor: Option<Position>,
    /// Messages in flight without ack, 1 to 256.
    pub window: u16,
}

/// See [`Command::Send`].
#[derive(Clone, Debug, PartialEq)]
pub struct Send<'a> {
    /// Missing: the server makes one, and no dedupe is possible.
    pub message_id: Option<MessageId>,
    /// The user or group it is for.
    pub to: Target,
    /// Ciphertext arrives as base64, so this view owns it once decoded.
    pub body: SendBody<'a>,
}

/// What a send carries: text borrowed from the frame, or a body already encoded (ciphertext, escaped text).
///
/// Shape: equal when the fields are equal, whichever form they are in.
#[derive(Clone, Debug)]
pub enum SendBody<'a> {
    /// Borrowed from the frame.
    Borrowed(Body<'a>),
    /// Decoded from base64 or from JSON escapes.
    Encoded(EncodedBody),
}

impl SendBody<'_> {
    /// Returns the fields.
    pub fn view(&self) -> Body<'_> {
        match self {
            Self::Borrowed(body) => *body,
            Self::Encoded(body) => body.decode(),
        }
    }

    /// Returns the body as it travels on.
    ///
    /// Panics: when a borrowed body is outside its bounds; one that was parsed is within them.
    pub fn into_encoded(self) -> EncodedBody {
        match self {
            Self::Borrowed(body) => body.encode(),
            Self::Encoded(body) => body,
        }
    }
}

impl PartialEq for SendBody<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

/// See [`Command::Typing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typing {
    /// The user or group it is shown to.
    pub to: Target,
    /// `start` or `stop`.
    pub active: bool,
}

/// See [`Command::Presence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// At most 100.
    pub users: Vec<UserId>,
    /// Also on change.
    pub watch: bool,
}

/// See [`Command::History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The conversation asked for.
    pub conversation: ConversationId,
    /// Only older than this.
    pub before: Option<Seq>,
    /// 1 to 100.
    pub limit: u32,
}

/// See [`Command::Conversations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversations<'a> {
    /// 1 to 100.
    pub limit: u32,
    /// The `next` of the page before; opaque to the client.
    pub before: Option<&'a str>,
}

/// Everything a server may say (docs/protocol.md section 6).
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The session stands.
    Welcome(Welcome<'a>),
    /// A send is durable.
    Sent(Sent),
    /// A send is not.
    Rejected(Rejected<'a>),
    /// An entry of the inbox.
    Message(ShownMessage<'a>),
    /// A watermark of another member (or the own read, on other devices) moved.
    StatusUpdate(StatusUpdate),
    /// The backlog is over.
    Synced(Position),
    /// The cursor given is of no use; the backlog starts at `oldest`.
    Resync {
        /// One sentence for people.
        reason: &'a str,
        /// The oldest entry kept.
        oldest: Position,
    },
    /// A page of messages.
    History(HistoryPage<'a>),
    /// A page of conversations.
    Conversations(ConversationsPage<'a>),
    /// The server is about to close.
    Reconnect {
        /// Wait this long,
        after_ms: u32,
        /// and up to this much longer, at random.
        jitter_ms: u32,
        /// One sentence for people.
        reason: &'a str,
    },
    /// Answer to `ping`.
    Pong {
        /// Repeats the command's.
        id: Option<u32>,
        /// The server's clock.
        server_time: UnixMs,
    },
    /// A command failed; the connection stays.
    Error(Failure<'a>),
}

/// See [`Event::Welcome`].
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome<'a> {
    /// Repeats the id of hello or refresh.
    pub id: Option<u32>,
    /// The server's clock.
    pub server_time: UnixMs,
    /// Session number, in hex.
    pub session_id: &'a str,
    /// The session's user.
    pub user: UserId,
    /// The session's device.
    pub device: DeviceId,
    /// Name of the gateway.
    pub gateway: &'a str,
    /// Start of live.
    pub cursor: Position,
    /// The cursor given was accepted.
    pub resumed: bool,
    /// How often the server pings.
    pub ping_interval_ms: u32,
    /// What a client must keep to.
    pub limits: WelcomeLimits,
}

/// See [`Welcome::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WelcomeLimits {
    /// Longest content, in scalar values.
    pub content_chars: u32,
    /// Largest frame and message, both ways, in bytes.
    pub frame_bytes: u32,
    /// Sustained sends a second; 0: not limited.
    pub sends_per_s: u32,
    /// The window in force.
    pub window: u16,
}

/// See [`Event::Sent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Repeats the command's.
    pub id: Option<u32>,
    /// The sender's id, or the one the server made.
    pub message_id: MessageId,
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// The seq it got.
    pub seq: Seq,
    /// When the server took it, in ms since 1970.
    pub timestamp: UnixMs,
    /// It had been sent before; seq and timestamp are the first ones.
    pub duplicate: bool,
}

/// See [`Event::Rejected`].
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected<'a> {
    /// Repeats the command's.
    pub id: Option<u32>,
    /// Repeats the command's.
    pub message_id: Option<MessageId>,
    /// What a program can act upon.
    pub code: Code,
    /// One sentence for people that names the field.
    pub reason: &'a str,
    /// Wait at least so many ms before a repetition.
    pub retry_after_ms: Option<u32>,
}

/// See [`Event::Error`].
#[derive(Clone, Debug, PartialEq)]
pub struct Failure<'a> {
    /// Repeats the command's.
    pub id: Option<u32>,
    /// What a program can act upon.
    pub code: Code,
    /// One sentence for people that names the field.
    pub reason: &'a str,
}

/// A message as a receiver sees it; in a history page without cursor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownMessage<'a> {
    /// Place in the inbox; `None` in history.
    pub cursor: Option<Position>,
    /// Present in groups.
    pub group: Option<ConversationId>,
    /// The message, its body taken apart.
    pub message: Message<Body<'a>>,
}

impl<'a> ShownMessage<'a> {
    /// Returns a message of a direct conversation as its reader sees it.
    pub fn new(message: &'a Message, cursor: Option<Position>) -> Self {
        Self {
            cursor,
            group: None,
            message: message.view(),
        }
    }
}

/// See [`Event::StatusUpdate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// The user whose watermark moved.
    pub user: UserId,
    /// Delivered or read.
    pub status: Status,
    /// Everything up to here.
    pub seq: Seq,
    /// The message of that seq.
    pub message_id: MessageId,
}

/// See [`Event::History`].
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage<'a> {
    /// Repeats the command's.
    pub id: Option<u32>,
    /// The conversation of all messages.
    pub conversation: ConversationId,
    /// Newest first, at most `PAGE_LIMIT_MAX`; what does not fit a frame is cut when it is encoded.
    pub messages: Vec<ShownMessage<'a>>,
    /// Older ones exist.
    pub more: bool,
    /// Up to where the peer has received; 0 before the first.
    pub delivered: Seq,
    /// Up to where the peer has read; 0 before the first.
    pub read: Seq,
}

/// See [`Event::Conversations`].
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationsPage<'a> {
    /// Repeats the command's.
    pub id: Option<u32>,
    /// Newest activity first.
    pub conversations: Vec<ConversationSummary<'a>>,
    /// Pass as `before` for the next page.
    pub next: Option<&'a str>,
}

/// One conversation of an inbox page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConversationSummary<'a> {
    /// The id that `history` takes.
    pub conversation: ConversationId,
    /// The other user, or the group.
    pub with: Target,
    /// The text; `None` for ciphertext.
    pub last_message: Option<&'a str>,
    /// Time of the newest message, in ms since 1970.
    pub last_message_at: UnixMs,
    /// Seq of the newest message, from 1.
    pub last_seq: Seq,
    /// Messages of others after the later of own read, own last send and joining.
    pub unread_count: u64,
    /// Up to where the peer has received; 0 before the first.
    pub delivered: Seq,
    /// Up to where the peer has read; 0 before the first.
    pub read: Seq,
}
