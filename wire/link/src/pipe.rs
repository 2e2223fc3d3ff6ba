//! The link within one process: two bounded queues of batches, credits in bytes, and a wake-up each way.
//!
//! No lock and no blocking: a side that finds nothing to receive, or no room to send, goes back to its reactor, and the
//! other side wakes it. Each direction is a `Lane`; the order of its steps is what keeps a wake-up from being lost.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use super::BATCH_BYTES_MAX;
use super::port::{LinkPort, LinkWaker};

pub use super::port::{Closed, SendError};

/// Returns the two ends of a link; each direction holds at most `bytes_max` bytes of batches not yet received.
///
/// Shape: an empty direction takes any batch up to [`BATCH_BYTES_MAX`], so a small `bytes_max` slows but never stops it.
pub fn pipe(bytes_max: usize) -> (Endpoint, Endpoint) {
    let shared = Arc::new(Shared {
        lanes: [Lane::new(bytes_max), Lane::new(bytes_max)],
        wakers: [OnceLock::new(), OnceLock::new()],
        closed: AtomicBool::new(false),
    });
    (
        Endpoint {
            shared: Arc::clone(&shared),
            side: 0,
        },
        Endpoint { shared, side: 1 },
    )
}

/// One end of a link. Dropping it closes the link.
pub struct Endpoint {
    shared: Arc<Shared>,
    /// 0 or 1: sends on `lanes[side]`, receives from the other.
    side: usize,
}

impl Endpoint {
    /// Sets what wakes this side, and calls it once for whatever came before.
    ///
    /// Order: afterwards it is called once when a batch arrives after [`Self::try_recv`] found none, once when room appears
    /// after [`Self::try_send`] was refused, and when the link closes. It may be called without need.
    /// Panics: when it was set before.
    pub fn set_waker(&self, waker: LinkWaker) {
        let first = self.shared.wakers[self.side].set(waker).is_ok();
        assert!(first, "an endpoint has one waker for its life");
        self.shared.wake(self.side);
    }

    /// Sends a batch, or gives it back. An empty batch says nothing and is dropped.
    ///
    /// Errors: `Full` is back-pressure, `Closed` the end of the link.
    /// Panics: when the batch is larger than [`BATCH_BYTES_MAX`].
    pub fn try_send(&self, batch: Bytes) -> Result<(), SendError> {
        assert!(
            batch.len() <= BATCH_BYTES_MAX,
            "a batch of {} bytes is over the bound",
            batch.len()
        );
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed(batch));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let lane = &self.shared.lanes[self.side];
        lane.send(batch).map_err(SendError::Full)?;
        if lane.receiver_waits.take_after_change() {
            self.shared.wake(1 - self.side);
        }
        Ok(())
    }

    /// Returns the oldest batch not yet received, and gives its credit back; `None` when there is none.
    ///
    /// Errors: `Closed` once everything that was sent before the end has been received.
    pub fn try_recv(&self) -> Result<Option<Bytes>, Closed> {
        let lane = &self.shared.lanes[1 - self.side];
        let Some(batch) = lane.receive(&self.shared.closed)? else {
            return Ok(None);
        };
        if lane.sender_waits.take_after_change() {
            self.shared.wake(1 - self.side);
        }
        Ok(Some(batch))
    }

    /// Closes the link for both sides. What the other side has not received yet, it still can.
    pub fn close(&self) {
        if !self.shared.closed.swap(true, Ordering::AcqRel) {
            fence(Ordering::SeqCst); // Pairs with the fence of `Waits::announce`, after which `closed` is read.
            self.shared.wake(1 - self.side);
        }
    }
}

impl LinkPort for Endpoint {
    fn set_waker(&mut self, waker: LinkWaker) {
        Self::set_waker(self, waker);
    }

    fn try_send(&mut self, batch: Bytes) -> Result<(), SendError> {
        Self::try_send(self, batch)
    }

