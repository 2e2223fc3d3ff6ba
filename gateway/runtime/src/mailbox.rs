//! Hand-over between threads: a bounded queue whose reader sleeps in its reactor.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::waker::Waker;

/// Returns the two ends of a queue of at most `capacity` items, read by the worker that `waker` wakes.
///
/// Panics: if `capacity` is 0.
pub fn mailbox<T>(capacity: usize, waker: Waker) -> (MailboxSender<T>, Mailbox<T>) {
    let queue = Arc::new(ArrayQueue::new(capacity));
    (
        MailboxSender {
            queue: Arc::clone(&queue),
            waker,
        },
        Mailbox { queue },
    )
}

/// The reading end, owned by one worker: drained after [`crate::Event::Woken`].
pub struct Mailbox<T> {
    queue: Arc<ArrayQueue<T>>,
}

impl<T> Mailbox<T> {
    /// Takes the oldest item.
    pub fn try_recv(&mut self) -> Option<T> {
        self.queue.pop()
    }

    /// Returns how many items wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The writing end, for any number of threads.
pub struct MailboxSender<T> {
    queue: Arc<ArrayQueue<T>>,
    waker: Waker,
}

impl<T> MailboxSender<T> {
    /// Puts `item` in and wakes the reader; a batch of calls costs one eventfd write, and none while the reader runs.
    ///
    /// Errors: the queue is full, and `item` comes back; the caller keeps it, drops it or slows down.
    pub fn try_send(&self, item: T) -> Result<(), T> {
        self.queue.push(item)?;
        self.waker.wake();
        Ok(())
    }
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            waker: self.waker.clone(),
        }
    }
}
