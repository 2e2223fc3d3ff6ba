//! The thread of a router: reads the clocks, ticks, and parks until a link or a deadline needs it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use router_core::time::Now;
use router_storage::log::Log;
use router_storage::store::Store;

use super::{Disks, Inline, Router};

/// A router on its thread; dropping it asks the thread to stop and does not wait.
pub struct RouterThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Reads both clocks. `started` is where the monotonic one counts from.
pub fn clocks(started: Instant) -> Now {
    Now {
        mono_ms: started.elapsed().as_millis() as u64,
        unix: SystemTime::now().into(),
    }
}

/// Runs a router on a thread of its own; all links must have been added. `started` is the origin of the monotonic
/// clock that [`Router::open`] was given.
pub fn spawn<L, S>(router: Router<Inline<L, S>>, started: Instant) -> io::Result<RouterThread>
where
    L: Log + 'static,
    S: Store + Send + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name("router".into())
        .spawn(move || run(router, started, &stopped))?;
    Ok(RouterThread {
        stop,
        thread: Some(thread),
    })
}

impl RouterThread {
    /// Lets the router finish its tick and sync its store, and returns when its links are closed.
    pub fn stop(mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the router thread panicked");
        }
    }

    /// Returns whether the router has ended although nobody asked it to, or after somebody did.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for RouterThread {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

fn run<L, S>(router: Router<Inline<L, S>>, started: Instant, stop: &AtomicBool)
where
    L: Log + 'static,
    S: Store + Send + 'static,
{
    let this = thread::current();
    let mut router = match router.with_threads(this.clone()) {
        Ok(router) => router,
        Err(error) => {
            tracing::error!(%error, "the router cannot start its threads");
            return;
        }
    };
    // A park after an unpark returns at once, so a wake-up during a tick is not lost.
    router.set_waker(&(Arc::new(move || this.unpark()) as _));
    loop {
        let is_last = stop.load(Ordering::Acquire);
        let now = clocks(started);
        match router.tick(now) {
            Ok(_) if is_last => return end(router, started),
            Ok(progress) if progress.is_busy => {}
            Ok(_) => match router.poll_timeout() {
                Some(due_ms) => {
                    thread::park_timeout(Duration::from_millis(due_ms.saturating_sub(now.mono_ms)))
                }
                None => thread::park(),
            },
            Err(error) => {
                tracing::error!(%error, "the router stops");
                return;
            }
        }
    }
}

/// Lets what is under way come to its end, for a while, and closes.
fn end<B: Disks>(mut router: Router<B>, started: Instant) {
    let deadline = Instant::now() + QUIET_MAX;
    router.stop_lingering();
    while !router.is_quiet() && Instant::now() < deadline {
        if router.tick(clocks(started)).is_err() {
            return;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    router.close();
}

/// How long a stop waits for the disks.
const QUIET_MAX: Duration = Duration::from_secs(5);
