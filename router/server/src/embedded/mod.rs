//! The embedded driver: one thread, one log, one store, and the folds between them.
//!
//! [`Router::tick`] does everything once and never waits, except for the disk. Its steps, and why in this order:
//!
//! 1. **Receive** what the links have. What needs no log is answered here; reads wait for step 5.
//! 2. **Append** one group of records: one write, one sync (`group`).
//! 3. **Fold** them and **hand over** every row in one batch, together with the offset they reach (`commit`). The store on
//!    disk has a thread of its own and may write the batch later; no read misses it.
//! 4. Only then **publish**: answers to senders, live entries and status updates; then pages for sessions that are
//!    behind (`sessions`).
//! 5. **Read** history and conversations: whatever the same connection sent before is in them (`reads`).
//! 6. **Flush** the batches; what a link has no room for stays as state (`links`).
//! 7. **Upkeep**: sync the store, delete what is past retention, a slice at a time (`upkeep`).
//!
//! A crash between any two steps is a crash: a start (`start`) reads the log from the last offset that the store has and
//! folds the rest again, to the same rows. A disk that fails instead of crashing is a `condition`.
//!
//! [`spawn`] puts a thin shell around `tick`: clocks, and a thread to park. A simulation drives the same `tick` in virtual
//! time.

mod check;
mod clock;
mod commit;
mod condition;
mod data_dir;
mod group;
mod links;
mod message_ids;
mod reads;
mod receive;
mod rows;
mod sessions;
mod start;
mod thread;
mod upkeep;

use std::sync::Arc;

use router_core::clock::Clock;
use router_core::fold::Folds;
use router_core::prelog::SendRate;
use router_core::sessions::{LinkId, Sessions};
use router_core::time::Now;
use router_storage::disk::Disk;
use router_storage::log::SegmentedLog;
use router_storage::store::Store;
use wire_link::pipe::{Endpoint, PipeWaker};

pub use self::check::{CheckError, DataDirCheck, check_data_dir};
pub use self::data_dir::{DataDirError, EmbeddedRouter, log_path, open_data_dir, store_path};
pub use self::start::{FOLD_VERSION, StartError, StartReport};
pub use self::thread::{RouterThread, clocks, spawn};

use self::commit::Unapplied;
use self::condition::Condition;
use self::group::Forming;
use self::links::{Flushed, Links};
use self::message_ids::MessageIds;
use self::sessions::Postponed;
use self::start::unflushed;
use self::upkeep::Upkeep;
use crate::config::RouterConfig;
use crate::health::{Health, Readiness};
use crate::metrics::{Counters, Metrics};

/// A router that runs alone: every slot is its own.
///
/// Order: [`Router::open`], [`Router::add_link`] for each client, then [`Router::tick`] whenever a link has something and
/// at the latest at [`Router::poll_timeout`].
pub struct Router<D: Disk, S: Store> {
    config: RouterConfig,
    log: SegmentedLog<D>,
    store: S,
    folds: Folds,
    sessions: Sessions,
    send_rate: SendRate,
    message_ids: MessageIds,
    links: Links,
    /// The link that is read first in the next tick.
    first_link: u32,
    /// The group of this tick.
    forming: Forming,
    /// What is in the log and was not handed to the store: between two ticks only while the store fails.
    unapplied: Unapplied,
    /// Pages that the store could not give.
    postponed: Postponed,
    /// When acks are logged even if nothing else is, on the monotonic clock; `None` while none waits.
    acks_due_ms: Option<u64>,
    condition: Condition,
    upkeep: Upkeep,
    clock: Clock,
    /// The clocks of this tick, the wall clock as far as it is believed.
    now: Now,
    health: Health,
    metrics: Metrics,
    counters: Arc<Counters>,
}

/// What a tick leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// There is more that needs no waiting: tick again at once.
    pub is_busy: bool,
}

/// Why a router cannot go on at all. It has told nobody anything since the cause, and does not any more.
///
/// A disk or a store that fails is no such reason: the router then stays up, answers `unavailable`, and
/// [`Health`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The simulated machine under it went down.
    #[error("the machine crashed")]
    Crashed,
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Adds a client. The link lives until either side closes it.
    pub fn add_link(&mut self, endpoint: Endpoint) {
        self.links.add(endpoint);
        self.counters.links.set(self.links.open() as u64);
    }

    /// Sets what the links call when one of them needs a tick; at most once, after the last [`Router::add_link`].
    pub fn set_waker(&self, waker: &PipeWaker) {
        self.links.set_waker(waker);
    }

    /// Returns a handle that says whether messages are taken.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Returns a handle on the counters.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Does everything there is to do, each part within its bounds.
    ///
    /// Errors: the router is over; drop it, which closes its links.
    pub fn tick(&mut self, now: Now) -> Result<Progress, Fatal> {
        self.read_clock(now);
        self.notice_store()?;
        self.retry_condition()?;
        let mut is_busy = self.receive()?;
        self.commit()?;
        is_busy |= self.pump_sessions()?;
        is_busy |= self.serve_reads()?;
        is_busy |= self.flush_links();
        self.keep_up()?;
        is_busy |= !self.forming.is_empty() && self.condition.takes_records();
        self.set_acks_due();
        self.publish_gauges();
        Ok(Progress { is_busy })
    }

    /// Returns when a tick is due even if no link needs one, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        let acks = self.acks_due_ms.filter(|_| self.condition.takes_records());
        let pages = self.postponed.due_ms().filter(|_| self.unapplied.is_empty());
        let dues = [
            acks,
            self.condition.retry_ms(),
            pages,
            self.upkeep.due_ms(),
            self.clock_due_ms(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Syncs the store so that the next start has nothing to replay, and notes that it is complete, so that the next start
    /// may be one of another fold version. Not needed for safety.
    pub fn close(mut self) {
        // After an append that failed, the log may hold more than it says.
        let holds_all = self.unapplied.is_empty()
            && self.condition.takes_records()
            && unflushed(&self.store) == self.log.next();
        let closed = if holds_all {
            self.store.complete_checkpoint()
        } else {
            self.store.persist()
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the store could not be synced; the next start replays the log");
        }
    }

    /// Gives the links what they have room for, and tells the sessions of those that filled or emptied.
    fn flush_links(&mut self) -> bool {
        let mut is_busy = false;
        for id in (0..self.links.ids()).map(LinkId) {
            match self.links.flush(id) {
                Flushed::Same => {}
                Flushed::Full => self.sessions.handle_link_full(id),
                Flushed::Room => {
                    self.sessions.handle_link_room(id);
                    is_busy = true;
                }
                Flushed::Freed => is_busy = true,
                Flushed::Closed => self.end_link(id),
            }
        }
        is_busy
    }

    /// Ends the sessions of a link and closes it.
    fn end_link(&mut self, id: LinkId) {
        self.sessions.handle_link_down(id);
        self.links.remove(id);
        self.counters.links.set(self.links.open() as u64);
    }

    fn publish_gauges(&self) {
        self.counters.sessions.set(self.sessions.len() as u64);
        self.counters.sessions_behind.set(self.sessions.behind() as u64);
        self.counters
            .acks_waiting
            .set(self.sessions.acks_waiting() as u64);
        self.counters.link_backlog.set(self.links.waiting_bytes() as u64);
        self.counters.store_lag.set(self.upkeep.lag(self.log.next()));
        self.counters.ready.set(u64::from(self.health.is_ready()));
    }
}

impl<D: Disk, S: Store> Drop for Router<D, S> {
    fn drop(&mut self) {
        self.health.set(Readiness::Stopped);
    }
}
