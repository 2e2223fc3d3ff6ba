//! Ends the sleep of a reactor from another thread, for one eventfd write per sleep at most.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Ends [`crate::Reactor::wait`], now or the next time it is called. Cheap while the worker is awake; calls coalesce.
///
/// Order: publish the work first, then wake. The worker looks for work after [`crate::Event::Woken`], and whatever was
/// published before the call is seen by that look.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    state: AtomicU8,
    eventfd: OwnedFd,
}

/// The worker runs and nobody has called since it last looked.
const AWAKE: u8 = 0;
/// The worker sleeps, or is about to: the next caller must write the eventfd.
const ASLEEP: u8 = 1;
/// Somebody has called; the worker will look before it sleeps.
const CALLED: u8 = 2;

// Why no wake-up is lost. A caller publishes work W, then reaches F1 and reads the state; the worker swaps the state to
// AWAKE, then reaches F2 and looks for work. If the caller reads CALLED and leaves it at that, either the worker's swap
// is still to come, and it looks after it, or the caller read a value older than that swap; then F1 precedes F2 in the
// single order of SeqCst fences, and the look after F2 sees W. If the caller reads anything else it swaps in CALLED:
// the worker, going to sleep by compare-and-swap, sees it and stays awake; or it was ASLEEP, and the caller writes the
// eventfd, which the kernel polls for the worker until it wakes.
impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            shared: Arc::new(Shared {
                state: AtomicU8::new(AWAKE),
                eventfd,
            }),
        })
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        fence(Ordering::SeqCst); // F1
        if self.shared.state.load(Ordering::Relaxed) == CALLED {
            return;
        }
        if self.shared.state.swap(CALLED, Ordering::SeqCst) == ASLEEP {
            // Cannot fail in a way that matters: the counter only blocks after 2^64 - 2 writes, and a value that is
            // there already wakes as well.
            let _ = rustix::io::write(&self.shared.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Announces that the worker is about to sleep; `false` when it must not, because somebody has called.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.shared
            .state
            .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Announces that the worker runs; returns whether anybody has called since the last time.
    pub(crate) fn wake_up(&self) -> bool {
        if self.shared.state.load(Ordering::Relaxed) == AWAKE {
            return false;
        }
        let called = self.shared.state.swap(AWAKE, Ordering::SeqCst) == CALLED;
        fence(Ordering::SeqCst); // F2
        called
    }

    /// Returns the descriptor to be polled for readability on its edge. It is never read: every write is an edge.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }
}
