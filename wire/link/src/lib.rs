//! Records and batches between a gateway worker (or the HTTP API) and a router.
//!
//! A batch is a run of length-prefixed records; [`codec`] is its byte layout. [`port`] is one end of a link, and what a
//! driver may rely on; [`pipe`] is the one within a process. Records name connections by handle, so that a delivery needs no
//! look-up, and are idempotent.

pub mod codec;
pub mod pipe;
pub mod port;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod to_event;

pub use port::LinkPort;
pub use table::{LINKS_MAX, LinkId, LinkTable};

use wire_base::body::EncodedBody;
use wire_base::code::Code;
use wire_base::ids::{
    ConnectionHandle, ConversationId, DeviceId, MessageId, Position, Seq, SessionNumber, UnixMs, UserId,
};
use wire_base::limits::{PAGE_LIMIT_MAX, PAGE_TOKEN_BYTES_MAX};
use wire_base::message::{Draft, Message, Target};
use wire_base::status::Status;
use wire_base::status::StatusCommand;

/// Version of these records; the hello of a link carries it and another one is refused.
pub const LINK_VERSION: u16 = 3;
/// Largest batch a side sends.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Largest record in it; pages of history and of conversations are cut by the bytes of their bodies and stay far below.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the bodies in a page of history or of conversations, all together; a page holds one body whatever its length.
///
/// Shape: about what a frame holds as text, and less than that once it is escaped or in base64: then the page is cut once more.
pub const PAGE_BODY_BYTES_MAX: usize = 96 * 1024;
/// What a message or a conversation takes in a page beside its body, at most.
const PAGE_ENTRY_BYTES_MAX: usize = 256;

const _: () = assert!(wire_base::limits::BODY_BYTES_MAX <= RECORD_BYTES_MAX / 2); // A delivery: a body and its connections.
const _: () =
    assert!(PAGE_BODY_BYTES_MAX + PAGE_LIMIT_MAX as usize * PAGE_ENTRY_BYTES_MAX <= RECORD_BYTES_MAX / 2); // A page.
const _: () = assert!(PAGE_TOKEN_BYTES_MAX + 100 <= PAGE_ENTRY_BYTES_MAX); // A conversation's ids, seqs and times.

/// Ties an answer to its question. Chosen by the client side of the link, opaque to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the client side of a link (gateway worker or HTTP API) says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToRouter {
    /// First record of a link.
    Hello(LinkHello),
    /// A device connected, or (after a link broke) is announced again.
    SessionOpen(SessionOpen),
    /// A connection ended. Ignored unless it still holds that session.
    SessionClose(SessionRef),
    /// A message to be logged; answered by `Sent` or `Rejected`.
    Send(SendRecord),
    /// Everything up to the position is on the device. No answer.
    Ack(AckRecord),
    /// A watermark moves; answered by `Done` or `Failed`.
    Status(StatusRecord),
    /// Answered by `HistoryPage` or `Failed`.
    History(HistoryRecord),
    /// Answered by `ConversationsPage` or `Failed`.
    Conversations(ConversationsRecord),
}

/// What the router says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromRouter {
    /// The session stands; `Deliver`s follow, then `Synced`, then live.
    SessionOpened(SessionOpened),
    /// No session: the code goes into an `error`, and the client may try again. One that stands ends: close 4503.
    SessionRefused(SessionRefused),
    /// A newer connection of the device took over: close 4409.
    SessionReplaced(SessionRef),
    /// A send is durable and has its seq.
    Sent(SentRecord),
    /// A send is not.
    Rejected(RejectedRecord),
    /// One message for several connections of this link.
    Deliver(Deliver),
    /// The backlog of a session is over.
    Synced(Synced),
    /// A watermark moved; for several connections of this link.
    StatusUpdate(StatusUpdateRecord),
    /// Answer to `History`.
    HistoryPage(HistoryPageRecord),
    /// Answer to `Conversations`.
    ConversationsPage(ConversationsPageRecord),
    /// A status was taken.
    Done(RequestId),
    /// A status, history or conversations request failed.
    Failed(FailedRecord),
}

/// Which kind of client a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkKind {
    /// A gateway worker.
    Gateway = 1,
    /// The HTTP API.
    Api = 2,
    /// Another router.
    Router = 3,
}

/// See [`ToRouter::Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkHello {
    /// [`LINK_VERSION`].
    pub version: u16,
    /// A gateway worker, the API or another router.
    pub kind: LinkKind,
    /// Name of the gateway or router process.
    pub node: String,
    /// Start time of that process, in ms since 1970: a later one ends the sessions of the earlier.
    pub epoch: u64,
    /// Number of the worker within the process, from 0.
    pub worker: u16,
}

/// See [`ToRouter::SessionOpen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOpen {
    /// The connection to deliver to.
    pub connection: ConnectionHandle,
    /// The session's user.
    pub user: UserId,
    /// The session's device; never [`DeviceId::API`].
    pub device: DeviceId,
    /// `None` in a new session; its number when it is announced again after a broken link.
    pub session: Option<SessionNumber>,
    /// The cursor of hello (or, announced again, the last one acked): counts as an ack.
    pub cursor: Option<Position>,
    /// Announced again: the last position forwarded to the connection.
    pub forwarded: Option<Position>,
    /// Messages in flight without ack.
    pub window: u16,
}

/// A session on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// Names it on this link; another link may have the same.
    pub connection: ConnectionHandle,
    /// The session's user.
    pub user: UserId,
    /// The session's device; never [`DeviceId::API`].
    pub device: DeviceId,
}

