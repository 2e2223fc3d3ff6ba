//! One end of a link, whatever carries it: what a driver may rely on.
//!
//! [`crate::pipe`] is the port within one process. The numbered promises are held by one contract test that every port
//! runs ([`crate::testing::contract`]), and so does a port that breaks off, refuses, delays and wakes as rarely as it may
//! ([`crate::testing::FaultyPort`]), so that a driver which works with it works with all.

use std::sync::Arc;

use bytes::Bytes;

/// One end of a link. No call blocks; a driver that can do nothing more sleeps until it is woken.
///
/// Invariants, of each direction by itself:
///
/// - **L1, order.** Batches arrive whole, in the order they were sent, each once; what arrived is the beginning of what was
///   sent, without a gap.
/// - **L2, sent.** `Ok` of [`Self::try_send`] means that the port has the batch and that it arrives unless the link ends
///   first. It does not mean that the other side has it: only an answer says so.
/// - **L3, ownership.** A batch that is taken is the port's. One that is refused comes back unchanged, and nothing of it was
///   sent. A batch received is the receiver's.
/// - **L4, credit.** What was sent and not received is bounded in bytes; beyond that `Full`. Receiving gives credit back. A
///   direction with nothing under way takes any batch up to [`crate::BATCH_BYTES_MAX`].
/// - **L5, closing.** An end closes both directions for both sides: by [`Self::close`], by the drop of a port, or because the
///   link broke. Sends are refused from then on. After an end in order, the other side still receives all that was sent
///   before it; after a break, the beginning of it. Then `Closed`, for ever.
/// - **L6, wake-ups.** The waker is called when it is set; when there is something to receive, or the end, after
///   [`Self::try_recv`] said there was nothing; and when there is room, or the end, after [`Self::try_send`] said `Full`.
///   Once is enough: a side that was woken looks until it is told `None` or `Full` again. It may be called without need.
/// - **L7, silence.** An empty batch says nothing and does not arrive.
pub trait LinkPort: Send {
    /// Sets what wakes this side.
    ///
    /// Panics: when it was set before.
    fn set_waker(&mut self, waker: LinkWaker);

    /// Sends a batch, or gives it back.
    ///
    /// Errors: `Full` is back-pressure, `Closed` the end of the link.
    /// Panics: when the batch is larger than [`crate::BATCH_BYTES_MAX`].
    fn try_send(&mut self, batch: Bytes) -> Result<(), SendError>;

    /// Returns the oldest batch not yet received, and gives its credit back; `None` when there is none.
    ///
    /// Errors: `Closed` once everything that arrived before the end has been received.
    fn try_recv(&mut self) -> Result<Option<Bytes>, Closed>;

    /// Closes the link for both sides.
    fn close(&mut self);
}

/// What wakes the thread of a port. It is called on any thread, also while that one is awake: it leaves a mark that outlasts the
/// call (an eventfd, an unpark), and does nothing more.
pub type LinkWaker = Arc<dyn Fn() + Send + Sync>;

/// A batch that was not taken; it comes back unchanged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No room. Keep the batch; the waker is called when there is room.
    #[error("the link is out of credit")]
    Full(Bytes),
    /// The link is over.
    #[error("the link is closed")]
    Closed(Bytes),
}

/// The link is over, and everything that arrived before that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;
