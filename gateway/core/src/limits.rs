//! Every deadline and bound of a gateway worker, with their relations checked at compile time.
//!
//! What an operator may set is in [`crate::config`], whose defaults are here; the rest is fixed by docs/protocol.md section 9
//! or by the relations below. Sizes of the wire formats are in `wire_base::limits`.

use wire_base::limits::{BATCH_MESSAGES_MAX, FRAME_BYTES_MAX, WINDOW_BYTES_MAX};
use wire_link::{BATCH_BYTES_MAX, RECORD_BYTES_MAX};

/// From accept to the end of the HTTP request.
pub const UPGRADE_MS_MAX: u64 = 5_000;
/// From the upgrade to a valid hello.
pub const HELLO_MS_MAX: u64 = 5_000;
/// From hello to the router's answer.
pub const ROUTER_MS_MAX: u64 = 5_000;
/// From the first byte of a message to its last.
pub const MESSAGE_MS_MAX: u64 = 30_000;
/// How long unsent bytes may make no progress.
pub const PROGRESS_MS_MAX: u64 = 30_000;
/// From the close frame to the close of the socket.
pub const CLOSE_MS_MAX: u64 = 5_000;
/// From a command to the router's answer; then it is answered `unavailable`.
pub const ANSWER_MS_MAX: u64 = 15_000;
/// How long a token is honoured after it expired, at hello and in a session.
pub use wire_auth::TOKEN_LEEWAY_MS;

/// Default silence of a client after which it is pinged.
pub const PING_INTERVAL_MS: u32 = 25_000;
/// Pings come up to this part of the interval (one in so many) earlier, at random, so that they spread.
pub const PING_JITTER_DIVISOR: u64 = 5;
/// Unanswered pings before a connection counts as dead.
pub const PINGS_MISSED_MAX: u8 = 2;
/// Most pings and pongs a client may send within [`PING_WINDOW_S`].
pub const PINGS_MAX: u16 = 100;
/// See [`PINGS_MAX`].
pub const PING_WINDOW_S: u16 = 10;
/// Most malformed commands within [`BAD_REQUEST_WINDOW_S`].
pub const BAD_REQUESTS_MAX: u8 = 10;
/// See [`BAD_REQUESTS_MAX`].
pub const BAD_REQUEST_WINDOW_S: u16 = 60;

/// Default bound of bytes that wait for a connection that does not take them.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Bytes one tick may gather for a connection before the first of them is tried.
pub const OUTBOX_TICK_BYTES_MAX: usize = 1024 * 1024;
/// Length from which an event for many is not copied for each of them, but sent from where it was encoded.
///
/// Shape: short events are cheaper copied into the one buffer of a write, which is one run and is used again, than sent as
/// runs of their own. Copies of a long one for thousands of receivers would all be held at once until the tick's sends are
/// submitted. The value is an estimate, not a measurement.
pub const SHARED_BYTES_MIN: usize = 4 * 1024;
/// Bytes that the transport holds up to which a slow consumer still gets its close frame when memory is short.
pub const OUTBOX_FAREWELL_BYTES_MAX: usize = 64 * 1024;
/// Default bound of the bytes in all outboxes of a worker.
pub const OUTBOX_TOTAL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Default bound of the bytes of incomplete or waiting input of a worker.
pub const INPUT_TOTAL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Input that waits while reading is paused: what the driver had read already.
pub const HELD_BYTES_MAX: usize = 256 * 1024;
/// Input that is read and thrown away behind a close frame.
pub const DISCARD_BYTES_MAX: u32 = 256 * 1024;

/// Requests without answer at which a connection is no longer read.
pub const CONNECTION_PENDING_MAX: u8 = 128;
/// Requests without answer at which it is read again.
pub const CONNECTION_PENDING_LOW: u8 = 64;
/// Requests without answer of a worker.
pub const PENDING_MAX: usize = 64 * 1024;
/// Bytes at which a batch for the router leaves before the end of the tick.
pub const LINK_BATCH_BYTES: usize = 256 * 1024;
/// Bytes that wait for links that refused a batch, all together; then sends are answered `busy`. Each link may have
/// [`LINK_BATCH_BYTES`] even then, so that one router that takes nothing does not stop what goes to others.
pub const LINK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// `retry_after_ms` of `busy`.
pub const BUSY_RETRY_MS: u32 = 1_000;

/// Default number of connections of a worker.
pub const CONNECTIONS_MAX: u32 = 20_000;
/// Longest `batch_linger_ms`.
pub const BATCH_LINGER_MS_MAX: u32 = 100;
/// Default time over which a drain is spread.
pub const DRAIN_MS: u32 = 5_000;
/// Time between two steps of a drain.
pub const DRAIN_STEP_MS: u64 = 50;

/// Spare send buffers kept, in bytes of capacity.
pub const SPARE_BYTES_MAX: usize = 1024 * 1024;
/// Capacity above which a send buffer is not kept.
pub const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Spare outboxes kept.
pub const SPARE_OUTBOXES_MAX: usize = 1_024;
/// Items that the list of a spare outbox keeps room for.
pub const SPARE_ITEMS_MAX: usize = 16;

const _: () = assert!(FRAME_BYTES_MAX <= OUTBOX_BYTES_MAX); // An empty outbox always takes one frame.
const _: () = assert!(WINDOW_BYTES_MAX * 6 + FRAME_BYTES_MAX <= OUTBOX_TICK_BYTES_MAX); // A window, every byte of it escaped in JSON.
const _: () = assert!(OUTBOX_BYTES_MAX <= OUTBOX_TICK_BYTES_MAX);
const _: () = assert!(CONNECTION_PENDING_MAX as usize + BATCH_MESSAGES_MAX <= u8::MAX as usize); // A batch in the frame that reaches the bound.
const _: () = assert!(CONNECTION_PENDING_LOW < CONNECTION_PENDING_MAX);
const _: () = assert!(LINK_BATCH_BYTES + RECORD_BYTES_MAX <= BATCH_BYTES_MAX); // A batch that just missed its size, and one more record.
const _: () = assert!(ROUTER_MS_MAX <= ANSWER_MS_MAX);
const _: () = assert!((PINGS_MISSED_MAX as u64 + 1) * PING_INTERVAL_MS as u64 <= 75_000); // A vanished peer is noticed within 75 s.