    fn try_recv(&mut self) -> Result<Option<Bytes>, Closed> {
        Self::try_recv(self)
    }

    fn close(&mut self) {
        Self::close(self);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = |side: usize| self.shared.lanes[side].bytes_used.load(Ordering::Relaxed);
        write!(
            f,
            "Endpoint({} bytes sent, {} to receive)",
            used(self.side),
            used(1 - self.side)
        )
    }
}

struct Shared {
    lanes: [Lane; 2],
    wakers: [OnceLock<LinkWaker>; 2],
    closed: AtomicBool,
}

impl Shared {
    fn wake(&self, side: usize) {
        if let Some(waker) = self.wakers[side].get() {
            waker();
        }
    }
}

/// One direction.
struct Lane {
    batches: ArrayQueue<Bytes>,
    /// Bytes of the batches in the queue, or about to be.
    bytes_used: AtomicUsize,
    bytes_max: usize,
    /// The receiver found nothing and has gone to sleep, or is about to.
    receiver_waits: Waits,
    /// The sender was refused and has gone to sleep, or is about to.
    sender_waits: Waits,
}

impl Lane {
    fn new(bytes_max: usize) -> Self {
        Self {
            batches: ArrayQueue::new(BATCHES_MAX),
            bytes_used: AtomicUsize::new(0),
            bytes_max,
            receiver_waits: Waits::default(),
            sender_waits: Waits::default(),
        }
    }

    /// Puts a batch in, or leaves word that the sender waits for room.
    fn send(&self, batch: Bytes) -> Result<(), Bytes> {
        let Err(batch) = self.put(batch) else {
            return Ok(());
        };
        give_way();
        self.sender_waits.announce();
        self.put(batch)
    }

    fn put(&self, batch: Bytes) -> Result<(), Bytes> {
        let length = batch.len();
        let with_room = |used: usize| (used == 0 || used + length <= self.bytes_max).then_some(used + length);
        if self
            .bytes_used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, with_room)
            .is_err()
        {
            return Err(batch);
        }
        self.batches.push(batch).inspect_err(|_| {
            self.bytes_used.fetch_sub(length, Ordering::AcqRel);
        })
    }

    /// Takes the oldest batch out, or leaves word that the receiver waits for one.
    fn receive(&self, closed: &AtomicBool) -> Result<Option<Bytes>, Closed> {
        if let Some(batch) = self.get() {
            return Ok(Some(batch));
        }
        give_way();
        self.receiver_waits.announce();
        // Read before the second look: what was sent before the close is then surely seen by that look.
        let is_closed = closed.load(Ordering::Acquire);
        give_way();
        match self.get() {
            Some(batch) => Ok(Some(batch)),
            None if is_closed => Err(Closed),
            None => Ok(None),
        }
    }

    fn get(&self) -> Option<Bytes> {
        let batch = self.batches.pop()?;
        self.bytes_used.fetch_sub(batch.len(), Ordering::AcqRel);
        Some(batch)
    }
}

/// One side's word that it waits for the other side to change the queue.
///
/// The waiting side announces and then looks at the queue again; the changing side changes the queue and then looks for
/// the announcement. A sequentially consistent fence stands between the two steps on both sides, so at least one of the
/// looks sees the other side's step: either the waiting side finds the change itself, or the changing side finds the
/// announcement and wakes it. Taking the announcement makes it one wake-up for any number of changes.
#[derive(Default)]
struct Waits(AtomicBool);

impl Waits {
    /// Announces; look at the queue again afterwards.
    fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement, if there is one; the queue must have been changed before.
    fn take_after_change(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

/// In tests, lets the other side act between two steps whose order matters.
fn give_way() {
    #[cfg(test)]
    std::thread::yield_now();
}

/// Most batches in one direction, whatever their size. A worker sends one or two a tick; the memory is 10 KiB.
const BATCHES_MAX: usize = 256;

#[cfg(test)]
mod tests;