/// See [`ToRouter::Send`].
#[derive(Clone, Debug, PartialEq)]
pub struct SendRecord {
    /// Repeated in the answer.
    pub request: RequestId,
    /// `None`: the router makes one.
    pub message_id: Option<MessageId>,
    /// Who says what to whom.
    pub draft: Draft,
}

/// See [`ToRouter::Ack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRecord {
    /// The user whose inbox is read.
    pub user: UserId,
    /// The device that reads it.
    pub device: DeviceId,
    /// The session that acks; one that was replaced is ignored.
    pub session: SessionNumber,
    /// Everything up to here.
    pub position: Position,
}

/// See [`ToRouter::Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRecord {
    /// Repeated in the answer.
    pub request: RequestId,
    /// The user whose watermark moves.
    pub user: UserId,
    /// The device it was said on; [`DeviceId::API`] over HTTP.
    pub device: DeviceId,
    /// The watermark, and how far it moves.
    pub command: StatusCommand,
}

/// See [`ToRouter::History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// Repeated in the answer.
    pub request: RequestId,
    /// The user who asks; must be a member.
    pub user: UserId,
    /// The conversation asked for.
    pub conversation: ConversationId,
    /// Only older than this.
    pub before: Option<Seq>,
    /// 1 to 100.
    pub limit: u32,
}

/// See [`ToRouter::Conversations`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationsRecord {
    /// Repeated in the answer.
    pub request: RequestId,
    /// The user whose conversations are asked for.
    pub user: UserId,
    /// 1 to 100.
    pub limit: u32,
    /// The `next` of the page before.
    pub before: Option<String>,
}

/// See [`FromRouter::SessionOpened`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOpened {
    /// The one that said hello.
    pub connection: ConnectionHandle,
    /// Its number; acks carry it.
    pub session: SessionNumber,
    /// Head of the inbox: the start of live.
    pub cursor: Position,
    /// The cursor given was accepted.
    pub resumed: bool,
    /// Set when the cursor given is of no use: why, and where the backlog starts instead.
    pub resync: Option<(String, Position)>,
}

/// See [`FromRouter::SessionRefused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRefused {
    /// The one that said hello.
    pub connection: ConnectionHandle,
    /// The code that the client sees.
    pub code: Code,
    /// One sentence for people, naming the field at fault; at most `TEXT_BYTES_MAX` bytes.
    pub reason: String,
}

/// See [`FromRouter::Sent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRecord {
    /// Repeats the send's.
    pub request: RequestId,
    /// The sender's id, or the one the router made.
    pub message_id: MessageId,
    /// The conversation it went to.
    pub conversation: ConversationId,
    /// The seq it got.
    pub seq: Seq,
    /// Time of the log record, in ms since 1970.
    pub timestamp: UnixMs,
    /// It had been sent before.
    pub duplicate: bool,
}

/// See [`FromRouter::Rejected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Repeats the send's.
    pub request: RequestId,
    /// The code that the client sees.
    pub code: Code,
    /// One sentence for people, naming the field at fault; at most `TEXT_BYTES_MAX` bytes.
    pub reason: String,
    /// Wait at least so many ms before a repetition.
    pub retry_after_ms: Option<u32>,
}

/// See [`FromRouter::Deliver`].
#[derive(Clone, Debug, PartialEq)]
pub struct Deliver {
    /// The message, once.
    pub message: Message,
    /// Every connection of this link that gets it now, and its place in that user's inbox.
    pub to: Vec<(ConnectionHandle, Position)>,
}

/// See [`FromRouter::Synced`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The one whose backlog has been sent.
    pub connection: ConnectionHandle,
    /// Where the backlog ended.
    pub cursor: Position,
}

/// See [`FromRouter::StatusUpdate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdateRecord {
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
    /// Connections of this link that are told.
    pub to: Vec<ConnectionHandle>,
}

/// See [`FromRouter::HistoryPage`]. Cut by the bytes of its bodies too; then `more` is set. Whoever shows it to a client cuts
/// what does not fit a frame in that client's format.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPageRecord {
    /// Repeats the question's.
    pub request: RequestId,
    /// The conversation of all messages.
    pub conversation: ConversationId,
    /// Newest first, at most the `limit` of the question.
    pub messages: Vec<Message>,
    /// Older ones exist.
    pub more: bool,
    /// What every other member has received.
    pub delivered: Seq,
    /// What every other member has read.
    pub read: Seq,
}

/// See [`FromRouter::ConversationsPage`]. Cut as a page of history is.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationsPageRecord {
    /// Repeats the question's.
    pub request: RequestId,
    /// Newest activity first.
    pub conversations: Vec<SummaryRecord>,
    /// Older ones exist.
    pub more: bool,
}

/// One conversation of an inbox page.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRecord {
    /// The id that history is asked by.
    pub conversation: ConversationId,
    /// What it is to the user who asked.
    pub with: Target,
    /// The newest message; its text is shown, a ciphertext is not.
    pub last_body: Option<EncodedBody>,
    /// Time of the newest message, in ms since 1970.
    pub last_time: UnixMs,
    /// Seq of the newest message, from 1.
    pub last_seq: Seq,
    /// The `before` of a page that goes on behind this conversation; 1 to `PAGE_TOKEN_BYTES_MAX` bytes.
    pub next: String,
    /// Messages of others after the later of own read and own last send.
    pub unread: u64,
    /// What every other member has received.
    pub delivered: Seq,
    /// What every other member has read.
    pub read: Seq,
}

/// See [`FromRouter::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRecord {
    /// Repeats the question's.
    pub request: RequestId,
    /// The code that the client sees.
    pub code: Code,
    /// One sentence for people, naming the field at fault; at most `TEXT_BYTES_MAX` bytes.
    pub reason: String,
}
